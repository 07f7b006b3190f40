//! A connection on loan. A database that falls silent (a host that is gone, a cable that is cut) closes no connection: so
//! every wait for it is bounded here, also the one on the connection's way back.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::StorageError;

/// How long the answer to a statement or a transaction may take: longer than the database's own `statement_timeout`.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// How long a sign of life may take.
pub(super) const PING_LIMIT: Duration = Duration::from_secs(1);

/// How long a connection may be waited for.
pub(super) const TAKE_LIMIT: Duration = Duration::from_secs(3);

/// A connection that has been idle for longer is asked for a sign of life before it is used.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// The connections of a store: sqlx's pool, and before it those at rest. The pool asks for a sign of life whenever a
/// connection comes back: a round trip and a task for each statement. A connection whose work has just ended well has
/// given one; it rests here and is lent again without being asked.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pool: AnyPool,
    /// One for each connection that there may be: who has one finds a connection at rest or in the pool.
    places: Arc<Semaphore>,
    resting: Arc<Resting>,
    /// Connections that are set aside, which these may be lent from too; only what must not wait for clients has any.
    set_aside: Option<Arc<Self>>,
}

/// Connections at rest and since when, the longest first.
#[derive(Debug, Default)]
struct Resting(Mutex<VecDeque<(PoolConnection<Any>, Instant)>>);

impl Resting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(PoolConnection<Any>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        // A connection goes back to its pool by a task, and there are no tasks after the runtime.
        if tokio::runtime::Handle::try_current().is_err() {
            mem::forget(mem::take(&mut *self.lock()));
        }
    }
}

impl Connections {
    pub(super) fn new(pool: AnyPool) -> Self {
        let places = Semaphore::new(pool.options().get_max_connections() as usize);
        Self { pool, places: Arc::new(places), resting: Arc::default(), set_aside: None }
    }

    /// The same connections, and those of `set_aside` beside them: whichever is free first.
    pub(super) fn or(&self, set_aside: &Arc<Self>) -> Self {
        Self { set_aside: Some(Arc::clone(set_aside)), ..self.clone() }
    }

    /// How many are open, and how many of those are idle.
    pub(super) fn count(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle() + self.resting.lock().len())
    }

    /// Takes a connection, waiting for one if all are out.
    pub(super) async fn take(&self) -> Result<Loan, StorageError> {
        let first = async {
            let Some(set_aside) = &self.set_aside else { return self.wait().await };
            tokio::select! {
                biased;
                loan = self.wait() => loan,
                loan = set_aside.wait() => loan,
            }
        };
        match tokio::time::timeout(TAKE_LIMIT, first).await {
            Ok(loan) => loan,
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    async fn wait(&self) -> Result<Loan, StorageError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        while let Some((connection, since)) = self.rested() {
            let mut loan = self.lend(connection);
            if since.elapsed() <= FRESH || loan.is_alive().await {
                loan.place = Some(place);
                return Ok(loan);
            }
            loan.throw_away();
        }
        let mut loan = self.lend(self.pool.acquire().await?);
        loan.place = Some(place);
        Ok(loan)
    }

    /// Takes a connection that has just given a sign of life; those that give none are thrown away.
    pub(super) async fn take_alive(&self) -> Result<Loan, StorageError> {
        loop {
            let mut loan = self.take().await?;
            if loan.is_alive().await {
                return Ok(loan);
            }
        }
    }

    /// The connection that has rested longest. (A function of its own, so that nobody waits with the lock in hand.)
    fn rested(&self) -> Option<(PoolConnection<Any>, Instant)> {
        self.resting.lock().pop_front()
    }

    fn lend(&self, connection: PoolConnection<Any>) -> Loan {
        Loan {
            connection: Some(connection),
            resting: Arc::clone(&self.resting),
            place: None,
            ended_well: false,
        }
    }
}

/// A connection that goes back when this is dropped.
pub(super) struct Loan {
    /// There until the loan ends.
    connection: Option<PoolConnection<Any>>,
    resting: Arc<Resting>,
    place: Option<OwnedSemaphorePermit>,
    /// Whether what the connection was last used for is over and succeeded, so that nothing is under way on it.
    ended_well: bool,
}

const THERE: &str = "a loan has its connection until it ends";

impl Loan {
    /// Whether the database answers on this connection.
    pub(super) async fn is_alive(&mut self) -> bool {
        tokio::time::timeout(PING_LIMIT, self.ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// To be told how the work on the connection ended, and that it has.
    pub(super) fn ended<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        self.ended_well = result.is_ok();
        result
    }

    /// Ends the connection too, with all that was set on it.
    pub(super) async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    fn throw_away(mut self) {
        self.connection.take().map(PoolConnection::detach);
    }
}

impl Deref for Loan {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.connection.as_ref().expect(THERE)
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.ended_well = false;
        self.connection.as_mut().expect(THERE)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.ended_well {
            return self.resting.lock().push_back((connection, Instant::now()));
        }
        // Something may be under way: a statement that nobody waits for any more, a transaction to be rolled back. The
        // pool asks for a sign of life before it takes a connection back, and would wait for one for ever.
        // A connection that gives none in time is dropped, and its place is free again.
        let place = self.place.take();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PING_LIMIT, connection.return_to_pool()).await;
            drop(place);
        });
    }
}

/// Waits for the database's answer, but not for ever. What was asked may still be done.
pub(super) async fn in_time<T, E: Into<StorageError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(ANSWER_LIMIT, work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(StorageError::Unavailable("no answer in time".to_owned())),
    }
}

#[cfg(test)]
mod tests;
