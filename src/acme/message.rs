//! Payloads of signed requests (RFC 8555 §7.3 to §7.6): read strictly where a member is known, blind where it is not.
//! A member of the wrong JSON type is an error that names it (GEN-08).

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::acme::time::Timestamp;

/// Why a payload cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// A member's text is not base64url (RFC 8555 §6.1).
    #[error("the member {0:?} must be base64url without padding")]
    Base64(&'static str),
    /// A date-time is not RFC 3339.
    #[error("the member {0:?} must be an RFC 3339 date-time")]
    DateTime(&'static str),
    /// A member that the request needs is not there.
    #[error("the member {0:?} is missing")]
    Missing(&'static str),
    /// The payload is not a JSON object.
    #[error("the payload must be a JSON object")]
    NotAnObject,
    /// A member has the wrong JSON type.
    #[error("the member {member:?} must be {expected}")]
    WrongType {
        /// The member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// A payload's members.
#[derive(Debug)]
pub struct Members(Map<String, Value>);

impl Members {
    /// Reads a payload that must be an object.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        match serde_json::from_slice(payload) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            _ => Err(MessageError::NotAnObject),
        }
    }

    /// A member as it is; JSON `null` counts as absent.
    pub fn value(&self, member: &'static str) -> Option<&Value> {
        self.0.get(member).filter(|value| !value.is_null())
    }

    /// A member that must be a string if it is there.
    pub fn string(&self, member: &'static str) -> Result<Option<&str>, MessageError> {
        self.typed(member, "a string", Value::as_str)
    }

    /// A member that must be a boolean if it is there.
    pub fn boolean(&self, member: &'static str) -> Result<Option<bool>, MessageError> {
        self.typed(member, "a boolean", Value::as_bool)
    }

    /// A member that must be an integer if it is there.
    pub fn integer(&self, member: &'static str) -> Result<Option<i64>, MessageError> {
        self.typed(member, "an integer", Value::as_i64)
    }

    /// A member that must be a date-time if it is there. The first second of the year 1 counts as absent: it is Go's zero
    /// time, which the step CLI sends where nothing was asked.
    pub fn date_time(&self, member: &'static str) -> Result<Option<Timestamp>, MessageError> {
        const YEAR_1: Timestamp = Timestamp::from_seconds(-62_135_596_800);
        let Some(text) = self.string(member)? else { return Ok(None) };
        let at = Timestamp::parse_rfc3339(text).ok_or(MessageError::DateTime(member))?;
        Ok(Some(at).filter(|at| at.truncated() != YEAR_1))
    }

    /// A member that must be there and hold base64url octets.
    pub fn octets(&self, member: &'static str) -> Result<Vec<u8>, MessageError> {
        let text = self.string(member)?.ok_or(MessageError::Missing(member))?;
        Base64UrlUnpadded::decode_vec(text).map_err(|_| MessageError::Base64(member))
    }

    /// A member that must be an array of strings if it is there.
    pub fn strings(&self, member: &'static str) -> Result<Option<Vec<String>>, MessageError> {
        let wrong = MessageError::WrongType { member, expected: "an array of strings" };
        let Some(value) = self.value(member) else { return Ok(None) };
        let each = value.as_array().ok_or_else(|| wrong.clone())?;
        each.iter()
            .map(|v| v.as_str().map(str::to_owned).ok_or_else(|| wrong.clone()))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn typed<'a, T>(
        &'a self,
        member: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MessageError> {
        self.value(member)
            .map(|value| read(value).ok_or(MessageError::WrongType { member, expected }))
            .transpose()
    }
}

/// new-account (RFC 8555 §7.3).
#[derive(Debug)]
pub struct NewAccount {
    /// `contact`.
    pub contacts: Vec<String>,
    /// `termsOfServiceAgreed`.
    pub terms_agreed: bool,
    /// `onlyReturnExisting`.
    pub only_return_existing: bool,
    /// `externalAccountBinding`, unread.
    pub external_account_binding: Option<Value>,
}

impl NewAccount {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        Ok(Self {
            contacts: members.strings("contact")?.unwrap_or_default(),
            terms_agreed: members.boolean("termsOfServiceAgreed")?.unwrap_or(false),
            only_return_existing: members.boolean("onlyReturnExisting")?.unwrap_or(false),
            external_account_binding: members.value("externalAccountBinding").cloned(),
        })
    }
}

/// A POST to an account (RFC 8555 §7.3.2, §7.3.6).
#[derive(Debug)]
pub struct AccountUpdate {
    /// `contact`, where given.
    pub contacts: Option<Vec<String>>,
    /// `status`, where given.
    pub status: Option<String>,
}

impl AccountUpdate {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        Ok(Self {
            contacts: members.strings("contact")?,
            status: members.string("status")?.map(str::to_owned),
        })
    }
}

/// An identifier as a client sent it: not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawIdentifier {
    /// `type`.
    pub kind: String,
    /// `value`.
    pub value: String,
}

