//! The jobs that run in this replica: bounded, tracked, and handed back when it stops (design I-3).

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::turns::Turns;
use crate::acme::challenge::ChallengeType;
use crate::storage::audit;

/// How many jobs run at once in a replica.
#[derive(Clone, Copy, Debug)]
pub struct JobBounds {
    /// Validations by http-01.
    pub http01: usize,
    /// Validations by dns-01.
    pub dns01: usize,
    /// Validations by tls-alpn-01.
    pub tls_alpn01: usize,
    /// Validations by one type for one account.
    pub validations_of_account: usize,
    /// Issuances.
    pub issuances: usize,
}

/// One account may have the places of one in so many issuances. They are quick, but for those that ask for CAA again.
const ISSUANCE_SHARES: usize = 4;

/// Runs jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    tasks: TaskTracker,
    leaving: CancellationToken,
    stopping: CancellationToken,
    http01: Turns,
    dns01: Turns,
    tls_alpn01: Turns,
    issuances: Turns,
}

impl Jobs {
    /// Within these bounds. Each challenge type has places of its own: targets that hang by one are not in the way of another.
    pub fn new(bounds: JobBounds) -> Self {
        let validations = |at_once| Turns::new(at_once, bounds.validations_of_account);
        Self {
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            http01: validations(bounds.http01),
            dns01: validations(bounds.dns01),
            tls_alpn01: validations(bounds.tls_alpn01),
            issuances: Turns::new(bounds.issuances, bounds.issuances / ISSUANCE_SHARES),
        }
    }

    /// Starts a job at once; `kind` is `validation` or `issuance`, for the metrics.
    pub fn spawn<F>(&self, kind: &'static str, job: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let job = async move {
            let running = metrics::gauge!("chancery_jobs_running", "kind" => kind);
            running.increment(1.0);
            job.await;
            running.decrement(1.0);
        };
        // The log lines of the job carry the id of the request that began it (GEN-13), and so does the audit trail.
        self.tasks.spawn(audit::on_behalf_of(audit::origin(), job).in_current_span());
    }

    /// Says that the replica will stop soon: it wants no new connections, and goes on with everything.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether the replica stops, or will soon.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Tells the jobs to hand themselves back.
    pub fn stop(&self) {
        self.leaving.cancel();
        self.stopping.cancel();
    }

    /// The turns of validations by a challenge type.
    pub const fn validations(&self, kind: ChallengeType) -> &Turns {
        match kind {
            ChallengeType::Http01 => &self.http01,
            ChallengeType::Dns01 => &self.dns01,
            ChallengeType::TlsAlpn01 => &self.tls_alpn01,
        }
    }

    /// The turns of issuances.
    pub const fn issuances(&self) -> &Turns {
        &self.issuances
    }

    /// Resolves when the replica stops: a job then hands itself back.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Tells the jobs to hand themselves back, and waits for them, at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.stop();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                jobs = self.tasks.len(),
                "jobs did not end in time; other replicas take them over"
            );
        }
    }
}
