//! Admission: what is asked before a request may do anything: the anti-replay nonces of RFC 8555 §6.5 and the buckets of
//! rate limits, kept in Redis for a fleet or in process for a single replica (design I-7, I-9, I-11).

mod buckets;
mod gcra;
mod memory;
mod nonce;
mod redis;

use async_trait::async_trait;
use metrics::{Counter, counter};

pub use self::buckets::{Buckets, Charge, Level, MemoryBuckets, Taken};
pub use self::gcra::{MAX_CAPACITY, Rate};
pub use self::memory::MemoryNonces;
pub use self::redis::{RedisBuckets, RedisConfig, RedisNonces, look_at_redis};

/// What became of a nonce that a client used (RFC 8555 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// It was good, and is spent now.
    Accepted,
    /// It does not count; the answer is `badNonce` with a fresh one (RFC 8555 §6.5.2).
    Refused(NonceRefusal),
}

/// Why a nonce does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceRefusal {
    /// Its lifetime is over.
    Expired,
    /// Its seal is not ours, or is from before the store of nonces was lost.
    Forged,
    /// It does not have the form of our nonces.
    Malformed,
    /// It was used before.
    Spent,
}

impl NonceRefusal {
    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Spent => "spent",
        }
    }
}

/// Why admission could not answer. The sentences are for the sender of the request; the texts inside are for the log and
/// hold no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The configured URL cannot be used. Said at start, to the operator.
    #[error("The Redis URL cannot be used: {0}.")]
    Misaddressed(String),
    /// The store does not answer: 503 with `Retry-After` (design I-11).
    #[error(
        "The server cannot reach its store of nonces and limits at the moment. Repeat the request shortly."
    )]
    Unavailable(String),
}

impl AdmissionError {
    /// What happened, for the log.
    pub fn cause(&self) -> &str {
        match self {
            Self::Misaddressed(cause) | Self::Unavailable(cause) => cause,
        }
    }
}

/// Anti-replay nonces (RFC 8555 §6.5).
#[async_trait]
pub trait Nonces: Send + Sync {
    /// A fresh nonce in base64url, good for one use within its lifetime on every replica. Neither waits nor writes.
    /// [`AdmissionError::Unavailable`] if this replica has no key, or only one so old that no replica would honour it.
    fn mint(&self) -> Result<String, AdmissionError>;

    /// Spends a nonce: of all calls with the same one, in the whole fleet, at most one is told
    /// [`Redemption::Accepted`]. [`AdmissionError::Unavailable`], within about a second, if the store does not answer;
    /// whether the nonce is spent is then unknown, and the client needs a fresh one.
    async fn redeem(&self, nonce: &str) -> Result<Redemption, AdmissionError>;

    /// Whether nonces can be minted and redeemed right now.
    async fn ping(&self) -> Result<(), AdmissionError>;
}

/// The counters of one store, looked up once: minting is too fast for a lookup each time.
struct Counters {
    minted: Counter,
    accepted: Counter,
    expired: Counter,
    forged: Counter,
    malformed: Counter,
    spent: Counter,
    unavailable: Counter,
}

impl Counters {
    fn new() -> Self {
        let redeemed = |result: &'static str| counter!("chancery_nonces_redeemed_total", "result" => result);
        Self {
            minted: counter!("chancery_nonces_minted_total"),
            accepted: redeemed("accepted"),
            expired: redeemed(NonceRefusal::Expired.as_str()),
            forged: redeemed(NonceRefusal::Forged.as_str()),
            malformed: redeemed(NonceRefusal::Malformed.as_str()),
            spent: redeemed(NonceRefusal::Spent.as_str()),
            unavailable: redeemed("unavailable"),
        }
    }

    fn redeemed(&self, result: &Result<Redemption, AdmissionError>) {
        match result {
            Ok(Redemption::Accepted) => &self.accepted,
            Ok(Redemption::Refused(NonceRefusal::Expired)) => &self.expired,
            Ok(Redemption::Refused(NonceRefusal::Forged)) => &self.forged,
            Ok(Redemption::Refused(NonceRefusal::Malformed)) => &self.malformed,
            Ok(Redemption::Refused(NonceRefusal::Spent)) => &self.spent,
            Err(_) => &self.unavailable,
        }
        .increment(1);
    }
}
