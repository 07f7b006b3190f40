//! ACC-07: an account is deactivated by its one row. What hangs on it is over from then on, whether a sweep has run or not,
//! and is ended on record by pages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chancery::acme::authorization::{Authorization, Outcome};
use chancery::acme::certificate::{Certificate, Serial};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::id::{AccountId, AuthorizationId, LeaseToken, OrderId, ReplicaId};
use chancery::acme::identifier::Identifier;
use chancery::acme::order::{Order, Progress};
use chancery::acme::time::Timestamp;
use chancery::storage::{
    Cursor, Dialect, Hanging, IssuanceJob, NewOrderRows, Placing, Reservation, Store, Term, ValidationJob,
};
use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::text;
use crate::support::keys::{Key, base64url};
use crate::support::rows::account;
use crate::support::run::{runtime, unique_name, wait_until};
use crate::sweeper::{NOW, Tables};
use crate::wire_tests;

wire_tests! {
    often_swept =>
        acc_07_the_end_of_an_account_is_an_event_of_all_that_ends_with_it;
}

fn often_swept(kind: Kind) -> Arc<Deployment> {
    Deployment::with(kind, &Settings::new().set("CHANCERY_SWEEP_INTERVAL", "300ms"))
}

fn id(url: &str) -> &str {
    url.rsplit('/').next().expect("an id")
}

async fn acc_07_the_end_of_an_account_is_an_event_of_all_that_ends_with_it(server: Arc<Deployment>) {
    let client = server.account().await;
    let (one_name, other) = (unique_name(), unique_name());
    let orders = [client.order(&[&one_name, &other]).await, client.order(&[&unique_name()]).await];
    let issued = client.issue_any().await;
    let ended = client.send(client.account(), json!({"status": "deactivated"})).await.expect(200);
    wait_until("all is tidied up", || {
        server.sql("SELECT count(*) FROM accounts WHERE untidied_since IS NOT NULL") == "0"
    });
    let trail = server.command(&["audit", "--account", id(client.account()), "--json"]);
    let events: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let deactivated: Vec<_> =
        events.iter().filter(|event| event["action"] == "account.deactivated").collect();
    let [event] = deactivated.as_slice() else { panic!("not one: {events:?}") };
    assert_eq!(event["request_id"].as_str(), ended.header("x-request-id"), "{event}");
    let ids = |action: &str, member: &str| -> BTreeSet<String> {
        let found: Vec<_> = events.iter().filter(|event| event["action"] == action).collect();
        assert!(found.iter().all(|event| event["actor"] == "replica"), "{found:?}");
        let ids: BTreeSet<_> = found.iter().map(|event| text(event, member)).collect();
        assert_eq!(ids.len(), found.len(), "one event each: {found:?}");
        ids
    };
    let expected: BTreeSet<_> = orders.iter().map(|order| id(&order.url).to_owned()).collect();
    assert_eq!(ids("order.failed", "order"), expected);
    let urls = orders.iter().flat_map(|order| order.authorizations());
    let given_up: BTreeSet<_> = urls.map(|url| id(&url).to_owned()).collect();
    let all = ids("authorization.deactivated", "authorization");
    assert!(all.is_superset(&given_up) && all.len() == 4, "and that of the certificate: {all:?}");
    let unique: BTreeSet<_> = events.iter().map(|event| text(event, "id")).collect();
    assert_eq!(unique.len(), events.len(), "each event has an id of its own");
    assert_eq!(server.sql("SELECT progress FROM orders WHERE progress <> 'invalid'"), "valid");
    let kept = format!("SELECT revoked_at IS NULL FROM certificates WHERE serial = '{}'", id(&issued.url));
    assert!(matches!(server.sql(&kept).as_str(), "t" | "1"), "a certificate outlives its account");
}

#[cfg(feature = "faults")]
/// An account that is deactivated between begin and finish of an issuance: whoever has the job ends it.
fn deactivated_during_issuance(kind: Kind) {
    let settings = Settings::new().killed_at("issuance-begun").set("CHANCERY_SWEEP_INTERVAL", "1h");
    let server = Deployment::with(kind, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
        ask.try_send().await.expect_err("the answer is lost");
        server.replica(0).wait_for_fault().await;
        if kind == Kind::Embedded {
            server.restart(0);
            client.forget_nonces();
        }
        client.send(client.account(), json!({"status": "deactivated"})).await.expect(200);
        wait_until("the order ends", || server.sql("SELECT progress FROM orders") == "invalid");
        let error: Value = serde_json::from_str(&server.sql("SELECT error FROM orders")).expect("JSON");
        assert!(text(&error, "type").ends_with(":unauthorized"), "{error}");
        assert_eq!(
            server.sql("SELECT count(*) FROM certificates WHERE der IS NOT NULL AND profile <> 'listener'"),
            "0"
        );
    });
}

#[cfg(feature = "faults")]
#[test]
fn acc_07_an_account_deactivated_during_issuance_gets_no_certificate_embedded() {
    deactivated_during_issuance(Kind::Embedded);
}

#[cfg(feature = "faults")]
#[test]
fn acc_07_an_account_deactivated_during_issuance_gets_no_certificate_fleet() {
    deactivated_during_issuance(Kind::Fleet);
}

