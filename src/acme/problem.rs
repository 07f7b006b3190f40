//! Problem documents (RFC 8555 §6.7, RFC 9457): one table of types, and the value that is sent or stored.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::acme::identifier::Identifier;

const URN: &str = "urn:ietf:params:acme:error:";

macro_rules! problem_types {
    ($($variant:ident $name:literal $status:literal)*) => {
        /// The error types of RFC 8555 §6.7 and its companions, each with its usual HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl ProblemType {
            /// Every type, for tests and documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The suffix of `urn:ietf:params:acme:error:`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status that goes with the type unless the problem says otherwise.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Reads a full URN.
            pub fn from_urn(urn: &str) -> Option<Self> {
                match urn.strip_prefix(URN)? { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

problem_types! {
    AccountDoesNotExist "accountDoesNotExist" 400
    AlreadyReplaced "alreadyReplaced" 409
    AlreadyRevoked "alreadyRevoked" 400
    BadCsr "badCSR" 400
    BadNonce "badNonce" 400
    BadPublicKey "badPublicKey" 400
    BadRevocationReason "badRevocationReason" 400
    BadSignatureAlgorithm "badSignatureAlgorithm" 400
    Caa "caa" 403
    Compound "compound" 400
    Connection "connection" 400
    Dns "dns" 400
    ExternalAccountRequired "externalAccountRequired" 403
    IncorrectResponse "incorrectResponse" 403
    InvalidContact "invalidContact" 400
    InvalidProfile "invalidProfile" 400
    Malformed "malformed" 400
    OrderNotReady "orderNotReady" 403
    RateLimited "rateLimited" 429
    RejectedIdentifier "rejectedIdentifier" 400
    ServerInternal "serverInternal" 500
    Tls "tls" 400
    Unauthorized "unauthorized" 403
    UnsupportedContact "unsupportedContact" 400
    UnsupportedIdentifier "unsupportedIdentifier" 400
    UserActionRequired "userActionRequired" 403
}

impl ProblemType {
    /// The full URN.
    pub fn urn(self) -> String {
        format!("{URN}{}", self.name())
    }
}

/// What was wrong with one request, or with one challenge, in words that help its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The type.
    pub kind: ProblemType,
    /// What was wrong with this very request.
    pub detail: String,
    /// The HTTP status; the type's own unless set otherwise.
    pub status: u16,
    /// What was wrong with single identifiers (RFC 8555 §6.7.1).
    pub subproblems: Vec<Subproblem>,
    /// The algorithms that would do, with `badSignatureAlgorithm` (RFC 8555 §6.2).
    pub algorithms: &'static [&'static str],
}

/// A problem of one identifier (RFC 8555 §6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The type.
    pub kind: ProblemType,
    /// What was wrong.
    pub detail: String,
    /// `type` and `value` of the identifier, as the client sent them.
    pub identifier: (String, String),
}

impl Subproblem {
    /// A problem of an identifier that could be read.
    pub fn of(kind: ProblemType, detail: impl Into<String>, identifier: &Identifier) -> Self {
        Self { kind, detail: detail.into(), identifier: (identifier.kind().to_owned(), identifier.value()) }
    }
}

impl Problem {
    /// A problem with the status that its type usually has.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), status: kind.status(), subproblems: Vec::new(), algorithms: &[] }
    }

    /// `malformed`, the commonest.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    /// What is wrong with several identifiers: their type if they agree, else the most general one.
    pub fn of_identifiers(detail: impl Into<String>, subproblems: Vec<Subproblem>) -> Self {
        let first = subproblems.first().map_or(ProblemType::Malformed, |sub| sub.kind);
        let kind = if subproblems.iter().all(|sub| sub.kind == first) {
            first
        } else if subproblems.iter().any(|sub| sub.kind == ProblemType::Malformed) {
            ProblemType::Malformed
        } else {
            ProblemType::RejectedIdentifier
        };
        Self::new(kind, detail).with_subproblems(subproblems)
    }

    /// The same problem under another HTTP status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same problem with subproblems.
    pub fn with_subproblems(mut self, subproblems: Vec<Subproblem>) -> Self {
        self.subproblems = subproblems;
        self
    }

    /// The same said of one identifier (RFC 8555 §6.7.1).
    pub fn about(&self, identifier: &Identifier) -> Subproblem {
        Subproblem::of(self.kind, self.detail.clone(), identifier)
    }

    /// The document as it is stored.
    pub fn to_json(&self) -> Value {
        json!(self)
    }

    /// Reads a stored document back; `None` if it is not one of ours. Subproblems keep type, detail and identifier.
    pub fn from_json(document: &Value) -> Option<Self> {
        let text = |value: &Value, member: &str| value.get(member)?.as_str().map(str::to_owned);
        let kind = ProblemType::from_urn(&text(document, "type")?)?;
        let mut problem = Self::new(kind, text(document, "detail")?);
        problem.status = u16::try_from(document.get("status")?.as_u64()?).ok()?;
        for sub in document.get("subproblems").and_then(Value::as_array).into_iter().flatten() {
            let identifier = sub.get("identifier")?;
            problem.subproblems.push(Subproblem {
                kind: ProblemType::from_urn(&text(sub, "type")?)?,
                detail: text(sub, "detail")?,
                identifier: (text(identifier, "type")?, text(identifier, "value")?),
            });
        }
        Some(problem)
    }
}

