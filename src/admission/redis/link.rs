//! The present connection: shared by all callers, given up when it fails, found again by one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connection::{Connector, Handle, describe};
use crate::admission::AdmissionError;

/// How long a caller waits for a new connection, counted from the loss of the old one. A server that was only restarted
/// is back within it; while it stays away, callers are told so at once.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// A connection, and whether it was given up.
#[derive(Clone)]
pub(super) struct Live {
    given_up: Arc<AtomicBool>,
    pub(super) handle: Handle,
}

#[derive(Clone)]
enum State {
    Down { since: Option<Instant> },
    Up(Live),
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered with an error and did nothing.
    Answered(RedisError),
    /// The connection broke. The call may have run.
    Broken(String),
    /// No answer in time. The call may have run, or may run yet.
    Late,
}

impl Failure {
    pub(super) fn is_missing_script(&self) -> bool {
        matches!(self, Self::Answered(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }
}

impl From<Failure> for AdmissionError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(match failure {
            Failure::Answered(error) => describe(&error),
            Failure::Broken(text) => text,
            Failure::Late => "Redis did not answer in time".to_owned(),
        })
    }
}

/// The present connection to Redis.
pub(super) struct Link {
    connector: Connector,
    state: watch::Sender<State>,
    lost: Notify,
    up: Gauge,
}

impl Link {
    pub(super) fn new(connector: Connector) -> Self {
        let up = gauge!("chancery_redis_up");
        up.set(0.0);
        let state = watch::Sender::new(State::Down { since: None });
        Self { connector, state, lost: Notify::new(), up }
    }

    /// The hosts, for the log.
    pub(super) fn hosts(&self) -> &str {
        self.connector.hosts()
    }

    /// The present connection, if there is one.
    pub(super) fn current(&self) -> Option<Live> {
        match &*self.state.borrow() {
            State::Up(live) => Some(live.clone()),
            State::Down { .. } => None,
        }
    }

    /// The present connection; if it was lost just now, the next one, for which this waits a little.
    pub(super) async fn usable(&self) -> Result<Live, AdmissionError> {
        let state = self.state.borrow().clone();
        let away = || AdmissionError::Unavailable("there is no connection to Redis".to_owned());
        let since = match state {
            State::Up(live) => return Ok(live),
            State::Down { since } => since.ok_or_else(away)?,
        };
        let wait = GRACE.checked_sub(since.elapsed()).ok_or_else(away)?;
        let mut changes = self.state.subscribe();
        let up = timeout(wait, changes.wait_for(|state| matches!(state, State::Up(_)))).await;
        match up.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Up(live))) => Ok(live),
            _ => Err(away()),
        }
    }

    /// Opens a connection, which nobody else sees before [`Self::publish`].
    pub(super) async fn open(&self) -> Result<Live, AdmissionError> {
        let handle = self.connector.open().await?;
        Ok(Live { given_up: Arc::default(), handle })
    }

    /// Makes `live` the present connection, unless it broke before anyone had it.
    pub(super) fn publish(&self, live: Live) -> Result<(), AdmissionError> {
        if live.given_up.load(Ordering::SeqCst) {
            return Err(AdmissionError::Unavailable("a new connection to Redis broke at once".to_owned()));
        }
        self.up.set(1.0);
        self.state.send_replace(State::Up(live));
        Ok(())
    }

    /// Returns when a connection was given up since the last call.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Waits for one command on `live`, never longer than the limit. A connection that breaks, is late or leads to a
    /// replica is given up.
    pub(super) async fn run<T>(
        &self,
        live: &Live,
        command: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Failure> {
        if live.given_up.load(Ordering::SeqCst) {
            return Err(Failure::Broken("the connection to Redis was given up".to_owned()));
        }
        let started = std::time::Instant::now();
        let outcome = timeout(self.connector.response_limit(), command).await;
        metrics::histogram!("chancery_redis_seconds").record(started.elapsed());
        if !matches!(outcome, Ok(Ok(_))) {
            metrics::counter!("chancery_redis_errors_total").increment(1);
        }
        let failure = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is_timeout() => Failure::Late,
            Ok(Err(error)) if is_broken(&error) => Failure::Broken(describe(&error)),
            Ok(Err(error)) => return Err(Failure::Answered(error)),
            Err(_) => Failure::Late,
        };
        self.give_up(live);
        Err(failure)
    }

    fn give_up(&self, live: &Live) {
        live.given_up.store(true, Ordering::SeqCst);
        let given_up = self.state.send_if_modified(|state| {
            // Only this connection: the present one may be a later one already.
            let current =
                matches!(state, State::Up(current) if Arc::ptr_eq(&current.given_up, &live.given_up));
            if current {
                *state = State::Down { since: Some(Instant::now()) };
            }
            current
        });
        if given_up {
            self.up.set(0.0);
            self.lost.notify_one();
        }
    }
}

/// Whether nothing good can come from this connection any more.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
