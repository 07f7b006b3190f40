//! Orders (RFC 8555 §7.1.3): facts as stored, status as computed (design I-1).

use crate::acme::authorization::{AuthorizationStatus, Outcome};
use crate::acme::certificate::Serial;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;

/// A client's request for one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The profile it is bound to.
    pub profile: String,
    /// What it is for, in the order asked for (ORD-16).
    pub identifiers: Vec<Identifier>,
    /// The `notBefore` asked for.
    pub not_before: Option<Timestamp>,
    /// The `notAfter` asked for.
    pub not_after: Option<Timestamp>,
    /// The RFC 9773 identifier of the certificate it replaces.
    pub replaces: Option<String>,
    /// Whether limits on orders and on their certificates do not count it: what it replaces was due (ARI-04).
    pub exempt: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends unless it is valid by then.
    pub expires_at: Timestamp,
    /// What is recorded of its progress.
    pub progress: Progress,
    /// Why it failed, where issuance did.
    pub error: Option<Problem>,
    /// The serial of its certificate: reserved while processing, issued when valid (design I-4).
    pub serial: Option<Serial>,
    /// Its authorizations, in the order of its identifiers.
    pub authorizations: Vec<OrderAuthorization>,
}

/// What an order needs to know of one of its authorizations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderAuthorization {
    /// Its name.
    pub id: AuthorizationId,
    /// What is stored of its progress.
    pub outcome: Outcome,
    /// When it stops to count.
    pub expires_at: Timestamp,
    /// When its challenge was validated.
    pub validated_at: Option<Timestamp>,
    /// The challenge that the client chose to answer; nothing where the profile trusted the account.
    pub attempted: Option<ChallengeType>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// What is stored of an order's progress. `ready` and expiry are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not finalized.
    Open,
    /// Finalized; a certificate is being issued.
    Processing,
    /// Issued.
    Valid,
    /// Issuance failed, or the client gave the account up.
    Invalid,
}

impl Progress {
    /// The word that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }

    /// Reads the stored word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Processing, Self::Valid, Self::Invalid].into_iter().find(|p| p.as_str() == text)
    }
}

/// What a client sees (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Waiting for authorizations.
    Pending,
    /// May be finalized.
    Ready,
    /// Being issued.
    Processing,
    /// Issued.
    Valid,
    /// Over.
    Invalid,
}

impl OrderStatus {
    /// The word of RFC 8555.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl Order {
    /// The status that a client sees at `now` (RFC 8555 §7.1.6; ORD-07, ORD-08).
    pub fn status(&self, now: Timestamp) -> OrderStatus {
        match self.progress {
            Progress::Valid => return OrderStatus::Valid,
            Progress::Invalid => return OrderStatus::Invalid,
            _ if self.expires_at <= now => return OrderStatus::Invalid,
            Progress::Processing => return OrderStatus::Processing,
            Progress::Open => {}
        }
        let mut ready = true;
        for authorization in &self.authorizations {
            match authorization.outcome.status(authorization.expires_at, now) {
                AuthorizationStatus::Valid => {}
                AuthorizationStatus::Pending => ready = false,
                _ => return OrderStatus::Invalid,
            }
        }
        if ready { OrderStatus::Ready } else { OrderStatus::Pending }
    }

    /// Why the order is invalid: its own failure, or that of the first authorization that failed (ORD-13).
    pub fn failure(&self, now: Timestamp) -> Option<Problem> {
        if self.status(now) != OrderStatus::Invalid {
            return None;
        }
        if let Some(problem) = &self.error {
            return Some(problem.clone());
        }
        // RFC 8555 §6.7.1: which identifier it was.
        let failed = self.authorizations.iter().zip(&self.identifiers);
        if let Some((problem, identifier)) = failed.filter_map(|(a, i)| Some((a.error.as_ref()?, i))).next() {
            let subproblem = problem.about(identifier);
            let detail = format!("{} {identifier} was not authorized: {}", identifier.kind(), problem.detail);
            return Some(
                Problem::new(problem.kind, detail)
                    .with_status(problem.status)
                    .with_subproblems(vec![subproblem]),
            );
        }
        Some(Problem::malformed(if self.expires_at <= now {
            "the order expired before it was finalized; place a new one"
        } else {
            "an authorization of the order is no longer valid; place a new order"
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(progress: Progress, outcomes: &[(Outcome, i64)]) -> Order {
        let authorizations = outcomes.iter().map(|(outcome, expires)| OrderAuthorization {
            id: AuthorizationId::new(),
            outcome: *outcome,
            expires_at: Timestamp::from_seconds(*expires),
            validated_at: None,
            attempted: None,
            error: None,
        });
        Order {
            id: OrderId::new(),
            account_id: AccountId::new(),
            profile: "default".into(),
            identifiers: Vec::new(),
            not_before: None,
            not_after: None,
            replaces: None,
            exempt: false,
            created_at: Timestamp::from_seconds(0),
            expires_at: Timestamp::from_seconds(100),
            progress,
            error: None,
            serial: None,
            authorizations: authorizations.collect(),
        }
    }

    #[test]
    fn ord_07_status_is_a_function_of_facts_and_time() {
        use OrderStatus as S;
        use Outcome as O;
        let at = |progress, outcomes: &[(O, i64)], now| {
            order(progress, outcomes).status(Timestamp::from_seconds(now))
        };
        assert_eq!(at(Progress::Open, &[(O::Valid, 100), (O::Pending, 100)], 5), S::Pending);
        assert_eq!(at(Progress::Open, &[(O::Valid, 100), (O::Valid, 100)], 5), S::Ready);
        assert_eq!(at(Progress::Open, &[(O::Valid, 100), (O::Invalid, 100)], 5), S::Invalid);
        assert_eq!(at(Progress::Open, &[(O::Valid, 5), (O::Valid, 100)], 5), S::Invalid);
        assert_eq!(at(Progress::Open, &[(O::Deactivated, 100)], 5), S::Invalid);
        assert_eq!(at(Progress::Processing, &[(O::Valid, 5)], 50), S::Processing);
        assert_eq!(at(Progress::Valid, &[(O::Deactivated, 5)], 500), S::Valid);
        assert_eq!(at(Progress::Invalid, &[(O::Valid, 500)], 5), S::Invalid);
    }

    #[test]
    fn gen_10_a_failed_authorization_names_its_identifier() {
        let mut order = order(Progress::Open, &[(Outcome::Valid, 100), (Outcome::Invalid, 100)]);
        order.identifiers = ["a.test", "b.test"].map(|name| Identifier::Dns(name.into())).to_vec();
        order.authorizations[1].error =
            Some(Problem::new(crate::acme::problem::ProblemType::Dns, "no record"));
        let problem = order.failure(Timestamp::from_seconds(5)).expect("invalid");
        assert_eq!(problem.subproblems[0].identifier, ("dns".to_owned(), "b.test".to_owned()));
        assert!(problem.detail.contains("b.test") && problem.detail.contains("no record"));
    }

    #[test]
    fn ord_08_an_order_past_its_expiry_reads_invalid_and_says_why() {
        for progress in [Progress::Open, Progress::Processing] {
            let order = order(progress, &[(Outcome::Valid, 500)]);
            assert_eq!(order.status(Timestamp::from_seconds(100)), OrderStatus::Invalid);
            assert!(
                order.failure(Timestamp::from_seconds(100)).is_some_and(|p| p.detail.contains("expired"))
            );
        }
    }
}
