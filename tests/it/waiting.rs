//! What is counted as a waiting job: one that a replica could still do something about. Since when it waits, and whose
//! turn it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::acme::authorization::{Authorization, Outcome};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::id::{AccountId, AuthorizationId, LeaseToken, OrderId};
use chancery::acme::identifier::Identifier;
use chancery::acme::time::Timestamp;
use chancery::storage::{Dialect, MOST_COUNTED, Store, ValidationJob};
use futures_util::future::join_all;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::responder::Reply;
use crate::support::rows::account;
use crate::support::run::{folder, runtime, wait_until};
use crate::support::trial::Trial;
use crate::sweeper::Tables;
use crate::wire_tests;

wire_tests! {
    crowded => i_03_jobs_that_wait_for_a_turn_are_seen_to_wait;
}

const START: Timestamp = Timestamp::from_seconds(1_000);
const SECOND: Duration = Duration::from_secs(1);

/// The job of a new authorization of an account that ends a minute after [`START`].
fn job(account: &AccountId) -> ValidationJob {
    let authorization = Authorization {
        id: AuthorizationId::new(),
        account_id: account.clone(),
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
async fn begun(store: &Store, account: &AccountId, until: Timestamp) -> ValidationJob {
    begun_by(store, account, ChallengeType::Http01, until).await
}

async fn begun_by(
    store: &Store,
    account: &AccountId,
    kind: ChallengeType,
    until: Timestamp,
) -> ValidationJob {
    let job = job(account);
    store.insert_authorization(&job.authorization).await.unwrap();
    assert!(store.begin_validation(&job, kind, START, until).await.unwrap());
    job
}

#[test]
fn a_job_past_its_expiry_waits_for_nobody() {
    runtime().block_on(async {
        let store = Store::sqlite(&folder("waiting").join("chancery.sqlite")).await.unwrap();
        store.migrate().await.unwrap();
        let until = START.plus(SECOND * 6);
        let account = account(&store, START).await;
        begun(&store, &account, until).await;
        let waiting = async |after: u32| store.waiting_validations(START.plus(SECOND * after)).await.unwrap();
        assert_eq!(waiting(5).await, (0, None), "a replica has it");
        assert_eq!(waiting(7).await, (1, Some(until)), "its replica died");
        assert_eq!(waiting(61).await, (0, None), "nobody will ever take it");
        let now = START.plus(SECOND * 61);
        let claimed = store.claim_validations(ChallengeType::Http01, &account, now, until, 9).await.unwrap();
        assert!(claimed.is_empty());
    });
}

/// One replica died, and handed nothing back; two jobs were handed back, the second one first.
#[test]
fn i_03_of_one_account_whatever_waits_longest_is_taken_first_whether_its_replica_died_or_handed_it_back() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let store = &tables.store;
            let at = |seconds: u32| START.plus(SECOND * seconds);
            let account = account(store, START).await;
            let mut jobs = Vec::new();
            for until in [9, 9, 2] {
                jobs.push(begun(store, &account, at(until)).await);
            }
            for (job, now) in [(&jobs[1], at(1)), (&jobs[0], at(3))] {
                assert!(store.hand_back_validation(&job.authorization.id, &job.lease, now).await.unwrap());
            }
            assert_eq!(store.waiting_validations(at(1)).await.unwrap(), (0, None), "{dialect:?}");
            assert_eq!(store.waiting_validations(at(4)).await.unwrap(), (3, Some(at(1))), "{dialect:?}");
            let mut taken = Vec::new();
            let http = ChallengeType::Http01;
            while let Some(job) =
                store.claim_validations(http, &account, at(4), at(9), 1).await.unwrap().pop()
            {
                taken.push(job.authorization.id);
            }
            let expected = [1, 2, 0].map(|index: usize| jobs[index].authorization.id.clone());
            assert_eq!(taken, expected, "{dialect:?}");

            for _ in 0..3 {
                tables.order(OrderId::new().as_str(), "processing", at(60), None).await;
            }
            tables.run(format!("UPDATE orders SET account_id = '{account}'")).await;
            assert_eq!(
                store.accounts_with_issuances("", at(0), 9).await.unwrap(),
                std::slice::from_ref(&account)
            );
            assert_eq!(store.accounts_with_issuances(account.as_str(), at(0), 9).await.unwrap(), []);
            let mut jobs = store.claim_issuances(&account, at(0), at(9), 2).await.unwrap();
            jobs.extend(store.claim_issuances(&account, at(0), at(2), 1).await.unwrap());
            for (job, now) in [(&jobs[1], at(1)), (&jobs[0], at(3))] {
                assert!(store.hand_back_issuance(&job.order_id, &job.lease, now).await.unwrap());
            }
            assert_eq!(store.waiting_issuances(at(4)).await.unwrap(), (3, Some(at(1))), "{dialect:?}");
            let mut taken = Vec::new();
            while let Some(job) = store.claim_issuances(&account, at(4), at(9), 1).await.unwrap().pop() {
                taken.push(job.order_id);
            }
            let expected = [1, 2, 0].map(|index: usize| jobs[index].order_id.clone());
            assert_eq!(taken, expected, "{dialect:?}");
        });
    }
}

