//! Everything that differs between Postgres and SQLite: session settings, pool shape, and the few statements that one
//! of them can say in one round trip and the other cannot.

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, Executor};

use super::loan::{FRESH, PING_LIMIT, TAKE_LIMIT};

/// Which database a store speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `postgres://`: statements of their own commit by themselves; several rows change in one statement.
    Postgres,
    /// A SQLite file: all writes pass through one connection (`writer.rs`).
    Sqlite,
}

/// Ends the sub-select of a claim, so that replicas that look for jobs at once do not wait for each other.
pub(super) const SKIP_LOCKED: &str = " FOR UPDATE SKIP LOCKED";

macro_rules! now {
    () => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
    };
}
/// Postgres's time in microseconds since the epoch.
pub(super) const NOW: &str = now!();
const SELECT_NOW: &str = concat!("SELECT ", now!());

impl Dialect {
    /// The dialect of a database URL.
    pub fn of_url(url: &str) -> Self {
        if url.starts_with("sqlite:") { Self::Sqlite } else { Self::Postgres }
    }

    /// What each new connection is told first.
    const fn session(self) -> &'static str {
        match self {
            // A certificate that was handed out must survive a power cut: FULL.
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
                 PRAGMA foreign_keys = ON"
            }
            // Every statement finds its rows by an index. A plan that was made and kept while the tables were empty must
            // not scan or hash them when they are full, whatever the statistics said on the first day.
            Self::Postgres => {
                "SET statement_timeout = '5s'; SET lock_timeout = '3s'; \
                 SET idle_in_transaction_session_timeout = '10s'; SET default_transaction_isolation = 'read committed'; \
                 SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
            }
        }
    }

    /// A pool in the shape that suits the database.
    pub(super) fn pool(self, connections: u32) -> AnyPoolOptions {
        let session = self.session();
        AnyPoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .acquire_timeout(TAKE_LIMIT)
            .idle_timeout(None)
            .max_lifetime(None)
            // A round trip per statement is dear; a connection that lay idle for a while is asked first.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for <= FRESH {
                        return Ok(true);
                    }
                    // An error makes the pool throw the connection away at once.
                    let answered = tokio::time::timeout(PING_LIMIT, sqlx::Connection::ping(connection)).await;
                    answered.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(session).await?;
                    Ok(())
                })
            })
    }

    /// The database's time in microseconds since the epoch, or `None` where it is this machine's own.
    pub(super) async fn now(self, connection: &mut AnyConnection) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => sqlx::query_scalar(SELECT_NOW).fetch_one(connection).await.map(Some),
        }
    }
}
