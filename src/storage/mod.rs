//! Floor 1: the durable store. What must never be lost: accounts, orders, authorizations, certificates.
//!
//! One SQL text serves Postgres and SQLite through sqlx's `Any` driver; `dialect.rs` has what differs. Every transition
//! is one guarded statement or one short transaction that names the state it expects (I-2); finding another state is an
//! answer (`None`, `false`), not an error. No method holds a connection across anything but its own statements.

mod accounts;
pub mod audit;
mod authorizations;
mod blocked_keys;
mod certificates;
mod crls;
mod deactivation;
mod dialect;
mod error;
mod external_accounts;
mod finalization;
mod leader;
mod limit_overrides;
mod listener_certificates;
mod loan;
mod orders;
mod replicas;
mod row;
mod statement;
mod sweeps;
mod writer;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sqlx::Connection;
use sqlx::any::AnyRow;
use sqlx::migrate::{Migration, MigrationType, Migrator};

pub use audit::Trail;
pub use authorizations::{MOST_COUNTED, ValidationJob};
pub use blocked_keys::Compromised;
pub use certificates::IssuedCertificate;
pub use crls::{Crl, Edition};
pub use deactivation::Hanging;
pub use dialect::Dialect;
pub use error::StorageError;
pub use external_accounts::Bound;
pub use finalization::{IssuanceJob, Reservation};
pub use leader::{Leader, Term};
pub use limit_overrides::{LimitOverride, LimitUse};
pub use orders::{ActiveCap, NewOrderRows, Placing};
pub use replicas::Replica;
pub use sweeps::{Cursor, Sweep, Swept};

use crate::acme::time::{FleetClock, Reading, Timestamp};
use loan::{Connections, in_time};
use statement::{Parameter, Text};
use writer::{Work, Writer};

/// The migrations, in order. Forward only; see migrations/README.md.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../migrations/0001_first.sql")),
    (2, "limits", include_str!("../../migrations/0002_limits.sql")),
    (3, "external_accounts", include_str!("../../migrations/0003_external_accounts.sql")),
    (4, "sweeper", include_str!("../../migrations/0004_sweeper.sql")),
    (5, "audit", include_str!("../../migrations/0005_audit.sql")),
    (6, "renewal", include_str!("../../migrations/0006_renewal.sql")),
    (7, "content", include_str!("../../migrations/0007_content.sql")),
    (8, "charged", include_str!("../../migrations/0008_charged.sql")),
    (9, "blocked_keys", include_str!("../../migrations/0009_blocked_keys.sql")),
    (10, "certificates_by_key", include_str!("../../migrations/0010_certificates_by_key.sql")),
    (11, "validations_waiting", include_str!("../../migrations/0011_validations_waiting.sql")),
    (12, "issuances_waiting", include_str!("../../migrations/0012_issuances_waiting.sql")),
    (13, "exempted", include_str!("../../migrations/0013_exempted.sql")),
    (14, "deactivation", include_str!("../../migrations/0014_deactivation.sql")),
];

/// What follows a migration on Postgres.
const POSTGRES_MIGRATIONS: &[(i64, &str)] = &[
    (2, include_str!("../../migrations/0002_limits.postgres.sql")),
    (13, include_str!("../../migrations/0013_exempted.postgres.sql")),
];

/// How many connections are set aside for what must not wait in the queue of clients' requests: readiness, the election, the
/// announcement of replicas, the clock.
const SET_ASIDE: u32 = 2;

/// The durable store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    dialect: Dialect,
    connections: Connections,
    /// A few more, which clients' requests never take.
    set_aside: Arc<Connections>,
    /// The fleet's time as this process knows it: dates the audit trail in the log, and on SQLite in its table.
    clock: Arc<FleetClock>,
    /// SQLite only: all writes go through it.
    writer: Option<Writer>,
    /// SQLite only: holds the lock that keeps a second process off the file.
    _lock: Option<Arc<File>>,
}

