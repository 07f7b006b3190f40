//! Profiles (draft-ietf-acme-profiles): a named set of rules that an order is bound to when it is made.

use std::time::Duration;

use crate::acme::challenge::ChallengeType;

/// The rules of one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, in `[a-z0-9-]`.
    pub name: String,
    /// What `meta.profiles` says of it.
    pub description: String,
    /// How accounts come to be authorized.
    pub authorization: AuthorizationMode,
    /// How long a certificate is valid unless the order asks for less.
    pub validity: Duration,
    /// The least that an order may ask for instead, where `validity` is more.
    pub shortest_lifetime: Duration,
    /// By how much `notBefore` is dated back, for clients whose clocks are slow.
    pub backdate: Duration,
    /// The public keys that a CSR may have.
    pub key_types: Vec<KeyType>,
    /// Whether certificates also say `clientAuth`.
    pub client_auth: bool,
    /// The certificate policy that certificates name, dotted; none if they name none.
    pub policy_oid: Option<String>,
    /// Whether the first DNS name (if it fits) is also the subject's common name.
    pub common_name: bool,
    /// Names that may be issued: exact, or `.suffix` for all below it; empty for any.
    pub allowed_names: Vec<String>,
    /// Names that may not, in the same form; these win.
    pub denied_names: Vec<String>,
    /// Whether wildcards may be issued.
    pub wildcards: bool,
    /// Whether IP addresses may be issued.
    pub ip_addresses: bool,
    /// Whether names of a single label may be issued.
    pub single_label_names: bool,
    /// Whether names below `onion` may be issued (RFC 7686).
    pub onion_names: bool,
    /// The challenges offered, where they fit the identifier.
    pub challenge_types: Vec<ChallengeType>,
    /// Whether valid authorizations are used again (ORD-05).
    pub reuse_authorizations: bool,
    /// Whether accounts need an external account binding (RFC 8555 §7.3.4).
    pub external_account_required: bool,
}

/// How an order's authorizations come to be valid (design §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationMode {
    /// By challenges.
    Challenge,
    /// A valid account may have any name that the policy allows.
    Trusted,
}

impl AuthorizationMode {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Trusted => "trusted",
        }
    }

    /// Reads the word in the configuration.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Challenge, Self::Trusted].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// A kind of public key (ORD-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Ed25519 (RFC 8410).
    Ed25519,
}

impl KeyType {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// The word in the configuration and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
