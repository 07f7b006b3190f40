//! Floor 2: which limits there are, what they count by, and what becomes of a request that exceeds one (design I-9, I-11).

mod charge;
pub mod key;
mod names;
mod overrides;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

pub use charge::{Use, bucket};
pub use names::{Limit, Preset, Subject};

use overrides::Overrides;

use crate::acme::identifier::Identifier;
use crate::admission::{AdmissionError, Buckets, Charge, MemoryBuckets, Rate, Taken};

/// How many uses each limit has; 0 turns one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities([u32; Limit::ALL.len()]);

impl Capacities {
    /// What `of` says of each limit.
    pub fn new(of: impl FnMut(Limit) -> u32) -> Self {
        Self(Limit::ALL.map(of))
    }

    /// What a limit allows a key that has no override.
    pub fn of(&self, limit: Limit, key: &str) -> u32 {
        key::share(limit.subject(), key, self.0[limit.index()])
    }
}

/// Where a refused client is sent to read about limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    /// A page like docs/limits.md: the limit's name is appended as an anchor.
    Page(String),
    /// A page of another kind, taken as it is.
    Site(String),
}

impl Help {
    fn url(&self, limit: Limit) -> String {
        match self {
            Self::Page(url) => format!("{url}#{}", limit.name()),
            Self::Site(url) => url.clone(),
        }
    }
}

/// A limit that a request would exceed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", limit.told(*capacity, *seconds))]
pub struct Exceeded {
    /// Which one.
    pub limit: Limit,
    /// How much it allows.
    pub capacity: u32,
    /// After how many seconds the request may be repeated: as many as needed, rounded up to a whole one.
    pub seconds: u64,
    /// The identifier that it is about, where it is about one (RFC 8555 §6.7.1).
    pub identifier: Option<Identifier>,
    /// Where the limit is explained.
    pub help: String,
}

/// Why a request was not let through.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// It would exceed a limit; nothing was charged anywhere (LIM-02).
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The shared buckets are away, and the configuration says that nothing is let through then. The text is for the log.
    #[error("limits cannot be checked: {0}")]
    Unavailable(String),
}

/// What was charged, to be given back if the work is not done.
#[derive(Debug, Default)]
#[must_use = "what was charged is given back if the work it paid for is not done"]
pub struct Held {
    charges: Vec<(Limit, Charge)>,
    local: bool,
}

impl Held {
    /// What of it was charged to other limits; what was charged to `limit` stays charged.
    pub fn except(mut self, limit: Limit) -> Self {
        self.charges.retain(|(charged, _)| *charged != limit);
        self
    }
}

/// The limits as they are in force in this replica.
pub struct Limits {
    capacities: Capacities,
    help: Help,
    buckets: Arc<dyn Buckets>,
    /// What counts while the shared buckets are away; nothing to refuse then.
    fallback: Option<MemoryBuckets>,
    away: AtomicBool,
    overrides: Overrides,
}

impl Limits {
    /// Limits of these capacities, counted in `buckets`, and in `fallback` while those are away.
    pub fn new(
        capacities: Capacities,
        help: Help,
        buckets: Arc<dyn Buckets>,
        fallback: Option<MemoryBuckets>,
    ) -> Self {
        let (away, overrides) = (AtomicBool::new(false), Overrides::default());
        Self { capacities, help, buckets, fallback, away, overrides }
    }

    /// The capacity of a key under a limit: its own if it has one, else the configured; 0 for no limit.
    pub fn capacity(&self, limit: Limit, key: &str) -> u32 {
        self.overrides.of(limit, key).unwrap_or_else(|| self.capacities.of(limit, key))
    }

    /// Whether limits are counted in this process while the shared buckets are away.
    pub fn counts_alone(&self) -> bool {
        self.fallback.is_some()
    }

    /// The version of the overrides that are in force; nothing before the first reading.
    pub fn overrides_version(&self) -> Option<i64> {
        self.overrides.version()
    }

    /// Replaces the overrides. Capacity 0 turns the limit off for a key.
    pub fn override_with(&self, version: i64, all: impl IntoIterator<Item = (Limit, String, u32)>) {
        self.overrides.store(version, all);
    }

