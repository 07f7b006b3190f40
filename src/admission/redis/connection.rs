//! Connecting to Redis, whatever its shape, and one command at a time on what was connected.

use std::time::Duration;

use deadpool_redis::sentinel::{SentinelNodeConnectionInfo, SentinelServerType, TlsMode};
use deadpool_redis::{Connection, Pool, PoolConfig, PoolError, Runtime, Timeouts, cluster, sentinel};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisFuture, Value};

use super::address::Address;
use crate::admission::AdmissionError;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

/// A connection that many tasks use at once: its clones share one socket (one for each node of a cluster).
#[derive(Clone)]
pub(super) enum Handle {
    Cluster(ClusterConnection),
    Direct(MultiplexedConnection),
}

impl ConnectionLike for Handle {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Cluster(connection) => connection.req_packed_command(cmd),
            Self::Direct(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Direct(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Cluster(connection) => connection.get_db(),
            Self::Direct(connection) => connection.get_db(),
        }
    }
}

/// What opens connections, in bounded time.
///
/// Each connection is taken out of its pool for good. A pooled one would be checked with a `PING` when it is asked for
/// again, which a master that was demoted to a replica answers too; a fresh one asks the sentinels.
pub(super) struct Connector {
    pool: AnyPool,
    hosts: String,
    patience: Patience,
}

enum AnyPool {
    Cluster(cluster::Pool),
    Sentinel(sentinel::Pool),
    Single(Pool),
}

impl Connector {
    pub(super) fn new(address: Address, patience: Patience) -> Result<Self, AdmissionError> {
        let hosts = address.hosts();
        let limit = Some(patience.connect);
        let mut config = PoolConfig::new(2);
        config.timeouts = Timeouts { wait: limit, create: limit, recycle: limit };
        let pool = match address {
            Address::Cluster(nodes) => {
                let manager = cluster::Manager::new(nodes, false).map_err(misaddressed)?;
                let builder = cluster::Pool::builder(manager).config(config).runtime(Runtime::Tokio1);
                AnyPool::Cluster(builder.build().map_err(misaddressed)?)
            }
            Address::Sentinel { sentinels, master, node, tls } => {
                let node = SentinelNodeConnectionInfo {
                    tls_mode: tls.then_some(TlsMode::Secure),
                    redis_connection_info: Some(node.into()),
                };
                let manager =
                    sentinel::Manager::new(sentinels, master, Some(node), SentinelServerType::Master)
                        .map_err(misaddressed)?;
                let builder = sentinel::Pool::builder(manager).config(config).runtime(Runtime::Tokio1);
                AnyPool::Sentinel(builder.build().map_err(misaddressed)?)
            }
            Address::Single(info) => {
                let connection = AsyncConnectionConfig::new()
                    .set_connection_timeout(limit)
                    .set_response_timeout(Some(patience.response));
                let manager =
                    deadpool_redis::Manager::new_with_config(info, connection).map_err(misaddressed)?;
                let builder = Pool::builder(manager).config(config).runtime(Runtime::Tokio1);
                AnyPool::Single(builder.build().map_err(misaddressed)?)
            }
        };
        Ok(Self { pool, hosts, patience })
    }

    /// The hosts, for the log.
    pub(super) fn hosts(&self) -> &str {
        &self.hosts
    }

    /// How long a command may take.
    pub(super) fn response_limit(&self) -> Duration {
        self.patience.response
    }

    /// A new connection, to the present master.
    pub(super) async fn open(&self) -> Result<Handle, AdmissionError> {
        let handle = match &self.pool {
            AnyPool::Cluster(pool) => {
                Handle::Cluster(cluster::Connection::take(pool.get().await.map_err(unavailable)?))
            }
            AnyPool::Sentinel(pool) => {
                let mut connection = sentinel::Connection::take(pool.get().await.map_err(unavailable)?);
                connection.set_response_timeout(self.patience.response);
                Handle::Direct(connection)
            }
            AnyPool::Single(pool) => Handle::Direct(Connection::take(pool.get().await.map_err(unavailable)?)),
        };
        Ok(handle)
    }
}

/// The address was read, so only its contents can be at fault; the text of such errors is not shown, as it may quote them.
fn misaddressed<E>(_: E) -> AdmissionError {
    AdmissionError::Misaddressed("the Redis client does not take it".to_owned())
}

fn unavailable(error: PoolError) -> AdmissionError {
    AdmissionError::Unavailable(match error {
        PoolError::Backend(error) => describe(&error),
        PoolError::Timeout(_) => "connecting took too long".to_owned(),
        other => other.to_string(),
    })
}

/// A Redis error for the log.
pub(super) fn describe(error: &RedisError) -> String {
    error.to_string()
}
