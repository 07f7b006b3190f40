//! What a replica answered, with the assertions that many tests make of it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use serde_json::Value;

/// The prefix of every error type of RFC 8555 §6.7.
pub const URN: &str = "urn:ietf:params:acme:error:";

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// What was asked, for messages.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header that must be text if it is there.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("header text"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self}"))
    }

    /// A member of the body that must be a string.
    pub fn string(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_else(|| panic!("no string {member}: {self}")).to_owned()
    }

    /// The member `status` of the body.
    pub fn state(&self) -> String {
        self.string("status")
    }

    /// `Location`.
    pub fn location(&self) -> String {
        self.header(LOCATION).unwrap_or_else(|| panic!("no Location: {self}")).to_owned()
    }

    /// `Replay-Nonce`.
    pub fn nonce(&self) -> Option<String> {
        self.header("replay-nonce").map(str::to_owned)
    }

    /// `Content-Type`, as it stands.
    pub fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE).unwrap_or("")
    }

    /// `Cache-Control`.
    pub fn cache_control(&self) -> &str {
        self.header(CACHE_CONTROL).unwrap_or("")
    }

    /// `Retry-After`, which must be whole seconds, at least one (GEN-15).
    pub fn retry_after(&self) -> Option<u64> {
        self.header(RETRY_AFTER).map(|text| {
            let seconds = text.parse().unwrap_or_else(|_| panic!("Retry-After {text:?}: {self}"));
            assert!(seconds >= 1, "Retry-After {text:?}: {self}");
            seconds
        })
    }

    /// The targets of all `Link` lines with this `rel`. Each line must be one link in the one form that all clients
    /// read (GEN-02).
    pub fn links(&self, rel: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in self.headers.get_all(LINK) {
            let line = line.to_str().expect("header text");
            let parts = line.strip_prefix('<').and_then(|rest| rest.split_once(">;rel=\""));
            let (target, rest) = parts.unwrap_or_else(|| panic!("Link: {line}"));
            let (name, _) = rest.split_once('"').unwrap_or_else(|| panic!("Link: {line}"));
            assert!(!line.contains(",<") && !line.contains(", <"), "one link a line: {line}");
            if name == rel {
                found.push(target.to_owned());
            }
        }
        found
    }

    /// The same answer, if it has this status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The problem document, which must have this status and type and be well formed (GEN-01).
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        let document = self.problem_of(&[kind]);
        assert_eq!(self.status, status, "{self}");
        document
    }

    /// The problem document, which must be of one of these types, where the rules leave a choice.
    pub fn problem_of(&self, kinds: &[&str]) -> Value {
        let document = self.any_problem();
        let kind = document["type"].as_str().and_then(|urn| urn.strip_prefix(URN)).unwrap_or("");
        assert!(kinds.contains(&kind), "{kinds:?} expected: {self}");
        document
    }

    /// The problem document, of any type, which must be well formed (GEN-01).
    pub fn any_problem(&self) -> Value {
        assert!(self.status >= 400, "an error expected: {self}");
        assert_eq!(self.content_type(), "application/problem+json", "{self}");
        let document = self.json();
        assert_eq!(document["status"], self.status, "{self}");
        assert!(document["type"].as_str().is_some_and(|urn| urn.starts_with(URN)), "{self}");
        let detail = document["detail"].as_str().unwrap_or("");
        assert!(detail.len() > 5, "a detail that helps: {self}");
        for leak in ["SELECT ", "INSERT ", "UPDATE ", "panicked", "sqlx", ".rs:", "redis://", "postgres://"] {
            assert!(!detail.contains(leak), "the detail tells of the inside: {self}");
        }
        document
    }

    /// The `detail` of a problem.
    pub fn detail(&self) -> String {
        self.string("detail")
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.request, self.status)?;
        for (name, value) in &self.headers {
            write!(f, "\n  {name}: {}", value.to_str().unwrap_or("?"))?;
        }
        write!(f, "\n  {}", self.text())
    }
}
