//! The keys that limits count by: as the server makes them, and as an operator writes them. Both come out as one text of
//! a bounded length, in which nothing is left to a stranger's choice but a checked name or address.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{SHA256, digest};

use super::names::Subject;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId};
use crate::acme::identifier::Identifier;
use crate::admission::MAX_CAPACITY;

/// A longer key is stored as its hash: the names of an order may come to 25 000 octets.
const MOST_OCTETS: usize = 128;

/// The key of an account and an identifier, `*.` or not.
pub(super) fn account_and_identifier(account: &AccountId, identifier: &Identifier) -> String {
    bounded(format!("{account}/{}", identifier.base().value()))
}

/// The key of a challenge.
pub(super) fn challenge(authorization: &AuthorizationId, kind: ChallengeType) -> String {
    format!("{authorization}/{kind}")
}

/// How the key of a site ends.
const SITE: &str = "/48";

/// How many times as much as an address a site may use: it has 65 536 networks, of which most honest ones use a few.
const SITE_FACTOR: u32 = 10;

/// The key of an address: IPv4 as it is, IPv6 as its /64, since a host commonly has that many to choose from.
pub(super) fn address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// The key of the site that an IPv6 address is of, its /48, which hosters give to anyone. IPv4 has none.
pub(super) fn site(address: IpAddr) -> Option<String> {
    let IpAddr::V6(address) = address.to_canonical() else { return None };
    let [a, b, c, ..] = address.segments();
    Some(format!("{}{SITE}", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
}

/// How much a key may use of a limit that allows `capacity`, unless it has an override.
pub(super) fn share(subject: Subject, key: &str, capacity: u32) -> u32 {
    let whole_site = subject == Subject::Address && key.ends_with(SITE);
    if whole_site { capacity.saturating_mul(SITE_FACTOR).min(MAX_CAPACITY) } else { capacity }
}

/// The key of a set of identifiers, in whatever order.
pub(super) fn identifier_set(identifiers: &[Identifier]) -> String {
    let mut names: Vec<String> = identifiers.iter().map(Identifier::value).collect();
    names.sort_unstable();
    names.dedup();
    bounded(names.join(","))
}

fn bounded(text: String) -> String {
    if text.len() <= MOST_OCTETS {
        return text;
    }
    let hash = digest(&SHA256, text.as_bytes());
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// Reads what an operator wrote: an account's id or URL, a challenge's URL or `AUTHORIZATION/TYPE`, an address or IPv6
/// network, `ACCOUNT/IDENTIFIER`, or identifiers with commas between them. `None` if it is no key of that subject.
pub fn parse(subject: Subject, text: &str) -> Option<String> {
    let text = text.trim();
    let after = |part: &str| text.rsplit_once(part).map_or(text, |(_, rest)| rest);
    match subject {
        Subject::Account => AccountId::parse(after("/account/")).map(|id| id.to_string()),
        Subject::AccountAndIdentifier => {
            let (account, name) = after("/account/").split_once('/')?;
            Some(account_and_identifier(&AccountId::parse(account)?, &identifier(name)?))
        }
        Subject::Address if text.ends_with(SITE) => text.strip_suffix(SITE)?.parse().ok().and_then(site),
        Subject::Address => {
            let text = text.strip_suffix("/64").unwrap_or(text);
            text.parse().ok().map(address)
        }
        Subject::Challenge => {
            let (authorization, kind) = after("/challenge/").split_once('/')?;
            Some(challenge(&AuthorizationId::parse(authorization)?, ChallengeType::parse(kind)?))
        }
        Subject::IdentifierSet => {
            let identifiers: Option<Vec<Identifier>> = text.split(',').map(identifier).collect();
            identifiers.map(|identifiers| identifier_set(&identifiers))
        }
    }
}

fn identifier(text: &str) -> Option<Identifier> {
    let text = text.trim();
    let kind = if text.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Identifier {
        Identifier::parse("dns", name).unwrap()
    }

    #[test]
    fn what_an_operator_writes_is_what_the_server_counts_by() {
        let (account, authorization) = (AccountId::new(), AuthorizationId::new());
        for text in [account.to_string(), format!("https://acme.test/account/{account}")] {
            assert_eq!(parse(Subject::Account, &text), Some(account.to_string()));
        }
        let kind = ChallengeType::Dns01;
        let made = challenge(&authorization, kind);
        assert_eq!(parse(Subject::Challenge, &format!("https://x/challenge/{made}")), Some(made.clone()));
        assert_eq!(parse(Subject::Challenge, &made), Some(made));
        let made = account_and_identifier(&account, &dns("*.a.test"));
        assert_eq!(parse(Subject::AccountAndIdentifier, &format!("{account}/A.test")), Some(made));
        let made = identifier_set(&[dns("b.test"), dns("*.b.test"), dns("a.test"), dns("b.test")]);
        assert_eq!(made, "*.b.test,a.test,b.test");
        assert_eq!(parse(Subject::IdentifierSet, "a.test, B.test,*.b.test"), Some(made));
        for (subject, wrong) in [
            (Subject::Account, "x"),
            (Subject::Address, "10.0.0.0/8"),
            (Subject::Challenge, "x/dns-01"),
            (Subject::AccountAndIdentifier, "a.test"),
            (Subject::IdentifierSet, ""),
        ] {
            assert_eq!(parse(subject, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_counts_as_itself_or_as_its_64() {
        let of = |text: &str| address(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("2001:db8:1:2:3::9"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2:ffff::"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:3::"), of("2001:db8:1:2::"));
        assert_eq!(parse(Subject::Address, "2001:db8:1:2::/64"), Some("2001:db8:1:2::/64".to_owned()));
    }

    #[test]
    fn a_site_is_a_48_and_may_use_more() {
        let of = |text: &str| site(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::9").as_deref(), Some("2001:db8:1::/48"));
        assert_eq!((of("192.0.2.1"), of("::ffff:192.0.2.1")), (None, None));
        assert_eq!(parse(Subject::Address, "2001:db8:1:2::/48"), of("2001:db8:1::"));
        assert_eq!(parse(Subject::Address, "192.0.2.1/48"), None);
        let share = |key: &str, capacity| share(Subject::Address, key, capacity);
        assert_eq!((share("2001:db8:1::/48", 100), share("2001:db8:1:2::/64", 100)), (1000, 100));
        assert_eq!((share("2001:db8:1::/48", 0), share("2001:db8:1::/48", MAX_CAPACITY)), (0, MAX_CAPACITY));
    }

    #[test]
    fn long_keys_are_hashed_and_stay_apart() {
        let set = |last: &str| {
            let mut names: Vec<_> = (0..99).map(|n| dns(&format!("n{n}.example.test"))).collect();
            names.push(dns(last));
            identifier_set(&names)
        };
        assert_eq!(set("a.test"), set("a.test"));
        assert_ne!(set("a.test"), set("b.test"));
        assert!(set("a.test").len() <= MOST_OCTETS && set("a.test").starts_with("sha256:"));
        let long = dns(&format!("{0}.{0}.{0}.test", "a".repeat(60)));
        assert!(account_and_identifier(&AccountId::new(), &long).len() <= MOST_OCTETS);
    }
}
