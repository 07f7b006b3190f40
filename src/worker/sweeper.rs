//! What the leader does (design I-12): sweeps what is over, each kind on its own, bounded in rows and in time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::deactivated;
use super::pace::{BUDGET, End, GRACE, PAGE, PATIENCE, REST, count_rows};
use crate::acme::time::Timestamp;
use crate::service::Services;
use crate::storage::{Cursor, StorageError, Store, Sweep, Swept, Term};

/// When a replica that gave no sign of life is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Orders, after their expiry.
    pub orders: Duration,
    /// Authorizations, after their expiry.
    pub authorizations: Duration,
    /// Certificates, after their expiry.
    pub certificates: Duration,
    /// Events of the audit trail.
    pub audit: Duration,
}

impl Retention {
    /// What ended at or before the answer may be swept at `now`.
    pub fn due(&self, sweep: Sweep, now: Timestamp) -> Timestamp {
        now.minus(match sweep {
            Sweep::ExpiredOrders | Sweep::Jobs => GRACE,
            Sweep::FinishedOrders => self.orders,
            Sweep::Authorizations => self.authorizations,
            Sweep::Certificates => self.certificates,
            Sweep::Replicas => FORGOTTEN,
            Sweep::AuditEvents => self.audit,
        })
    }
}

/// For how long the oldest thing that should be gone has been so; zero if there is none.
pub async fn lag(store: &Store, retention: &Retention, now: Timestamp) -> Result<Duration, StorageError> {
    let untidied = deactivated::oldest(store, now).await?;
    let mut lag = untidied.map_or(Duration::ZERO, |since| now.minus(GRACE).since(since));
    for sweep in Sweep::ALL {
        let due = retention.due(sweep, now);
        if let Some(oldest) = store.oldest_due(sweep, due).await? {
            lag = lag.max(due.since(oldest));
        }
    }
    Ok(lag)
}

/// The sweeper of one replica; it rests while another leads.
pub(super) struct Sweeper<'s> {
    services: &'s Services,
    retention: Retention,
    term: watch::Receiver<Option<Term>>,
    /// Where sweeps go on that ran out of time.
    places: HashMap<Sweep, Cursor>,
    /// The same of what hangs on deactivated accounts.
    tidying: Option<deactivated::Place>,
}

impl<'s> Sweeper<'s> {
    pub(super) fn new(
        services: &'s Services,
        retention: Retention,
        term: watch::Receiver<Option<Term>>,
    ) -> Self {
        describe();
        Self { services, retention, term, places: HashMap::new(), tidying: None }
    }

