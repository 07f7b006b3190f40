//! The election of the one replica that sweeps (design I-12), and each replica's sign of life.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acme::id::ReplicaId;
use crate::acme::time::{Clock, Timestamp};
use crate::service::Services;
use crate::storage::{Replica, StorageError, Store, Term};

/// How often a replica looks whether there is a leader: it bounds how long the fleet is without one after a hand-over.
const LOOK: Duration = Duration::from_secs(1);

/// How long an answer of the database is waited for at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often each replica says that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long a stopping replica tries to give its lease back, or to withdraw its announcement.
const FAREWELL: Duration = Duration::from_secs(2);

/// This replica's candidacy.
pub(super) struct Candidate<'s> {
    store: Store,
    clock: &'s dyn Clock,
    id: &'s ReplicaId,
    lease: Duration,
    /// The term of this replica while it leads: what the sweeper goes by.
    term: watch::Sender<Option<Term>>,
    until: Timestamp,
    renewed: Instant,
}

impl<'s> Candidate<'s> {
    pub(super) fn new(
        services: &'s Services,
        id: &'s ReplicaId,
        lease: Duration,
        term: watch::Sender<Option<Term>>,
    ) -> Self {
        let (store, clock) = (services.store.apart(), services.clock.as_ref());
        Self { store, clock, id, lease, term, until: Timestamp::default(), renewed: Instant::now() }
    }

    /// Stands for election until `stop`, and then gives the lease back, so that another replica leads at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let look = LOOK.min(self.lease / 4);
        // An answer that takes longer is no help: the lease must be kept in time.
        let patience = PATIENCE.min(self.lease / 3);
        while !stop.is_cancelled() {
            match tokio::time::timeout(patience, self.step()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the leader's lease could not be read or renewed"),
                Err(_) => tracing::warn!("the database did not answer about the leader's lease in time"),
            }
            if self.leads() && self.clock.now() >= self.until {
                self.step_down("its lease ran out before it could be renewed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
        self.release().await;
    }

    fn leads(&self) -> bool {
        self.term.borrow().is_some()
    }

    async fn step(&mut self) -> Result<(), StorageError> {
        let term = self.term.borrow().clone();
        match term {
            Some(term) if self.renewed.elapsed() >= self.lease / 3 => self.renew(&term).await,
            Some(_) => Ok(()),
            None => self.stand().await,
        }
    }

    async fn renew(&mut self, term: &Term) -> Result<(), StorageError> {
        let (asked, now) = (Instant::now(), self.clock.now());
        let until = now.plus(self.lease);
        if self.store.renew_leadership(term, now, until).await? {
            (self.until, self.renewed) = (until, asked);
        } else {
            self.step_down("its lease was lost");
        }
        Ok(())
    }

    async fn stand(&mut self) -> Result<(), StorageError> {
        let (asked, now) = (Instant::now(), self.clock.now());
        let leader = self.store.leader().await?;
        report(false, leader.epoch);
        if leader.at(now).is_some_and(|holder| holder != self.id) {
            return Ok(());
        }
        let until = now.plus(self.lease);
        if let Some(term) = self.store.take_leadership(self.id, now, until).await? {
            tracing::info!(epoch = term.epoch, replica = %self.id, "this replica leads: it sweeps for the fleet");
            report(true, term.epoch);
            (self.until, self.renewed) = (until, asked);
            self.term.send_replace(Some(term));
        }
        Ok(())
    }

    fn step_down(&self, why: &str) {
        if let Some(term) = self.term.send_replace(None) {
            tracing::warn!(epoch = term.epoch, replica = %self.id, "this replica leads no more: {why}");
            report(false, term.epoch);
        }
    }

    async fn release(self) {
        let Some(term) = self.term.send_replace(None) else { return };
        report(false, term.epoch);
        match tokio::time::timeout(FAREWELL, self.store.release_leadership(&term)).await {
            Ok(Ok(_)) => tracing::info!(epoch = term.epoch, "the lead was handed over"),
            Ok(Err(error)) => tracing::warn!(%error, "the lead was not handed over; its lease will run out"),
            Err(_) => tracing::warn!("the lead was not handed over in time; its lease will run out"),
        }
    }
}

fn report(leads: bool, epoch: i64) {
    metrics::gauge!("chancery_leader").set(f64::from(u8::from(leads)));
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("chancery_leader_epoch").set(epoch as f64);
}

/// Says every few seconds that this replica is there, until `stop`; then withdraws it.
pub(super) async fn announce(services: &Services, mut replica: Replica, stop: CancellationToken) {
    while !stop.is_cancelled() {
        replica.seen_at = services.now();
        let announced =
            tokio::time::timeout(PATIENCE, services.store.apart().announce_replica(&replica)).await;
        if !matches!(announced, Ok(Ok(()))) {
            tracing::debug!("this replica could not announce itself");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(SIGN_OF_LIFE) => {}
        }
    }
    let withdrawn =
        tokio::time::timeout(FAREWELL, services.store.apart().withdraw_replica(&replica.id)).await;
    if !matches!(withdrawn, Ok(Ok(()))) {
        tracing::debug!("this replica could not withdraw its announcement");
    }
}