impl Store {
    /// Connects to Postgres. Does not migrate.
    pub async fn postgres(url: &str, connections: u32) -> Result<Self, StorageError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::Postgres;
        let connections = Connections::new(dialect.pool(connections).connect_lazy(url)?);
        let set_aside = Arc::new(Connections::new(dialect.pool(SET_ASIDE).connect_lazy(url)?));
        Ok(Self { dialect, connections, set_aside, clock: Arc::default(), writer: None, _lock: None })
    }

    /// Opens the SQLite file `path`, which is made if it is not there. A second process is refused. Does not migrate.
    pub async fn sqlite(path: &Path) -> Result<Self, StorageError> {
        let lock_path = path.with_extension("lock");
        let setup = |error: std::io::Error| {
            StorageError::Setup(format!("cannot use {}: {error}", lock_path.display()))
        };
        let lock =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(setup)?;
        lock.try_lock().map_err(|_| {
            StorageError::Setup(format!(
                "another chancery process uses {}: stop it, or give this one its own CHANCERY_DATA_DIR; \
                 several replicas need CHANCERY_DATABASE_URL=postgres://…",
                path.display()
            ))
        })?;
        Ok(Self { _lock: Some(Arc::new(lock)), ..Self::sqlite_beside(path).await? })
    }

    /// Opens a SQLite file for a command that ends by itself, though a replica may be at work on it: SQLite makes
    /// their writes take turns. Does not migrate.
    pub async fn sqlite_beside(path: &Path) -> Result<Self, StorageError> {
        sqlx::any::install_default_drivers();
        // It holds what is nobody else's business, and SQLite gives the files beside it the same mode.
        let private = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
        private.map_err(|error| StorageError::Setup(format!("cannot use {}: {error}", path.display())))?;
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let dialect = Dialect::Sqlite;
        let writers = dialect.pool(1).connect(&url).await?;
        let connections = Connections::new(dialect.pool(4).connect(&url).await?);
        let set_aside = Arc::new(Connections::new(dialect.pool(SET_ASIDE).connect_lazy(&url)?));
        let writer = Some(Writer::start(writers));
        Ok(Self { dialect, connections, set_aside, clock: Arc::default(), writer, _lock: None })
    }

    /// The same store, whose audit trail goes by `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<FleetClock>) -> Self {
        Self { clock, ..self }
    }

    /// Opens the SQLite file `path` to look at it only, also while a server uses it.
    pub async fn sqlite_read_only(path: &Path) -> Result<Self, StorageError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::Sqlite;
        let url = format!("sqlite://{}?mode=ro", path.display());
        let connections = Connections::new(dialect.pool(1).connect(&url).await?);
        let set_aside = Arc::new(connections.clone());
        Ok(Self { dialect, connections, set_aside, clock: Arc::default(), writer: None, _lock: None })
    }

    /// The same store for what must not wait behind clients' requests: it also takes the connections that are set aside.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { connections: self.connections.or(&self.set_aside), ..self.clone() }
    }

    /// Which database this is.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Brings the schema up to date; replicas that do this at once take turns. Refuses a schema from the future.
    pub async fn migrate(&self) -> Result<(), StorageError> {
        let known = MIGRATIONS.iter().map(|(version, name, text)| {
            let more = POSTGRES_MIGRATIONS.iter().find(|(follows, _)| follows == version);
            let more = more.filter(|_| self.dialect == Dialect::Postgres).map_or("", |(_, text)| text);
            let sql = sqlx::AssertSqlSafe(format!("{text}{more}"));
            Migration::new(
                *version,
                (*name).into(),
                MigrationType::Simple,
                sqlx::SqlSafeStr::into_sql_str(sql),
                false,
            )
        });
        let migrator = Migrator::with_migrations(known.collect());
        let mut connection = self.connections.take().await?;
        if self.dialect == Dialect::Postgres {
            // To build an index over a large table takes longer than any statement of a request may take.
            sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
        }
        let outcome = migrator.run(&mut *connection).await;
        // What was set on it goes with it.
        connection.close().await;
        match outcome {
            Ok(()) => Ok(()),
            Err(sqlx::migrate::MigrateError::VersionMissing(version)) => Err(StorageError::Newer(version)),
            Err(sqlx::migrate::MigrateError::Execute(error)) => Err(error.into()),
            Err(error) => Err(StorageError::Setup(format!("the schema cannot be migrated: {error}"))),
        }
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), StorageError> {
        let mut connection = self.connections.take().await?;
        in_time(sqlx::query("SELECT 1").execute(&mut *connection)).await?;
        Ok(())
    }

    /// What the database says of the time, or `None` where its clock is this machine's own (I-5).
    pub async fn read_clock(&self) -> Result<Option<Reading>, StorageError> {
        // The wait for a connection is no part of the question's way.
        let mut connection = self.connections.take().await?;
        let asked = Instant::now();
        let now = in_time(self.dialect.now(&mut connection)).await;
        let answered = Instant::now();
        let now = connection.ended(now)?;
        Ok(now.map(|micros| Reading { database: Timestamp::from_micros(micros), asked, answered }))
    }

    /// The time by the database's clock; by this machine's where it has no other (I-5).
    pub async fn now(&self) -> Result<Timestamp, StorageError> {
        Ok(self.read_clock().await?.map_or_else(FleetClock::machine_now, |reading| reading.database))
    }

    /// How many connections are open, and how many of those are idle.
    pub fn connections(&self) -> (u32, usize) {
        self.connections.count()
    }

    /// Runs a read of one statement. A connection that turns out to be dead is replaced, once: a read may be repeated.
    async fn read(
        &self,
        text: impl Into<Text>,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<AnyRow>, StorageError> {
        let text = text.into();
        let mut connection = self.connections.take().await?;
        let begun = Instant::now();
        let result = in_time(statement::run(&mut connection, text.clone(), parameters.clone())).await;
        let result = connection.ended(result);
        let failed_at_once =
            matches!(result, Err(StorageError::Unavailable(_))) && begun.elapsed() < loan::PING_LIMIT;
        if !failed_at_once || self.dialect == Dialect::Sqlite || connection.is_alive().await {
            return result;
        }
        drop(connection);
        let mut connection = self.connections.take_alive().await?;
        let result = in_time(statement::run(&mut connection, text, parameters)).await;
        connection.ended(result)
    }

    /// Runs a write of one statement, which on Postgres commits by itself. Answers what it returns.
    async fn write(
        &self,
        text: impl Into<Text>,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<AnyRow>, StorageError> {
        let text = text.into();
        if let Some(writer) = &self.writer {
            return writer
                .write(Box::new(|connection| Box::pin(statement::run(connection, text, parameters))))
                .await;
        }
        let mut connection = self.connections.take().await?;
        let result = in_time(statement::run(&mut connection, text, parameters)).await;
        connection.ended(result)
    }

    /// Runs a write of several statements, all or none.
    async fn transaction<T: Send + 'static>(&self, work: Work<T>) -> Result<T, StorageError> {
        if let Some(writer) = &self.writer {
            return writer.write(work).await;
        }
        let mut connection = self.connections.take().await?;
        let result = in_time(async {
            let mut transaction = connection.begin().await?;
            let result = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok::<_, StorageError>(result)
        })
        .await;
        connection.ended(result)
    }
}

