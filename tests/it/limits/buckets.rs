//! Buckets themselves: the same suite in process, on one Redis, on a cluster, and on Sentinel across a fail-over.

use std::time::{Duration, Instant};

use chancery::admission::{AdmissionError, Charge, Taken};

use super::stores::{DAY, Fleet, eventually, one, replica};
use crate::admission::topologies::{start_cluster, start_sentinels};
use crate::support::proxy::{Part, Proxy};
use crate::support::redis::Redis;

/// What must hold on every store.
async fn suite(fleet: &Fleet) {
    capacity(fleet).await;
    isolation(fleet).await;
    all_or_none(fleet).await;
    refund(fleet).await;
    refill(fleet).await;
    reset(fleet).await;
}

async fn capacity(fleet: &Fleet) {
    for capacity in [1, 7, 30] {
        let (passed, wait) = fleet.drain(&one(&format!("capacity{capacity}"), capacity, DAY)).await;
        assert_eq!(passed, capacity, "{}", fleet.name);
        // Rounded up to whole microseconds.
        let interval = DAY / capacity + Duration::from_micros(1);
        assert!(wait <= interval && wait + Duration::from_secs(60) > interval, "{} {wait:?}", fleet.name);
    }
}

async fn isolation(fleet: &Fleet) {
    for key in ["orders:a", "orders:b", "changes:a"] {
        assert_eq!(fleet.drain(&one(key, 3, DAY)).await.0, 3, "{} {key}", fleet.name);
    }
}

async fn all_or_none(fleet: &Fleet) {
    let (free, empty, emptier) = (one("free", 5, DAY), one("empty", 2, DAY), one("emptier", 1, DAY));
    fleet.drain(&empty).await;
    fleet.drain(&emptier).await;
    for call in 0..20 {
        let taken = fleet.take(call, &[free.clone(), empty.clone(), emptier.clone()]).await;
        // The longest wait is told, so that it suffices for all.
        let Taken::Refused { charge: 2, wait } = taken else { panic!("{} {taken:?}", fleet.name) };
        assert!(wait > Duration::from_secs(80_000), "{} {wait:?}", fleet.name);
    }
    let look = Charge { look: true, ..free.clone() };
    for call in 0..20 {
        assert_eq!(fleet.take(call, std::slice::from_ref(&look)).await, Taken::All, "{}", fleet.name);
    }
    let all = Charge { cost: 5, ..free.clone() };
    assert_eq!(fleet.take(0, &[all, one("other", 1, DAY)]).await, Taken::All, "{}", fleet.name);
    assert!(matches!(fleet.take(1, &[free]).await, Taken::Refused { charge: 0, .. }), "{}", fleet.name);
    assert!(matches!(fleet.take(2, &[look]).await, Taken::Refused { charge: 0, .. }), "{}", fleet.name);
}

async fn refund(fleet: &Fleet) {
    let charge = one("refund", 3, DAY);
    fleet.drain(&charge).await;
    fleet.replica(1).refund(std::slice::from_ref(&charge)).await.unwrap();
    assert_eq!(fleet.drain(&charge).await.0, 1, "{}", fleet.name);
    // Never past full.
    for _ in 0..9 {
        fleet.replica(2).refund(std::slice::from_ref(&charge)).await.unwrap();
    }
    assert_eq!(fleet.drain(&charge).await.0, 3, "{}", fleet.name);
}

async fn refill(fleet: &Fleet) {
    // 4 uses in 2 s: one each 500 ms.
    let charge = one("refill", 4, Duration::from_secs(2));
    let (passed, wait) = fleet.drain(&charge).await;
    assert!(passed >= 4 && wait <= Duration::from_millis(500), "{} {passed} {wait:?}", fleet.name);
    // The wait told suffices, and then exactly as many pass as have refilled.
    fleet.wait(wait).await;
    assert_eq!(fleet.take(0, std::slice::from_ref(&charge)).await, Taken::All, "{}", fleet.name);
    fleet.wait(Duration::from_millis(2_100)).await;
    let burst = Charge { cost: 4, ..charge.clone() };
    assert_eq!(fleet.take(1, &[burst]).await, Taken::All, "{}: full again", fleet.name);
}

async fn reset(fleet: &Fleet) {
    let charge = one("reset", 2, DAY);
    fleet.drain(&charge).await;
    let keys = ["reset".to_owned(), "never".to_owned()];
    let levels = fleet.replica(0).show(&keys).await.unwrap();
    assert_eq!((levels[0].taken, levels[1].taken), (2, 0), "{}", fleet.name);
    assert!(levels[0].full_in > Duration::from_secs(86_000) && levels[1].full_in.is_zero());
    fleet.replica(1).reset(&keys).await.unwrap();
    assert_eq!(fleet.drain(&charge).await.0, 2, "{}", fleet.name);
}