const HOUR: Duration = Duration::from_secs(3600);

fn authorization(account: &AccountId, outcome: Outcome) -> Authorization {
    Authorization {
        id: AuthorizationId::new(),
        account_id: account.clone(),
        profile: "default".into(),
        identifier: Identifier::Dns("a.test".into()),
        wildcard: false,
        outcome,
        created_at: NOW,
        expires_at: NOW.plus(HOUR),
        token: "token".into(),
        challenge_types: vec![ChallengeType::Http01],
        attempted: None,
        validated_at: None,
        error: None,
    }
}

/// A ready order.
async fn order(store: &Store, account: &AccountId) -> Order {
    let authorization = authorization(account, Outcome::Valid);
    let order = Order {
        id: OrderId::new(),
        account_id: account.clone(),
        profile: "default".into(),
        identifiers: vec![authorization.identifier.clone()],
        not_before: None,
        not_after: None,
        replaces: None,
        exempt: false,
        created_at: NOW,
        expires_at: NOW.plus(HOUR),
        progress: Progress::Open,
        error: None,
        serial: None,
        authorizations: vec![(&authorization).into()],
    };
    let rows =
        NewOrderRows { order: order.clone(), authorizations: vec![authorization], replaces: None, cap: None };
    assert_eq!(store.insert_order(rows).await.unwrap(), Placing::Placed);
    order
}

fn reservation(order: &Order, last: u8) -> Reservation {
    Certificate {
        serial: Serial::from_random([last; 16]),
        order_id: order.id.clone(),
        account_id: order.account_id.clone(),
        profile: "default".into(),
        issuer_id: "i".into(),
        identifiers: order.identifiers.clone(),
        key_sha256: "k".into(),
        public_key: Vec::new(),
        not_before: NOW,
        not_after: NOW.plus(HOUR),
        content: None,
        der: None,
        issued_at: None,
        revocation: None,
    }
}

#[test]
fn acc_07_no_statement_goes_on_for_a_deactivated_account() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async {
            let tables = Tables::new(dialect).await;
            let store = &tables.store;
            let account = account(store, NOW).await;
            let (begun, late) =
                (authorization(&account, Outcome::Pending), authorization(&account, Outcome::Pending));
            for each in [&begun, &late] {
                store.insert_authorization(each).await.unwrap();
            }
            let job = |authorization: &Authorization| ValidationJob {
                authorization: authorization.clone(),
                key_thumbprint: "t".into(),
                lease: LeaseToken::new(),
                claims: 1,
                charged: None,
            };
            let (held, wanted) = (job(&begun), job(&late));
            // Its lease is over already: anybody may claim it.
            let over = NOW.minus(Duration::from_secs(1));
            assert!(store.begin_validation(&held, ChallengeType::Http01, NOW, over).await.unwrap());
            let (issuing, ready) = (order(store, &account).await, order(store, &account).await);
            let until = NOW.plus(HOUR);
            let lease = LeaseToken::new();
            let begin = async |order: &Order, last: u8| {
                store
                    .begin_issuance(reservation(order, last), &account, "a", &lease, NOW, until)
                    .await
                    .unwrap()
            };
            assert!(begin(&issuing, 1).await);

            assert!(store.deactivate_account(&account, NOW).await.unwrap());
            assert!(!store.deactivate_account(&account, NOW).await.unwrap(), "once");
            assert!(!store.begin_validation(&wanted, ChallengeType::Http01, NOW, until).await.unwrap());
            assert!(!store.renew_validation(&begun.id, &held.lease, until, NOW).await.unwrap());
            assert!(
                store
                    .claim_validations(ChallengeType::Http01, &account, NOW, until, 10)
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert!(!store.finish_validation(&held, Ok(NOW), until, NOW).await.unwrap());
            assert!(!store.deactivate_authorization(&late.id, &account, NOW).await.unwrap());
            let names = [Identifier::Dns("a.test".into())];
            assert!(store.valid_authorizations(&account, &names, NOW).await.unwrap().is_empty());
            assert!(!begin(&ready, 2).await);
            let job = IssuanceJob { order_id: issuing.id.clone(), lease: lease.clone(), claims: 1 };
            let finished = store.finish_issuance(&job, &reservation(&issuing, 1), vec![1], NOW).await;
            assert!(!finished.unwrap(), "{dialect:?}");
            assert_eq!(tables.column("SELECT serial FROM certificates WHERE der IS NOT NULL").await.len(), 0);
        });
    }
}

