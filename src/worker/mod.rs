//! Floor 4: what a replica does by itself. It looks for jobs whose lease has run out (I-3), keeps its clock near the
//! database's (I-5), sees that the CRL is fresh (CRT-06), and stands for election as the one that sweeps (I-12).

mod deactivated;
mod leader;
mod pace;
mod sweeper;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::acme::time::FleetClock;
use crate::service::{ServiceError, Services, blocked_keys, crls, limits};
use crate::storage::Replica;

pub use sweeper::{Retention, lag};

/// A difference to the database's clock above which an operator should know (I-5).
const LARGE_OFFSET: Duration = Duration::from_secs(2);

/// The least time between two looks at the CRLs.
const BETWEEN_LISTS: Duration = Duration::from_secs(1);
/// How often it is looked whether another replica has published a CRL.
const CRLS_TICK: Duration = Duration::from_secs(2);
/// How often the operator's overrides of limits are looked at.
const OVERRIDES_TICK: Duration = Duration::from_secs(2);

/// How often the clock is compared, and the CRL looked at.
const SLOW_TICK: Duration = Duration::from_secs(10);
/// How soon it is seen that this machine slept, or that its wall clock was set.
const GLANCE: Duration = Duration::from_secs(1);

/// What a replica needs to know for its work.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// How often expired leases of jobs are looked for: it bounds how long a dead replica's jobs wait after their lease,
    /// and is never in the way of a healthy fleet, whose jobs start when they are accepted.
    pub tick: Duration,
    /// This replica, as it announces itself.
    pub replica: Replica,
    /// How long a leader that gives no sign of life stays the leader.
    pub leader_lease: Duration,
    /// How often the leader sweeps; nothing if this replica never does, nor stands for election.
    pub sweep_interval: Option<Duration>,
    /// How long what is over is kept.
    pub retention: Retention,
}

/// Runs until `stop`.
pub async fn run(
    services: Arc<Services>,
    clock: Arc<FleetClock>,
    config: WorkerConfig,
    stop: CancellationToken,
) {
    let (term, terms) = watch::channel(None);
    let candidate = leader::Candidate::new(&services, &config.replica.id, config.leader_lease, term);
    let sweeper = sweeper::Sweeper::new(&services, config.retention, terms);
    let sweeps = async {
        if let Some(interval) = config.sweep_interval {
            tokio::join!(candidate.run(stop.clone()), sweeper.run(interval));
        }
    };
    let announcing = leader::announce(&services, config.replica.clone(), stop.clone());
    let jobs = takeover::run(&services, config.tick, &stop);
    let clocks = keep_time(&services, &clock, &stop);
    let overrides = every(OVERRIDES_TICK, &stop, || limits::refresh_overrides(&services));
    let others_lists = every(CRLS_TICK, &stop, || crls::refresh(&services));
    let lists = async {
        loop {
            if let Err(error) = crls::renew_if_due(&services).await {
                tracing::warn!(%error, "the CRL could not be renewed");
            }
            // Many revocations in a row share a list.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BETWEEN_LISTS) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = services.crl_wanted.notified() => {}
                () = tokio::time::sleep(SLOW_TICK) => {}
            }
        }
    };
    let keys = revoke_by_keys(&services, config.tick, &stop);
    tokio::join!(sweeps, announcing, jobs, clocks, overrides, others_lists, lists, keys);
}

async fn every<F, R>(period: Duration, stop: &CancellationToken, work: F)
where
    F: Fn() -> R,
    R: Future<Output = Result<(), ServiceError>>,
{
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        if let Err(error) = work().await {
            tracing::warn!(%error, "housekeeping failed; it will be tried again");
        }
    }
}

/// Revokes what has a compromised key: at once when this replica heard of one, and each `tick` what another left behind.
async fn revoke_by_keys(services: &Services, tick: Duration, stop: &CancellationToken) {
    let mut more = true;
    loop {
        if !more {
            tokio::select! {
                () = services.key_blocked.notified() => {}
                () = tokio::time::sleep(tick) => {}
                () = stop.cancelled() => {}
            }
        }
        if stop.is_cancelled() {
            return;
        }
        more = blocked_keys::revoke_certificates(services).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "certificates of a compromised key are not revoked yet; it will be tried again");
            false
        });
    }
}

/// Compares the clocks every few seconds; at once when this machine's wall clock and its steady one have come apart, for
/// then it may have slept, and the steady clock, by which the fleet's time is counted on, stood still.
async fn keep_time(services: &Services, clock: &FleetClock, stop: &CancellationToken) {
    let mut compared = tokio::time::Instant::now();
    let mut ahead = clock.ahead_of_machine_micros();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(GLANCE) => {}
        }
        let apart = Duration::from_micros(clock.ahead_of_machine_micros().abs_diff(ahead));
        if apart < LARGE_OFFSET && compared.elapsed() < SLOW_TICK {
            continue;
        }
        compared = tokio::time::Instant::now();
        match compare_clocks(services, clock).await {
            Ok(()) => ahead = clock.ahead_of_machine_micros(),
            Err(error) => tracing::warn!(%error, "the clock could not be compared with the database's yet"),
        }
    }
}

/// Goes by the database's clock, and says how far it is ahead of this machine's.
pub async fn compare_clocks(services: &Services, clock: &FleetClock) -> Result<(), ServiceError> {
    let Some(reading) = services.store.apart().read_clock().await? else { return Ok(()) };
    clock.follow(&reading);
    let ahead = clock.ahead_of_machine_micros();
    let seconds = Duration::from_micros(ahead.unsigned_abs()).as_secs_f64();
    metrics::gauge!("chancery_clock_offset_seconds").set(if ahead < 0 { -seconds } else { seconds });
    if Duration::from_micros(ahead.unsigned_abs()) > LARGE_OFFSET {
        tracing::warn!(offset_seconds = seconds, "this machine's clock differs from the database's");
    }
    Ok(())
}
