//! One validation job, from the claim to the record (design I-3). No connection is held while the network is asked.

use std::sync::Arc;
use std::time::Duration;

use super::lease::{Held, settled};
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

/// Validates, and records the result if the lease still holds. A job whose turn does not come while its lease is fresh
/// is handed back: a replica with a free place takes it.
pub async fn run(services: Arc<Services>, job: ValidationJob) {
    let held = Held::Validation(&job);
    let turn = tokio::time::timeout(services.settings.lease / 3, services.jobs.turn()).await;
    let Ok(Some(turn)) = turn else { return held.hand_back(&services).await };
    let spared = tokio::select! {
        biased;
        () = services.jobs.stopping() => return held.hand_back(&services).await,
        () = held.keep(&services) => return,
        spared = work(&services, &job) => spared,
    };
    drop(turn);
    // The outcome is on record, by this replica and no other. If it dies here, this has cost the client one use.
    if let (true, Some(buckets)) = (spared, &job.charged) {
        let ValidationJob { authorization, .. } = &job;
        let failure = Use::failed_validation(&authorization.account_id, &authorization.identifier);
        services.limits.give_back_to(buckets, &failure).await;
    }
}

/// Whether this has recorded an outcome that is no failure of the client's.
async fn work(services: &Services, job: &ValidationJob) -> bool {
    let authorization = &job.authorization;
    let Some(kind) = authorization.attempted else { return false };
    let result = if job.claims > MAX_CLAIMS {
        Err(Problem::new(ProblemType::ServerInternal, "the validation could not be completed"))
    } else {
        attempts(services, job, kind).await
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

/// Tries until there is a final result; reasons that may pass are tried again within seconds.
async fn attempts(services: &Services, job: &ValidationJob, kind: ChallengeType) -> Result<(), Problem> {
    let mut pause = FIRST_PAUSE;
    for last in (0..services.settings.validation_attempts.max(1)).rev() {
        match attempt(services, job, kind).await {
            Verdict::Valid => return Ok(()),
            Verdict::Invalid(problem) => return Err(problem),
            Verdict::Retry(problem) if last == 0 => return Err(problem),
            Verdict::Retry(_) => {
                metrics::counter!("chancery_validations_retried_total", "type" => kind.as_str()).increment(1);
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    Err(Problem::new(ProblemType::ServerInternal, "no validation was attempted"))
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
