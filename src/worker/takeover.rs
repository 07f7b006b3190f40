//! Takes jobs that no replica holds: those of dead replicas, and those that were handed back because their turn did not come.
//! Accounts take turns here as they do for places, and no more is taken than can be put to work soon.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::acme::challenge::ChallengeType;
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;
use crate::service::turns::Turns;
use crate::service::{ServiceError, Services, finalize, validate};

/// How many accounts are read at once.
const PAGE: usize = 64;

/// How soon the next look follows one that left something behind: jobs are taken as fast as they can be done.
const NEXT_LOOK: Duration = Duration::from_millis(200);

/// What kind of jobs are looked for.
#[derive(Clone, Copy)]
enum Kind {
    Validation(ChallengeType),
    Issuance,
}

/// Looks for one kind of jobs, account by account.
struct Search {
    kind: Kind,
    /// The account that was served last; empty at the beginning of a round.
    after: String,
}

/// Looks for jobs until `stop`; each `tick`, and sooner while there are more.
pub(super) async fn run(services: &Arc<Services>, tick: Duration, stop: &CancellationToken) {
    let search = |kind| Search { kind, after: String::new() };
    let mut validations = ChallengeType::ALL.map(|kind| search(Kind::Validation(kind)));
    let mut issuances = [search(Kind::Issuance)];
    let mut pause = tick;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match look(services, &mut validations, &mut issuances).await {
            Ok(true) => tick.min(NEXT_LOOK),
            Ok(false) => tick,
            Err(error) => {
                tracing::warn!(%error, "housekeeping failed; it will be tried again");
                tick
            }
        };
    }
}

/// Takes what there is room for; whether there may be more.
async fn look(
    services: &Arc<Services>,
    validations: &mut [Search],
    issuances: &mut [Search],
) -> Result<bool, ServiceError> {
    let now = services.now();
    let mut more = false;
    let waiting = [
        ("validation", services.store.waiting_validations(now).await?, validations),
        ("issuance", services.store.waiting_issuances(now).await?, issuances),
    ];
    for (kind, (count, oldest), searches) in waiting {
        report(kind, count, oldest, now);
        if count > 0 {
            for search in searches {
                more |= search.take(services, now).await?;
            }
        }
    }
    Ok(more)
}

impl Search {
    /// Serves the next accounts, each as much as it has room for; whether there may be more.
    async fn take(&mut self, services: &Arc<Services>, now: Timestamp) -> Result<bool, ServiceError> {
        let turns = self.turns(services);
        // Some may wait here, so that places do not lie empty until the next look.
        let mut room = 2 * turns.free();
        if room == 0 {
            return Ok(true);
        }
        let accounts = self.accounts(services, now).await?;
        let mut more = accounts.len() >= PAGE;
        for account in accounts {
            if room == 0 {
                return Ok(true);
            }
            let share = turns.room(&account).min(room);
            if share > 0 {
                let taken = self.claim(services, &account, now, share).await?;
                room -= taken;
                more |= taken == share;
            }
            account.as_str().clone_into(&mut self.after);
        }
        Ok(more)
    }

    fn turns<'s>(&self, services: &'s Services) -> &'s Turns {
        match self.kind {
            Kind::Validation(kind) => services.jobs.validations(kind),
            Kind::Issuance => services.jobs.issuances(),
        }
    }

    /// Accounts with jobs that wait, those first that come after the one that was served last.
    async fn accounts(&self, services: &Services, now: Timestamp) -> Result<Vec<AccountId>, ServiceError> {
        let mut accounts = self.page(services, &self.after, now).await?;
        if accounts.len() < PAGE && !self.after.is_empty() {
            let others = self.page(services, "", now).await?;
            accounts.extend(others.into_iter().filter(|account| account.as_str() <= self.after.as_str()));
        }
        Ok(accounts)
    }

    async fn page(
        &self,
        services: &Services,
        after: &str,
        now: Timestamp,
    ) -> Result<Vec<AccountId>, ServiceError> {
        let (store, limit) = (&services.store, PAGE as i64);
        Ok(match self.kind {
            Kind::Validation(kind) => store.accounts_with_validations(kind, after, now, limit).await?,
            Kind::Issuance => store.accounts_with_issuances(after, now, limit).await?,
        })
    }

    /// Takes at most `limit` jobs of an account and starts them; how many there were.
    async fn claim(
        &self,
        services: &Arc<Services>,
        account: &AccountId,
        now: Timestamp,
        limit: usize,
    ) -> Result<usize, ServiceError> {
        let until = now.plus(services.settings.lease);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let taken = |kind: &'static str, count: usize| {
            metrics::counter!("chancery_jobs_taken_over_total", "kind" => kind).increment(count as u64);
            count
        };
        match self.kind {
            Kind::Validation(kind) => {
                let jobs = services.store.claim_validations(kind, account, now, until, limit).await?;
                let count = taken("validation", jobs.len());
                for job in jobs {
                    services.jobs.spawn("validation", validate::resume(Arc::clone(services), job));
                }
                Ok(count)
            }
            Kind::Issuance => {
                let jobs = services.store.claim_issuances(account, now, until, limit).await?;
                let count = taken("issuance", jobs.len());
                for job in jobs {
                    services.jobs.spawn("issuance", finalize::resume(Arc::clone(services), job));
                }
                Ok(count)
            }
        }
    }
}

fn report(kind: &'static str, waiting: i64, oldest: Option<Timestamp>, now: Timestamp) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("chancery_jobs_waiting", "kind" => kind).set(waiting as f64);
    let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    metrics::gauge!("chancery_jobs_oldest_seconds", "kind" => kind).set(age.as_secs_f64());
}
