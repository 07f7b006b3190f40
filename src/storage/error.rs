//! What can go wrong with the durable store.

use thiserror::Error;

/// A failure of the durable store. A compare-and-set that found another state is no failure: it answers `None`/`false`.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A row breaks a rule that the program keeps.
    #[error("corrupt row in {table}: {column} of {row}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column that cannot be read.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// A statement failed for a reason that asking again will not cure.
    #[error("the database refused a statement: {0}")]
    Database(sqlx::Error),
    /// The database holds a schema of a newer program.
    #[error(
        "the database's schema is newer than this program understands (it has migration {0}): run the newer chancery"
    )]
    Newer(i64),
    /// The settings do not fit together, or the file cannot be used.
    #[error("{0}")]
    Setup(String),
    /// The database cannot be reached, or does not answer in time. Asking again later may succeed.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A row with that unique key is there already.
    #[error("a row with that key exists")]
    UniqueViolation,
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::UniqueViolation,
            // SQLite: busy, locked, I/O error, disk full. Its codes are numbers of at most four digits.
            sqlx::Error::Database(database)
                if database.code().is_some_and(|code| {
                    code.len() < 5
                        && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
                }) =>
            {
                Self::Unavailable(error.to_string())
            }
            // Postgres: connection exceptions (08), operator intervention (57P), too many connections (53300),
            // lock or statement time-out (55P03, 57014), serialization trouble (40).
            sqlx::Error::Database(database)
                if database.code().is_some_and(|code| {
                    ["08", "57", "53", "55P03", "40", "25006"].iter().any(|class| code.starts_with(class))
                }) =>
            {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Database(error),
        }
    }
}
