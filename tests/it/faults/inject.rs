//! The faults of design §7, each injected under load.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::books::Books;
use super::walker::{Patience, Site, Walker};
use crate::support::faketime;
use crate::support::responder::Reply;
use crate::support::run::{SOON, SplitMix};

/// What a fault does to a fleet under load. Done, all is as it was, but for what the fleet has to recover from.
pub type Inject = for<'a> fn(&'a Scene<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where a fault is injected.
pub struct Scene<'a> {
    pub site: &'a Arc<Site>,
    pub books: &'a Arc<Books>,
    pub seed: u64,
    pub lease: Duration,
}

/// One row of the table.
pub struct Fault {
    pub name: &'static str,
    pub inject: Inject,
    /// Whether it is part of the short run.
    pub short: bool,
}

impl Fault {
    /// Whether Redis forgets what was counted: limits then begin anew.
    pub fn empties_redis(&self) -> bool {
        self.name.contains("empt")
    }
}

macro_rules! faults {
    ($($short:literal $name:literal => $inject:expr;)+) => {
        vec![$(Fault { name: $name, inject: |scene| Box::pin(($inject)(scene)), short: $short }),+]
    };
}

/// All of them, in the order of the table.
pub fn all() -> Vec<Fault> {
    #[allow(unused_mut, reason = "without the feature there are no named steps")]
    let mut faults = faults! {
        false "none" => |_| pause(3000);
        true "replicas killed at random" => kill_at_random;
        true "a replica stopped for longer than its lease" => |s| stop(s, 1);
        false "the leader stopped for longer than its lease" => stop_the_leader;
        false "Redis killed, and back empty" => redis_killed;
        true "Redis emptied (FLUSHALL)" => |s| redis_command(s, &["FLUSHALL"]);
        false "Redis forgets its scripts (SCRIPT FLUSH)" => |s| redis_command(s, &["SCRIPT", "FLUSH"]);
        false "Redis stalls for 1 s, three times" => redis_stalls;
        false "Redis 100 ms away" => |s| slow(s, Store::Redis, 100);
        false "Redis cut off for 2 s" => |s| refused(s, Store::Redis);
        true "1 in 20 messages to Redis lost, or its answer" => |s| lossy(s, Store::Redis, 50);
        false "Postgres restarted (fast)" => postgres_restarted;
        false "Postgres restarted (immediate)" => postgres_crashes;
        false "Postgres 30 ms away" => |s| slow(s, Store::Postgres, 30);
        false "Postgres cut off for 2 s" => |s| refused(s, Store::Postgres);
        false "Postgres silent for 3 s" => postgres_silent;
        false "connections to Postgres terminated" => terminated;
        true "1 in 100 messages to Postgres lost, or its answer" => |s| lossy(s, Store::Postgres, 10);
        false "clocks ten minutes apart" => clocks_apart;
        false "validation targets hang, drip, go in circles, do not end" => bad_targets;
    };
    #[cfg(feature = "faults")]
    faults.extend(faults! {
        false "killed: a response to a challenge is accepted" => |s| killed_at(s, "validation-accepted");
        false "killed: the verdict is in hand" => |s| killed_at(s, "validation-done");
        false "killed: the verdict is recorded" => |s| killed_at(s, "validation-recorded");
        false "killed: an issuance has begun" => |s| killed_at(s, "issuance-begun");
        true "killed: the signature is in hand" => |s| killed_at(s, "issuance-signed");
        false "killed: the certificate is recorded" => |s| killed_at(s, "issuance-recorded");
    });
    faults
}

/// Those that have replicas count by themselves, where they may (`CHANCERY_LIMITS_WITHOUT_REDIS=local`).
pub fn of_limits() -> Vec<Fault> {
    let mut faults = faults! { true "Redis refuses what is asked for limits" => limits_refused; };
    faults.extend(
        all().into_iter().filter(|fault| fault.short && fault.name.contains("messages to Redis lost")),
    );
    faults
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Work that keeps a thread.
async fn apart<T: Send + 'static>(scene: &Scene<'_>, work: impl FnOnce(&Site) -> T + Send + 'static) -> T {
    let site = Arc::clone(scene.site);
    tokio::task::spawn_blocking(move || work(&site)).await.expect("no panic")
}

async fn kill_at_random(scene: &Scene<'_>) {
    let mut random = SplitMix::new(scene.seed);
    for _ in 0..4 {
        pause(300 + random.below(500)).await;
        let victim = usize::try_from(random.below(3)).expect("below 3");
        scene.site.server.kill(victim);
        pause(200 + random.below(600)).await;
        apart(scene, move |site| site.server.start_again(victim)).await;
    }
}

async fn stop(scene: &Scene<'_>, replica: usize) {
    pause(500).await;
    scene.site.server.replica(replica).signal("STOP");
    tokio::time::sleep(scene.lease + Duration::from_secs(2)).await;
    scene.site.server.replica(replica).signal("CONT");
}

async fn stop_the_leader(scene: &Scene<'_>) {
    let server = &scene.site.server;
    let mut leader = 0;
    if server.sql("SELECT to_regclass('leader') IS NOT NULL") == "t" {
        let ops = server.sql("SELECT r.ops_listen FROM leader l JOIN replicas r ON r.id = l.holder");
        leader = (0..server.size()).find(|i| server.replica(*i).ops.to_string() == ops).unwrap_or(0);
    }
    stop(scene, leader).await;
}

async fn redis_killed(scene: &Scene<'_>) {
    for _ in 0..2 {
        pause(700).await;
        scene.site.server.redis().expect("a fleet").kill();
        pause(1000).await;
        apart(scene, |site| site.server.redis().expect("a fleet").restart_empty()).await;
    }
}