    /// Sweeps as soon as this replica leads, and every `interval` from then on. Ends when the election does.
    pub(super) async fn run(mut self, interval: Duration) {
        loop {
            let started = Instant::now();
            let term = self.term.borrow_and_update().clone();
            let Some(term) = term else {
                metrics::gauge!("chancery_gc_lag_seconds").set(0.0);
                self.places.clear();
                self.tidying = None;
                if self.term.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.once(&term).await;
            tokio::select! {
                changed = self.term.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(started + interval) => {}
            }
        }
    }

    fn leads(&self, term: &Term) -> bool {
        self.term.borrow().as_ref() == Some(term)
    }

    /// One run: every sweep, whatever becomes of the others.
    async fn once(&mut self, term: &Term) {
        let started = Instant::now();
        metrics::counter!("chancery_gc_runs_total").increment(1);
        let tidied = self.tidy(term).await;
        if !goes_on(deactivated::NAME, tidied) {
            return;
        }
        for sweep in Sweep::ALL {
            let swept = self.sweep(sweep, term).await;
            if !goes_on(sweep.as_str(), swept) {
                return;
            }
        }
        metrics::histogram!("chancery_gc_duration_seconds").record(started.elapsed().as_secs_f64());
        match lag(&self.services.store, &self.retention, self.services.now()).await {
            Ok(lag) => metrics::gauge!("chancery_gc_lag_seconds").set(lag.as_secs_f64()),
            Err(error) => tracing::warn!(%error, "it is not known whether anything is left to sweep"),
        }
    }

    async fn sweep(&mut self, sweep: Sweep, term: &Term) -> Result<End, StorageError> {
        let started = Instant::now();
        let due = self.retention.due(sweep, self.services.now());
        let mut from = self.places.remove(&sweep).unwrap_or_else(Cursor::start);
        let mut swept = 0;
        let end = loop {
            if !self.leads(term) {
                break End::NotLeading;
            }
            let began = Instant::now();
            let page = self.page(sweep, term, due, &from).await?;
            count(sweep, page.rows);
            swept += page.rows;
            let Some(next) = page.next else { break End::Clean };
            if started.elapsed() >= BUDGET {
                self.places.insert(sweep, next);
                break End::Late;
            }
            from = next;
            tokio::time::sleep(began.elapsed() * REST).await;
        };
        report(sweep.as_str(), swept, started);
        Ok(end)
    }

    async fn tidy(&mut self, term: &Term) -> Result<End, StorageError> {
        let started = Instant::now();
        let mut place = self.tidying.take();
        let tidied = deactivated::tidy(self.services, term, || self.leads(term), &mut place).await;
        self.tidying = place;
        let (rows, end) = tidied?;
        report(deactivated::NAME, rows, started);
        Ok(end)
    }

    async fn page(
        &self,
        sweep: Sweep,
        term: &Term,
        due: Timestamp,
        from: &Cursor,
    ) -> Result<Swept, StorageError> {
        let page = self.services.store.sweep(sweep, term, self.services.now(), due, from, PAGE);
        match tokio::time::timeout(PATIENCE, page).await {
            Ok(swept) => swept,
            Err(_) => Err(StorageError::Unavailable("it did not answer in time".to_owned())),
        }
    }
}

/// Says how a sweep ended; whether others may follow.
fn goes_on(sweep: &'static str, ended: Result<End, StorageError>) -> bool {
    match ended {
        Ok(End::Clean) => {}
        Ok(End::Late) => tracing::warn!(sweep, "a sweep ran out of time; the next run goes on"),
        Ok(End::NotLeading) => return false,
        Err(error) => {
            tracing::error!(sweep, %error, "a sweep failed; the next run tries again");
            metrics::counter!("chancery_gc_run_failures_total", "sweep" => sweep).increment(1);
        }
    }
    true
}

fn report(sweep: &'static str, rows: usize, started: Instant) {
    if rows > 0 {
        tracing::info!(sweep, rows, seconds = started.elapsed().as_secs_f64(), "swept");
    }
}

fn count(sweep: Sweep, rows: usize) {
    let rows = count_rows(sweep.as_str(), rows);
    match sweep {
        Sweep::ExpiredOrders => metrics::counter!("chancery_gc_orders_invalidated_total").increment(rows),
        Sweep::Authorizations => metrics::counter!("chancery_gc_authzs_expired_total").increment(rows),
        _ => {}
    }
}

/// Counters begin at zero, so that their first rise is seen. Spent nonces expire by themselves in both admission stores:
/// there are none to reap.
fn describe() {
    metrics::counter!("chancery_gc_runs_total").absolute(0);
    metrics::counter!("chancery_gc_nonces_reaped_total").absolute(0);
    for sweep in Sweep::ALL {
        count(sweep, 0);
    }
    count_rows(deactivated::NAME, 0);
    for sweep in Sweep::ALL.map(Sweep::as_str).into_iter().chain([deactivated::NAME]) {
        metrics::counter!("chancery_gc_run_failures_total", "sweep" => sweep).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_before_its_retention_is_over() {
        let day = |days: u64| Duration::from_secs(days * 86_400);
        let retention =
            Retention { orders: day(1), authorizations: day(2), certificates: day(3), audit: day(4) };
        let now = Timestamp::from_seconds(10 * 86_400);
        for (sweep, before) in [
            (Sweep::ExpiredOrders, GRACE),
            (Sweep::Jobs, GRACE),
            (Sweep::FinishedOrders, day(1)),
            (Sweep::Authorizations, day(2)),
            (Sweep::Certificates, day(3)),
            (Sweep::Replicas, FORGOTTEN),
            (Sweep::AuditEvents, day(4)),
        ] {
            assert_eq!(retention.due(sweep, now), now.minus(before), "{sweep:?}");
        }
    }
}
