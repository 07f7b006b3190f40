//! Floor 2: whether a client has done what a challenge asks for (RFC 8555 §8). A challenge, what answers it, and the
//! network go in; a verdict comes out. Nothing is stored, nothing is tried again here.

pub mod dns01;
pub mod http01;
pub mod tls_alpn01;

use crate::acme::challenge::{ChallengeType, key_authorization};
use crate::acme::identifier::Identifier;
use crate::acme::problem::{Problem, ProblemType};
use crate::network::Network;
use crate::network::connect::ConnectError;

/// One try at one challenge.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The challenge.
    pub kind: ChallengeType,
    /// What is to be proven, without `*.`.
    pub identifier: &'a Identifier,
    /// The challenge's token.
    pub token: &'a str,
    /// The RFC 7638 thumbprint of the account's key, base64url.
    pub key_thumbprint: &'a str,
}

impl Attempt<'_> {
    /// What the client is to show (RFC 8555 §8.1).
    pub fn key_authorization(&self) -> String {
        key_authorization(self.token, self.key_thumbprint)
    }
}

/// Where challenges are answered.
#[derive(Clone, Copy, Debug)]
pub struct ValidationConfig {
    /// The port of http-01; 80 on a public network.
    pub http01_port: u16,
    /// The port of tls-alpn-01; 443 on a public network.
    pub tls_alpn01_port: u16,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self { http01_port: 80, tls_alpn01_port: 443 }
    }
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Proven.
    Valid,
    /// Answered wrongly; trying again would not help.
    Invalid(Problem),
    /// Not answered, for a reason that may pass: a connection, DNS, a TLS handshake, a server in trouble.
    Retry(Problem),
}

impl Verdict {
    fn invalid(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self::Invalid(Problem::new(kind, detail))
    }

    fn retry(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self::Retry(Problem::new(kind, detail))
    }

    /// What not reaching a host means; `detail` says it.
    fn unreached(error: &ConnectError, detail: impl Into<String>) -> Self {
        match error {
            ConnectError::Lookup(_) => Self::retry(ProblemType::Dns, detail),
            ConnectError::NotPermitted(_) => Self::invalid(ProblemType::Connection, detail),
            ConnectError::Unreachable(_) => Self::retry(ProblemType::Connection, detail),
        }
    }
}

/// Tries a challenge once. Takes no longer than the network's bounds: `http_timeout` for http-01 and tls-alpn-01,
/// `dns_timeout` for dns-01.
pub async fn validate(attempt: &Attempt<'_>, network: &Network, config: &ValidationConfig) -> Verdict {
    match attempt.kind {
        ChallengeType::Http01 => http01::validate(attempt, network, config.http01_port).await,
        ChallengeType::Dns01 => dns01::validate(attempt, network).await,
        ChallengeType::TlsAlpn01 => tls_alpn01::validate(attempt, network, config.tls_alpn01_port).await,
    }
}
