//! Authorizations (RFC 8555 §7.1.4): facts as stored, status as computed (design I-1).

use crate::acme::challenge::{ChallengeStatus, ChallengeType};
use crate::acme::id::{AccountId, AuthorizationId};
use crate::acme::identifier::Identifier;
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;

/// An account's proof, had or wanted, that it controls one identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its name.
    pub id: AuthorizationId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The profile whose rules it was made under.
    pub profile: String,
    /// What it is for, without `*.`.
    pub identifier: Identifier,
    /// Whether it is for the wildcard of its name.
    pub wildcard: bool,
    /// What is recorded of its progress.
    pub outcome: Outcome,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to count.
    pub expires_at: Timestamp,
    /// The token of each of its challenges.
    pub token: String,
    /// The challenges offered; empty where the profile trusts the account.
    pub challenge_types: Vec<ChallengeType>,
    /// The challenge that the client chose to answer.
    pub attempted: Option<ChallengeType>,
    /// When the attempted challenge was found valid.
    pub validated_at: Option<Timestamp>,
    /// Why the attempted challenge failed.
    pub error: Option<Problem>,
}

/// What is stored of an authorization's progress. Expiry is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No result yet.
    Pending,
    /// Proven.
    Valid,
    /// Failed.
    Invalid,
    /// Given up by the client (RFC 8555 §7.5.2).
    Deactivated,
    /// Withdrawn by the server.
    Revoked,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Pending, Self::Valid, Self::Invalid, Self::Deactivated, Self::Revoked];

    /// The word that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the stored word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// The status that a client sees at `now` (RFC 8555 §7.1.6).
    pub fn status(self, expires_at: Timestamp, now: Timestamp) -> AuthorizationStatus {
        match self {
            Self::Pending | Self::Valid if expires_at <= now => AuthorizationStatus::Expired,
            Self::Pending => AuthorizationStatus::Pending,
            Self::Valid => AuthorizationStatus::Valid,
            Self::Invalid => AuthorizationStatus::Invalid,
            Self::Deactivated => AuthorizationStatus::Deactivated,
            Self::Revoked => AuthorizationStatus::Revoked,
        }
    }
}

/// What a client sees (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationStatus {
    /// Waiting for a challenge.
    Pending,
    /// Proven, and still good.
    Valid,
    /// Failed.
    Invalid,
    /// Given up by the client.
    Deactivated,
    /// Too old.
    Expired,
    /// Withdrawn by the server.
    Revoked,
}

impl AuthorizationStatus {
    /// The word of RFC 8555.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Authorization {
    /// The status that a client sees at `now`.
    pub fn status(&self, now: Timestamp) -> AuthorizationStatus {
        self.outcome.status(self.expires_at, now)
    }

    /// The identifier as the order names it: with `*.` where this is for the wildcard.
    pub fn ordered_identifier(&self) -> Identifier {
        match &self.identifier {
            Identifier::Dns(name) if self.wildcard => Identifier::Dns(format!("*.{name}")),
            other => other.clone(),
        }
    }

    /// The challenge that counts as validated where the profile trusts the account, which therefore answered none: RFC 8555
    /// §7.1.4 has every valid authorization show one, and many clients stop where there is none. http-01, but for wildcards,
    /// which nothing but dns-01 can prove.
    fn taken_as_validated(&self) -> Option<ChallengeType> {
        let kind = if self.wildcard { ChallengeType::Dns01 } else { ChallengeType::Http01 };
        (self.challenge_types.is_empty() && self.outcome != Outcome::Pending).then_some(kind)
    }

    /// Whether it has a challenge of this type.
    pub fn has_challenge(&self, kind: ChallengeType) -> bool {
        self.challenge_types.contains(&kind) || self.taken_as_validated() == Some(kind)
    }

    /// When its challenge of this type was validated, if it was; for one that only counts as that, when the authorization was
    /// made.
    pub fn validated(&self, kind: ChallengeType) -> Option<Timestamp> {
        match self.taken_as_validated() {
            Some(taken) => Some(self.created_at).filter(|_| taken == kind),
            None => self.validated_at.filter(|_| self.attempted == Some(kind)),
        }
    }

    /// The challenges to show: all that are offered until one has an outcome, then that one (RFC 8555 §7.1.4).
    pub fn challenges(&self) -> Vec<(ChallengeType, ChallengeStatus)> {
        if let Some(kind) = self.taken_as_validated() {
            return vec![(kind, ChallengeStatus::Valid)];
        }
        let decided = match self.outcome {
            Outcome::Pending => None,
            Outcome::Invalid => Some(ChallengeStatus::Invalid),
            Outcome::Valid | Outcome::Deactivated | Outcome::Revoked => {
                self.validated_at.map(|_| ChallengeStatus::Valid)
            }
        };
        match (self.attempted, decided) {
            (Some(kind), Some(status)) => vec![(kind, status)],
            (attempted, _) => self
                .challenge_types
                .iter()
                .map(|kind| match attempted {
                    Some(chosen) if chosen == *kind && self.outcome == Outcome::Pending => {
                        (*kind, ChallengeStatus::Processing)
                    }
                    _ => (*kind, ChallengeStatus::Pending),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AuthorizationStatus as S;

    #[test]
    fn aut_02_expiry_is_seen_at_once_and_ends_only_what_is_open() {
        let (before, expiry) = (Timestamp::from_seconds(9), Timestamp::from_seconds(10));
        for (outcome, early, late) in [
            (Outcome::Pending, S::Pending, S::Expired),
            (Outcome::Valid, S::Valid, S::Expired),
            (Outcome::Invalid, S::Invalid, S::Invalid),
            (Outcome::Deactivated, S::Deactivated, S::Deactivated),
            (Outcome::Revoked, S::Revoked, S::Revoked),
        ] {
            assert_eq!(outcome.status(expiry, before), early);
            assert_eq!(outcome.status(expiry, expiry), late);
        }
    }
}
