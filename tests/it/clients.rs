//! Clients by others, as Debian ships them, each against the embedded server and through HAProxy against three
//! replicas: a certificate, another in its place, and, where the client can, a revocation that shows in the CRL.

mod acme_tiny;
mod alpn_folder;
pub mod balanced;
mod caddy;
mod certbot;
mod conformance;
mod dehydrated;
mod documented;
mod evidence;
mod first_steps;
mod go_acme;
mod hook;
mod lego;
mod lego5;
mod libraries;
mod matrix;
mod mod_md;
pub mod program;
pub mod site;
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
    fn certbot() {
        super::certbot::updates_a_zone(&super::site::Site::fleet_on_bind());
    }

    #[test]
    #[ignore = "needs tests/foreign/build certbot"]
    fn current_certbot() {
        super::certbot::current_updates_a_zone(&super::site::Site::fleet_on_bind());
    }

    #[test]
    fn lego() {
        super::lego::updates_a_zone(&super::site::Site::fleet_on_bind());
    }

    #[test]
    #[ignore = "needs tests/foreign/build lego"]
    fn lego5() {
        super::lego5::updates_a_zone(&super::site::Site::fleet_on_bind());
    }
}

/// Clients that no Debian package has, in the fleet.
mod foreign {
    use super::site::Site;

    #[test]
    #[ignore = "needs tests/foreign/build acme4j"]
    fn acme4j() {
        super::libraries::acme4j(&Site::fleet());
    }

    #[test]
    #[ignore = "needs tests/foreign/build caddy"]
    fn caddy() {
        super::caddy::current_goes_its_way(&Site::fleet());
    }

    #[test]
    #[ignore = "needs tests/foreign/build certbot"]
    fn certbot() {
        super::certbot::current_goes_its_way(&Site::fleet());
    }

    #[test]
    #[ignore = "needs tests/foreign/build instant-acme-client"]
    fn instant_acme() {
        super::libraries::instant_acme(&Site::fleet());
    }

    #[test]
    #[ignore = "needs tests/foreign/build go-acme"]
    fn go_acme() {
        let program = super::go_acme::program();
        let site = Site::fleet();
        site.every_replica_works(|| super::go_acme::goes_its_way(&site, &program));
    }

    #[test]
    #[ignore = "needs tests/foreign/build go-acme"]
    fn go_acme_on_the_embedded_server() {
        let program = super::go_acme::program();
        super::go_acme::goes_its_way(&Site::embedded(), &program);
    }

    #[test]
    #[ignore = "needs tests/foreign/build lego"]
    fn lego5() {
        super::lego5::goes_its_way(&Site::fleet());
    }

    #[test]
    #[ignore = "needs tests/foreign/build node-acme-client"]
    fn node() {
        super::libraries::node(&Site::fleet());
    }
}

on_both_deployments! { acme_tiny caddy certbot dehydrated lego mod_md uacme }
