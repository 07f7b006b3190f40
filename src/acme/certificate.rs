//! Certificates as records (RFC 8555 §7.4.2, §7.6; RFC 9773 §4.1).

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::acme::id::{AccountId, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::time::Timestamp;

/// A certificate's serial number: 16 octets, the first between 1 and 127, so that its DER is always positive and
/// always 16 octets long (CRT-02: at least 120 random bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial from 16 random octets: the first is folded into 1..=127.
    pub fn from_random(mut octets: [u8; 16]) -> Self {
        octets[0] = (octets[0] & 0x7f).max(1);
        Self(octets)
    }

    /// Big-endian octets, as in the certificate.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads big-endian octets; `None` if no serial of ours looks like this.
    pub fn from_bytes(octets: &[u8]) -> Option<Self> {
        let octets: [u8; 16] = octets.try_into().ok()?;
        (1..=0x7f).contains(&octets[0]).then_some(Self(octets))
    }

    /// Reads 32 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        Self::from_bytes(&u128::from_str_radix(text, 16).ok()?.to_be_bytes())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The unique identifier of RFC 9773 §4.1: `base64url(AKI keyIdentifier) "." base64url(serial)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalId {
    /// The issuer's key identifier.
    pub authority_key_id: Vec<u8>,
    /// The serial's octets as DER has them.
    pub serial: Vec<u8>,
}

impl RenewalId {
    /// Reads the text form; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let (authority_key_id, serial) = text.split_once('.')?;
        let read = |part: &str| Base64UrlUnpadded::decode_vec(part).ok().filter(|octets| !octets.is_empty());
        Some(Self { authority_key_id: read(authority_key_id)?, serial: read(serial)? })
    }
}

impl fmt::Display for RenewalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = Base64UrlUnpadded::encode_string;
        write!(f, "{}.{}", write(&self.authority_key_id), write(&self.serial))
    }
}

/// What is on record of a certificate, from before it is signed (design I-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial, unique for ever.
    pub serial: Serial,
    /// The order that it answers.
    pub order_id: OrderId,
    /// The account that ordered it.
    pub account_id: AccountId,
    /// The profile it was issued under.
    pub profile: String,
    /// The issuer whose key signs it: the hexadecimal subject key identifier.
    pub issuer_id: String,
    /// Its names.
    pub identifiers: Vec<Identifier>,
    /// SHA-256 of its SubjectPublicKeyInfo, hexadecimal.
    pub key_sha256: String,
    /// Its SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Its `notBefore`.
    pub not_before: Timestamp,
    /// Its `notAfter`: the last second of its validity.
    pub not_after: Timestamp,
    /// What else it says; `None` for what its profile says, if it was reserved by a version that did not keep it.
    pub content: Option<Content>,
    /// The certificate in DER, once signed and recorded.
    pub der: Option<Vec<u8>>,
    /// When it was recorded.
    pub issued_at: Option<Timestamp>,
    /// When and why it was revoked, if it was.
    pub revocation: Option<Revocation>,
}

/// What a certificate says beside its names, key and times. It follows from the configuration at the time of the
/// reservation, and whoever signs says the same, however configured (design I-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// Whether TLS clients may use it too.
    pub client_auth: bool,
    /// The certificate policy, dotted.
    pub policy_oid: Option<String>,
    /// Where the CRL is found.
    pub crl_url: String,
    /// Where the issuer's certificate is found.
    pub issuer_url: String,
}

impl Content {
    /// As it is on record.
    pub fn to_json(&self) -> Value {
        json!({
            "common_name": self.common_name,
            "client_auth": self.client_auth,
            "policy_oid": self.policy_oid,
            "crl_url": self.crl_url,
            "issuer_url": self.issuer_url,
        })
    }

    /// Reads what is on record.
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            common_name: text("common_name"),
            client_auth: value["client_auth"].as_bool()?,
            policy_oid: text("policy_oid"),
            crl_url: text("crl_url")?,
            issuer_url: text("issuer_url")?,
        })
    }
}

/// A revocation on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// CRLReason (RFC 5280 §5.3.1) as far as subscribers may give one (CRT-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// 0
    Unspecified,
    /// 1
    KeyCompromise,
    /// 3
    AffiliationChanged,
    /// 4
    Superseded,
    /// 5
    CessationOfOperation,
    /// 9
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason that is taken.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The number in a CRL.
    pub const fn code(self) -> i64 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// Reads the number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_04_what_a_certificate_says_is_read_as_it_was_written() {
        let full = Content {
            common_name: Some("a.test".into()),
            client_auth: true,
            policy_oid: Some("1.2.3".into()),
            crl_url: "http://ca.test/crl/1.crl".into(),
            issuer_url: "http://ca.test/issuer/1.der".into(),
        };
        let bare = Content { common_name: None, client_auth: false, policy_oid: None, ..full.clone() };
        for content in [full, bare] {
            assert_eq!(Content::parse(&content.to_json().to_string()), Some(content));
        }
        for wrong in ["", "{}", "[]", r#"{"client_auth":true}"#] {
            assert_eq!(Content::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn crt_02_serials_are_positive_and_sixteen_octets() {
        for first in 0..=255u8 {
            let mut octets = [0xff; 16];
            octets[0] = first;
            let serial = Serial::from_random(octets);
            assert!((1..=127).contains(&serial.as_bytes()[0]));
            assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
        }
        assert_eq!(Serial::parse(&"0".repeat(32)), None);
    }

    #[test]
    fn ari_01_renewal_ids_follow_rfc_9773() {
        // RFC 9773 §4.1, the example.
        let id = RenewalId::parse("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE").expect("valid");
        assert_eq!(id.serial, [0x00, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        for wrong in ["", ".", "a.b.c", "aYhb", "aYhb.", "aYhb=.AIdl"] {
            assert_eq!(RenewalId::parse(wrong), None, "{wrong}");
        }
    }
}
