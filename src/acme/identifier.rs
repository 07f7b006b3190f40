//! What a certificate is asked for: DNS names (RFC 8555 §9.7.7) and IP addresses (RFC 8738).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// A DNS name, maybe a wildcard, or an IP address. Always normalised: lower case, canonical address text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// `dns`: an LDH name of A-labels, optionally with `*.` in front.
    Dns(String),
    /// `ip`: RFC 8738.
    Ip(IpAddr),
}

/// Why an identifier is not one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdentifierError {
    /// The name has an A-label that does not survive IDNA.
    #[error("the label {0:?} is not a valid A-label (RFC 5891)")]
    ALabel(String),
    /// The address is not in its canonical text.
    #[error("an IP address must be in its canonical form, here {0}")]
    AddressForm(IpAddr),
    /// The text is no IP address.
    #[error("not an IP address: dotted quad or RFC 5952 text, without zone or prefix")]
    Address,
    /// A label has a character outside letters, digits and hyphen.
    #[error("a DNS name has letters, digits and hyphens only; internationalised names are sent as A-labels")]
    Character,
    /// Two dots in a row, or a dot in front.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A label starts or ends with a hyphen, or has hyphens in places 3 and 4.
    #[error("a label must not begin or end with a hyphen, nor have hyphens in its third and fourth place")]
    Hyphen,
    /// An IP address was sent as `dns`.
    #[error("this is an IP address, which has the identifier type \"ip\"")]
    IpAsDns,
    /// A label above 63 octets.
    #[error("a label is longer than 63 octets")]
    LabelLength,
    /// A name above 253 octets.
    #[error("the name is longer than 253 octets")]
    NameLength,
    /// A dot at the end.
    #[error("the name must not end with a dot")]
    TrailingDot,
    /// A type other than `dns` and `ip`.
    #[error("identifier type {0:?} is not supported; dns and ip are")]
    UnsupportedType(String),
    /// A star elsewhere than as the whole leftmost label.
    #[error("a wildcard is one \"*\" as the whole leftmost label")]
    Wildcard,
}

impl Identifier {
    /// Reads an identifier object's `type` and `value`: normalises and validates (RFC 8555 §7.1.3, RFC 8738 §3).
    /// How many labels a name needs is policy, and not asked here.
    pub fn parse(kind: &str, value: &str) -> Result<Self, IdentifierError> {
        match kind {
            "dns" => parse_dns(value).map(Self::Dns),
            "ip" => parse_ip(value).map(Self::Ip),
            other => Err(IdentifierError::UnsupportedType(other.chars().take(32).collect())),
        }
    }

    /// The identifier's `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip(_) => "ip",
        }
    }

    /// The identifier's `value`.
    pub fn value(&self) -> String {
        self.to_string()
    }

    /// Whether this is `*.NAME`.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// What the authorization is for: the name without `*.` (RFC 8555 §7.1.4).
    pub fn base(&self) -> Self {
        match self {
            Self::Dns(name) => Self::Dns(name.strip_prefix("*.").unwrap_or(name).to_owned()),
            Self::Ip(_) => self.clone(),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

fn parse_ip(value: &str) -> Result<IpAddr, IdentifierError> {
    let address: IpAddr = value.parse().map_err(|_| IdentifierError::Address)?;
    // RFC 8738 §3: the textual form of RFC 5952 or a dotted quad, and no other spelling.
    if address.to_string() == value { Ok(address) } else { Err(IdentifierError::AddressForm(address)) }
}

fn parse_dns(value: &str) -> Result<String, IdentifierError> {
    let name = value.to_ascii_lowercase();
    if name.len() > 253 {
        return Err(IdentifierError::NameLength);
    }
    if name.parse::<Ipv4Addr>().is_ok() || name.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok() {
        return Err(IdentifierError::IpAsDns);
    }
    if name.ends_with('.') {
        return Err(IdentifierError::TrailingDot);
    }
    let base = name.strip_prefix("*.").unwrap_or(&name);
    if base.contains('*') {
        return Err(IdentifierError::Wildcard);
    }
    for label in base.split('.') {
        check_label(label)?;
    }
    // A last label of digits would be read as an address by some (RFC 3696 §2).
    if base.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(IdentifierError::IpAsDns);
    }
    Ok(name)
}

fn check_label(label: &str) -> Result<(), IdentifierError> {
    if label.is_empty() {
        return Err(IdentifierError::EmptyLabel);
    }
    if label.len() > 63 {
        return Err(IdentifierError::LabelLength);
    }
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(IdentifierError::Character);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(IdentifierError::Hyphen);
    }
    if label.get(2..4) == Some("--") {
        if !label.starts_with("xn--") {
            return Err(IdentifierError::Hyphen);
        }
        let (unicode, outcome) = idna::domain_to_unicode(label);
        let back = idna::domain_to_ascii_strict(&unicode);
        if outcome.is_err() || back.ok().as_deref() != Some(label) {
            return Err(IdentifierError::ALabel(label.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdentifierError as E;

    #[test]
    fn dns_names_are_lower_cased_and_checked() {
        assert_eq!(
            Identifier::parse("dns", "WWW.Example.COM"),
            Ok(Identifier::Dns("www.example.com".into()))
        );
        assert_eq!(
            Identifier::parse("dns", "*.a.test").map(|i| (i.is_wildcard(), i.base().value())),
            Ok((true, "a.test".into()))
        );
        assert!(Identifier::parse("dns", "xn--bcher-kva.example").is_ok());
        let long = format!("{}.test", "a".repeat(64));
        let longer = format!("{}test", "abc.".repeat(63));
        for (wrong, why) in [
            ("a.test.", E::TrailingDot),
            ("a..test", E::EmptyLabel),
            (".a.test", E::EmptyLabel),
            ("", E::EmptyLabel),
            ("a_b.test", E::Character),
            ("bücher.example", E::Character),
            ("-a.test", E::Hyphen),
            ("a-.test", E::Hyphen),
            ("ab--c.test", E::Hyphen),
            ("a.*.test", E::Wildcard),
            ("*a.test", E::Wildcard),
            ("*.*.test", E::Wildcard),
            ("192.0.2.1", E::IpAsDns),
            ("2001:db8::1", E::IpAsDns),
            ("1.2.3.4.5", E::IpAsDns),
            (long.as_str(), E::LabelLength),
            (longer.as_str(), E::NameLength),
        ] {
            assert_eq!(Identifier::parse("dns", wrong), Err(why), "{wrong}");
        }
        assert!(matches!(Identifier::parse("dns", "xn--a.test"), Err(E::ALabel(_))));
    }

    #[test]
    fn addresses_are_canonical_or_refused() {
        assert!(Identifier::parse("ip", "192.0.2.1").is_ok());
        assert!(Identifier::parse("ip", "2001:db8::1").is_ok());
        for wrong in ["192.0.2.01", "fe80::1%eth0", "10.0.0.0/8", "a.test", "*.1.2.3"] {
            assert_eq!(Identifier::parse("ip", wrong), Err(E::Address), "{wrong}");
        }
        for wrong in ["2001:DB8::1", "2001:db8:0:0:0:0:0:1"] {
            assert!(matches!(Identifier::parse("ip", wrong), Err(E::AddressForm(_))), "{wrong}");
        }
        assert!(matches!(Identifier::parse("email", "a@b"), Err(E::UnsupportedType(_))));
    }
}
