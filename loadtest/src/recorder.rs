//! What is counted while the load runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::step::Step;

/// One kind of error.
#[derive(Clone, Debug)]
pub(crate) struct ErrorCount {
    /// How often it happened.
    pub(crate) count: u64,
    /// The first of them in full.
    pub(crate) example: String,
}

/// The counts of a run; shared by all flows.
pub(crate) struct Recorder {
    counts: Mutex<Counts>,
}

/// The numbers themselves.
#[derive(Clone)]
pub(crate) struct Counts {
    /// Latencies of the flows that were due inside the window, one histogram a [`Step`].
    pub(crate) steps: Vec<Histogram>,
    /// Errors of all flows, those of the warm-up too.
    pub(crate) errors: BTreeMap<String, ErrorCount>,
    /// Requests sent again because their nonce was refused.
    pub(crate) bad_nonces: u64,
    /// Connections that the server had closed and that were opened again.
    pub(crate) reconnects: u64,
    /// Flows that were due while as many as allowed were under way.
    pub(crate) shed: u64,
    /// The longest `Retry-After` that came with an answer of success, seconds.
    pub(crate) retry_after: Option<u64>,
    /// Issuances completed in each second of the window.
    pub(crate) per_second: Vec<u64>,
    window: Option<(Instant, Instant)>,
}

impl Recorder {
    /// Nothing counted yet, no window.
    pub(crate) fn new() -> Self {
        Self {
            counts: Mutex::new(Counts {
                steps: vec![Histogram::new(); Step::ALL.len()],
                errors: BTreeMap::new(),
                bad_nonces: 0,
                reconnects: 0,
                shed: 0,
                retry_after: None,
                per_second: Vec::new(),
                window: None,
            }),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the window in which completions are counted, and forgets the retries of the set-up before it.
    pub(crate) fn open_window(&self, from: Instant, until: Instant) {
        let mut counts = self.counts();
        let seconds = until.duration_since(from).as_secs_f64().ceil() as usize;
        counts.per_second = vec![0; seconds];
        counts.window = Some((from, until));
    }

    /// Whether a flow that was due at `instant` belongs into the histograms.
    pub(crate) fn measures(&self, instant: Instant) -> bool {
        self.counts().window.is_none_or(|(from, until)| from <= instant && instant < until)
    }

    /// Records the time from `since` to now.
    pub(crate) fn time(&self, step: Step, since: Instant) {
        let micros = since.elapsed().as_micros().min(u128::from(u64::MAX)) as u64;
        self.counts().steps[step as usize].record(micros);
    }

    /// Counts a certificate that was downloaded and checked at this instant.
    pub(crate) fn completed(&self) {
        let now = Instant::now();
        let mut counts = self.counts();
        if let Some((from, until)) = counts.window
            && from <= now
            && now < until
        {
            let second = now.duration_since(from).as_secs() as usize;
            if let Some(slot) = counts.per_second.get_mut(second) {
                *slot += 1;
            }
        }
    }

    /// Counts a failure under its kind.
    pub(crate) fn error(&self, failure: &Failure) {
        let mut counts = self.counts();
        counts
            .errors
            .entry(failure.label())
            .and_modify(|entry| entry.count += 1)
            .or_insert_with(|| ErrorCount { count: 1, example: failure.to_string() });
    }

    /// Counts a request that is sent again with another nonce.
    pub(crate) fn bad_nonce(&self) {
        self.counts().bad_nonces += 1;
    }

    /// Counts a connection that had to be opened again.
    pub(crate) fn reconnect(&self) {
        self.counts().reconnects += 1;
    }

    /// Counts a flow that was not started.
    pub(crate) fn shed(&self) {
        self.counts().shed += 1;
    }

    /// Notes what an answer of success said about the wait before the next request, where it gave seconds.
    pub(crate) fn retry_after(&self, header: Option<String>) {
        if let Some(seconds) = header.and_then(|header| header.parse().ok()) {
            let mut counts = self.counts();
            counts.retry_after = counts.retry_after.max(Some(seconds));
        }
    }

    /// A copy of the counts.
    pub(crate) fn snapshot(&self) -> Counts {
        self.counts().clone()
    }
}

impl Counts {
    /// The histogram of one step.
    pub(crate) fn step(&self, step: Step) -> &Histogram {
        &self.steps[step as usize]
    }

    /// Issuances completed inside the window.
    pub(crate) fn completed(&self) -> u64 {
        self.per_second.iter().sum()
    }

    /// Errors of every kind.
    pub(crate) fn errors_in_all(&self) -> u64 {
        self.errors.values().map(|entry| entry.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_index_their_own_histogram() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, index);
        }
    }

    #[test]
    fn only_what_completes_inside_the_window_counts() {
        let recorder = Recorder::new();
        let now = Instant::now();
        recorder.open_window(now + Duration::from_secs(50), now + Duration::from_secs(60));
        recorder.completed();
        assert_eq!(recorder.snapshot().completed(), 0);
        recorder.open_window(now, now + Duration::from_secs(60));
        recorder.completed();
        assert_eq!(recorder.snapshot().completed(), 1);
        assert!(recorder.measures(now));
        assert!(!recorder.measures(now + Duration::from_secs(60)));
    }

    #[test]
    fn errors_are_told_apart_by_their_kind() {
        let recorder = Recorder::new();
        for detail in ["first", "second"] {
            recorder.error(&Failure::Refused {
                step: Step::NewOrder,
                status: http::StatusCode::SERVICE_UNAVAILABLE,
                kind: "rateLimited".into(),
                detail: detail.into(),
            });
        }
        recorder.error(&Failure::Late(Step::Finalize));
        let errors = recorder.snapshot().errors;
        assert_eq!(errors["new-order: 503 rateLimited"].count, 2);
        assert!(errors["new-order: 503 rateLimited"].example.ends_with("first"));
        assert_eq!(errors["finalize: late"].count, 1);
    }
}
