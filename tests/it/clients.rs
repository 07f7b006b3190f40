//! Clients by others, as Debian ships them, each against the embedded server and through HAProxy against three
//! replicas: a certificate, another in its place, and, where the client can, a revocation that shows in the CRL.

mod acme_tiny;
mod caddy;
mod certbot;
mod dehydrated;
mod evidence;
mod first_steps;
mod lego;
mod lego5;
mod matrix;
mod program;
mod site;
mod uacme;
mod webroot;

/// Makes a test of each client and each deployment: `clients::embedded::lego`, `clients::fleet::lego`, and so on.
macro_rules! on_both_deployments {
    ($($client:ident)+) => {
        mod embedded {
            $(#[test]
            fn $client() {
                super::$client::goes_its_way(&super::site::Site::embedded());
            })+
        }

        mod fleet {
            $(#[test]
            fn $client() {
                let site = super::site::Site::fleet();
                site.every_replica_works(|| super::$client::goes_its_way(&site));
            })+
        }
    };
}

/// Clients that write into a zone by dynamic updates (RFC 2136); the replicas ask the zone's own server.
mod by_updates {
    #[test]
    fn lego() {
        super::lego::updates_a_zone(&super::site::Site::fleet_on_bind());
    }

    #[test]
    fn lego5() {
        super::lego5::updates_a_zone(&super::site::Site::fleet_on_bind());
    }
}

/// Clients that no Debian package has, in the fleet.
mod foreign {
    #[test]
    fn caddy() {
        super::caddy::current_goes_its_way(&super::site::Site::fleet());
    }

    #[test]
    fn lego5() {
        super::lego5::goes_its_way(&super::site::Site::fleet());
    }
}

on_both_deployments! { acme_tiny caddy certbot dehydrated lego uacme }
