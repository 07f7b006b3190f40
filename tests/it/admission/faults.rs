//! What nonces do when Redis is flushed, restarted, stalled, cut off, or replaced by fail-over.

use std::time::{Duration, Instant};

use chancery::admission::{AdmissionError, NonceRefusal, Nonces, RedisConfig, RedisNonces};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ACCEPTED, LIFETIME, epoch, eventually, refused, replica, replicas};
use crate::support::redis::Redis;

#[tokio::test]
async fn a_script_flush_loses_nothing() {
    let server = Redis::start();
    let [a, b, c] = replicas(&server.url(), LIFETIME).await;
    let nonces: Vec<_> = (0..10).map(|_| a.mint().unwrap()).collect();
    for nonce in &nonces {
        server.command::<()>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(b.redeem(nonce).await, ACCEPTED);
        server.command::<()>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(c.redeem(nonce).await, refused(NonceRefusal::Spent));
    }
}

#[tokio::test]
async fn i_07_a_flushed_redis_ends_all_nonces_and_fresh_ones_work_at_once() {
    let server = Redis::start();
    let fleet = replicas(&server.url(), LIFETIME).await;
    for round in 0..5 {
        let (unspent, spent) = (fleet[0].mint().unwrap(), fleet[0].mint().unwrap());
        assert_eq!(fleet[1].redeem(&spent).await, ACCEPTED);
        server.command::<()>(&["FLUSHALL"]).await;
        // The replica that refuses hands out the next nonce, which any other must take.
        for (refuser, nonce) in [(round, &unspent), (round + 1, &spent)] {
            assert_eq!(fleet[refuser % 3].redeem(nonce).await, refused(NonceRefusal::Forged));
            let fresh = fleet[refuser % 3].mint().unwrap();
            assert_ne!(epoch(&fresh), epoch(nonce));
            assert_eq!(fleet[(refuser + 1) % 3].redeem(&fresh).await, ACCEPTED);
            assert_eq!(fleet[(refuser + 2) % 3].redeem(&fresh).await, refused(NonceRefusal::Spent));
        }
        assert_eq!(fleet[2].redeem(&unspent).await, refused(NonceRefusal::Forged));
    }
    assert!(server.keys().await.iter().all(|(_, ttl)| *ttl >= 0));
}

#[tokio::test]
async fn i_07_a_redis_restarted_from_an_old_dump_readmits_nothing() {
    let server = Redis::start();
    let [a, b, c] = replicas(&server.url(), LIFETIME).await;
    let (unspent, spent) = (a.mint().unwrap(), a.mint().unwrap());
    server.command::<()>(&["SAVE"]).await;
    assert_eq!(b.redeem(&spent).await, ACCEPTED);
    server.kill();
    server.start_again();
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await;
    assert!(keys.contains(&"{nonce}:keys".to_owned()), "the dump was not loaded");
    for nonces in [&a, &b, &c] {
        eventually("the replica is back", || async { nonces.ping().await.is_ok() }).await;
        for nonce in [&unspent, &spent] {
            assert_eq!(nonces.redeem(nonce).await, refused(NonceRefusal::Forged));
        }
    }
    assert_eq!(c.redeem(&a.mint().unwrap()).await, ACCEPTED);
}

