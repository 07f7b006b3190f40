//! LIM-06: replicas whose clocks are hours apart, and replicas that are all started anew.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{place, place_ready, refused, settings, use_up};
use crate::support::chancery::{Deployment, Kind};
use crate::support::run::{folder, runtime, unique_name};

/// Moves the wall clock of a process by `CLOCK_AHEAD` seconds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *ahead = getenv("CLOCK_AHEAD");
    if (result == 0 && clock == CLOCK_REALTIME && ahead) now->tv_sec += atol(ahead);
    return result;
}
"#;

fn shim() -> PathBuf {
    let home = folder("clock");
    let (source, library) = (home.join("clock.c"), home.join("clock.so"));
    std::fs::write(&source, SHIM).expect("written");
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let built = compiler.output().expect("gcc starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

#[test]
fn lim_06_replicas_whose_clocks_are_an_hour_apart_limit_as_one() {
    let library = shim().display().to_string();
    let mut settings = settings()
        .set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "6")
        .set("CHANCERY_LIMITS_ACTIVE_ORDERS", "4")
        .set("CHANCERY_ORDER_LIFETIME", "50s");
    for (replica, ahead) in ["3600", "-3600"].iter().enumerate() {
        settings = settings.set_for(replica, "LD_PRELOAD", &library).set_for(replica, "CLOCK_AHEAD", *ahead);
    }
    let server = Deployment::with(Kind::Fleet, &settings);
    assert!(server.log().contains("differs from the database's"), "the clocks are apart: {}", server.log());
    runtime().block_on(async {
        let client = server.account().await;
        for _ in 0..4 {
            place(&client, &[&unique_name()]).await.expect(201);
        }
        for _ in 0..6 {
            let seconds = refused(&place(&client, &[&unique_name()]).await, "active-orders");
            assert!((30..=50).contains(&seconds), "{seconds}");
        }
        let client = server.account().await;
        for _ in 0..6 {
            let name = unique_name();
            client.issue(&[&name]).await;
        }
        for _ in 0..6 {
            let seconds = refused(&place(&client, &[&unique_name()]).await, "new-orders");
            assert!((560..=600).contains(&seconds), "{seconds}");
        }
    });
}

#[test]
fn lim_03_a_restart_of_the_whole_fleet_forgets_nothing() {
    let settings = settings().set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "6");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        use_up(&client, 4).await;
        for replica in 0..server.size() {
            server.kill(replica);
        }
        for replica in 0..server.size() {
            server.restart(replica);
        }
        // Connections and nonces from before are gone with the replicas.
        let again = server.client_with(client.key);
        again.register().await.expect(200);
        use_up(&again, 2).await;
        refused(&place_ready(&again, &[&unique_name()]).await, "new-orders");
    });
}

/// A bucket that is about to refill: the client waits as it is told, and is served.
#[test]
fn lim_01_who_waits_as_told_is_served() {
    let settings = settings().set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "6");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        use_up(&client, 6).await;
        let account = client.account().rsplit('/').next().expect("an id").to_owned();
        let redis = redis::Client::open(server.redis().expect("a fleet").url()).expect("a URL");
        let mut connection = redis.get_multiplexed_async_connection().await.expect("a connection");
        // Nearly an hour passes, as far as this bucket goes.
        let key = format!("{{limits}}:new-orders:{account}");
        let held: String = redis::cmd("GET").arg(&key).query_async(&mut connection).await.expect("a bucket");
        let (full, interval) = held.split_once(':').expect("two numbers");
        let (full, interval): (i64, i64) = (full.parse().expect("µs"), interval.parse().expect("µs"));
        let earlier = format!("{}:{interval}", full - interval + 2_300_000);
        let set = redis::cmd("SET").arg(&key).arg(earlier).arg("PX").arg(3_600_000).to_owned();
        set.query_async::<()>(&mut connection).await.expect("set");
        let seconds = refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
        assert!((1..=3).contains(&seconds), "{seconds}");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        place_ready(&client, &[&unique_name()]).await.expect(201);
        refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
    });
}
