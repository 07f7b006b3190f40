//! One validation job, from the claim to the record (design I-3). No connection is held while the network is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease::{Held, settled};
use super::turns::{Try, Turn};
use super::{Services, caa, fault};
use crate::acme::challenge::ChallengeType;
use crate::acme::problem::{Problem, ProblemType};
use crate::limits::Use;
use crate::policy::caa::CaaVerdict;
use crate::storage::ValidationJob;
use crate::validation::{self, Attempt, Verdict};

/// A job that was taken this often has killed its replicas; it ends instead of killing more.
pub(super) const MAX_CLAIMS: i64 = 8;

/// How long the first repetition waits; each further one twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Takes on a job that no replica had, if anybody still wants to know.
pub async fn resume(services: Arc<Services>, job: ValidationJob) {
    if !end_if_over(&services, &job).await {
        run(services, job).await;
    }
}

/// Ends a validation whose orders have all ended, under its lease; whether it was such. An account's whole work in vain
/// would otherwise go on after the first of an order's names has failed.
async fn end_if_over(services: &Services, job: &ValidationJob) -> bool {
    let id = &job.authorization.id;
    match services.store.validation_is_over(id, services.now()).await {
        Ok(false) => return false,
        Ok(true) => {}
        Err(error) => {
            tracing::warn!(%error, authorization = %id, "it is not known whether a validation is still wanted");
            return false;
        }
    }
    let detail =
        "this was not validated to the end, since the order that it was for has ended; place a new order";
    let problem = Problem::new(ProblemType::Unauthorized, detail);
    let expires_at = job.authorization.expires_at;
    match services.store.finish_validation(job, Err(&problem), expires_at, services.now()).await {
        Ok(true) => {
            let kind = job.authorization.attempted.map_or("", ChallengeType::as_str);
            metrics::counter!("chancery_validations_total", "type" => kind, "result" => "over").increment(1);
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, authorization = %id, "a useless validation was not ended yet"),
    }
    true
}

/// Validates, and records the result if the lease still holds.
pub async fn run(services: Arc<Services>, job: ValidationJob) {
    let held = Held::Validation(&job);
    let ValidationJob { authorization, .. } = &job;
    let Some(kind) = authorization.attempted else { return };
    let turns = services.jobs.validations(kind);
    let Some(turn) = held.first_turn(&services, turns, &authorization.account_id).await else { return };
    // On the heap from here on: what waits for its turn is small.
    let working = Box::pin(async {
        tokio::select! {
            biased;
            () = services.jobs.stopping() => {
                held.hand_back(&services).await;
                false
            }
            () = held.keep(&services) => {
                end_if_over(&services, &job).await;
                false
            }
            spared = work(&services, &job, kind, turn) => spared,
        }
    });
    let spared = working.await;
    // The outcome is on record, by this replica and no other. If it dies here, this has cost the client one use.
    if let (true, Some(buckets)) = (spared, &job.charged) {
        let failure = Use::failed_validation(&authorization.account_id, &authorization.identifier);
        services.limits.give_back_to(buckets, &failure).await;
    }
}

/// Whether this has recorded an outcome that is no failure of the client's.
async fn work(services: &Services, job: &ValidationJob, kind: ChallengeType, turn: Turn) -> bool {
    let authorization = &job.authorization;
    let result = if job.claims > MAX_CLAIMS {
        Err(Problem::new(ProblemType::ServerInternal, "the validation could not be completed"))
    } else {
        attempts(services, job, kind, turn).await
    };
    fault::point("validation-done");
    let now = services.now();
    let (label, expires_at) = match &result {
        Ok(()) => ("valid", now.truncated().plus(services.settings.authorization_lifetime)),
        Err(problem) => (problem.kind.name(), authorization.expires_at),
    };
    metrics::counter!("chancery_validations_total", "type" => kind.as_str(), "result" => label).increment(1);
    if let Err(problem) = &result {
        tracing::info!(authorization = %authorization.id, identifier = %authorization.identifier, r#type = %kind,
            %problem, "validation failed");
    }
    let outcome = result.as_ref().map(|()| now);
    let recorded = loop {
        let finished = services.store.finish_validation(job, outcome, expires_at, services.now()).await;
        if let Some(recorded) = settled(finished).await {
            break recorded;
        }
    };
    fault::point("validation-recorded");
    recorded && result.map_or_else(|problem| problem.kind == ProblemType::ServerInternal, |()| true)
}

/// Tries until there is a final result; reasons that may pass are tried again within seconds. Nobody keeps a place while
/// it pauses. All tries and pauses have `validation_deadline` together; to wait for a place costs nothing of it.
async fn attempts(
    services: &Services,
    job: &ValidationJob,
    kind: ChallengeType,
    first: Turn,
) -> Result<(), Problem> {
    let limit = services.settings.validation_deadline;
    let turns = services.jobs.validations(kind);
    let (mut left, mut pause, mut turn) = (limit, FIRST_PAUSE, Some(first));
    let mut problem = None;
    for _ in 0..services.settings.validation_attempts.max(1) {
        if problem.is_some() {
            if pause >= left {
                break;
            }
            metrics::counter!("chancery_validations_retried_total", "type" => kind.as_str()).increment(1);
            tokio::time::sleep(pause).await;
            left -= pause;
            pause *= 2;
            turn = turns.turn(&job.authorization.account_id, Try::Repetition).await;
        }
        let started = Instant::now();
        let verdict = tokio::time::timeout(left, attempt(services, job, kind)).await;
        left = left.saturating_sub(started.elapsed());
        drop(turn.take());
        match verdict {
            Ok(Verdict::Valid) => return Ok(()),
            Ok(Verdict::Invalid(problem)) => return Err(problem),
            Ok(Verdict::Retry(why)) => problem = Some(why),
            // What an earlier try met says more than that this one was cut short.
            Err(_) => {
                let kind =
                    if kind == ChallengeType::Dns01 { ProblemType::Dns } else { ProblemType::Connection };
                let identifier = &job.authorization.identifier;
                let late = || {
                    Problem::new(
                        kind,
                        format!("the validation of {identifier} was not done within {limit:?}"),
                    )
                };
                return Err(problem.unwrap_or_else(late));
            }
        }
    }
    Err(problem.unwrap_or_else(|| Problem::new(ProblemType::ServerInternal, "no validation was attempted")))
}

async fn attempt(services: &Services, job: &ValidationJob, kind: ChallengeType) -> Verdict {
    let authorization = &job.authorization;
    let attempt = Attempt {
        kind,
        identifier: &authorization.identifier,
        token: &authorization.token,
        key_thumbprint: &job.key_thumbprint,
    };
    let verdict = validation::validate(&attempt, &services.network, &services.settings.validation).await;
    if !matches!(verdict, Verdict::Valid) {
        return verdict;
    }
    match caa::check(services, authorization, Some(kind)).await {
        CaaVerdict::Permitted => Verdict::Valid,
        CaaVerdict::Forbidden(problem) => Verdict::Invalid(problem),
        CaaVerdict::Unknown(problem) => Verdict::Retry(problem),
    }
}
