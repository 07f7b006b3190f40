//! A look at Redis by a command that ends by itself: one connection, and nothing is written. The keys of nonces belong to
//! the fleet; whoever only looks neither makes nor rotates them, whatever lifetime its configuration gives to a nonce.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::Handle;
use super::link::{Link, Live};
use super::{KEYS, PAUSES, RedisConfig, warn_of_eviction};
use crate::admission::AdmissionError;

/// Whether Redis can be used as `config` says, tried for at most `limit`. Changes nothing there.
pub async fn look_at_redis(config: RedisConfig, limit: Duration) -> Result<(), AdmissionError> {
    reach(config, limit).await.map(drop)
}

/// A connection that nobody renews, tried for at most `limit`.
pub(super) async fn reach(config: RedisConfig, limit: Duration) -> Result<Link, AdmissionError> {
    let link = config.link()?;
    let end = Instant::now() + limit;
    loop {
        // Boxed: deadpool's futures lie so deep in each other that those of a command would be too deep for the compiler.
        match Box::pin(open(&link)).await {
            Ok(live) => {
                warn_of_eviction(&link, &live).await;
                link.publish(live)?;
                return Ok(link);
            }
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => sleep(PAUSES.0).await,
        }
    }
}

async fn open(link: &Link) -> Result<Live, AdmissionError> {
    let live = link.open().await?;
    ask_for_keys(link, &live).await?;
    if let Handle::Direct(mut connection) = live.handle.clone() {
        let asked = redis::cmd("INFO").arg("replication").to_owned();
        let told: String = link.run(&live, asked.query_async(&mut connection)).await?;
        if told.lines().any(|line| line.trim() == "role:slave") {
            return Err(AdmissionError::Unavailable(
                "this Redis is a replica, which takes no writes".to_owned(),
            ));
        }
    }
    Ok(live)
}

/// A question that changes nothing. Not `PING`: on a cluster that would ask all nodes, and only the one with the keys
/// matters.
pub(super) async fn ask_for_keys(link: &Link, live: &Live) -> Result<(), AdmissionError> {
    let asked = redis::cmd("PTTL").arg(KEYS).to_owned();
    link.run(live, asked.query_async::<i64>(&mut live.handle.clone())).await?;
    Ok(())
}