/// As on a Redis Cluster, whose fail-over and way back no connection notices: the process is the same, and knows the
/// scripts.
#[tokio::test]
async fn i_07_a_master_that_was_demoted_and_promoted_again_readmits_nothing() {
    let start = || Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let (server, other) = (start(), start());
    let follow = async |of: &Redis, master: &Redis| {
        of.command::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
        eventually("it follows", || async {
            of.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
    };
    follow(&other, &server).await;
    // The keys are read once, and then only when a nonce's epoch is over.
    let lifetime = Duration::from_secs(600);
    let config =
        RedisConfig { refresh_interval: Duration::from_secs(3600), ..RedisConfig::new(server.url()) };
    let nonces = RedisNonces::connect(config, lifetime).unwrap();
    nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    let (unspent, spent, loads) = (nonces.mint().unwrap(), nonces.mint().unwrap(), nonces.mint().unwrap());
    assert_eq!(nonces.redeem(&loads).await, ACCEPTED);
    eventually("the other has the first mark", || async { other.keys().await.len() == 2 }).await;
    other.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    // A mark that the new master never sees, and that the old one loses when it follows.
    assert_eq!(nonces.redeem(&spent).await, ACCEPTED);
    let field = ["HGET", "{nonce}:keys", "server"];
    let before: String = server.command(&field).await;
    follow(&server, &other).await;
    server.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(server.keys().await.len(), 2, "the keys and the first mark");
    assert_eq!(server.command::<String>(&field).await, before, "nobody has ended the epochs yet");
    let clients: String = server.command(&["CLIENT", "LIST"]).await;
    assert!(clients.contains("cmd=evalsha"), "the connection has lived on: {clients}");
    for nonce in [&spent, &unspent] {
        assert_eq!(nonces.redeem(nonce).await, refused(NonceRefusal::Forged));
    }
    assert_eq!(nonces.redeem(&nonces.mint().unwrap()).await, ACCEPTED);
}

/// Replicas of an earlier program are beside this one during an upgrade; it kept no replication id.
#[tokio::test]
async fn keys_of_an_earlier_program_are_gone_by_and_completed() {
    let server = Redis::start();
    let earlier = replica(&server.url(), LIFETIME).await;
    let nonce = earlier.mint().unwrap();
    server.command::<()>(&["HDEL", "{nonce}:keys", "replid"]).await;
    let later = replica(&server.url(), LIFETIME).await;
    assert_eq!(later.redeem(&nonce).await, ACCEPTED);
    assert_eq!(epoch(&later.mint().unwrap()), epoch(&nonce));
}

#[tokio::test]
async fn i_11_a_killed_redis_is_said_fast_and_found_again() {
    let server = Redis::start();
    let [a, b, _] = replicas(&server.url(), LIFETIME).await;
    for _ in 0..3 {
        let (unspent, spent) = (a.mint().unwrap(), a.mint().unwrap());
        assert_eq!(b.redeem(&spent).await, ACCEPTED);
        server.kill();
        for _ in 0..5 {
            let start = Instant::now();
            let answer = a.redeem(&unspent).await;
            assert!(matches!(answer, Err(AdmissionError::Unavailable(_))), "{answer:?}");
            assert!(a.ping().await.is_err());
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
        // Reads without a nonce go on, and carry nonces.
        a.mint().unwrap();
        server.start_again();
        eventually("both are back", || async { a.ping().await.is_ok() && b.ping().await.is_ok() }).await;
        for nonce in [&unspent, &spent] {
            assert_eq!(b.redeem(nonce).await, refused(NonceRefusal::Forged));
        }
        assert_eq!(b.redeem(&a.mint().unwrap()).await, ACCEPTED);
    }
}

#[tokio::test]
async fn i_11_a_cut_connection_costs_no_request() {
    let server = Redis::start();
    let nonces = replica(&server.url(), LIFETIME).await;
    for _ in 0..10 {
        let nonce = nonces.mint().unwrap();
        server.command::<u32>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(nonces.redeem(&nonce).await, ACCEPTED);
        assert_eq!(nonces.redeem(&nonce).await, refused(NonceRefusal::Spent));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_11_a_stalled_redis_is_said_in_time_and_late_answers_are_not_mixed_up() {
    let server = Redis::start();
    let [a, b, _] = replicas(&server.url(), LIFETIME).await;
    let stalled: Vec<_> = (0..16).map(|_| a.mint().unwrap()).collect();
    server.signal("STOP");
    let start = Instant::now();
    let calls: Vec<_> = stalled
        .iter()
        .map(|nonce| {
            let (nonces, nonce) = (a.clone(), nonce.clone());
            tokio::spawn(async move { nonces.redeem(&nonce).await })
        })
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert!(matches!(answer, Err(AdmissionError::Unavailable(_))), "{answer:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Once the stall is known, nobody waits for it.
    let start = Instant::now();
    for _ in 0..20 {
        assert!(a.redeem(&stalled[0]).await.is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.signal("CONT");
    eventually("both are back", || async { a.ping().await.is_ok() && b.ping().await.is_ok() }).await;
    for _ in 0..100 {
        let nonce = a.mint().unwrap();
        assert_eq!(a.redeem(&nonce).await, ACCEPTED);
        assert_eq!(b.redeem(&nonce).await, refused(NonceRefusal::Spent));
    }
    for nonce in &stalled {
        // Spent by the call that seemed lost, or by this one: once in any case.
        b.redeem(nonce).await.unwrap();
        assert_eq!(a.redeem(nonce).await, refused(NonceRefusal::Spent));
    }
}

#[tokio::test]
async fn without_redis_at_the_start_there_is_an_error_and_later_no_restart() {
    let server = Redis::start();
    server.kill();
    let nonces = RedisNonces::connect(RedisConfig::new(server.url()), LIFETIME).unwrap();
    assert!(matches!(nonces.mint(), Err(AdmissionError::Unavailable(_))));
    assert!(matches!(nonces.redeem(&"A".repeat(64)).await, Err(AdmissionError::Unavailable(_))));
    let error = nonces.wait_until_ready(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, AdmissionError::Unavailable(_)), "{error:?}");
    server.start_again();
    nonces.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    assert_eq!(nonces.redeem(&nonces.mint().unwrap()).await, ACCEPTED);
}

/// A way to Redis that, while told so, passes questions on and closes in place of the answer.
async fn losing_proxy(port: u16) -> (u16, tokio::sync::watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().port();
    let losses = tokio::sync::watch::Sender::new(0_u32);
    let left = losses.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let asking = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let left = left.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 65_536];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    if left.send_if_modified(|left| {
                        *left > 0 && {
                            *left -= 1;
                            true
                        }
                    }) {
                        break;
                    }
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
                asking.abort();
            });
        }
    });
    (here, losses)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redemption_whose_answer_is_lost_is_repeated_once_and_passes_once() {
    let server = Redis::start();
    let (port, losses) = losing_proxy(server.port()).await;
    let config = RedisConfig {
        refresh_interval: Duration::from_secs(3600),
        ..RedisConfig::new(format!("redis://127.0.0.1:{port}"))
    };
    let through = RedisNonces::connect(config, LIFETIME).unwrap();
    through.wait_until_ready(Duration::from_secs(10)).await.unwrap();
    let direct = replica(&server.url(), LIFETIME).await;
    through.redeem(&through.mint().unwrap()).await.unwrap();
    for _ in 0..10 {
        let nonce = through.mint().unwrap();
        let before = server.keys().await.len();
        losses.send_replace(1);
        assert_eq!(through.redeem(&nonce).await, ACCEPTED);
        assert_eq!(*losses.borrow(), 0, "the answer was not lost");
        assert_eq!(server.keys().await.len(), before + 1);
        assert_eq!(direct.redeem(&nonce).await, refused(NonceRefusal::Spent));
        assert_eq!(through.redeem(&nonce).await, refused(NonceRefusal::Spent));
    }
    // Lost for good: the error says so, and the nonce passes nowhere any more.
    let nonce = through.mint().unwrap();
    losses.send_replace(1_000_000);
    assert!(matches!(through.redeem(&nonce).await, Err(AdmissionError::Unavailable(_))));
    losses.send_replace(0);
    assert_eq!(direct.redeem(&nonce).await, refused(NonceRefusal::Spent));
}