    /// Takes all the uses or none (LIM-02). Uses of limits that are off cost nothing.
    pub async fn take(&self, uses: &[Use]) -> Result<Held, LimitError> {
        let charge = |each: &Use| {
            let capacity = self.capacity(each.limit, &each.key);
            let period = each.limit.period().filter(|_| capacity > 0)?;
            let rate = Rate::per(capacity, period);
            Some((each.clone(), Charge { key: each.bucket(), rate, cost: 1, look: each.look }))
        };
        let (uses, charges): (Vec<Use>, Vec<Charge>) = uses.iter().filter_map(charge).unzip();
        if charges.is_empty() {
            return Ok(Held::default());
        }
        let (taken, local) = self.take_somewhere(&charges).await?;
        match taken {
            Taken::All => {
                for each in uses.iter().filter(|each| !each.look) {
                    count(each.limit, if local { "degraded" } else { "allowed" });
                }
                let held = uses.iter().map(|each| each.limit).zip(charges);
                Ok(Held { charges: held.filter(|(_, charge)| !charge.look).collect(), local })
            }
            Taken::Refused { charge, wait } => {
                let (refused, rate) = (&uses[charge], charges[charge].rate);
                let exceeded = self.exceeded(refused.limit, rate.capacity, wait);
                Err(Exceeded { identifier: refused.identifier.clone(), ..exceeded }.into())
            }
        }
    }

    async fn take_somewhere(&self, charges: &[Charge]) -> Result<(Taken, bool), LimitError> {
        let error = match self.buckets.take(charges).await {
            Ok(taken) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("limits are counted for the whole fleet again");
                }
                return Ok((taken, false));
            }
            Err(error) => error,
        };
        let unavailable = |error: &AdmissionError| LimitError::Unavailable(error.cause().to_owned());
        if !self.away.swap(true, Ordering::Relaxed) {
            let cause = error.cause();
            match self.fallback {
                Some(_) => tracing::warn!(cause, "limits are counted by each replica alone: Redis is away"),
                None => tracing::warn!(cause, "what is limited is refused: Redis is away"),
            }
        }
        let Some(fallback) = &self.fallback else {
            metrics::counter!("chancery_limits_unavailable_total").increment(1);
            return Err(unavailable(&error));
        };
        fallback.take(charges).await.map(|taken| (taken, true)).map_err(|error| unavailable(&error))
    }

    fn store(&self, local: bool) -> &dyn Buckets {
        match &self.fallback {
            Some(fallback) if local => fallback,
            _ => &*self.buckets,
        }
    }

    /// The name of the buckets that a use of `limit` was taken from, for whoever may give it back later (I-9); nothing if
    /// the limit is off.
    pub fn taken_from(&self, held: &Held, limit: Limit) -> Option<&str> {
        let charged = held.charges.iter().any(|(charged, _)| *charged == limit);
        charged.then(|| self.store(held.local).name())
    }

    /// Gives back what was taken. A store that is away keeps it until the buckets refill.
    pub async fn refund(&self, held: Held) {
        if held.charges.is_empty() {
            return;
        }
        let charges: Vec<Charge> = held.charges.into_iter().map(|(_, charge)| charge).collect();
        if let Err(error) = self.store(held.local).refund(&charges).await {
            tracing::warn!(cause = error.cause(), "a limit's charge could not be given back");
        }
    }

    /// Gives one use back that was taken earlier, maybe by another replica.
    pub async fn give_back(&self, each: &Use) {
        self.give_back_one(each, false).await;
    }

    /// The same, to the buckets of this name, or not at all: those of another process are out of reach, and what was taken
    /// from them must not become a gift to others.
    pub async fn give_back_to(&self, name: &str, each: &Use) {
        if let Some(local) = [false, true].into_iter().find(|local| self.store(*local).name() == name) {
            self.give_back_one(each, local).await;
        }
    }

    async fn give_back_one(&self, each: &Use, local: bool) {
        let capacity = self.capacity(each.limit, &each.key);
        let Some(period) = each.limit.period().filter(|_| capacity > 0) else { return };
        let rate = Rate::per(capacity, period);
        let charges = vec![(each.limit, Charge { key: each.bucket(), rate, cost: 1, look: false })];
        self.refund(Held { charges, local }).await;
    }

    /// The refusal of a request that would exceed a limit; counts it.
    pub fn exceeded(&self, limit: Limit, capacity: u32, wait: Duration) -> Exceeded {
        count(limit, "refused");
        let seconds = u64::try_from(wait.as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
        Exceeded { limit, capacity, seconds, identifier: None, help: self.help.url(limit) }
    }
}

/// Counts an answer; `result` is `allowed`, `refused` or `degraded`.
pub fn count(limit: Limit, result: &'static str) {
    metrics::counter!("chancery_limits_total", "limit" => limit.name(), "result" => result).increment(1);
}

#[cfg(test)]
mod tests;
