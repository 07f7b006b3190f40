//! I-5: one clock for the fleet, the database's, whatever happens to the clocks of its machines.

use std::time::{Duration, Instant};

use chancery::storage::Store;
use sqlx::{Connection, PgConnection};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::faketime::WallClock;
use crate::support::postgres::Postgres;
use crate::support::responder::Reply;
use crate::support::run::{runtime, unique_name, wait_until};
use crate::support::trial::Trial;

fn total(server: &Deployment, metric: &str) -> f64 {
    (0..server.size()).map(|index| server.replica(index).metric(metric)).sum()
}

/// Waits until the sweeps and the looks at jobs and at the lease that were under way are over, and others after them.
fn wait_for_housekeeping(server: &Deployment) {
    let before = total(server, "chancery_gc_runs_total");
    wait_until("two more rounds of sweeps", || total(server, "chancery_gc_runs_total") >= before + 2.0);
}

#[test]
fn i_05_a_wall_clock_that_is_set_an_hour_on_or_back_changes_nothing() {
    let clocks = [WallClock::right(), WallClock::right(), WallClock::right()];
    let mut settings = Settings::new()
        .set("CHANCERY_ORDER_LIFETIME", "10m")
        .set("CHANCERY_AUTHORIZATION_LIFETIME", "10m")
        .set("CHANCERY_LEADER_LEASE", "3s")
        .set("CHANCERY_SWEEP_INTERVAL", "500ms")
        .set("CHANCERY_JOB_TICK", "100ms")
        .set("CHANCERY_JOB_LEASE", "60s")
        // A target that says nothing keeps its job running for as long as the test takes.
        .set("CHANCERY_VALIDATION_TIMEOUT", "60s");
    for (replica, clock) in clocks.iter().enumerate() {
        for (name, value) in clock.environment() {
            settings = settings.set_for(replica, name, value);
        }
    }
    let server = Deployment::with(Kind::Fleet, &settings);
    wait_until("somebody leads", || total(&server, "chancery_leader") == 1.0);
    let leader = || server.sql("SELECT holder, epoch FROM leader");
    let leads = (0..3).find(|index| server.replica(*index).metric("chancery_leader") == 1.0).expect("one");
    let before = leader();
    runtime().block_on(async {
        let client = server.account().await;
        let order = client.order(&[&unique_name()]).await;
        let running = Trial::http(&client, |_| Reply::Silence).await;
        running.start().await;
        let followers = [(leads + 1) % 3, (leads + 2) % 3];
        for (replica, offset, seconds) in
            [(followers[0], "+1h", 3600.0), (followers[1], "-1h", -3600.0), (leads, "+1h", 3600.0)]
        {
            clocks[replica].set(offset);
            wait_until("the replica has seen that its wall clock was set", || {
                (server.replica(replica).metric("chancery_clock_offset_seconds") + seconds).abs() < 60.0
            });
            wait_for_housekeeping(&server);
            assert_eq!(leader(), before, "the leader and its epoch after replica {replica} went {offset}");
            for through in 0..server.size() {
                let answer = client.post(&order.url).through(through).send().await.expect(200);
                assert_eq!(answer.state(), "pending", "{offset} on {replica}, through {through}");
            }
        }
        assert_eq!(total(&server, "chancery_gc_orders_invalidated_total"), 0.0);
        for kind in ["validation", "issuance"] {
            let taken = format!("chancery_jobs_taken_over_total{{kind=\"{kind}\"}}");
            assert_eq!(total(&server, &taken), 0.0, "no job was taken from the replica that runs it");
        }
        // All goes on, through each of them.
        client.authorize(&order, "http-01").await;
        for _ in 0..server.size() {
            client.issue_any().await;
        }
    });
}

#[test]
fn i_05_the_wait_for_a_connection_is_no_part_of_a_reading() {
    runtime().block_on(async {
        let url = Postgres::shared().database();
        let store = Store::postgres(&url, 1).await.expect("a store");
        store.migrate().await.expect("migrated");
        // The one connection waits for a lock, and the reading for the connection.
        let mut other = PgConnection::connect(&url).await.expect("a connection");
        let mut holding = other.begin().await.expect("a transaction");
        sqlx::query("LOCK TABLE replicas").execute(&mut *holding).await.expect("the lock");
        let held = store.clone();
        let held = tokio::spawn(async move { held.replicas().await });
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'replicas'::regclass";
        wait_until("it waits for the lock", || Postgres::shared().psql(&url, waiting) == "1");
        let begun = Instant::now();
        let reading = tokio::spawn(async move { store.read_clock().await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!reading.is_finished(), "there is one connection");
        holding.commit().await.expect("the lock is free");
        held.await.expect("no panic").expect("the replicas");
        let reading = reading.await.expect("no panic").expect("a reading").expect("Postgres's");
        assert!(reading.asked - begun > Duration::from_millis(900), "it was asked when its turn had come");
        assert!(reading.answered >= reading.asked);
    });
}
