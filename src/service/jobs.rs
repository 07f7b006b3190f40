//! The jobs that run in this replica: bounded, tracked, and handed back when it stops (design I-3).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::storage::audit;

/// Runs jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    tasks: TaskTracker,
    leaving: CancellationToken,
    stopping: CancellationToken,
    permits: Arc<Semaphore>,
}

impl Jobs {
    /// At most `concurrency` validations run at once.
    pub fn new(concurrency: usize) -> Self {
        Self {
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            permits: Arc::new(Semaphore::new(concurrency)),
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

    /// Waits for its turn; `None` when the replica stops.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => None,
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        }
    }

    /// How many more validations could run now.
    pub fn free(&self) -> usize {
        self.permits.available_permits()
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
