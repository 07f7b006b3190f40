//! Nonces on both stores: the same suite on Redis and in process.

mod faults;
mod looking;
mod scripts;
pub(crate) mod topologies;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::time::{ManualClock, Timestamp};
use chancery::admission::{
    AdmissionError, MemoryNonces, NonceRefusal, Nonces, Redemption, RedisConfig, RedisNonces,
};

use crate::support::redis::Redis;

const LIFETIME: Duration = Duration::from_secs(60);
const ACCEPTED: Result<Redemption, AdmissionError> = Ok(Redemption::Accepted);

fn refused(why: NonceRefusal) -> Result<Redemption, AdmissionError> {
    Ok(Redemption::Refused(why))
}

async fn replica(url: &str, lifetime: Duration) -> Arc<RedisNonces> {
    let nonces = RedisNonces::connect(RedisConfig::new(url), lifetime).unwrap();
    nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    nonces
}

async fn replicas(url: &str, lifetime: Duration) -> [Arc<RedisNonces>; 3] {
    [replica(url, lifetime).await, replica(url, lifetime).await, replica(url, lifetime).await]
}

/// When a nonce expires, in µs: bytes 8 to 15.
fn expiry(nonce: &str) -> i64 {
    let bytes = Base64UrlUnpadded::decode_vec(nonce).unwrap();
    i64::from_be_bytes(bytes[8..16].try_into().unwrap())
}

