//! Buckets of a fleet, in Redis: each call is one script by Redis's own clock (design I-9, LIM-06), over the connection
//! that the nonces keep.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::FromRedisValue;
use tokio::time::timeout;

use super::link::{Failure, GRACE, Link};
use super::look::reach;
use super::script::Lua;
use super::{RedisConfig, RedisNonces};
use crate::admission::{AdmissionError, Buckets, Charge, Level, Taken};

/// Begins the key of every bucket. One hash tag for all: a call may take from several buckets, and a Redis Cluster runs a
/// script only on keys of one slot.
const PREFIX: &str = "{limits}:";

/// One name for all: whichever Redis it is, the fleet has no other.
const NAME: &str = "redis";

/// Buckets in Redis.
pub struct RedisBuckets {
    link: Arc<Link>,
    /// Who finds a new connection when the present one is lost; nobody for a command, which ends then.
    _keeper: Option<Arc<RedisNonces>>,
    response_timeout: Duration,
    take: Lua,
    refund: Lua,
    show: Lua,
}

impl RedisBuckets {
    /// Buckets over the connection of `nonces`, which lives on at least as long.
    pub fn beside(nonces: &Arc<RedisNonces>) -> Self {
        let shared = &nonces.shared;
        Self::over(Arc::clone(&shared.link), Some(Arc::clone(nonces)), shared.response_timeout)
    }

    /// Buckets over one connection of their own, for a command that ends by itself. `limit` is how long that connection
    /// is tried for. The keys of nonces are left alone.
    pub async fn alone(config: RedisConfig, limit: Duration) -> Result<Self, AdmissionError> {
        let response_timeout = config.response_timeout;
        Ok(Self::over(Arc::new(reach(config, limit).await?), None, response_timeout))
    }

    fn over(link: Arc<Link>, keeper: Option<Arc<RedisNonces>>, response_timeout: Duration) -> Self {
        Self {
            link,
            _keeper: keeper,
            response_timeout,
            take: Lua::new(include_str!("../../../lua/bucket_take.lua")),
            refund: Lua::new(include_str!("../../../lua/bucket_refund.lua")),
            show: Lua::new(include_str!("../../../lua/bucket_show.lua")),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Lua,
        broken: Broken,
        keys: impl Iterator<Item = &String>,
        arguments: &[String],
    ) -> Result<T, AdmissionError> {
        let limit = self.response_timeout + GRACE;
        let keys: Vec<String> = keys.map(|key| format!("{PREFIX}{key}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        timeout(limit, self.call(script, broken, &keys, &arguments))
            .await
            .unwrap_or_else(|_| Err(Failure::Late.into()))
    }

    /// One call.
    async fn call<T: FromRedisValue>(
        &self,
        script: &Lua,
        broken: Broken,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<T, AdmissionError> {
        let link = &self.link;
        let mut live = link.usable().await?;
        let by_name = script.by_name(keys, arguments);
        let mut answer = link.run(&live, by_name.query_async(&mut live.handle.clone())).await;
        if broken == Broken::Repeat && matches!(answer, Err(Failure::Broken(_))) {
            live = link.usable().await?;
            answer = link.run(&live, by_name.query_async(&mut live.handle.clone())).await;
        }
        if answer.as_ref().is_err_and(Failure::is_missing_script) {
            let by_text = script.by_text(keys, arguments);
            answer = link.run(&live, by_text.query_async(&mut live.handle.clone())).await;
        }
        Ok(answer?)
    }
}

/// What becomes of a call whose connection broke: it may have run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Repeated, once. A use taken twice is one too many, which a limit can bear and a refused client hardly.
    Repeat,
    /// Left at that. A use given back twice would let more pass than the capacity (I-9); not given back, it refills. (The
    /// client of a cluster repeats by itself, and cannot be told not to for one command.)
    Leave,
}

fn strange() -> AdmissionError {
    AdmissionError::Unavailable("a script's answer has another form than ours".to_owned())
}

#[async_trait]
impl Buckets for RedisBuckets {
    fn name(&self) -> &str {
        NAME
    }

    async fn take(&self, charges: &[Charge]) -> Result<Taken, AdmissionError> {
        let arguments = |charge: &Charge| {
            let Charge { rate, cost, look, .. } = charge;
            [rate.interval, rate.capacity.into(), (*cost).into(), i64::from(!look)].map(|n| n.to_string())
        };
        let arguments: Vec<String> = charges.iter().flat_map(arguments).collect();
        let keys = charges.iter().map(|charge| &charge.key);
        let (refused, wait): (usize, u64) = self.run(&self.take, Broken::Repeat, keys, &arguments).await?;
        match refused.checked_sub(1) {
            None => Ok(Taken::All),
            Some(charge) if charge < charges.len() => {
                Ok(Taken::Refused { charge, wait: Duration::from_micros(wait) })
            }
            Some(_) => Err(strange()),
        }
    }

    async fn refund(&self, charges: &[Charge]) -> Result<(), AdmissionError> {
        let taken = || charges.iter().filter(|charge| !charge.look);
        let arguments = |charge: &Charge| {
            [charge.rate.interval, charge.rate.capacity.into(), charge.cost.into()].map(|n| n.to_string())
        };
        let arguments: Vec<String> = taken().flat_map(arguments).collect();
        let keys = taken().map(|charge| &charge.key);
        self.run::<i64>(&self.refund, Broken::Leave, keys, &arguments).await.map(|_| ())
    }

    async fn show(&self, keys: &[String]) -> Result<Vec<Level>, AdmissionError> {
        let told: Vec<i64> = self.run(&self.show, Broken::Repeat, keys.iter(), &[]).await?;
        let levels: Vec<Level> = told
            .chunks_exact(2)
            .map(|pair| match pair {
                [until_full, interval] => Level::new(*until_full, *interval),
                _ => Level::default(),
            })
            .collect();
        if levels.len() == keys.len() { Ok(levels) } else { Err(strange()) }
    }

    async fn reset(&self, keys: &[String]) -> Result<(), AdmissionError> {
        let link = &self.link;
        for key in keys {
            let live = link.usable().await?;
            let command = redis::cmd("DEL").arg(format!("{PREFIX}{key}")).to_owned();
            link.run(&live, command.query_async::<i64>(&mut live.handle.clone())).await?;
        }
        Ok(())
    }
}