/// One account has many jobs that wait, and by another type; the others are found behind it all the same.
#[test]
fn i_03_accounts_are_found_one_after_the_other_however_many_jobs_each_has() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let store = &tables.store;
            let at = |seconds: u32| START.plus(SECOND * seconds);
            let mut accounts = Vec::new();
            for _ in 0..4 {
                accounts.push(account(store, START).await);
            }
            for (account, count) in accounts.iter().zip([5, 1, 1, 0]) {
                for _ in 0..count {
                    begun(store, account, at(2)).await;
                }
            }
            begun_by(store, &accounts[0], ChallengeType::Dns01, at(2)).await;
            begun_by(store, &accounts[3], ChallengeType::Dns01, at(2)).await;
            begun(store, &accounts[3], at(9)).await;
            let found = async |kind, after: &str, limit| {
                store.accounts_with_validations(kind, after, at(3), limit).await.unwrap()
            };
            assert_eq!(found(ChallengeType::Http01, "", 9).await, accounts[..3], "{dialect:?}");
            assert_eq!(found(ChallengeType::Http01, "", 2).await, accounts[..2], "{dialect:?}");
            assert_eq!(
                found(ChallengeType::Http01, accounts[0].as_str(), 2).await,
                accounts[1..3],
                "{dialect:?}"
            );
            let [first, .., last] = &accounts[..] else { panic!() };
            assert_eq!(
                found(ChallengeType::Dns01, "", 9).await,
                [first.clone(), last.clone()],
                "{dialect:?}"
            );
            assert_eq!(found(ChallengeType::TlsAlpn01, "", 9).await, [], "{dialect:?}");
            let taken = store.claim_validations(ChallengeType::Http01, first, at(3), at(9), 3).await.unwrap();
            assert_eq!(taken.len(), 3, "{dialect:?}");
            assert!(taken.iter().all(|job| job.authorization.account_id == *first), "{dialect:?}");
            assert_eq!(store.waiting_validations(at(3)).await.unwrap().0, 6, "{dialect:?}");
        });
    }
}

#[test]
fn counting_what_waits_ends_at_a_bound() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let (many, until) = (MOST_COUNTED + 5, START.micros());
            let expires = START.plus(SECOND * 60).micros();
            tables
                .run(format!(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many}) \
                     INSERT INTO authorizations (id, account_id, profile, identifier_type, identifier_value, wildcard, \
                     outcome, created_at, expires_at, token, challenge_types, attempted, lease_until) \
                     SELECT 'z' || i, 'a', 'default', 'dns', 'a.test', 0, 'pending', 0, {expires}, 't', 'http-01', \
                     'http-01', {until} + i FROM n"
                ))
                .await;
            let waiting = tables.store.waiting_validations(START.plus(SECOND)).await.unwrap();
            assert_eq!(waiting, (MOST_COUNTED, Some(Timestamp::from_micros(until + 1))), "{dialect:?}");
        });
    }
}

/// An order ends when another of its authorizations does, or when it expires.
#[test]
fn i_03_a_validation_that_nobody_wants_any_more_gets_no_further_lease() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let store = &tables.store;
            let at = |seconds: u32| START.plus(SECOND * seconds);
            let account = account(store, START).await;
            let alone = begun(store, &account, at(2)).await;
            let ordered = begun(store, &account, at(2)).await;
            let (order, sibling) = (OrderId::new(), AuthorizationId::new());
            tables.order(order.as_str(), "open", at(20), Some(ordered.authorization.id.as_str())).await;
            tables.authorization(sibling.as_str(), "pending", at(40), None).await;
            tables.run(format!("INSERT INTO order_authorizations VALUES ('{order}', 1, '{sibling}')")).await;
            let renewed = async |job: &ValidationJob, now| {
                let id = &job.authorization.id;
                let over = store.validation_is_over(id, now).await.unwrap();
                let renewed = store.renew_validation(id, &job.lease, at(50), now).await.unwrap();
                assert_eq!(renewed, !over, "{dialect:?}");
                renewed
            };
            assert!(renewed(&ordered, at(1)).await && renewed(&alone, at(1)).await, "{dialect:?}");
            assert!(
                !renewed(&ordered, at(21)).await && renewed(&alone, at(21)).await,
                "expired: {dialect:?}"
            );
            for outcome in ["valid", "invalid", "deactivated", "revoked"] {
                tables
                    .run(format!("UPDATE authorizations SET outcome = '{outcome}' WHERE id = '{sibling}'"))
                    .await;
                assert_eq!(renewed(&ordered, at(1)).await, outcome == "valid", "{outcome}: {dialect:?}");
            }
            // Another order wants it, too.
            tables
                .order(OrderId::new().as_str(), "open", at(30), Some(ordered.authorization.id.as_str()))
                .await;
            assert!(renewed(&ordered, at(1)).await, "{dialect:?}");
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
