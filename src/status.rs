//! The roof: `chancery status`, the fleet as its stores know it. No replica is asked.

use std::fmt::{self, Write};
use std::time::Duration;

use tokio::time::timeout;

use crate::acme::time::Timestamp;
use crate::admission::{AdmissionError, RedisConfig, look_at_redis};
use crate::config::{Config, Database};
use crate::server::StartError;
use crate::storage::{Leader, MOST_COUNTED, Replica, Store};
use crate::worker;

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A replica that gave no sign of life for longer than this is shown as silent.
const SILENT: Duration = Duration::from_secs(15);

/// The migration that brought the tables that are read here.
const LEAST_SCHEMA: i64 = 4;

/// What is known of the fleet.
#[derive(Clone, Debug)]
pub struct Status {
    now: Timestamp,
    database: &'static str,
    schema: i64,
    redis: String,
    replicas: Vec<Replica>,
    leader: Leader,
    lag: Duration,
    waiting: [(&'static str, i64, Option<Timestamp>); 2],
}

/// Reads the stores of the configuration.
pub async fn read(config: &Config) -> Result<Status, StartError> {
    match timeout(PATIENCE, read_database(config)).await {
        Ok(status) => Ok(Status { redis: redis(config).await, ..status? }),
        Err(_) => Err(format!("the database did not answer within {} s", PATIENCE.as_secs()).into()),
    }
}

async fn read_database(config: &Config) -> Result<Status, StartError> {
    let (store, database) = match &config.database {
        Database::Postgres(url) => (Store::postgres(url.expose(), 1).await?, "Postgres"),
        Database::Sqlite(path) if !path.exists() => {
            return Err(format!("there is no database at {}: no server ran here yet", path.display()).into());
        }
        Database::Sqlite(path) => (Store::sqlite_read_only(path).await?, "SQLite"),
    };
    let schema = store.schema_version().await?.unwrap_or(0);
    if schema < LEAST_SCHEMA {
        return Err(format!("the schema is at version {schema}: run `chancery migrate` first").into());
    }
    let now = store.now().await?;
    let (validations, issuances) =
        (store.waiting_validations(now).await?, store.waiting_issuances(now).await?);
    Ok(Status {
        now,
        database,
        schema,
        redis: String::new(),
        replicas: store.replicas().await?,
        leader: store.leader().await?,
        lag: worker::lag(&store, &config.retention, now).await?,
        waiting: [("validations", validations.0, validations.1), ("issuances", issuances.0, issuances.1)],
    })
}

async fn redis(config: &Config) -> String {
    let Some(url) = &config.redis_url else { return "not configured; nonces are kept in process".to_owned() };
    match look_at_redis(RedisConfig::new(url.expose()), PATIENCE).await {
        Ok(()) => "ok".to_owned(),
        Err(error @ AdmissionError::Misaddressed(_)) => error.to_string(),
        Err(error) => format!("not there: {}", error.cause()),
    }
}

/// A span of time for people: the two largest units.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leader = self.leader.at(self.now);
        writeln!(f, "database   {}, schema version {}", self.database, self.schema)?;
        writeln!(f, "redis      {}", self.redis)?;
        let led = match leader {
            Some(id) => {
                let left = self.leader.lease_until.since(self.now).as_secs_f64();
                format!("{id}, epoch {}, for {left:.1} s unless it renews", self.leader.epoch)
            }
            None => format!("none; the last epoch was {}", self.leader.epoch),
        };
        writeln!(f, "leader     {led}")?;
        match self.lag {
            Duration::ZERO => writeln!(f, "sweeps     nothing is due")?,
            lag => writeln!(f, "sweeps     the oldest thing to sweep is due since {}", span(lag))?,
        }
        for (kind, count, oldest) in self.waiting {
            let age = oldest.map(|at| format!(", the oldest since {}", span(self.now.since(at))));
            let least = if count >= MOST_COUNTED { "at least " } else { "" };
            writeln!(f, "waiting    {least}{count} {kind}{}", age.unwrap_or_default())?;
        }
        let mut table = String::new();
        for replica in &self.replicas {
            let seen = self.now.since(replica.seen_at);
            let state = match (leader == Some(&replica.id), seen > SILENT) {
                (_, true) => "silent",
                (true, false) => "leads",
                (false, false) => "ok",
            };
            writeln!(
                table,
                "  {:<32}  {:<6}  {:>8}  {:>8}  {:<8}  {:<21}  {}",
                replica.id.as_str(),
                state,
                span(self.now.since(replica.started_at)),
                span(seen),
                replica.version,
                replica.listen,
                replica.ops_listen
            )?;
        }
        writeln!(f, "replicas   {}", self.replicas.len())?;
        if !self.replicas.is_empty() {
            writeln!(
                f,
                "  {:<32}  {:<6}  {:>8}  {:>8}  {:<8}  {:<21}  ops",
                "id", "state", "up for", "seen", "version", "listen"
            )?;
        }
        f.write_str(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::id::ReplicaId;

    #[test]
    fn a_dead_leader_and_a_silent_replica_are_shown_as_such() {
        let now = Timestamp::from_seconds(1_000_000);
        let replica = |seen: u64| Replica {
            id: ReplicaId::new(),
            version: "1.2.3".to_owned(),
            listen: "127.0.0.1:14000".to_owned(),
            ops_listen: "127.0.0.1:14001".to_owned(),
            started_at: now.minus(Duration::from_secs(3 * 3600)),
            seen_at: now.minus(Duration::from_secs(seen)),
        };
        let replicas = vec![replica(1), replica(120)];
        let leader = |seconds| Leader {
            holder: Some(replicas[0].id.clone()),
            epoch: 7,
            lease_until: Timestamp::from_seconds(seconds),
        };
        let status = |leader| {
            let (database, redis) = ("Postgres", "ok".to_owned());
            let waiting =
                [("validations", 2, Some(now.minus(Duration::from_secs(61)))), ("issuances", 0, None)];
            let lag = Duration::from_secs(90_000);
            let replicas = replicas.clone();
            Status { now, database, schema: 4, redis, replicas, leader, lag, waiting }.to_string()
        };
        let text = status(leader(1_000_010));
        for part in
            ["epoch 7, for 10.0 s", "  leads ", "  silent ", "3h00m", "2 validations, the oldest since 1m01s"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.contains("due since 1d01h"), "{text}");
        let text = status(leader(999_999));
        assert!(text.contains("none; the last epoch was 7") && !text.contains("leads"), "{text}");
    }
}