fn epoch(nonce: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(nonce).unwrap()[..8].to_owned()
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three replicas on one store, and a way to let a nonce's lifetime pass.
enum Fleet {
    Memory(Arc<MemoryNonces>, Arc<ManualClock>),
    Redis([Arc<RedisNonces>; 3], Redis),
}

impl Fleet {
    async fn both(lifetime: Duration) -> [Self; 2] {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let memory = Self::Memory(Arc::new(MemoryNonces::new(lifetime, clock.clone())), clock);
        let server = Redis::start();
        [memory, Self::Redis(replicas(&server.url(), lifetime).await, server)]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory(..) => "memory",
            Self::Redis(..) => "redis",
        }
    }

    fn replica(&self, index: usize) -> Arc<dyn Nonces> {
        match self {
            Self::Memory(nonces, _) => nonces.clone(),
            Self::Redis(replicas, _) => replicas[index % 3].clone(),
        }
    }

    async fn outlive(&self, nonce: &str, lifetime: Duration) {
        match self {
            Self::Memory(_, clock) => clock.advance(lifetime),
            Self::Redis(_, server) => {
                eventually("the nonce's time is over", || async { server.micros().await > expiry(nonce) })
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn non_02_a_nonce_is_accepted_once_on_any_replica() {
    for fleet in Fleet::both(LIFETIME).await {
        for (minted, used, again) in [(0, 0, 0), (0, 1, 2), (1, 2, 0), (2, 0, 2)] {
            let nonce = fleet.replica(minted).mint().unwrap();
            assert_eq!(fleet.replica(used).redeem(&nonce).await, ACCEPTED, "{}", fleet.name());
            let second = fleet.replica(again).redeem(&nonce).await;
            assert_eq!(second, refused(NonceRefusal::Spent), "{}", fleet.name());
        }
        fleet.replica(0).ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn non_02_of_64_concurrent_uses_through_three_replicas_one_passes() {
    for fleet in Fleet::both(LIFETIME).await {
        for round in 0..20 {
            let nonce = fleet.replica(round).mint().unwrap();
            let uses: Vec<_> = (0..64)
                .map(|index| {
                    let (replica, nonce) = (fleet.replica(index), nonce.clone());
                    tokio::spawn(async move { replica.redeem(&nonce).await })
                })
                .collect();
            let mut passed = 0;
            for answer in uses {
                match answer.await.unwrap() {
                    Ok(Redemption::Accepted) => passed += 1,
                    other => assert_eq!(other, refused(NonceRefusal::Spent), "{}", fleet.name()),
                }
            }
            assert_eq!(passed, 1, "{}", fleet.name());
        }
    }
}

#[tokio::test]
async fn non_03_what_is_not_ours_is_refused_and_a_fresh_one_works_on_any_replica() {
    for fleet in Fleet::both(LIFETIME).await {
        let good = fleet.replica(0).mint().unwrap();
        let changed = |index: usize| {
            let mut bytes = Base64UrlUnpadded::decode_vec(&good).unwrap();
            bytes[index] ^= 1;
            Base64UrlUnpadded::encode_string(&bytes)
        };
        let mut tries: Vec<_> = (0..48).map(|index| (changed(index), NonceRefusal::Forged)).collect();
        tries.push(("A".repeat(64), NonceRefusal::Forged));
        for text in ["", "x", &good[..63], &format!("{good}A"), &format!("{good}\0"), &"é".repeat(32)] {
            tries.push((text.to_owned(), NonceRefusal::Malformed));
        }
        for (text, why) in tries {
            assert_eq!(fleet.replica(1).redeem(&text).await, refused(why), "{} {text:?}", fleet.name());
            let fresh = fleet.replica(1).mint().unwrap();
            assert_eq!(fleet.replica(2).redeem(&fresh).await, ACCEPTED, "{}", fleet.name());
        }
        // None of them cost the nonce that they were made from.
        assert_eq!(fleet.replica(0).redeem(&good).await, ACCEPTED, "{}", fleet.name());
    }
}

#[tokio::test]
async fn non_03_an_expired_nonce_is_refused_spent_or_not() {
    let lifetime = Duration::from_millis(400);
    for fleet in Fleet::both(lifetime).await {
        let (unspent, spent) = (fleet.replica(0).mint().unwrap(), fleet.replica(0).mint().unwrap());
        assert_eq!(fleet.replica(1).redeem(&spent).await, ACCEPTED, "{}", fleet.name());
        fleet.outlive(&spent, lifetime).await;
        for nonce in [&unspent, &spent] {
            let answer = fleet.replica(2).redeem(nonce).await;
            assert_eq!(answer, refused(NonceRefusal::Expired), "{}", fleet.name());
        }
        let fresh = fleet.replica(2).mint().unwrap();
        assert_eq!(fleet.replica(0).redeem(&fresh).await, ACCEPTED, "{}", fleet.name());
    }
}

#[tokio::test]
async fn non_04_nonces_never_repeat() {
    for fleet in Fleet::both(LIFETIME).await {
        let mut seen = HashSet::new();
        for index in 0..30_000 {
            let nonce = fleet.replica(index).mint().unwrap();
            assert!(nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{nonce}");
            assert!(seen.insert(nonce), "{}", fleet.name());
        }
    }
}

#[tokio::test]
async fn non_05_every_key_has_a_ttl_and_spent_marks_go_by_themselves() {
    let server = Redis::start();
    let lifetime = Duration::from_millis(500);
    let [a, b, _] = replicas(&server.url(), lifetime).await;
    let mut last = String::new();
    for _ in 0..50 {
        last = a.mint().unwrap();
        assert_eq!(b.redeem(&last).await, ACCEPTED);
        b.redeem(&last).await.unwrap();
        a.redeem(&"A".repeat(64)).await.unwrap();
    }
    let keys = server.keys().await;
    assert_eq!(keys.len(), 51, "{keys:?}");
    assert!(keys.iter().all(|(key, ttl)| *ttl >= 0 && key.starts_with("{nonce}:")), "{keys:?}");
    eventually("only the keys are left", || async { server.keys().await.len() == 1 }).await;
    assert!(server.micros().await > expiry(&last), "a mark went before its nonce");
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn non_06_minting_asks_redis_nothing_and_redeeming_is_one_call() {
    let server = Redis::start();
    // Keys are read only once here, so that every later call is the test's own doing.
    let config =
        RedisConfig { refresh_interval: Duration::from_secs(3600), ..RedisConfig::new(server.url()) };
    let nonces = RedisNonces::connect(config, LIFETIME).unwrap();
    nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    nonces.redeem(&nonces.mint().unwrap()).await.unwrap();
    let processed = || async {
        let mut calls = 0;
        for name in ["eval", "evalsha", "hmget", "set", "get", "hset", "time", "pttl", "pexpire"] {
            calls += server.calls(name).await;
        }
        calls
    };
    let before = processed().await;
    let minted: Vec<_> = (0..10_000).map(|_| nonces.mint().unwrap()).collect();
    assert_eq!(processed().await, before);
    let evalsha = server.calls("evalsha").await;
    let eval = server.calls("eval").await;
    for nonce in &minted[..100] {
        assert_eq!(nonces.redeem(nonce).await, ACCEPTED);
        assert_eq!(nonces.redeem("malformed").await, refused(NonceRefusal::Malformed));
    }
    assert_eq!(server.calls("evalsha").await, evalsha + 100);
    assert_eq!(server.calls("eval").await, eval);
    assert_eq!(server.keys().await.len(), 102);
}

#[tokio::test]
async fn lim_06_expiry_follows_the_clock_of_redis() {
    let server = Redis::start();
    let nonces = replica(&server.url(), LIFETIME).await;
    let lifetime = i64::try_from(LIFETIME.as_micros()).unwrap();
    for _ in 0..20 {
        let (before, nonce, after) = (server.micros().await, nonces.mint().unwrap(), server.micros().await);
        let skew = 50_000;
        let at = expiry(&nonce) - lifetime;
        assert!(at >= before - skew && at <= after + skew, "{before} {at} {after}");
    }
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let server = Redis::start();
    server
        .command::<()>(&[
            "ACL",
            "SETUSER",
            "chancery",
            "on",
            ">hunter2@",
            "~{nonce}:*",
            "-@all",
            "+eval",
            "+evalsha",
            "+time",
            "+info",
            "+hmget",
            "+hset",
            "+del",
            "+pttl",
            "+pexpire",
            "+get",
            "+set",
        ])
        .await;
    let nonces =
        replica(&format!("redis://chancery:hunter2%40@127.0.0.1:{}/0", server.port()), LIFETIME).await;
    let nonce = nonces.mint().unwrap();
    assert_eq!(nonces.redeem(&nonce).await, ACCEPTED);
    assert_eq!(nonces.redeem(&nonce).await, refused(NonceRefusal::Spent));
    let config = RedisConfig::new(format!("redis://chancery:hunter3@127.0.0.1:{}", server.port()));
    assert!(!format!("{config:?}").contains("hunter3"));
    let wrong = RedisNonces::connect(config, LIFETIME).unwrap();
    let error = wrong.wait_until_ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter3"));
    let error = RedisNonces::connect(RedisConfig::new("redis://:hunter2@"), LIFETIME).err().unwrap();
    assert!(matches!(error, AdmissionError::Misaddressed(_)) && !format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn keys_rotate_and_outstanding_nonces_stay_good() {
    let server = Redis::start();
    let lifetime = Duration::from_secs(2);
    let url = server.url();
    let connect = |interval| {
        let config = RedisConfig { refresh_interval: interval, ..RedisConfig::new(url.clone()) };
        RedisNonces::connect(config, lifetime).unwrap()
    };
    // One learns of a new key at once, the others later than they meet nonces that it sealed.
    let fleet = [Duration::from_millis(10), LIFETIME, LIFETIME].map(connect);
    for nonces in &fleet {
        nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    }
    let mut epochs = HashSet::new();
    let start = Instant::now();
    while epochs.len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} epochs", epochs.len());
        for minter in &fleet[..2] {
            let nonce = minter.mint().unwrap();
            epochs.insert(epoch(&nonce));
            for user in &fleet {
                let other = minter.mint().unwrap();
                assert_eq!(user.redeem(&other).await, ACCEPTED);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
            assert_eq!(fleet[2].redeem(&nonce).await, ACCEPTED, "after {:?}", start.elapsed());
        }
    }
    let keys = server.keys().await;
    assert!(keys.iter().all(|(_, ttl)| *ttl >= 0), "{keys:?}");
}

#[tokio::test]
async fn a_nonce_keeps_through_a_rotation_for_its_whole_lifetime() {
    let server = Redis::start();
    let lifetime = Duration::from_secs(2);
    let config =
        RedisConfig { refresh_interval: Duration::from_millis(20), ..RedisConfig::new(server.url()) };
    let nonces = RedisNonces::connect(config, lifetime).unwrap();
    nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    let first = epoch(&nonces.mint().unwrap());
    let mut held = nonces.mint().unwrap();
    eventually("the key rotates", || {
        let next = nonces.mint().unwrap();
        let rotated = epoch(&next) != first;
        if !rotated {
            held = next;
        }
        async move { rotated }
    })
    .await;
    let nearly = expiry(&held) - 500_000;
    eventually("nearly expired", || async { server.micros().await > nearly }).await;
    assert_eq!(nonces.redeem(&held).await, ACCEPTED);
}

/// Run by hand: `cargo test --test it -- --ignored --nocapture rates_of_nonces`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rates_of_nonces() {
    let server = Redis::start();
    let nonces = replica(&server.url(), LIFETIME).await;
    let start = Instant::now();
    let minted: Vec<_> = (0..200_000).map(|_| nonces.mint().unwrap()).collect();
    println!("mint, one thread: {:.0}/s", 200_000.0 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let tasks: Vec<_> = minted
        .chunks(200_000 / 64)
        .map(|part| {
            let (nonces, part) = (nonces.clone(), part.to_vec());
            tokio::spawn(async move {
                for nonce in part {
                    assert_eq!(nonces.redeem(&nonce).await, ACCEPTED);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("redeem, 64 tasks: {:.0}/s", 200_000.0 / start.elapsed().as_secs_f64());
}
