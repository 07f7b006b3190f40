//! A fleet is upgraded under load: one replica after another is stopped and started again, and no client notices more than
//! what every client copes with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::faults::walker::Site;
use crate::faults::{Books, load};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::haproxy::Haproxy;
use crate::support::run::{SOON, runtime};

#[test]
fn three_replicas_rolled_twice_under_load_fail_no_flow() {
    let settings = Settings::new().set("CHANCERY_SHUTDOWN_DELAY", "1s");
    let site = Site::start_behind(&settings, Haproxy::start_without_retries);
    runtime().block_on(async {
        let (books, over) = (Arc::<Books>::default(), AtomicBool::new(false));
        let loads = join_all((0..6).map(|seed| load(&site, &books, &over, seed)));
        let rolling = async {
            for replica in [0, 1, 2, 0, 1, 2] {
                let before = Instant::now();
                site.server.replica(replica).signal("TERM");
                assert_eq!(
                    site.server.replica(replica).ended().await,
                    0,
                    "{}",
                    site.server.replica(replica).log()
                );
                println!("replica {replica} ended after {:.1} s", before.elapsed().as_secs_f64());
                let again = Arc::clone(&site);
                tokio::task::spawn_blocking(move || again.server.start_again(replica)).await.expect("ready");
                // The balancer takes it in before the next one leaves.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            over.store(true, Ordering::Relaxed);
            Instant::now()
        };
        let (_, end) = tokio::join!(loads, rolling);
        books.check(&site, 1, end).await;
        let (seen, wrong) = (books.seen_so_far(), books.broken());
        println!("{} certificates; clients met {seen:?}", books.certificates());
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(books.certificates() > 20);
        // A broken connection and an error of the balancer are what some clients take for the end.
        for what in ["cut", "502 or 504", "503 of the balancer"] {
            assert_eq!(seen.get(what), None, "{what}: {seen:?}");
        }
    });
}

/// What later versions might add, by their `chancery migrate`, while replicas of this one run: one table that is in use each.
const LATER_MIGRATIONS: [&str; 2] = [
    "ALTER TABLE accounts ADD COLUMN later BIGINT NOT NULL DEFAULT 7",
    "ALTER TABLE orders ADD COLUMN later TEXT; \
     CREATE INDEX orders_later ON orders (later) WHERE later IS NOT NULL; \
     CREATE TABLE of_later (id TEXT PRIMARY KEY, at BIGINT NOT NULL); \
     INSERT INTO of_later VALUES ('first', 1)",
];

fn apply_later_migrations(server: &Deployment) {
    for (version, migration) in (9998..).zip(LATER_MIGRATIONS) {
        server.sql(&format!(
            "BEGIN; {migration}; \
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT {version}, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1; COMMIT"
        ));
    }
}

#[test]
fn the_schema_of_a_later_version_comes_under_running_replicas_and_no_flow_fails() {
    let site = Site::start_behind(&Settings::new(), Haproxy::start_without_retries);
    runtime().block_on(async {
        let (books, over) = (Arc::<Books>::default(), AtomicBool::new(false));
        let loads = join_all((0..4).map(|seed| load(&site, &books, &over, seed)));
        let more = async |count: usize| {
            let (begun, before) = (Instant::now(), books.certificates());
            while books.certificates() < before + count {
                assert!(begun.elapsed() < SOON, "certificates are issued");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let migrating = async {
            // Every replica has prepared its statements by then.
            more(20).await;
            let apart = Arc::clone(&site);
            tokio::task::spawn_blocking(move || apply_later_migrations(&apart.server))
                .await
                .expect("applied");
            more(30).await;
            over.store(true, Ordering::Relaxed);
            Instant::now()
        };
        let (_, end) = tokio::join!(loads, migrating);
        let seen = books.seen_so_far();
        assert!(seen.is_empty(), "clients met {seen:?}");
        books.check(&site, 1, end).await;
        let wrong = books.broken();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(site.server.sql("SELECT count(*) > 0 FROM orders WHERE later IS NULL"), "t");
        let log = site.server.log();
        let bad = log.lines().find(|line| {
            [" ERROR ", "\"ERROR\"", "cached plan", "deadlock"].iter().any(|bad| line.contains(bad))
        });
        assert_eq!(bad, None);
    });
}

#[test]
fn a_leaving_replica_says_so_and_serves_on() {
    let server =
        Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_SHUTDOWN_DELAY", "6s").replicas(1));
    runtime().block_on(async {
        let client = server.account().await;
        let replica = server.replica(0);
        assert_eq!(client.get(&server.directory).await.expect(200).header("connection"), None);
        replica.signal("TERM");
        let leaving = Instant::now();
        let is_ready = || replica.ops_get("/readyz").expect("an answer").0 == 200;
        while is_ready() {
            assert!(leaving.elapsed() < Duration::from_secs(5), "it is not ready any more");
        }
        // New connections are taken, whole issuances go through; each answer ends its connection.
        client.issue_any().await;
        let answer = client.read(client.account()).await.expect(200);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(replica.ended().await, 0);
        let taken = leaving.elapsed();
        assert!((Duration::from_secs(6)..Duration::from_secs(16)).contains(&taken), "{taken:?}");
    });
}

#[test]
fn a_second_signal_ends_the_wait() {
    let server =
        Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_SHUTDOWN_DELAY", "60s").replicas(1));
    runtime().block_on(async {
        let replica = server.replica(0);
        replica.signal("TERM");
        while !replica.log().contains("leaving") {
            assert!(replica.is_running());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        replica.signal("TERM");
        assert_eq!(replica.ended().await, 0);
    });
}

#[test]
fn three_replicas_start_at_once_on_an_empty_database() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().unmigrated());
    runtime().block_on(async {
        let client = server.account().await;
        client.issue_any().await;
        let applied =
            server.sql("SELECT count(*), count(DISTINCT version), bool_and(success) FROM _sqlx_migrations");
        let (all, rest) = applied.split_once('|').expect("columns");
        assert_eq!(rest, format!("{all}|t"), "each migration once");
    });
}