impl Serialize for Problem {
    /// The document as it is sent (RFC 9457 §3), its members in this order (GEN-14).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("type", &self.kind.urn())?;
        document.serialize_entry("detail", &self.detail)?;
        document.serialize_entry("status", &self.status)?;
        if !self.algorithms.is_empty() {
            document.serialize_entry("algorithms", self.algorithms)?;
        }
        if !self.subproblems.is_empty() {
            document.serialize_entry("subproblems", &self.subproblems)?;
        }
        document.end()
    }
}

impl Serialize for Subproblem {
    /// A document within the document, with the identifier that it is about (RFC 8555 §6.7.1).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct About<'a> {
            r#type: &'a str,
            value: &'a str,
        }
        let (kind, value) = &self.identifier;
        let mut document = serializer.serialize_map(Some(3))?;
        document.serialize_entry("type", &self.kind.urn())?;
        document.serialize_entry("detail", &self.detail)?;
        document.serialize_entry("identifier", &About { r#type: kind, value })?;
        document.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.detail)
    }
}

/// Text from a stranger made fit for a `detail` or a log: printable ASCII, at most `limit` characters.
pub fn printable(text: &[u8], limit: usize) -> String {
    let mut out = String::new();
    for (count, byte) in text.iter().enumerate() {
        if count == limit {
            out.push_str("...");
            break;
        }
        match byte {
            b' '..=b'~' if !matches!(byte, b'"' | b'\\' | b'<' | b'>') => out.push(char::from(*byte)),
            b'<' | b'>' => out.push_str(&format!("\\x{byte:02x}")),
            _ => out.push_str(&byte.escape_ascii().to_string()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_round_trips_through_its_document() {
        for kind in ProblemType::ALL {
            let sub =
                Subproblem { kind: *kind, detail: "d".into(), identifier: ("dns".into(), "a.test".into()) };
            let problem = Problem::new(*kind, "why").with_subproblems(vec![sub]);
            assert_eq!(Problem::from_json(&problem.to_json()), Some(problem));
        }
    }

    #[test]
    fn gen_14_the_members_of_a_document_are_in_order() {
        let name = Identifier::Dns("a.test".into());
        let problem = Problem::malformed("why");
        let problem = problem.clone().with_subproblems(vec![problem.about(&name)]);
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"why\",\"status\":400,\"subproblems\":[{\"type\":\
             \"urn:ietf:params:acme:error:malformed\",\"detail\":\"why\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"}}]}"
        );
    }

    #[test]
    fn text_of_strangers_is_cut_and_escaped() {
        assert_eq!(printable(b"a\n\x00<b>", 10), "a\\n\\x00\\x3cb\\x3e");
        assert_eq!(printable(b"abcdef", 3), "abc...");
    }
}