impl RawIdentifier {
    fn read(value: &Value) -> Result<Self, MessageError> {
        let wrong = MessageError::WrongType {
            member: "identifiers",
            expected: "objects with the strings type and value",
        };
        let text = |member: &str| {
            value.get(member).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| wrong.clone())
        };
        Ok(Self { kind: text("type")?, value: text("value")? })
    }
}

/// new-order (RFC 8555 §7.4; RFC 9773 §5; the profiles draft).
#[derive(Debug)]
pub struct NewOrder {
    /// `identifiers`.
    pub identifiers: Vec<RawIdentifier>,
    /// `notBefore`.
    pub not_before: Option<Timestamp>,
    /// `notAfter`.
    pub not_after: Option<Timestamp>,
    /// `replaces`.
    pub replaces: Option<String>,
    /// `profile`.
    pub profile: Option<String>,
}

impl NewOrder {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        let identifiers = members.value("identifiers").ok_or(MessageError::Missing("identifiers"))?;
        let identifiers = identifiers
            .as_array()
            .ok_or(MessageError::WrongType { member: "identifiers", expected: "an array" })?
            .iter()
            .map(RawIdentifier::read)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            identifiers,
            not_before: members.date_time("notBefore")?,
            not_after: members.date_time("notAfter")?,
            replaces: members.string("replaces")?.map(str::to_owned),
            profile: members.string("profile")?.map(str::to_owned),
        })
    }
}

/// new-authz (RFC 8555 §7.4.1).
#[derive(Debug)]
pub struct NewAuthorization {
    /// `identifier`.
    pub identifier: RawIdentifier,
}

impl NewAuthorization {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        let identifier = members.value("identifier").ok_or(MessageError::Missing("identifier"))?;
        let wrong = MessageError::WrongType {
            member: "identifier",
            expected: "an object with the strings type and value",
        };
        Ok(Self { identifier: RawIdentifier::read(identifier).map_err(|_| wrong)? })
    }
}

/// A POST to an authorization (RFC 8555 §7.5.2).
#[derive(Debug)]
pub struct AuthorizationUpdate {
    /// `status`, where given.
    pub status: Option<String>,
}

impl AuthorizationUpdate {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        Ok(Self { status: Members::parse(payload)?.string("status")?.map(str::to_owned) })
    }
}

/// finalize (RFC 8555 §7.4).
#[derive(Debug)]
pub struct Finalize {
    /// `csr`, in DER.
    pub csr: Vec<u8>,
}

impl Finalize {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        Ok(Self { csr: Members::parse(payload)?.octets("csr")? })
    }
}

/// revoke-cert (RFC 8555 §7.6).
#[derive(Debug)]
pub struct RevokeCertificate {
    /// `certificate`, in DER.
    pub certificate: Vec<u8>,
    /// `reason`.
    pub reason: Option<i64>,
}

impl RevokeCertificate {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        Ok(Self { certificate: members.octets("certificate")?, reason: members.integer("reason")? })
    }
}

/// The inner payload of key-change (RFC 8555 §7.3.5).
#[derive(Debug)]
pub struct KeyChange {
    /// `account`.
    pub account: String,
    /// `oldKey`, unread.
    pub old_key: Value,
}

impl KeyChange {
    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let members = Members::parse(payload)?;
        Ok(Self {
            account: members.string("account")?.ok_or(MessageError::Missing("account"))?.to_owned(),
            old_key: members.value("oldKey").cloned().ok_or(MessageError::Missing("oldKey"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_06_the_year_1_is_no_date() {
        let order = |date: &str| {
            NewOrder::parse(
                format!(r#"{{"identifiers":[],"notBefore":"{date}","notAfter":"{date}"}}"#).as_bytes(),
            )
            .map(|order| (order.not_before, order.not_after))
        };
        for date in ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z", "0001-01-01T01:00:00+01:00"] {
            assert_eq!(order(date), Ok((None, None)), "{date}");
        }
        for date in ["0001-01-01T00:00:01Z", "2026-11-24T04:59:22Z"] {
            let read = Timestamp::parse_rfc3339(date);
            assert_eq!(order(date), Ok((read, read)), "{date}");
        }
    }

    #[test]
    fn gen_08_unknown_members_are_ignored_and_wrong_types_are_named() {
        let order =
            NewOrder::parse(br#"{"identifiers":[{"type":"dns","value":"a.test","x":1}],"later":true}"#);
        assert!(order.is_ok_and(|o| o.identifiers.len() == 1));
        for (payload, member) in [
            (r#"{"identifiers":{}}"#, "identifiers"),
            (r#"{"identifiers":["a.test"]}"#, "identifiers"),
            (r#"{"identifiers":[],"notAfter":5}"#, "notAfter"),
            (r#"{"identifiers":[],"notAfter":"soon"}"#, "notAfter"),
            (r#"{"identifiers":[],"profile":[]}"#, "profile"),
            ("{}", "identifiers"),
        ] {
            let error = NewOrder::parse(payload.as_bytes()).expect_err(payload);
            assert!(error.to_string().contains(member), "{payload}: {error}");
        }
        assert_eq!(NewOrder::parse(b"[]").err(), Some(MessageError::NotAnObject));
    }
}
