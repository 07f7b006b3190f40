//! Identifiers that are nobody's: addresses and names that mean another host to everyone, or none. A certificate for one would
//! be believed by whoever asks there, whoever holds it. Only what the operator says is somebody's here is issued.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::acme::identifier::Identifier;

/// What the operator says of names and addresses that are nobody's elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    /// Names below `localhost` are this machine (`validation.local_names`).
    pub local_names: bool,
    /// Addresses of these networks are hosts of ours (`validation.allow_networks`).
    pub networks: Vec<IpNet>,
}

/// Names that are nobody's, and those below them (RFC 6761, RFC 6762 leave others to private use).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpecialName {
    /// RFC 6761 §6.3: each host itself.
    Localhost,
    /// RFC 3172: what the DNS is built with, reverse names among it; `home.arpa` is for homes (RFC 8375).
    Arpa,
    /// RFC 7686: names that are keys, which the DNS does not know.
    Onion,
}

/// What a certificate is not issued for, and why; nothing for all other identifiers. `onion` is whether the profile issues for
/// names below `onion`.
pub fn nobodys(identifier: &Identifier, ours: &Ours, onion: bool) -> Option<&'static str> {
    match identifier.base() {
        Identifier::Dns(name) => match special_name(&name)? {
            SpecialName::Localhost if ours.local_names => None,
            SpecialName::Onion if onion => None,
            SpecialName::Localhost => Some(
                "names below localhost mean every host itself (RFC 6761 §6.3), and no host in particular",
            ),
            SpecialName::Arpa => Some("names below arpa are for the DNS itself (RFC 3172), not for hosts"),
            SpecialName::Onion => Some(
                "names below onion are not in the DNS (RFC 7686), and this profile does not issue for them",
            ),
        },
        Identifier::Ip(address) => {
            // A second spelling stays one, whatever network it is in.
            if let IpAddr::V6(address) = address
                && is_ipv4_within(address)
            {
                return Some(
                    "this is an IPv4 address in the form of an IPv6 address: ask for it as an IPv4 address",
                );
            }
            let range = special_address(address)?;
            if ours.networks.iter().any(|network| network.contains(&address)) { None } else { Some(range) }
        }
    }
}

fn special_name(name: &str) -> Option<SpecialName> {
    let is_or_below =
        |top: &str| name.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_or_below("localhost") {
        Some(SpecialName::Localhost)
    } else if is_or_below("arpa") && !is_or_below("home.arpa") {
        Some(SpecialName::Arpa)
    } else if is_or_below("onion") {
        Some(SpecialName::Onion)
    } else {
        None
    }
}

fn special_address(address: IpAddr) -> Option<&'static str> {
    let zero = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let reserved = matches!(address, IpAddr::V4(address) if address >= Ipv4Addr::new(240, 0, 0, 0));
    if address.is_loopback() {
        Some("this is a loopback address, which is every host itself")
    } else if address.is_unspecified() || zero {
        Some("this is an unspecified address, which is no host's")
    } else if address.is_multicast() {
        Some("this is a multicast address, which is no single host's")
    } else if link_local {
        Some("this is a link-local address, which is another host's on every link")
    } else if reserved {
        Some("this is a reserved address, which is no host's")
    } else {
        None
    }
}

/// IPv4-mapped and IPv4-compatible addresses (RFC 4291 §2.5.5), but not `::` and `::1`, which are their own.
fn is_ipv4_within(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some() || (address.to_bits() >> 32 == 0 && address.to_bits() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, value: &str, ours: &Ours, onion: bool) -> Option<&'static str> {
        nobodys(&Identifier::parse(kind, value).expect("well-formed"), ours, onion)
    }

    #[test]
    fn ord_03_addresses_of_nobody_are_told_by_what_they_are() {
        let nothing = Ours::default();
        for (address, word) in [
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("::1", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("ff02::1", "multicast"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::ffff:10.0.0.1", "IPv4"),
            ("::ffff:127.0.0.1", "IPv4"),
            ("::a00:1", "IPv4"),
        ] {
            let said = refused("ip", address, &nothing, true);
            assert!(said.is_some_and(|said| said.contains(word)), "{address}: {said:?}");
        }
        for address in
            ["10.0.0.1", "192.168.0.1", "100.64.0.1", "223.255.255.255", "fd00::1", "2001:db8::1", "fec0::1"]
        {
            assert_eq!(refused("ip", address, &nothing, false), None, "{address}");
        }
    }

    #[test]
    fn ord_03_names_of_nobody_are_refused_with_all_below_them() {
        let nothing = Ours::default();
        for name in [
            "localhost",
            "a.localhost",
            "*.localhost",
            "4.3.2.1.in-addr.arpa",
            "x.ip6.arpa",
            "arpa",
            "x.onion",
        ] {
            assert!(refused("dns", name, &nothing, false).is_some(), "{name}");
        }
        for name in ["notlocalhost", "localhost.test", "carpa", "nas.home.arpa", "a.onions", "onion.test"] {
            assert_eq!(refused("dns", name, &nothing, false), None, "{name}");
        }
    }

    #[test]
    fn ord_03_the_operator_says_what_is_somebodys() {
        let networks =
            vec!["127.0.0.0/8".parse().unwrap(), "fe80::/10".parse().unwrap(), "::/0".parse().unwrap()];
        let ours = Ours { local_names: true, networks };
        for address in ["127.0.0.1", "fe80::1", "::1"] {
            assert_eq!(refused("ip", address, &ours, false), None, "{address}");
        }
        for address in ["0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1", "::7f00:1"] {
            assert!(refused("ip", address, &ours, false).is_some(), "{address}");
        }
        assert_eq!(refused("dns", "a.localhost", &ours, false), None);
        assert!(refused("dns", "x.onion", &ours, false).is_some());
        assert_eq!(refused("dns", "x.onion", &Ours::default(), true), None);
        assert!(refused("dns", "a.localhost", &Ours::default(), true).is_some());
    }
}
