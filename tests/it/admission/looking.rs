//! Commands that only look leave Redis as they find it, whatever lifetime of nonces they are configured with.

use std::collections::BTreeMap;

use crate::support::chancery::{Deployment, Kind, refused, run};
use crate::support::redis::Redis;

/// The configuration of a fleet's replica, but with this Redis, and nonces that are due to be rotated at once.
fn configured(server: &Deployment, redis: &Redis) -> Vec<(String, String)> {
    let mut environment = server.replica(0).environment().to_vec();
    environment.retain(|(name, _)| name != "CHANCERY_REDIS_URL" && name != "CHANCERY_NONCE_LIFETIME");
    environment.push(("CHANCERY_REDIS_URL".to_owned(), redis.url()));
    environment.push(("CHANCERY_NONCE_LIFETIME".to_owned(), "2s".to_owned()));
    environment
}

const LOOKING: [&[&str]; 3] =
    [&["check"], &["status"], &["limits", "show", "0198aaaabbbb7000800000000000abcd"]];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_leaves_an_empty_redis_empty() {
    let (server, redis) = (Deployment::shared(Kind::Fleet), Redis::start());
    let environment = configured(&server, &redis);
    for command in LOOKING {
        let said = run(command, &environment);
        assert!(command != ["status"] || said.contains("redis      ok\n"), "{said}");
        assert_eq!(redis.command::<u64>(&["DBSIZE"]).await, 0, "{command:?}: {:?}", redis.keys().await);
    }
    assert!(redis.calls("pttl").await >= 3, "Redis was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_rotates_no_key_of_the_fleet() {
    let (server, redis) = (Deployment::shared(Kind::Fleet), Redis::start());
    // Of another fleet, and long ago: whoever may rotate it would.
    let keys = ["HSET", "{nonce}:keys", "epoch", "12345678", "key", "of old", "since", "1", "server", "gone"];
    redis.command::<()>(&keys).await;
    let held = || redis.command::<BTreeMap<String, String>>(&["HGETALL", "{nonce}:keys"]);
    let before = held().await;
    for command in LOOKING {
        run(command, &configured(&server, &redis));
        assert_eq!(held().await, before, "{command:?}");
        assert_eq!(redis.command::<i64>(&["PTTL", "{nonce}:keys"]).await, -1, "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_says_what_is_wrong() {
    let (server, redis) = (Deployment::shared(Kind::Fleet), Redis::start());
    let environment = configured(&server, &redis);
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let said = refused(&["check"], &environment);
    assert!(said.contains("redis: this Redis is a replica"), "{said}");
    redis.kill();
    let said = refused(&["check"], &environment);
    assert!(said.contains("redis: ") && !said.contains("redis: ok"), "{said}");
    let said = run(&["status"], &environment);
    assert!(said.contains("redis      not there"), "{said}");
}
