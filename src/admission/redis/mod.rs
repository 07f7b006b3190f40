//! Nonces of a fleet, in Redis (design I-7, I-11).
//!
//! The key that seals nonces lives in Redis beside the marks of the spent ones, under an epoch that ends when the server that
//! holds them is flushed, replaced, restarted or succeeded by a replica. So a server that may have lost marks never honours
//! a nonce from before. Minting uses the key that this replica last read; redeeming is one script call.

mod address;
mod buckets;
mod connection;
mod keys;
mod link;
mod look;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64ct::{Base64UrlUnpadded, Encoding};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::address::Address;
pub use self::buckets::RedisBuckets;
use self::connection::{Connector, Handle, Patience};
use self::keys::{KEYS, Keys};
use self::link::{Failure, GRACE, Link, Live};
use self::look::ask_for_keys;
pub use self::look::look_at_redis;
use self::script::Lua;
use super::nonce::{Nonce, random};
use super::{AdmissionError, Counters, NonceRefusal, Nonces, Redemption};

/// The first and the longest pause between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Where Redis is and how patient to be with it.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`, `redis-sentinel://[user:password@]host:port,…/master[/database]`
    /// (with `?sentinel=user:password` if the sentinels ask for it) or `redis-cluster://[user:password@]host:port,…`;
    /// `rediss` in place of `redis` for TLS with the system's trusted roots (or those in `SSL_CERT_FILE`).
    pub url: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How often the keys are read: every few seconds, and at least four times in a nonce's lifetime whatever is set here.
    pub refresh_interval: Duration,
}

impl RedisConfig {
    /// Redis at `url`, with a second for connecting, a second for an answer, and the keys read every two seconds.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            refresh_interval: Duration::from_secs(2),
        }
    }
}

impl RedisConfig {
    /// The way there; nothing is connected yet. [`AdmissionError::Misaddressed`] if the URL cannot be used.
    fn link(&self) -> Result<Link, AdmissionError> {
        let patience = Patience { connect: self.connect_timeout, response: self.response_timeout };
        Ok(Link::new(Connector::new(Address::parse(&self.url)?, patience)?))
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("refresh_interval", &self.refresh_interval)
            .finish_non_exhaustive()
    }
}

/// Nonces in Redis. One task keeps the connection and the keys; it ends when this value is dropped or closed.
pub struct RedisNonces {
    shared: Arc<Shared>,
    stop: DropGuard,
    tasks: TaskTracker,
}

struct Shared {
    link: Arc<Link>,
    keys: Keys,
    redeem: Lua,
    lifetime: Duration,
    response_timeout: Duration,
    refresh_interval: Duration,
    counters: Counters,
}

