//! What the tests of buckets run on: three replicas on one Redis of whatever shape, or the buckets of one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::acme::time::{ManualClock, Timestamp};
use chancery::admission::{
    Buckets, Charge, MemoryBuckets, Nonces, Rate, RedisBuckets, RedisConfig, RedisNonces, Taken,
};

use crate::support::redis::Redis;

/// Refills no use while a test runs.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// One use of the bucket `key`.
pub(super) fn one(key: &str, capacity: u32, period: Duration) -> Charge {
    Charge { key: key.to_owned(), rate: Rate::per(capacity, period), cost: 1, look: false }
}

/// One replica's buckets, and the connection they share with its nonces.
pub(super) async fn replica(url: &str) -> (Arc<RedisNonces>, Arc<dyn Buckets>) {
    let nonces = RedisNonces::connect(RedisConfig::new(url), Duration::from_secs(60)).unwrap();
    nonces.wait_until_ready(Duration::from_secs(20)).await.unwrap();
    let buckets = Arc::new(RedisBuckets::beside(&nonces));
    (nonces, buckets)
}

/// One replica's buckets, and the nonces whose connection they share where there is one.
type Replica = (Option<Arc<RedisNonces>>, Arc<dyn Buckets>);

/// Three replicas on one store, and a way to let time pass.
pub(super) struct Fleet {
    pub(super) name: &'static str,
    replicas: Vec<Replica>,
    clock: Option<Arc<ManualClock>>,
    /// Held so that it lives.
    pub(super) server: Option<Redis>,
}

impl Fleet {
    /// On the buckets of one process.
    pub(super) fn memory() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let buckets: Arc<dyn Buckets> = Arc::new(MemoryBuckets::new(clock.clone()));
        let replicas = vec![(None, buckets)];
        Self { name: "memory", replicas, clock: Some(clock), server: None }
    }

    /// On a Redis that is there.
    pub(super) async fn at(name: &'static str, url: &str) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..3 {
            let (nonces, buckets) = replica(url).await;
            replicas.push((Some(nonces), buckets));
        }
        Self { name, replicas, clock: None, server: None }
    }

    /// On a Redis of its own.
    pub(super) async fn redis() -> Self {
        let server = Redis::start();
        let fleet = Self::at("redis", &server.url()).await;
        Self { server: Some(server), ..fleet }
    }

    pub(super) async fn both() -> [Self; 2] {
        [Self::memory(), Self::redis().await]
    }

    /// One replica; the count starts anew after the last.
    pub(super) fn replica(&self, index: usize) -> Arc<dyn Buckets> {
        self.replicas[index % self.replicas.len()].1.clone()
    }

    /// Takes through the replica of this number; fails the test if the store is away.
    pub(super) async fn take(&self, index: usize, charges: &[Charge]) -> Taken {
        self.replica(index).take(charges).await.unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }

    /// Takes until refused: how many passed, and the wait told.
    pub(super) async fn drain(&self, charge: &Charge) -> (u32, Duration) {
        let mut passed = 0;
        loop {
            match self.take(passed as usize, std::slice::from_ref(charge)).await {
                Taken::All => passed += 1,
                Taken::Refused { wait, .. } => return (passed, wait),
            }
        }
    }

    /// Lets time pass, by the store's clock.
    pub(super) async fn wait(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// Ends all replicas and starts as many anew; the store stays.
    pub(super) async fn restart(&mut self, url: &str) {
        for (nonces, _) in self.replicas.drain(..) {
            if let Some(nonces) = nonces {
                nonces.close().await;
            }
        }
        self.replicas = Self::at(self.name, url).await.replicas;
    }

    /// Waits until every replica reaches the store.
    pub(super) async fn wait_until_back(&self) {
        for (nonces, _) in &self.replicas {
            if let Some(nonces) = nonces {
                eventually("the replica is back", || async { nonces.ping().await.is_ok() }).await;
            }
        }
    }
}

pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
