//! The fleet's current and last key, as this replica last read them from Redis, and Redis's time at that moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::link::{Link, Live};
use super::script::Lua;
use crate::acme::time::Timestamp;
use crate::admission::AdmissionError;
use crate::admission::nonce::{Epoch, SealingKey, Secret, random};

/// Where the keys live. Its hash tag keeps it in one slot of a cluster with the spent marks.
pub(super) const KEYS: &str = "{nonce}:keys";

/// How much longer than a nonce's lifetime a key is current. Replicas learn of a new key some seconds late; nonces that they
/// mint meanwhile expire before the old key is forgotten.
const OVERLAP: Duration = Duration::from_secs(60);

/// What Redis said.
pub(super) struct KeySet {
    current: SealingKey,
    last: Option<SealingKey>,
    redis_time: Timestamp,
    /// When, by this machine's steady clock, Redis said so. Its wall clock is never asked.
    at: Instant,
}

impl KeySet {
    /// The key to mint with.
    pub(super) fn current(&self) -> &SealingKey {
        &self.current
    }

    /// The key of an epoch.
    pub(super) fn of(&self, epoch: Epoch) -> Option<&SealingKey> {
        [Some(&self.current), self.last.as_ref()].into_iter().flatten().find(|key| key.epoch == epoch)
    }

    /// How long ago Redis was asked.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// The time by Redis's clock, `age` after it was asked.
    pub(super) fn redis_time(&self, age: Duration) -> Timestamp {
        self.redis_time.plus(age)
    }
}

/// The keys as they were last read.
pub(super) struct Keys {
    script: Lua,
    due: Duration,
    kept: Duration,
    held: ArcSwapOption<KeySet>,
    turn: Mutex<()>,
    started: AtomicU64,
    /// The number of the latest reading that succeeded.
    done: AtomicU64,
}

impl Keys {
    /// Keys for nonces that are good for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        let due = lifetime + OVERLAP.min(lifetime);
        Self {
            script: Lua::new(include_str!("../../../lua/nonce_keys.lua")),
            due,
            // While no replica runs, nobody extends this; by then every nonce has expired.
            kept: due + lifetime + OVERLAP,
            held: ArcSwapOption::empty(),
            turn: Mutex::default(),
            started: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// What is known; `None` before Redis was first reached.
    pub(super) fn held(&self) -> arc_swap::Guard<Option<Arc<KeySet>>> {
        self.held.load()
    }

    /// Reads the keys anew. Callers that come while others read share the next reading, so that a flood of
    /// unknown nonces costs Redis one call at a time.
    pub(super) async fn refresh(&self, link: &Link, live: &Live) -> Result<(), AdmissionError> {
        let before = self.started.load(Ordering::SeqCst);
        let _turn = self.turn.lock().await;
        if self.done.load(Ordering::SeqCst) > before {
            return Ok(());
        }
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let (epoch, secret): (Epoch, Secret) = (random()?, random()?);
        let due = self.due.as_micros().to_string();
        let kept = self.kept.as_millis().to_string();
        let arguments: [&[u8]; 4] = [&epoch, &secret, due.as_bytes(), kept.as_bytes()];

        let mut handle = live.handle.clone();
        let mut asked = Instant::now();
        let by_name = self.script.by_name(&[KEYS], &arguments);
        let mut answer = link.run(live, by_name.query_async(&mut handle)).await;
        if answer.as_ref().is_err_and(|failure| failure.is_missing_script()) {
            asked = Instant::now();
            let by_text = self.script.by_text(&[KEYS], &arguments);
            answer = link.run(live, by_text.query_async(&mut handle)).await;
        }
        let keys = read(answer?, asked)?;
        self.held.store(Some(Arc::new(keys)));
        self.done.store(number, Ordering::SeqCst);
        Ok(())
    }
}

type Answer = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

fn read(
    (time, epoch, secret, last_epoch, last_secret): Answer,
    asked: Instant,
) -> Result<KeySet, AdmissionError> {
    let key = |epoch: Vec<u8>, secret: Vec<u8>| {
        let epoch = Epoch::try_from(epoch).ok()?;
        (secret.len() == size_of::<Secret>()).then(|| SealingKey::new(epoch, &secret))
    };
    let strange = || AdmissionError::Unavailable(format!("what Redis holds in {KEYS} is not ours"));
    Ok(KeySet {
        current: key(epoch, secret).ok_or_else(strange)?,
        last: key(last_epoch, last_secret),
        redis_time: Timestamp::from_micros(time),
        // Redis read its clock somewhere between question and answer.
        at: asked + asked.elapsed() / 2,
    })
}
