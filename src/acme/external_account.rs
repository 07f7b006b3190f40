//! External accounts (RFC 8555 §7.3.4): the keys by which an operator says who may have an account.

use serde_json::Value;

use crate::acme::id::ExternalAccountKid;
use crate::acme::time::Timestamp;

/// What binds an account to an external one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The key that it was bound by.
    pub kid: ExternalAccountKid,
    /// The profile that the key is for, if it is for one.
    pub profile: Option<String>,
    /// The binding as the client sent it: a flattened JWS, which the account object echoes (EAB-04).
    pub binding: Value,
}

/// A key that binds accounts, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccountKey {
    /// Its name.
    pub kid: ExternalAccountKid,
    /// The profile that it is for; nothing if it is for all.
    pub profile: Option<String>,
    /// How many accounts it may still bind; nothing for any number.
    pub uses_left: Option<u64>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was withdrawn, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whether a key binds further accounts (EAB-03).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Its time is over.
    Expired,
    /// It binds.
    Live,
    /// It was withdrawn.
    Revoked,
    /// It has bound as many accounts as it was made for.
    Used,
}

impl KeyState {
    /// The word in lists and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Used => "used",
        }
    }
}

impl ExternalAccountKey {
    /// Its state at `now`. A key that has ended in several ways says what the operator did first.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.uses_left == Some(0) {
            KeyState::Used
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyState::Expired
        } else {
            KeyState::Live
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eab_03_a_key_ends_by_use_by_time_and_by_revocation() {
        let at = Timestamp::from_seconds;
        let key = ExternalAccountKey {
            kid: ExternalAccountKid::new(),
            profile: None,
            uses_left: Some(1),
            expires_at: Some(at(10)),
            revoked_at: None,
            created_at: at(0),
        };
        assert_eq!((key.state(at(9)), key.state(at(10))), (KeyState::Live, KeyState::Expired));
        let used = ExternalAccountKey { uses_left: Some(0), ..key.clone() };
        assert_eq!((used.state(at(9)), used.state(at(11))), (KeyState::Used, KeyState::Used));
        let revoked = ExternalAccountKey { revoked_at: Some(at(5)), ..used };
        assert_eq!(revoked.state(at(9)), KeyState::Revoked);
        let endless = ExternalAccountKey { uses_left: None, expires_at: None, ..key };
        assert_eq!(endless.state(at(i64::from(u32::MAX))), KeyState::Live);
    }
}