/// `($a,$a+1,…),(…)`: `rows` groups of `columns` placeholders, the first numbered `first`. From counts alone.
fn placeholders(first: usize, rows: usize, columns: usize) -> String {
    let row = |r: usize| {
        let each: Vec<String> = (0..columns).map(|c| format!("${}", first + r * columns + c)).collect();
        format!("({})", each.join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

/// Every fixed statement with its name, for the test that prepares them all on both databases.
pub fn all_statements(dialect: Dialect) -> Vec<(&'static str, String)> {
    let files = [
        accounts::ALL,
        audit::ALL,
        authorizations::ALL,
        blocked_keys::ALL,
        certificates::ALL,
        crls::ALL,
        deactivation::ALL,
        external_accounts::ALL,
        finalization::ALL,
        leader::ALL,
        limit_overrides::ALL,
        listener_certificates::ALL,
        orders::ALL,
        replicas::ALL,
    ];
    let mut all: Vec<(&str, String)> =
        files.into_iter().flatten().map(|(name, text)| (*name, (*text).to_owned())).collect();
    all.push(("APPEND_EVENT", audit::append_statement(dialect)));
    all.push(("EVENTS_OF_AUTHORIZATIONS", audit::events_of_authorizations_statement(2)));
    all.push(("CLAIM_VALIDATIONS", authorizations::claim_statement(dialect)));
    all.push(("CLAIM_ISSUANCES", finalization::claim_statement(dialect)));
    all.push(("REUSABLE_AUTHORIZATIONS", authorizations::reusable_statement(3)));
    all.extend(orders::insert_statements(dialect, 2, 3).into_iter().map(|text| ("INSERT_ORDER", text)));
    all.extend(blocked_keys::page_statements(dialect));
    all.extend(deactivation::all_statements(dialect));
    all.extend(sweeps::all_statements(dialect));
    if dialect == Dialect::Postgres {
        all.push(("LOCK_ACTIVE_ORDERS", orders::LOCK_ACTIVE_ORDERS.to_owned()));
        all.push(("INSERT_ORDER_CAPPED", orders::insert_capped_statement(2, 3)));
        all.extend(finalization::postgres_statements());
        let audited = [
            accounts::AUDITED,
            authorizations::AUDITED,
            blocked_keys::AUDITED,
            certificates::AUDITED,
            external_accounts::AUDITED,
            finalization::AUDITED,
            limit_overrides::AUDITED,
            listener_certificates::AUDITED,
        ];
        let audited = audited.into_iter().flatten();
        let name = |text: &'static str| text.lines().next().unwrap_or(text);
        all.extend(audited.map(|(text, per_row)| (name(text), audit::audited_statement(text, *per_row))));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_through() {
        assert_eq!(placeholders(3, 2, 2), "($3,$4),($5,$6)");
    }
}
