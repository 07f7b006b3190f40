//! Accounts (RFC 8555 §7.1.2).

use crate::acme::external_account::ExternalAccount;
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;

/// A client's standing with this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// RFC 7638 thumbprint of its key: what makes an account unique (RFC 8555 §7.3.1).
    pub key_thumbprint: String,
    /// The public key as a canonical JWK, required members only.
    pub jwk: String,
    /// What it may do.
    pub status: AccountStatus,
    /// `mailto:` URLs.
    pub contacts: Vec<String>,
    /// When the terms of service were agreed to, if ever.
    pub terms_agreed_at: Option<Timestamp>,
    /// What it is bound to, if it is (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// RFC 8555 §7.1.6. Both ends are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// In use.
    Valid,
    /// Given up by its client.
    Deactivated,
    /// Withdrawn by the server.
    Revoked,
}

impl AccountStatus {
    /// The word of RFC 8555.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word of RFC 8555.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Valid, Self::Deactivated, Self::Revoked].into_iter().find(|s| s.as_str() == text)
    }
}