async fn redis_command(scene: &Scene<'_>, words: &[&str]) {
    for _ in 0..6 {
        pause(400).await;
        let _: redis::Value = scene.site.server.redis().expect("a fleet").command(words).await;
    }
}

/// Nonces are redeemed as ever, so that requests come as far as their limits.
async fn limits_refused(scene: &Scene<'_>) {
    let server = &scene.site.server;
    let keys = async |pattern| {
        let words = ["ACL", "SETUSER", "default", "resetkeys", pattern];
        server.redis().expect("a fleet").command::<()>(&words).await;
    };
    let alone = |result| {
        let name = format!("chancery_limits_total{{limit=\"new-orders\",result=\"{result}\"}}");
        (0..server.size()).map(|replica| server.replica(replica).metric(&name)).sum::<f64>()
    };
    pause(500).await;
    let before = alone("degraded");
    keys("~{nonce}:*").await;
    pause(4000).await;
    keys("~*").await;
    assert!(alone("degraded") > before, "no replica counted by itself");
}

async fn redis_stalls(scene: &Scene<'_>) {
    for _ in 0..3 {
        scene.site.server.redis().expect("a fleet").signal("STOP");
        pause(1000).await;
        scene.site.server.redis().expect("a fleet").signal("CONT");
        pause(700).await;
    }
}

#[derive(Clone, Copy)]
enum Store {
    Postgres,
    Redis,
}

impl Scene<'_> {
    fn proxy(&self, store: Store) -> &crate::support::proxy::Proxy {
        match store {
            Store::Postgres => self.site.server.proxy(),
            Store::Redis => self.site.server.redis_proxy(),
        }
    }
}

async fn slow(scene: &Scene<'_>, store: Store, milliseconds: u64) {
    // Half of it each way.
    scene.proxy(store).delay(Duration::from_millis(milliseconds / 2));
    pause(4000).await;
    scene.proxy(store).delay(Duration::ZERO);
}

async fn refused(scene: &Scene<'_>, store: Store) {
    pause(500).await;
    scene.proxy(store).refuse();
    pause(2000).await;
    scene.proxy(store).serve_new_connections();
}

async fn lossy(scene: &Scene<'_>, store: Store, of_a_thousand: u64) {
    let before = scene.proxy(store).lost();
    scene.proxy(store).lose(of_a_thousand, scene.seed);
    pause(4000).await;
    scene.proxy(store).lose(0, 0);
    assert!(scene.proxy(store).lost() > before, "nothing was lost");
}

async fn postgres_restarted(scene: &Scene<'_>) {
    pause(500).await;
    apart(scene, |site| {
        site.server.postgres().stop_fast();
        site.server.postgres().restart();
    })
    .await;
    pause(500).await;
}

async fn postgres_crashes(scene: &Scene<'_>) {
    for _ in 0..2 {
        pause(700).await;
        scene.site.server.postgres().kill();
        pause(500).await;
        apart(scene, |site| site.server.postgres().restart()).await;
    }
}

async fn postgres_silent(scene: &Scene<'_>) {
    pause(500).await;
    scene.proxy(Store::Postgres).fall_silent();
    pause(3000).await;
    scene.proxy(Store::Postgres).serve_new_connections();
}

async fn terminated(scene: &Scene<'_>) {
    for _ in 0..20 {
        pause(150).await;
        apart(scene, |site| {
            site.server.sql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        })
        .await;
    }
}

async fn clocks_apart(scene: &Scene<'_>) {
    let library = faketime::library();
    for (replica, offset) in [(1, "+10m"), (2, "-10m")] {
        let library = library.clone();
        apart(scene, move |site| {
            let clock = [
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME", offset),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ];
            site.server.restart_with(replica, &clock);
        })
        .await;
    }
    pause(4000).await;
    let metrics = |replica: usize| scene.site.server.replica(replica).ops_get("/metrics");
    let offset = metrics(1).map(|(_, text)| text).unwrap_or_default();
    let offset = offset.lines().find_map(|line| line.strip_prefix("chancery_clock_offset_seconds "));
    let offset: f64 = offset.and_then(|text| text.parse().ok()).unwrap_or_default();
    assert!((offset + 600.0).abs() < 30.0, "the clocks are apart: {offset}");
    for replica in [1, 2] {
        apart(scene, move |site| site.server.restart(replica)).await;
    }
}

async fn bad_targets(scene: &Scene<'_>) {
    let walker = Arc::new(Walker::new(scene.site, scene.books, Patience::Client));
    walker.register().await.expect("an account");
    for reply in [Reply::Silence, Reply::Drip, Reply::Endless, Reply::By(Arc::new(round_in_circles))] {
        for _ in 0..3 {
            match walker.doomed(reply.clone()).await {
                Ok(url) => scene.books.doomed(&walker, url),
                Err(why) => scene.books.wrong("finished", why),
            }
        }
    }
    pause(3000).await;
}

fn round_in_circles(request: &crate::support::responder::HttpRequest) -> Reply {
    Reply::Redirect(format!("http://{}{}", request.host, request.target))
}

#[cfg(feature = "faults")]
async fn killed_at(scene: &Scene<'_>, point: &'static str) {
    for _ in 0..2 {
        apart(scene, move |site| site.server.restart_with(0, &[("CHANCERY_TEST_FAULT", point)])).await;
        let died = tokio::time::timeout(SOON, scene.site.server.replica(0).wait_for_fault()).await;
        assert!(died.is_ok(), "{point} was not reached");
        pause(300).await;
        apart(scene, |site| site.server.start_again(0)).await;
    }
}
