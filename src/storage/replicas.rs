//! The replicas of the fleet as they announce themselves, for operators. Nothing is decided by this table.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::statement::{parameters, statements};
use super::{StorageError, Store};
use crate::acme::id::ReplicaId;
use crate::acme::time::Timestamp;

statements! {
    ANNOUNCE_REPLICA = "INSERT INTO replicas (id, version, listen, ops_listen, started_at, seen_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
    WITHDRAW_REPLICA = "DELETE FROM replicas WHERE id = $1";
    REPLICAS = "SELECT id, version, listen, ops_listen, started_at, seen_at FROM replicas \
        ORDER BY seen_at DESC, id DESC LIMIT 1000";
    SCHEMA_VERSION = "SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 1";
}

/// A running replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name, for as long as its process runs.
    pub id: ReplicaId,
    /// The version of its program.
    pub version: String,
    /// Where it serves ACME.
    pub listen: String,
    /// Where it serves the operator's endpoints.
    pub ops_listen: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said that it is there.
    pub seen_at: Timestamp,
}

impl Store {
    /// Says that a replica is there.
    pub async fn announce_replica(&self, replica: &Replica) -> Result<(), StorageError> {
        let values = parameters![
            &replica.id,
            &replica.version,
            &replica.listen,
            &replica.ops_listen,
            replica.started_at,
            replica.seen_at
        ];
        self.write(ANNOUNCE_REPLICA, values).await.map(|_| ())
    }

    /// Says that a replica has stopped.
    pub async fn withdraw_replica(&self, id: &ReplicaId) -> Result<(), StorageError> {
        self.write(WITHDRAW_REPLICA, parameters![id]).await.map(|_| ())
    }

    /// The replicas, the last seen first: at most a thousand. Dead ones are among them until they are swept.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StorageError> {
        self.read(REPLICAS, parameters![]).await?.iter().map(replica).collect()
    }

    /// The newest migration that the database has; `None` if it has none.
    pub async fn schema_version(&self) -> Result<Option<i64>, StorageError> {
        let rows = match self.read(SCHEMA_VERSION, parameters![]).await {
            // Without the table of migrations there was none.
            Err(StorageError::Database(sqlx::Error::Database(_))) => return Ok(None),
            result => result?,
        };
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }
}

fn replica(row: &AnyRow) -> Result<Replica, StorageError> {
    let id: String = row.try_get(0)?;
    Ok(Replica {
        id: ReplicaId::parse(&id).ok_or(StorageError::Corrupt {
            table: "replicas",
            column: "id",
            row: id,
        })?,
        version: row.try_get(1)?,
        listen: row.try_get(2)?,
        ops_listen: row.try_get(3)?,
        started_at: Timestamp::from_micros(row.try_get(4)?),
        seen_at: Timestamp::from_micros(row.try_get(5)?),
    })
}
