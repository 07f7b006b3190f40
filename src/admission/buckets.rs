//! Buckets of rate limits (design I-9): several are taken from in one step, or none.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::AdmissionError;
use super::gcra::{self, Bucket, Rate};
use crate::acme::id::ReplicaId;
use crate::acme::time::{Clock, Timestamp};

/// What is taken from one bucket, looked for in it, or given back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The bucket's name. It is short, and holds no text that a stranger chose freely.
    pub key: String,
    /// How much the bucket holds.
    pub rate: Rate,
    /// How many uses.
    pub cost: u32,
    /// Whether the uses must only be there, and stay there.
    pub look: bool,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All buckets had enough, and all were taken from.
    All,
    /// Nothing was taken anywhere.
    Refused {
        /// The charge that must be waited for the longest, by its place in the call.
        charge: usize,
        /// For how long. After it the same call passes, unless others were faster.
        wait: Duration,
    },
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many uses are taken, the one that is refilling included.
    pub taken: u32,
    /// How long until it is full, if nobody takes anything.
    pub full_in: Duration,
}

impl Level {
    pub(super) fn new(until_full: i64, interval: i64) -> Self {
        Self {
            taken: u32::try_from(gcra::uses(until_full, interval)).unwrap_or(u32::MAX),
            full_in: Duration::from_micros(u64::try_from(until_full).unwrap_or(0)),
        }
    }
}

/// Buckets that all replicas share, or those of a single one. No call names a bucket twice.
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Tells these buckets from all others, also from those of a process that has ended: what was taken from them is
    /// given back to none but them.
    fn name(&self) -> &str;

    /// Takes all the charges or none, in one step: of any number of callers on any number of replicas exactly as many
    /// pass as the buckets hold. [`AdmissionError::Unavailable`], within about a second, if the store does not answer;
    /// whether something was taken is then unknown.
    async fn take(&self, charges: &[Charge]) -> Result<Taken, AdmissionError>;

    /// Gives back what was taken, never past full.
    async fn refund(&self, charges: &[Charge]) -> Result<(), AdmissionError>;

    /// How the buckets of these names stand.
    async fn show(&self, keys: &[String]) -> Result<Vec<Level>, AdmissionError>;

    /// Fills the buckets of these names.
    async fn reset(&self, keys: &[String]) -> Result<(), AdmissionError>;
}

/// How many full buckets a call clears away before it makes its own, so that memory shrinks faster than it grows.
const CLEARED_AT_ONCE: usize = 64;

/// Buckets in process: the twin of [`super::RedisBuckets`]. A restart fills them all.
pub struct MemoryBuckets {
    name: ReplicaId,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The latest time seen: a clock that is set back must not lengthen anybody's wait.
    latest: i64,
    buckets: HashMap<Arc<str>, Bucket>,
    /// The same buckets in the order in which they become full, when they go.
    by_end: BTreeSet<(Timestamp, Arc<str>)>,
}

impl MemoryBuckets {
    /// Buckets that refill by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { name: ReplicaId::new(), clock, held: Mutex::default() }
    }

    /// How many buckets are held: those that are not full, and some that are full and not yet cleared away.
    pub fn held(&self) -> usize {
        self.lock().buckets.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, held: &mut Held) -> Timestamp {
        held.latest = held.latest.max(self.clock.now().micros());
        Timestamp::from_micros(held.latest)
    }
}

impl Held {
    fn bucket(&self, key: &str) -> Option<Bucket> {
        self.buckets.get(key).copied()
    }

    fn store(&mut self, key: &str, bucket: Option<Bucket>) {
        let name = match self.buckets.remove_entry(key) {
            Some((name, old)) => {
                self.by_end.remove(&(old.full_at, Arc::clone(&name)));
                name
            }
            None => Arc::from(key),
        };
        if let Some(bucket) = bucket {
            self.by_end.insert((bucket.full_at, Arc::clone(&name)));
            self.buckets.insert(name, bucket);
        }
    }

    fn clear(&mut self, now: Timestamp) {
        for _ in 0..CLEARED_AT_ONCE {
            match self.by_end.first() {
                Some((full_at, _)) if *full_at <= now => {}
                _ => return,
            }
            if let Some((_, key)) = self.by_end.pop_first() {
                self.buckets.remove(&key);
            }
        }
    }
}

#[async_trait]
impl Buckets for MemoryBuckets {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    async fn take(&self, charges: &[Charge]) -> Result<Taken, AdmissionError> {
        let mut held = self.lock();
        let now = self.now(&mut held);
        held.clear(now);
        let (mut refused, mut longest) = (None, 0);
        let mut after = Vec::with_capacity(charges.len());
        for (index, charge) in charges.iter().enumerate() {
            match gcra::take(held.bucket(&charge.key), charge.rate, charge.cost, now) {
                Ok(bucket) => after.push(bucket),
                Err(wait) if wait > longest => (refused, longest) = (Some(index), wait),
                Err(_) => {}
            }
        }
        if let Some(charge) = refused {
            let wait = Duration::from_micros(u64::try_from(longest).unwrap_or(0));
            return Ok(Taken::Refused { charge, wait });
        }
        for (charge, bucket) in charges.iter().zip(after) {
            if !charge.look {
                held.store(&charge.key, bucket);
            }
        }
        Ok(Taken::All)
    }

    async fn refund(&self, charges: &[Charge]) -> Result<(), AdmissionError> {
        let mut held = self.lock();
        let now = self.now(&mut held);
        for charge in charges.iter().filter(|charge| !charge.look) {
            let bucket = gcra::refund(held.bucket(&charge.key), charge.rate, charge.cost, now);
            held.store(&charge.key, bucket);
        }
        Ok(())
    }

    async fn show(&self, keys: &[String]) -> Result<Vec<Level>, AdmissionError> {
        let mut held = self.lock();
        let now = self.now(&mut held);
        let level = |key: &String| {
            held.bucket(key)
                .map_or_else(Level::default, |bucket| Level::new(bucket.until_full(now), bucket.interval))
        };
        Ok(keys.iter().map(level).collect())
    }

    async fn reset(&self, keys: &[String]) -> Result<(), AdmissionError> {
        let mut held = self.lock();
        for key in keys {
            held.store(key, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::time::ManualClock;

    fn charge(key: &str, capacity: u32) -> Charge {
        let rate = Rate::per(capacity, Duration::from_secs(3600));
        Charge { key: key.to_owned(), rate, cost: 1, look: false }
    }

    #[tokio::test]
    async fn full_buckets_are_cleared_away() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let buckets = MemoryBuckets::new(clock.clone());
        for index in 0..1_000 {
            buckets.take(&[charge(&format!("first{index}"), 10)]).await.unwrap();
        }
        assert_eq!(buckets.held(), 1_000);
        clock.advance(Duration::from_secs(360));
        for index in 0..100 {
            buckets.take(&[charge(&format!("second{index}"), 10)]).await.unwrap();
        }
        assert_eq!(buckets.held(), 100);
    }

    #[tokio::test]
    async fn lim_06_a_clock_set_back_lengthens_no_wait() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(10_000)));
        let buckets = MemoryBuckets::new(clock.clone());
        assert_eq!(buckets.take(&[charge("a", 1)]).await, Ok(Taken::All));
        let held = Mutex::new(std::mem::take(&mut *buckets.lock()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
        let back = MemoryBuckets { clock, held, ..buckets };
        let wait = Duration::from_secs(3600);
        assert_eq!(back.take(&[charge("a", 1)]).await, Ok(Taken::Refused { charge: 0, wait }));
    }
}
