//! CAA at validation, and again at issuance when that was long ago (AUT-14).

use std::time::Duration;

use futures_util::future::try_join_all;

use super::Services;
use crate::acme::authorization::Authorization;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId};
use crate::acme::order::Order;
use crate::acme::problem::{Problem, ProblemType};
use crate::policy::caa::{self, CaaRequest, CaaVerdict};
use crate::storage::StorageError;

/// CAA that was looked up longer ago than this is looked up again at issuance (CA/B Forum BR 3.2.2.8; AUT-14).
const CAA_GOOD_FOR: Duration = Duration::from_secs(8 * 3600);

/// How many names of an order are asked about at once.
const NAMES_AT_ONCE: usize = 8;

/// How long a look-up that failed waits before it is repeated.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks for an authorization's name.
pub(super) async fn check(
    services: &Services,
    authorization: &Authorization,
    method: Option<ChallengeType>,
) -> CaaVerdict {
    if !services.settings.check_caa {
        return CaaVerdict::Permitted;
    }
    let account_url = services.urls.account(&authorization.account_id);
    let request = CaaRequest {
        identifier: &authorization.identifier,
        wildcard: authorization.wildcard,
        method,
        account_url: &account_url,
        issuer_domains: &services.settings.caa_identities,
        climb: &services.settings.caa_climb,
    };
    caa::check(&request, &services.network).await
}

/// Asks again for what was validated longer ago than CAA is good for, several names at a time; the problem that forbids
/// issuance, if one does. Look-ups that fail for a reason that may pass are repeated, while all have not taken longer than
/// a validation may.
pub(super) async fn check_again(services: &Services, order: &Order) -> Result<(), Problem> {
    let now = services.now();
    if !services.settings.check_caa {
        return Ok(());
    }
    let mut due = Vec::new();
    for each in &order.authorizations {
        if each.validated_at.is_none_or(|at| now.since(at) > CAA_GOOD_FOR) {
            due.push(read(services, &order.account_id, &each.id).await?);
        }
    }
    let limit = services.settings.validation_deadline;
    let all = async {
        for some in due.chunks(NAMES_AT_ONCE) {
            try_join_all(some.iter().map(|authorization| check_one_again(services, authorization))).await?;
        }
        Ok(())
    };
    tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
        let detail = format!("CAA for the order's names could not be checked within {limit:?}");
        Err(Problem::new(ProblemType::Dns, detail))
    })
}

async fn check_one_again(services: &Services, authorization: &Authorization) -> Result<(), Problem> {
    // RFC 8555 §6.7.1: which identifier it was.
    let of_name = |problem: Problem| {
        let subproblem = problem.about(&authorization.ordered_identifier());
        Err(problem.with_subproblems(vec![subproblem]))
    };
    let mut tries = services.settings.validation_attempts.max(1);
    loop {
        match check(services, authorization, authorization.attempted).await {
            CaaVerdict::Permitted => return Ok(()),
            CaaVerdict::Forbidden(problem) => return of_name(problem),
            CaaVerdict::Unknown(problem) => {
                tries -= 1;
                if tries == 0 {
                    return of_name(problem);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Reads an authorization, waiting for a database that is away: the lease bounds how long that matters.
async fn read(
    services: &Services,
    account: &AccountId,
    id: &AuthorizationId,
) -> Result<Authorization, Problem> {
    loop {
        match services.store.account_and_authorization(account, id).await {
            Ok(Some((_, Some(authorization)))) => return Ok(authorization),
            Err(StorageError::Unavailable(why)) => {
                tracing::warn!(why, "an issuance waits for the database");
                tokio::time::sleep(PAUSE).await;
            }
            other => {
                tracing::error!(authorization = %id, ?other, "an authorization cannot be read");
                return Err(Problem::new(ProblemType::ServerInternal, "an authorization could not be read"));
            }
        }
    }
}