impl RedisNonces {
    /// Starts connecting and returns at once; nonces can be minted once [`Nonces::ping`] answers. `lifetime` is that of a
    /// nonce, the same on all replicas. [`AdmissionError::Misaddressed`] if the URL cannot be used. Must be called on a
    /// Tokio runtime.
    pub fn connect(config: RedisConfig, lifetime: Duration) -> Result<Arc<Self>, AdmissionError> {
        let shared = Arc::new(Shared {
            link: Arc::new(config.link()?),
            keys: Keys::new(lifetime),
            redeem: Lua::new(include_str!("../../../lua/nonce_redeem.lua")),
            lifetime,
            response_timeout: config.response_timeout,
            refresh_interval: config.refresh_interval.min(lifetime / 4),
            counters: Counters::new(),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (kept, stopped) = (shared.clone(), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(kept.keep()).await });
        tasks.close();
        Ok(Arc::new(Self { shared, stop: stop.drop_guard(), tasks }))
    }

    /// Waits until nonces can be minted and redeemed, for at most `limit`; then the error says what is in the way.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<(), AdmissionError> {
        let end = Instant::now() + limit;
        loop {
            match self.ping().await {
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(Duration::from_millis(10)).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Ends the task that keeps the connection, and waits for its end.
    pub async fn close(&self) {
        self.stop.token().cancel();
        self.tasks.wait().await;
    }
}

impl Shared {
    /// Keeps the connection and the keys, for ever.
    async fn keep(&self) {
        let (first, longest) = PAUSES;
        let (mut pause, mut away) = (first, true);
        loop {
            let wait = match self.renew().await {
                Ok(()) => {
                    if away {
                        tracing::info!(redis = self.link.hosts(), "connected to Redis");
                    }
                    (pause, away) = (first, false);
                    self.refresh_interval
                }
                Err(error) => {
                    if !away || pause == first {
                        tracing::warn!(
                            redis = self.link.hosts(),
                            cause = error.cause(),
                            "Redis is unavailable"
                        );
                    }
                    away = true;
                    pause = (pause * 2).min(longest);
                    pause
                }
            };
            let until = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.link.lost() => {}
            }
        }
    }

    /// Reads the keys; on a new connection if there is none. The keys come first on every new connection, before any
    /// nonce is redeemed over it: this is where the epochs of a restarted or promoted server end, which accepts no nonce
    /// of theirs before either.
    async fn renew(&self) -> Result<(), AdmissionError> {
        if let Some(live) = self.link.current() {
            return self.keys.refresh(&self.link, &live).await;
        }
        let live = self.link.open().await?;
        self.keys.refresh(&self.link, &live).await?;
        warn_of_eviction(&self.link, &live).await;
        self.link.publish(live)
    }

    async fn spend(&self, text: &str) -> Result<Redemption, AdmissionError> {
        let Some(nonce) = Nonce::parse(text) else {
            return Ok(Redemption::Refused(NonceRefusal::Malformed));
        };
        if !self.sealed(&nonce).await? {
            return Ok(Redemption::Refused(NonceRefusal::Forged));
        }
        match self.mark(&nonce).await? {
            1 => Ok(Redemption::Accepted),
            0 => Ok(Redemption::Refused(NonceRefusal::Spent)),
            -1 => Ok(Redemption::Refused(NonceRefusal::Expired)),
            _ => {
                // The epoch has ended. The answer will carry a fresh nonce, which must be of the new one.
                let live = self.link.usable().await?;
                self.keys.refresh(&self.link, &live).await?;
                Ok(Redemption::Refused(NonceRefusal::Forged))
            }
        }
    }

    /// Whether one of the fleet's keys sealed `nonce`. An unknown epoch may be a new one: then Redis is asked once.
    async fn sealed(&self, nonce: &Nonce) -> Result<bool, AdmissionError> {
        let known = |keys: &Keys| {
            keys.held().as_ref().and_then(|held| held.of(nonce.epoch()).map(|key| key.sealed(nonce)))
        };
        if let Some(sealed) = known(&self.keys) {
            return Ok(sealed);
        }
        let live = self.link.usable().await?;
        self.keys.refresh(&self.link, &live).await?;
        Ok(known(&self.keys).unwrap_or(false))
    }

    /// Marks `nonce` as spent; the script's answer. A call whose connection broke is repeated once: the script knows it
    /// by its id. One that was late is not, as the caller has waited long enough.
    async fn mark(&self, nonce: &Nonce) -> Result<i64, AdmissionError> {
        let id: [u8; 8] = random()?;
        let spent = format!("{{nonce}}:spent:{}", Base64UrlUnpadded::encode_string(&nonce.random()));
        let expiry = nonce.expiry().micros().to_string();
        let (keys, epoch) = ([KEYS, &spent], nonce.epoch());
        let arguments: [&[u8]; 3] = [&epoch, expiry.as_bytes(), &id];

        let mut live = self.link.usable().await?;
        let mut answer = self.call(&live, &keys, &arguments).await;
        if matches!(answer, Err(Failure::Broken(_))) {
            live = self.link.usable().await?;
            answer = self.call(&live, &keys, &arguments).await;
        }
        if answer.as_ref().is_err_and(Failure::is_missing_script) {
            let by_text = self.redeem.by_text(&keys, &arguments);
            answer = self.link.run(&live, by_text.query_async(&mut live.handle.clone())).await;
        }
        Ok(answer?)
    }

    async fn call(&self, live: &Live, keys: &[&str], arguments: &[&[u8]]) -> Result<i64, Failure> {
        let by_name = self.redeem.by_name(keys, arguments);
        self.link.run(live, by_name.query_async(&mut live.handle.clone())).await
    }
}

/// Warns if Redis may throw spent marks away early to save memory: nonces could then be used twice. (Not asked on
/// a cluster, where every node may be set differently.)
async fn warn_of_eviction(link: &Link, live: &Live) {
    let Handle::Direct(mut connection) = live.handle.clone() else { return };
    let asked = redis::cmd("INFO").arg("memory").to_owned();
    let Ok(memory) = link.run(live, asked.query_async::<String>(&mut connection)).await else {
        return;
    };
    let field = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name));
    match field("maxmemory_policy:").map(str::trim) {
        Some(policy) if policy != "noeviction" && field("maxmemory:").map(str::trim) != Some("0") => {
            tracing::warn!(
                policy,
                "Redis's maxmemory-policy must be noeviction, or nonces may be used twice"
            );
        }
        _ => {}
    }
}

#[async_trait]
impl Nonces for RedisNonces {
    fn mint(&self) -> Result<String, AdmissionError> {
        let held = self.shared.keys.held();
        let keys = held
            .as_ref()
            .ok_or_else(|| AdmissionError::Unavailable("no keys were read from Redis yet".to_owned()))?;
        let (age, lifetime) = (keys.age(), self.shared.lifetime);
        if age > lifetime {
            return Err(AdmissionError::Unavailable(
                "Redis was away for longer than a nonce lives".to_owned(),
            ));
        }
        let nonce = keys.current().mint(keys.redis_time(age), lifetime)?;
        self.shared.counters.minted.increment(1);
        Ok(nonce)
    }

    async fn redeem(&self, nonce: &str) -> Result<Redemption, AdmissionError> {
        // Several waits in a row could add up; whoever is cut off here knows as little as after one late answer.
        let limit = self.shared.response_timeout + GRACE;
        let result =
            timeout(limit, self.shared.spend(nonce)).await.unwrap_or_else(|_| Err(Failure::Late.into()));
        self.shared.counters.redeemed(&result);
        result
    }

    async fn ping(&self) -> Result<(), AdmissionError> {
        let Shared { link, .. } = &*self.shared;
        let live = link.usable().await?;
        ask_for_keys(link, &live).await?;
        self.mint_check()
    }
}

impl RedisNonces {
    fn mint_check(&self) -> Result<(), AdmissionError> {
        match self.shared.keys.held().as_ref() {
            Some(keys) if keys.age() <= self.shared.lifetime => Ok(()),
            _ => Err(AdmissionError::Unavailable("no keys were read from Redis lately".to_owned())),
        }
    }
}
