//! What is counted as a waiting job: one that a replica could still do something about. Since when it waits, and whose
//! turn it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::acme::authorization::{Authorization, Outcome};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::id::{AccountId, AuthorizationId, LeaseToken, OrderId};
use chancery::acme::identifier::Identifier;
use chancery::acme::time::Timestamp;
use chancery::storage::{Dialect, Store, ValidationJob};
use futures_util::future::join_all;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::responder::Reply;
use crate::support::run::{folder, runtime, wait_until};
use crate::support::trial::Trial;
use crate::sweeper::Tables;
use crate::wire_tests;

wire_tests! {
    crowded => i_03_jobs_that_wait_for_a_turn_are_seen_to_wait;
}

const START: Timestamp = Timestamp::from_seconds(1_000);
const SECOND: Duration = Duration::from_secs(1);

/// The job of a new authorization that ends a minute after [`START`].
fn job() -> ValidationJob {
    let authorization = Authorization {
        id: AuthorizationId::new(),
        account_id: AccountId::new(),
        profile: "default".to_owned(),
        identifier: Identifier::Dns("a.chancery.test".to_owned()),
        wildcard: false,
        outcome: Outcome::Pending,
        created_at: START,
        expires_at: START.plus(SECOND * 60),
        token: "token".to_owned(),
        challenge_types: vec![ChallengeType::Http01],
        attempted: None,
        validated_at: None,
        error: None,
    };
    let key_thumbprint = "thumbprint".to_owned();
    ValidationJob { authorization, key_thumbprint, lease: LeaseToken::new(), claims: 1, charged: None }
}

/// A job that a replica took at [`START`], until then.
async fn begun(store: &Store, until: Timestamp) -> ValidationJob {
    let job = job();
    store.insert_authorization(&job.authorization).await.unwrap();
    assert!(store.begin_validation(&job, ChallengeType::Http01, START, until).await.unwrap());
    job
}

#[test]
fn a_job_past_its_expiry_waits_for_nobody() {
    runtime().block_on(async {
        let store = Store::sqlite(&folder("waiting").join("chancery.sqlite")).await.unwrap();
        store.migrate().await.unwrap();
        let until = START.plus(SECOND * 6);
        begun(&store, until).await;
        let waiting = async |after: u32| store.waiting_validations(START.plus(SECOND * after)).await.unwrap();
        assert_eq!(waiting(5).await, (0, None), "a replica has it");
        assert_eq!(waiting(7).await, (1, Some(until)), "its replica died");
        assert_eq!(waiting(61).await, (0, None), "nobody will ever take it");
        let claimed = store.claim_validations(START.plus(SECOND * 61), until, 9).await.unwrap();
        assert!(claimed.is_empty());
    });
}

/// One replica died, and handed nothing back; two jobs were handed back, the second one first.
#[test]
fn i_03_whoever_waits_longest_is_taken_first_whether_its_replica_died_or_handed_it_back() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let store = &tables.store;
            let at = |seconds: u32| START.plus(SECOND * seconds);
            let jobs = [begun(store, at(9)).await, begun(store, at(9)).await, begun(store, at(2)).await];
            for (job, now) in [(&jobs[1], at(1)), (&jobs[0], at(3))] {
                assert!(store.hand_back_validation(&job.authorization.id, &job.lease, now).await.unwrap());
            }
            assert_eq!(store.waiting_validations(at(1)).await.unwrap(), (0, None), "{dialect:?}");
            assert_eq!(store.waiting_validations(at(4)).await.unwrap(), (3, Some(at(1))), "{dialect:?}");
            let mut taken = Vec::new();
            while let Some(job) = store.claim_validations(at(4), at(9), 1).await.unwrap().pop() {
                taken.push(job.authorization.id);
            }
            let expected = [1, 2, 0].map(|index: usize| jobs[index].authorization.id.clone());
            assert_eq!(taken, expected, "{dialect:?}");

            for _ in 0..3 {
                tables.order(OrderId::new().as_str(), "processing", at(60), None).await;
            }
            let mut jobs = store.claim_issuances(at(0), at(9), 2).await.unwrap();
            jobs.extend(store.claim_issuances(at(0), at(2), 1).await.unwrap());
            for (job, now) in [(&jobs[1], at(1)), (&jobs[0], at(3))] {
                assert!(store.hand_back_issuance(&job.order_id, &job.lease, now).await.unwrap());
            }
            assert_eq!(store.waiting_issuances(at(4)).await.unwrap(), (3, Some(at(1))), "{dialect:?}");
            let mut taken = Vec::new();
            while let Some(job) = store.claim_issuances(at(4), at(9), 1).await.unwrap().pop() {
                taken.push(job.order_id);
            }
            let expected = [1, 2, 0].map(|index: usize| jobs[index].order_id.clone());
            assert_eq!(taken, expected, "{dialect:?}");
        });
    }
}

fn crowded(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_VALIDATION_CONCURRENCY", "1")
        .set("CHANCERY_VALIDATION_TIMEOUT", "120s")
        .set("CHANCERY_JOB_LEASE", "900ms")
        .set("CHANCERY_JOB_TICK", "100ms");
    Deployment::with(kind, &settings)
}

/// Each replica validates one target, which hangs, and five more jobs wait: the alert on the oldest must be able to fire.
async fn i_03_jobs_that_wait_for_a_turn_are_seen_to_wait(server: Arc<Deployment>) {
    let client = server.account().await;
    let start = Instant::now();
    let hanging = (0..server.size() + 5).map(|_| Trial::http(&client, |_| Reply::Silence));
    let trials = join_all(hanging).await;
    join_all(trials.iter().map(Trial::start)).await;
    let gauge = |index: usize, name: &str| {
        server.replica(index).metric(&format!("chancery_jobs_{name}{{kind=\"validation\"}}"))
    };
    for index in 0..server.size() {
        wait_until("all but those with a turn wait", || gauge(index, "waiting") == 5.0);
        let before = gauge(index, "oldest_seconds");
        wait_until("the age grows", || gauge(index, "oldest_seconds") >= before.max(1.0) + 1.0);
        let age = gauge(index, "oldest_seconds");
        assert!(age <= start.elapsed().as_secs_f64() + 1.0, "no longer than there are jobs: {age}");
        assert_eq!(gauge(index, "waiting"), 5.0);
    }
    let status = server.command(&["status"]);
    let line =
        status.lines().find(|line| line.ends_with("s") && line.contains(" 5 validations, the oldest since "));
    assert!(line.is_some(), "{status}");
}
