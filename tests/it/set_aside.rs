//! What must not wait in the queue of clients' requests: readiness, and the leader's lease.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::identifiers;
use crate::support::postgres::TableLock;
use crate::support::run::{runtime, unique_name};

/// Every connection that clients may use waits for a lock; then a balancer that asks takes no replica out, and the leader
/// goes on leading (reliability: a probe that stands in the clients' queue takes one replica out after the other).
#[test]
fn readiness_and_the_lead_do_not_wait_for_clients() {
    let settings = Settings::new()
        .own_postgres()
        .set("CHANCERY_DATABASE_CONNECTIONS", "2")
        .set("CHANCERY_LEADER_LEASE", "1500ms");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let url = client.resource("newOrder").await;
        let led =
            "SELECT epoch FROM leader WHERE lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)";
        let epoch = server.sql(led);
        assert!(!epoch.is_empty(), "somebody leads");
        let lock = TableLock::take(server.database().expect("a fleet"), "orders", "EXCLUSIVE").await;
        let waiting = join_all((0..30).map(|at| {
            let order = json!({"identifiers": identifiers(&[&unique_name()]), "profile": "trusted"});
            let placing = client.post(&url).json(order).through(at % 3).send();
            async move {
                let asked = Instant::now();
                (placing.await.status, asked.elapsed())
            }
        }));
        let looking = async {
            let begun = Instant::now();
            let mut looks = 0;
            // As long as connections may be waited for.
            while begun.elapsed() < Duration::from_millis(2500) {
                for replica in 0..server.size() {
                    let asked = Instant::now();
                    let (status, body) = server.replica(replica).ops_get("/readyz").expect("an answer");
                    assert_eq!(status, 200, "replica {replica}: {body}");
                    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
                    looks += 1;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(looks > 20, "{looks}");
            assert_eq!(server.sql(led), epoch, "the leader still leads");
            drop(lock);
        };
        let (answers, ()) = tokio::join!(waiting, looking);
        for (status, waited) in answers {
            assert!([201, 503].contains(&status), "{status}");
            assert!(waited > Duration::from_secs(2), "it was answered while all waited: {waited:?}");
        }
    });
}
