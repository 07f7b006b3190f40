//! Which addresses may be connected to (AUT-13). A client chooses the names that this server connects to; it must not
//! thereby reach what only this server's host can reach.
//!
//! Refused unless the operator allows them: loopback, link-local, unspecified, multicast, broadcast, shared (carrier)
//! and reserved ranges, and the addresses at which clouds answer their guests. RFC 1918 and ULA are allowed: a private
//! CA's subscribers live there. An IPv6 address that carries an IPv4 address is judged by that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// An address that is not connected to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{address} is {range}, to which this server does not connect")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub range: &'static str,
}

/// The rules.
#[derive(Debug)]
pub struct Guard {
    allow: Vec<IpNet>,
    refuse: Vec<IpNet>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length))
}

const METADATA: &str = "an address of a cloud's metadata or host service";

/// Single addresses before the ranges that hold them: the more telling name is found first.
const REFUSED: &[(IpNet, &str)] = &[
    (v4(169, 254, 169, 254, 32), METADATA),
    (v4(169, 254, 170, 2, 32), METADATA),
    (v4(100, 100, 100, 200, 32), METADATA),
    (v4(168, 63, 129, 16, 32), METADATA),
    (v6(0xfd00_0ec2_0000_0000_0000_0000_0000_0254, 128), METADATA),
    (v6(0xfd20_00ce_0000_0000_0000_0000_0000_0254, 128), METADATA),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(0, 0, 0, 0, 8), "an unspecified address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 0, 16), "a link-local address"),
    (v4(100, 64, 0, 0, 10), "a shared (carrier-grade NAT) address"),
    (v4(192, 0, 0, 0, 24), "a protocol assignment"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
    (v6(0, 128), "the unspecified address"),
    (v6(1, 128), "a loopback address"),
    (v6(0xfe80 << 112, 10), "a link-local address"),
    (v6(0xfec0 << 112, 10), "a site-local address"),
    (v6(0xff00 << 112, 8), "a multicast address"),
    (v6(0x0064_ff9b_0001 << 80, 48), "a local NAT64 address"),
];

impl Guard {
    /// `allow` lifts the default refusals; `refuse` wins over everything.
    pub const fn new(allow: Vec<IpNet>, refuse: Vec<IpNet>) -> Self {
        Self { allow, refuse }
    }

    /// Whether `address` may be connected to. `loopback_too` lifts the refusal of loopback, for names under `.localhost`.
    pub fn judge(&self, address: IpAddr, loopback_too: bool) -> Result<(), Refused> {
        let judged = carried(address).unwrap_or(address);
        let holds = |networks: &[IpNet], one: IpAddr| networks.iter().any(|network| network.contains(&one));
        if holds(&self.refuse, judged) || holds(&self.refuse, address) {
            return Err(Refused { address, range: "in a network that its operator refuses" });
        }
        if holds(&self.allow, judged) || (loopback_too && judged.is_loopback()) {
            return Ok(());
        }
        match REFUSED.iter().find(|(network, _)| network.contains(&judged)) {
            Some((_, range)) => Err(Refused { address, range }),
            None => Ok(()),
        }
    }
}

/// The IPv4 address that packets to this IPv6 address may end at: mapped and translated forms (RFC 4291 §2.5.5,
/// RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380).
fn carried(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32);
    let found = match bits >> 32 {
        // ::/96, but not :: and ::1, which are addresses of their own.
        0 if bits > 1 => low,
        0xffff | 0xffff_0000 | 0x0064_ff9b_0000_0000_0000_0000 => low,
        _ if bits >> 112 == 0x2002 => Ipv4Addr::from_bits((bits >> 80 & 0xffff_ffff) as u32),
        _ if bits >> 96 == 0x2001_0000 => Ipv4Addr::from_bits(!low.to_bits()),
        _ => return None,
    };
    Some(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn aut_13_what_only_this_host_reaches_is_refused_in_every_spelling() {
        let guard = Guard::new(Vec::new(), Vec::new());
        for (address, word) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("192.0.0.192", "protocol"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::127.0.0.1", "loopback"),
            ("::ffff:0:127.0.0.1", "loopback"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::a00:1", "NAT64"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:a9fe:a9fe::", "metadata"),
            ("2001:0:1:2:3:4:80ff:fffe", "loopback"),
        ] {
            let refused = guard.judge(address.parse().unwrap(), false).unwrap_err();
            assert!(refused.range.contains(word), "{address}: {refused}");
        }
    }

    #[test]
    fn aut_13_private_and_public_addresses_are_allowed() {
        let guard = Guard::new(Vec::new(), Vec::new());
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "fd00::1",
            "192.0.2.1",
            "198.18.0.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::8.8.8.8",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(guard.judge(address.parse().unwrap(), false), Ok(()), "{address}");
        }
    }

    #[test]
    fn aut_13_the_operator_allows_and_refuses_and_refusing_wins() {
        let guard =
            Guard::new(networks(&["127.0.0.0/8", "fe80::/10"]), networks(&["127.0.0.9/32", "10.0.0.0/8"]));
        let judge = |text: &str| guard.judge(text.parse().unwrap(), false).is_ok();
        for allowed in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "fe80::1", "192.168.0.1"] {
            assert!(judge(allowed), "{allowed}");
        }
        for refused in ["127.0.0.9", "::ffff:127.0.0.9", "10.1.2.3", "64:ff9b::10.1.2.3", "::1"] {
            assert!(!judge(refused), "{refused}");
        }
        // Allowing an IPv6 range says nothing of the IPv4 addresses that it carries.
        let guard = Guard::new(networks(&["::/0"]), Vec::new());
        assert!(guard.judge("64:ff9b::127.0.0.1".parse().unwrap(), false).is_err());
    }

    #[test]
    fn aut_13_local_names_lift_loopback_and_nothing_else() {
        let guard = Guard::new(Vec::new(), networks(&["127.0.0.9/32"]));
        assert!(guard.judge("127.0.0.1".parse().unwrap(), true).is_ok());
        assert!(guard.judge("::1".parse().unwrap(), true).is_ok());
        for refused in ["127.0.0.9", "169.254.169.254", "0.0.0.0", "fe80::1"] {
            assert!(guard.judge(refused.parse().unwrap(), true).is_err(), "{refused}");
        }
    }
}
