//! A connection on loan from the pool. A database that falls silent (a host that is gone, a cable that is cut) closes no
//! connection: so every wait for it is bounded here, also the one on the connection's way back to the pool.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection};

use super::error::StorageError;

/// How long the answer to a statement or a transaction may take: longer than the database's own `statement_timeout`.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// How long a sign of life may take.
pub(super) const PING_LIMIT: Duration = Duration::from_secs(1);

/// A connection that goes back to its pool when this is dropped.
pub(super) struct Loan(PoolConnection<Any>);

impl Loan {
    /// Takes a connection from the pool, waiting for one as long as the pool's settings say.
    pub(super) async fn take(pool: &AnyPool) -> Result<Self, StorageError> {
        Ok(Self(pool.acquire().await?))
    }

    /// Takes a connection that has just given a sign of life; those that give none are thrown away.
    pub(super) async fn take_alive(pool: &AnyPool) -> Result<Self, StorageError> {
        loop {
            let mut loan = Self::take(pool).await?;
            if loan.is_alive().await {
                return Ok(loan);
            }
        }
    }

    /// Whether the database answers on this connection.
    pub(super) async fn is_alive(&mut self) -> bool {
        tokio::time::timeout(PING_LIMIT, self.0.ping()).await.is_ok_and(|answer| answer.is_ok())
    }
}

impl Deref for Loan {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.0
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // The pool asks for a sign of life before it takes a connection back, and would wait for one for ever.
        // A connection that gives none in time is dropped, and its place in the pool is free again.
        tokio::spawn(tokio::time::timeout(PING_LIMIT, self.0.return_to_pool()));
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