/// So many open authorizations of an account, and a twentieth as many orders.
async fn fill(tables: &Tables, dialect: Dialect, account: &AccountId, count: u32) {
    let numbers = |count: u32| match dialect {
        Dialect::Postgres => format!("SELECT n FROM generate_series(1, {count}) n"),
        Dialect::Sqlite => format!(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s"
        ),
    };
    let name = match dialect {
        Dialect::Postgres => "md5(n::text || 'x')",
        Dialect::Sqlite => "lower(hex(randomblob(16)))",
    };
    let (until, numbers_of_orders) = (NOW.plus(HOUR).micros(), numbers(count / 20));
    tables
        .run(format!(
            "INSERT INTO authorizations (id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, \
             created_at, expires_at, token, challenge_types) SELECT {name}, '{account}', 'default', 'dns', \
             'a' || (n % 1000) || '.test', 0, 'pending', 0, {until} + n, 't', 'http-01' FROM ({}) AS numbers",
            numbers(count)
        ))
        .await;
    tables
        .run(format!(
            "INSERT INTO orders (id, account_id, profile, identifiers, created_at, expires_at, progress) \
             SELECT {name}, '{account}', 'default', '[]', 0, {until} + n, 'open' FROM ({numbers_of_orders}) AS numbers"
        ))
        .await;
}

/// Ends everything that hangs on an account; says how many rows that were.
async fn tidy(store: &Store, term: &Term, account: &AccountId) -> usize {
    let mut rows = 0;
    let mut hanging = Some(Hanging::Authorizations);
    while let Some(kind) = hanging {
        let mut from = Cursor::start();
        loop {
            let page = store.end_hanging(kind, term, NOW, account, &from, 500, "{}").await.unwrap();
            assert!(page.rows <= 500);
            rows += page.rows;
            let Some(next) = page.next else { break };
            from = next;
        }
        hanging = kind.next();
    }
    rows
}

/// Deactivates an account with so many authorizations, and tidies up, while another account writes.
fn any_history(dialect: Dialect, count: u32) {
    let tables = runtime().block_on(Tables::new(dialect));
    let store = &tables.store;
    let (mut fastest, done) = (Duration::MAX, AtomicBool::new(false));
    runtime().block_on(async {
        let (mut accounts, other) = (Vec::new(), account(store, NOW).await);
        // The first has the history; of the others one is not to be slowed down by it.
        for _ in 0..3 {
            accounts.push(account(store, NOW).await);
        }
        let filling = Instant::now();
        fill(&tables, dialect, &accounts[0], count).await;
        println!("{dialect:?}: {count} authorizations were made in {:.1?}", filling.elapsed());
        let begun = Instant::now();
        assert!(store.deactivate_account(&accounts[0], NOW).await.unwrap());
        let first = begun.elapsed();
        // What the machine does besides is in all of them.
        for each in &accounts[1..] {
            let begun = Instant::now();
            assert!(store.deactivate_account(each, NOW).await.unwrap());
            fastest = fastest.min(begun.elapsed());
        }
        println!("{dialect:?}: it was deactivated in {first:.1?}, one without history in {fastest:.1?}");
        assert!(first <= Duration::from_millis(50).max(fastest * 5), "{first:?}");
        let replica = ReplicaId::new();
        let term = store.take_leadership(&replica, NOW, NOW.plus(HOUR)).await.unwrap().expect("nobody leads");
        let stranger = Term { holder: ReplicaId::new(), ..term.clone() };
        assert_eq!(tidy(store, &stranger, &accounts[0]).await, 0, "under the leader's term alone");
        let writes = async {
            let mut slowest = Duration::ZERO;
            for n in 0.. {
                let begun = Instant::now();
                assert!(store.update_contacts(&other, &[format!("mailto:{n}@a.test")]).await.unwrap());
                slowest = slowest.max(begun.elapsed());
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            slowest
        };
        let tidying = async {
            let begun = Instant::now();
            let rows = tidy(store, &term, &accounts[0]).await;
            done.store(true, Ordering::Relaxed);
            (rows, begun.elapsed())
        };
        let (slowest, (rows, took)) = tokio::join!(writes, tidying);
        println!("{dialect:?}: {rows} rows were ended in {took:.1?}; another account waited {slowest:.1?} at most");
        assert_eq!(rows, usize::try_from(count + count / 20).unwrap());
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        assert_eq!(tidy(store, &term, &accounts[0]).await, 0, "once");
        let told = "SELECT CAST(count(*) AS TEXT) FROM audit_events WHERE action IN ('authorization.deactivated', 'order.failed')";
        assert_eq!(tables.column(told).await, [rows.to_string()]);
        let due: Timestamp = NOW;
        let mut left = store.untidied_accounts(due, 10).await.unwrap();
        assert_eq!(left.len(), 3);
        for (account, since) in left.drain(..) {
            assert!(!store.account_is_tidy(&account, since, &stranger, NOW).await.unwrap());
            assert!(store.account_is_tidy(&account, since, &term, NOW).await.unwrap());
        }
        assert!(store.untidied_accounts(due, 10).await.unwrap().is_empty());
    });
}

#[test]
fn acc_07_an_account_with_a_history_is_deactivated_at_once_on_sqlite() {
    any_history(Dialect::Sqlite, 20_000);
}

#[test]
fn acc_07_an_account_with_a_history_is_deactivated_at_once_on_postgres() {
    any_history(Dialect::Postgres, 40_000);
}

#[test]
#[ignore = "takes minutes: make test-sweep-million"]
fn acc_07_an_account_with_a_million_authorizations_is_deactivated_at_once() {
    any_history(Dialect::Sqlite, 200_000);
    any_history(Dialect::Postgres, 1_000_000);
}
