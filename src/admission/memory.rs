//! Nonces of a single replica, in process: the twin of [`super::RedisNonces`]. A restart forgets the key together with the
//! spent marks, so no nonce from before can come back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::nonce::{Nonce, SealingKey, random};
use super::{AdmissionError, Counters, NonceRefusal, Nonces, Redemption};
use crate::acme::time::{Clock, Timestamp};

const SHARDS: usize = 64;
/// How many expired marks a redemption clears away before it adds its own, so that marks shrink faster than they grow.
const CLEARED_AT_ONCE: usize = 64;

/// Spent marks in order of expiry.
type Marks = BTreeSet<(Timestamp, [u8; 16])>;

/// Nonces in process. It holds one mark of about 40 bytes for each nonce spent within the last lifetime.
pub struct MemoryNonces {
    lifetime: Duration,
    clock: Arc<dyn Clock>,
    /// The latest time seen: a clock that is set back must not revive a nonce whose mark is gone.
    latest: AtomicI64,
    key: SealingKey,
    shards: Vec<Mutex<Marks>>,
    counters: Counters,
}

impl MemoryNonces {
    /// Nonces that are good for `lifetime` by `clock`, under a new key.
    ///
    /// # Panics
    /// If the system has no random numbers; nothing can be served then.
    pub fn new(lifetime: Duration, clock: Arc<dyn Clock>) -> Self {
        let epoch = random().expect("the system has random numbers");
        let secret: super::nonce::Secret = random().expect("the system has random numbers");
        Self {
            lifetime,
            clock,
            latest: AtomicI64::new(0),
            key: SealingKey::new(epoch, &secret),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            counters: Counters::new(),
        }
    }

    /// How many spent marks are held.
    pub fn marks(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now().micros();
        Timestamp::from_micros(self.latest.fetch_max(now, Ordering::SeqCst).max(now))
    }

    fn spend(&self, text: &str) -> Redemption {
        let Some(nonce) = Nonce::parse(text) else {
            return Redemption::Refused(NonceRefusal::Malformed);
        };
        if !self.key.sealed(&nonce) {
            return Redemption::Refused(NonceRefusal::Forged);
        }
        let random = nonce.random();
        let shard = &self.shards[usize::from(random[0]) % SHARDS];
        let mut marks = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: a time read before it could let this nonce pass after its mark was cleared away.
        let now = self.now();
        if nonce.expiry() <= now {
            return Redemption::Refused(NonceRefusal::Expired);
        }
        for _ in 0..CLEARED_AT_ONCE {
            match marks.first() {
                Some((expiry, _)) if *expiry <= now => marks.pop_first(),
                _ => break,
            };
        }
        if marks.insert((nonce.expiry(), random)) {
            Redemption::Accepted
        } else {
            Redemption::Refused(NonceRefusal::Spent)
        }
    }
}

#[async_trait]
impl Nonces for MemoryNonces {
    fn mint(&self) -> Result<String, AdmissionError> {
        let nonce = self.key.mint(self.now(), self.lifetime)?;
        self.counters.minted.increment(1);
        Ok(nonce)
    }

    async fn redeem(&self, nonce: &str) -> Result<Redemption, AdmissionError> {
        let result = Ok(self.spend(nonce));
        self.counters.redeemed(&result);
        result
    }

    async fn ping(&self) -> Result<(), AdmissionError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::time::ManualClock;

    const LIFETIME: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn non_05_expired_marks_are_cleared_away() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let nonces = MemoryNonces::new(LIFETIME, clock.clone());
        for _ in 0..5_000 {
            nonces.redeem(&nonces.mint().unwrap()).await.unwrap();
        }
        assert_eq!(nonces.marks(), 5_000);
        clock.advance(LIFETIME);
        for _ in 0..1_000 {
            nonces.redeem(&nonces.mint().unwrap()).await.unwrap();
        }
        assert_eq!(nonces.marks(), 1_000);
    }

    #[tokio::test]
    async fn a_clock_set_back_revives_nothing() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let nonces = MemoryNonces::new(LIFETIME, clock.clone());
        let nonce = nonces.mint().unwrap();
        assert_eq!(nonces.redeem(&nonce).await, Ok(Redemption::Accepted));
        clock.advance(LIFETIME);
        for _ in 0..1_000 {
            nonces.redeem(&nonces.mint().unwrap()).await.unwrap();
        }
        let earlier = ManualClock::new(Timestamp::from_seconds(1_000));
        let back = MemoryNonces { clock: Arc::new(earlier), ..nonces };
        assert_eq!(back.redeem(&nonce).await, Ok(Redemption::Refused(NonceRefusal::Expired)));
    }

    #[tokio::test]
    async fn counts_what_happened() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let nonces = metrics::with_local_recorder(&recorder, || MemoryNonces::new(LIFETIME, clock));
        let nonce = nonces.mint().unwrap();
        for text in [nonce.as_str(), nonce.as_str(), "x"] {
            nonces.redeem(text).await.unwrap();
        }
        let shown = recorder.handle().render();
        for line in [
            "chancery_nonces_minted_total 1",
            "chancery_nonces_redeemed_total{result=\"accepted\"} 1",
            "chancery_nonces_redeemed_total{result=\"spent\"} 1",
            "chancery_nonces_redeemed_total{result=\"malformed\"} 1",
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
    }
}