#[tokio::test]
async fn lim_03_buckets_hold_their_capacity_apart_all_or_none_and_refill() {
    for fleet in Fleet::both().await {
        suite(&fleet).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lim_03_of_200_callers_with_200_calls_each_exactly_the_capacity_pass() {
    for fleet in Fleet::both().await {
        let charges = [one("account", 1_000, DAY), one("names", 1_300, DAY)];
        let callers: Vec<_> = (0..200)
            .map(|caller| {
                let (replica, charges) = (fleet.replica(caller), charges.clone());
                tokio::spawn(async move {
                    let mut passed = 0;
                    for _ in 0..200 {
                        passed += u32::from(replica.take(&charges).await.unwrap() == Taken::All);
                    }
                    passed
                })
            })
            .collect();
        let mut passed = 0;
        for caller in callers {
            passed += caller.await.unwrap();
        }
        assert_eq!(passed, 1_000, "{}", fleet.name);
        // What was refused by one bucket was not taken from the other (LIM-02).
        assert_eq!(fleet.drain(&charges[1]).await.0, 300, "{}", fleet.name);
    }
}

#[tokio::test]
async fn lim_01_the_wait_told_is_the_wait_needed() {
    for fleet in Fleet::both().await {
        for round in 0..4 {
            let charge = one(&format!("wait{round}"), 3, Duration::from_millis(900));
            let now = || async {
                match &fleet.server {
                    Some(server) => server.micros().await,
                    None => 0,
                }
            };
            let (_, _) = fleet.drain(&charge).await;
            let before = now().await;
            let Taken::Refused { wait, .. } = fleet.take(round, std::slice::from_ref(&charge)).await else {
                continue; // A use refilled just now.
            };
            let after = now().await;
            if fleet.server.is_none() {
                fleet.wait(wait - Duration::from_micros(1)).await;
                assert!(fleet.take(0, std::slice::from_ref(&charge)).await != Taken::All);
                fleet.wait(Duration::from_micros(1)).await;
                assert_eq!(fleet.take(0, &[charge]).await, Taken::All);
                continue;
            }
            let wait = i64::try_from(wait.as_micros()).unwrap();
            loop {
                let asked = now().await;
                let taken = fleet.take(round + 1, std::slice::from_ref(&charge)).await;
                let answered = now().await;
                if taken == Taken::All {
                    assert!(answered >= before + wait, "too early by {}", before + wait - answered);
                    break;
                }
                assert!(asked < after + wait, "still refused {} µs after the time", asked - after - wait);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

#[tokio::test]
async fn lim_03_a_restart_of_all_replicas_forgets_nothing() {
    let mut fleet = Fleet::redis().await;
    let url = fleet.server.as_ref().unwrap().url();
    let charge = one("restart", 10, DAY);
    for call in 0..5 {
        assert_eq!(fleet.take(call, std::slice::from_ref(&charge)).await, Taken::All);
    }
    fleet.restart(&url).await;
    assert_eq!(fleet.drain(&charge).await.0, 5);
    fleet.restart(&url).await;
    assert_eq!(fleet.drain(&charge).await.0, 0);
}

#[tokio::test]
async fn i_09_every_bucket_has_a_ttl_and_goes_when_it_is_full() {
    let fleet = Fleet::redis().await;
    let server = fleet.server.as_ref().unwrap();
    let (short, long) = (one("short", 4, Duration::from_secs(2)), one("long", 10, DAY));
    for call in 0..4 {
        fleet.take(call, &[short.clone(), long.clone()]).await;
    }
    fleet.take(0, &[Charge { look: true, ..one("looked", 3, DAY) }]).await;
    let held = || async {
        let keys = server.keys().await;
        assert!(keys.iter().all(|(_, ttl)| *ttl >= 0), "{keys:?}");
        let limits = keys.into_iter().filter(|(key, _)| key.starts_with("{limits}:"));
        limits.map(|(key, ttl)| (key.trim_start_matches("{limits}:").to_owned(), ttl)).collect::<Vec<_>>()
    };
    let keys = held().await;
    assert_eq!(keys.len(), 2, "{keys:?}");
    let ttl = keys.iter().find(|(key, _)| key == "long").unwrap().1;
    assert!((34_000_000..=34_560_000).contains(&ttl), "four tenths of a day: {ttl}");
    eventually("the short one is full and gone", || async { held().await.len() == 1 }).await;
    fleet.replica(0).refund(&[Charge { cost: 4, ..long }]).await.unwrap();
    assert_eq!(held().await, []);
}

#[tokio::test]
async fn i_11_buckets_survive_a_script_flush_and_a_cut_connection() {
    let fleet = Fleet::redis().await;
    let server = fleet.server.as_ref().unwrap();
    let charge = one("flush", 20, DAY);
    for call in 0..10 {
        server.command::<()>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(fleet.take(call, std::slice::from_ref(&charge)).await, Taken::All);
        server.command::<u32>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(fleet.take(call, std::slice::from_ref(&charge)).await, Taken::All);
    }
    assert_eq!(fleet.drain(&charge).await.0, 0);
}

#[tokio::test]
async fn i_11_a_redis_that_is_away_is_said_in_time_and_found_again() {
    let server = Redis::start();
    let (_nonces, buckets) = replica(&server.url()).await;
    let charge = one("away", 2, DAY);
    assert_eq!(buckets.take(std::slice::from_ref(&charge)).await, Ok(Taken::All));
    server.kill();
    for _ in 0..3 {
        let start = Instant::now();
        let answer = buckets.take(std::slice::from_ref(&charge)).await;
        assert!(matches!(answer, Err(AdmissionError::Unavailable(_))), "{answer:?}");
        assert!(buckets.refund(std::slice::from_ref(&charge)).await.is_err());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    server.start_again();
    // It came back empty: what was taken is forgotten (I-11).
    eventually("it is back", || async {
        buckets.take(&[Charge { look: true, ..charge.clone() }]).await == Ok(Taken::All)
    })
    .await;
}

/// A connection breaks in the middle of a call: a use may be taken twice, and is never given back twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_09_a_refund_whose_answer_is_lost_is_not_repeated() {
    let server = Redis::start();
    let proxy = Proxy::start(&server.url());
    let ((_nonces, through), direct) = (replica(proxy.url()).await, Fleet::at("direct", &server.url()).await);
    // Redis knows the script from here on: no other message names these buckets.
    through.refund(&[one("known", 1, DAY)]).await.unwrap();
    for (part, given_back) in [(Part::Answer, 1), (Part::Message, 0)] {
        let charge = one(&format!("lost-{given_back}"), 5, DAY);
        direct.drain(&charge).await;
        let before = proxy.lost();
        proxy.lose_next(&charge.key, part);
        let answer = through.refund(std::slice::from_ref(&charge)).await;
        assert!(matches!(answer, Err(AdmissionError::Unavailable(_))), "{answer:?}");
        assert_eq!(proxy.lost(), before + 1);
        assert_eq!(direct.drain(&charge).await.0, given_back);
        // The next goes through.
        eventually("the connection is back", || async {
            through.refund(std::slice::from_ref(&charge)).await.is_ok()
        })
        .await;
        assert_eq!(direct.drain(&charge).await.0, 1);
        // A use that is taken twice, by the lost call and by the repeated one, lets nobody more pass.
        direct.replica(0).reset(std::slice::from_ref(&charge.key)).await.unwrap();
        proxy.lose_next(&charge.key, part);
        assert_eq!(through.take(std::slice::from_ref(&charge)).await, Ok(Taken::All));
        assert_eq!(direct.drain(&charge).await.0, 4 - given_back);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lim_03_a_cluster_holds_buckets_and_several_are_taken_at_once() {
    let (nodes, url) = start_cluster().await;
    let fleet = Fleet::at("cluster", &url).await;
    suite(&fleet).await;
    let mut holders = 0;
    for node in &nodes {
        let keys = node.keys().await;
        assert!(keys.iter().all(|(_, ttl)| *ttl >= 0), "{keys:?}");
        holders += usize::from(keys.iter().any(|(key, _)| key.starts_with("{limits}:")));
    }
    assert_eq!(holders, 1, "all buckets share a slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lim_03_a_sentinel_fail_over_keeps_what_the_replica_has_seen() {
    let master = Redis::start();
    let (promoted, _sentinels, url) = start_sentinels(&master).await;
    let fleet = Fleet::at("sentinel", &url).await;
    suite(&fleet).await;
    let charge = one("fail-over", 10, DAY);
    for call in 0..6 {
        assert_eq!(fleet.take(call, std::slice::from_ref(&charge)).await, Taken::All);
    }
    assert_eq!(master.command::<u32>(&["WAIT", "1", "5000"]).await, 1, "the replica has seen it all");
    master.kill();
    fleet.wait_until_back().await;
    assert_eq!(fleet.drain(&charge).await.0, 4);
    promoted.command::<()>(&["FLUSHALL"]).await;
    suite(&Fleet::at("promoted", &promoted.url()).await).await;
}

/// Run by hand: `cargo test --test it -- --ignored --nocapture rates_of_buckets`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rates_of_buckets() {
    let fleet = Fleet::redis().await;
    for buckets in [1, 3, 10, 100] {
        let calls = 20_000 / buckets.min(20);
        let start = Instant::now();
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let replica = fleet.replica(0);
                let key = |bucket| format!("rate{bucket}:{task}:{buckets}");
                let charges: Vec<_> = (0..buckets).map(|bucket| one(&key(bucket), 1_000_000, DAY)).collect();
                tokio::spawn(async move {
                    for _ in 0..calls / 32 {
                        assert_eq!(replica.take(&charges).await, Ok(Taken::All));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rate = (calls / 32 * 32) as f64 / start.elapsed().as_secs_f64();
        println!("take from {buckets}, 32 tasks: {rate:.0}/s");
    }
}
