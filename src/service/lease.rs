//! A job's lease: renewed while the work runs, handed back when the replica stops, and asked for before a result counts.

use std::time::Duration;

use super::Services;
use super::turns::{Try, Turn, Turns};
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;
use crate::storage::{IssuanceJob, StorageError, ValidationJob};

/// How long a result waits for a database that is away before it asks again.
const PAUSE: Duration = Duration::from_millis(200);

/// A job that this replica holds.
#[derive(Clone, Copy)]
pub(super) enum Held<'j> {
    /// A challenge being validated.
    Validation(&'j ValidationJob),
    /// An order being issued.
    Issuance(&'j IssuanceJob),
}

impl Held<'_> {
    async fn renew(self, services: &Services, until: Timestamp) -> Result<bool, StorageError> {
        match self {
            Self::Validation(job) => {
                services
                    .store
                    .renew_validation(&job.authorization.id, &job.lease, until, services.now())
                    .await
            }
            Self::Issuance(job) => services.store.renew_issuance(&job.order_id, &job.lease, until).await,
        }
    }

    /// Renews at a third of the lease's length; returns when it is not given any more, and the work must stop: another replica
    /// has the job, or nobody wants its result.
    pub(super) async fn keep(self, services: &Services) {
        loop {
            tokio::time::sleep(services.settings.lease / 3).await;
            match self.renew(services, services.now().plus(services.settings.lease)).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(
                        job = self.name(),
                        "a lease was lost: another replica has the job, or it has become useless"
                    );
                    return;
                }
                Err(error) => tracing::warn!(%error, job = self.name(), "a lease could not be renewed"),
            }
        }
    }

    /// Lets another replica take the job at once.
    pub(super) async fn hand_back(self, services: &Services) {
        let now = services.now();
        let handed_back = match self {
            Self::Validation(job) => {
                services.store.hand_back_validation(&job.authorization.id, &job.lease, now).await
            }
            Self::Issuance(job) => services.store.hand_back_issuance(&job.order_id, &job.lease, now).await,
        };
        if let Err(error) = handed_back {
            tracing::warn!(%error, job = self.name(), "a job was not handed back; its lease will run out");
        }
    }

    /// Waits for the first turn; `None` where the job is handed back instead: its turn did not come while its lease is
    /// fresh, or the replica stops. A replica with a free place takes it.
    pub(super) async fn first_turn(
        self,
        services: &Services,
        turns: &Turns,
        account: &AccountId,
    ) -> Option<Turn> {
        let turn = tokio::select! {
            biased;
            () = services.jobs.stopping() => None,
            turn = tokio::time::timeout(services.settings.lease / 3, turns.turn(account, Try::First)) => turn.ok().flatten(),
        };
        if turn.is_none() {
            self.hand_back(services).await;
        }
        turn
    }

    fn name(self) -> String {
        match self {
            Self::Validation(job) => format!("validation of {}", job.authorization.id),
            Self::Issuance(job) => format!("issuance for {}", job.order_id),
        }
    }
}

/// Whether a result was recorded under its lease; `None` after a pause if the database was away, and the write may be
/// repeated: the lease decides who may still record.
pub(super) async fn settled(result: Result<bool, StorageError>) -> Option<bool> {
    match result {
        Ok(recorded) => {
            if !recorded {
                tracing::info!("a result came too late: its lease was lost");
            }
            Some(recorded)
        }
        Err(StorageError::Unavailable(why)) => {
            tracing::warn!(why, "a result waits for the database");
            tokio::time::sleep(PAUSE).await;
            None
        }
        Err(error) => {
            tracing::error!(%error, "a result could not be recorded");
            Some(false)
        }
    }
}
