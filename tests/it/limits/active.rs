//! I-10: active orders, decided in the statement that inserts the order.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chancery::acme::authorization::{Authorization, Outcome};
use chancery::acme::id::{AccountId, AuthorizationId, OrderId};
use chancery::acme::identifier::Identifier;
use chancery::acme::order::{Order, Progress};
use chancery::acme::time::{FleetClock, Timestamp};
use chancery::storage::{ActiveCap, Dialect, NewOrderRows, Placing, Store, all_statements};
use serde_json::json;

use super::{place, place_ready, refused, settings};
use crate::support::chancery::{Deployment, Kind};
use crate::support::flows::{self, identifiers};
use crate::support::keys::Key;
use crate::support::postgres::Postgres;
use crate::support::rows::account;
use crate::support::run::{folder, unique_name};
use crate::wire_tests;

wire_tests! {
    crowded =>
        ari_04_a_certificate_exempts_one_order_whatever_becomes_of_it
        ari_04_a_renewal_that_is_due_is_not_among_the_active_orders
        i_10_an_order_that_is_over_makes_room
        i_10_of_64_orders_at_once_exactly_the_cap_are_placed;
    hurried =>
        i_10_expiry_makes_room_without_a_sweep;
    left_alone =>
        i_10_untouched_orders_stop_counting_until_their_first_step;
}

/// Five active orders, and no other limit.
fn crowded(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    let settings = settings().set("CHANCERY_LIMITS_ACTIVE_ORDERS", "5");
    cell.get_or_init(|| Deployment::with(kind, &settings)).clone()
}

/// Three, which end after four seconds.
fn hurried(kind: Kind) -> Arc<Deployment> {
    let settings = settings().set("CHANCERY_LIMITS_ACTIVE_ORDERS", "3").set("CHANCERY_ORDER_LIFETIME", "4s");
    Deployment::with(kind, &settings)
}

/// Three, which count for four seconds without a step.
fn left_alone(kind: Kind) -> Arc<Deployment> {
    let settings =
        settings().set("CHANCERY_LIMITS_ACTIVE_ORDERS", "3").set("CHANCERY_ORDER_UNTOUCHED_AFTER", "4s");
    Deployment::with(kind, &settings)
}

async fn i_10_untouched_orders_stop_counting_until_their_first_step(server: Arc<Deployment>) {
    let client = server.account().await;
    let (known, name) = (unique_name(), unique_name());
    // One with a step, one without, and one that rests on what was proven for another order alone.
    let touched = client.order(&[&known, &unique_name()]).await;
    let first = touched.authorizations().remove(0);
    client.answer(&first, "http-01").await;
    client.wait_for(&first, "valid").await;
    let untouched = client.order(&[&name]).await;
    // An order's beginning is a whole second: what was proven in the same one counts as proven for it.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let reusing = client.order(&[&known]).await;
    assert_eq!(client.read(&reusing.url).await.state(), "ready");
    let start = Instant::now();
    while place(&client, &[&unique_name()]).await.status != 201 {
        assert!(start.elapsed() < Duration::from_secs(15), "still counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nothing has become of it: it is finished as any other.
    client.authorize(&untouched, "http-01").await;
    client.collect(&untouched, &[&name], Key::new()).await;
    // Whatever was placed meanwhile and left alone, the one with a step counts.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let placing = (0..4).map(|_| async { place(&client, &[&unique_name()]).await });
    let answers = futures_util::future::join_all(placing).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert!(refused(answer, "active-orders") <= 60);
    }
}

async fn ari_04_a_certificate_exempts_one_order_whatever_becomes_of_it(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.order_under("due", &[&name]).await;
    let issued = client.collect(&order, &[&name], Key::new()).await;
    let renewal = |names: &[&str]| json!({"identifiers": identifiers(names), "replaces": issued.chain.renewal_id(), "profile": "trusted"});
    for _ in 0..5 {
        place(&client, &[&unique_name()]).await.expect(201);
    }
    refused(&client.new_order(renewal(&[&name, &unique_name()])).await, "active-orders");
    let order = flows::Order::of(&client.new_order(renewal(&[&name])).await.expect(201));
    // Who gives it up has had it.
    let authorization = order.authorizations().remove(0);
    client.send(&authorization, json!({"status": "deactivated"})).await.expect(200);
    refused(&client.new_order(renewal(&[&name])).await, "active-orders");
}

async fn i_10_of_64_orders_at_once_exactly_the_cap_are_placed(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    let names: Vec<String> = (0..64).map(|_| unique_name()).collect();
    let orders = names.iter().enumerate().map(|(index, name)| {
        let client = &client;
        // Pending and ready ones alike.
        async move {
            if index % 2 == 0 { place(client, &[name]).await } else { place_ready(client, &[name]).await }
        }
    });
    let (answers, others) = tokio::join!(
        futures_util::future::join_all(orders),
        futures_util::future::join_all((0..5).map(|_| async { place(&other, &[&unique_name()]).await }))
    );
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 5);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let seconds = refused(answer, "active-orders");
        assert_eq!(seconds, 60, "the first ends by itself in a day, and finishing one makes room at once");
    }
    assert!(others.iter().all(|answer| answer.status == 201), "another account's are its own");
}

async fn i_10_an_order_that_is_over_makes_room(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let to_issue = client.ready_order(&[&name]).await;
    let to_fail = client.order(&[&unique_name()]).await;
    let to_end = client.order(&[&unique_name()]).await;
    client.order(&[&unique_name()]).await;
    client.order(&[&unique_name()]).await;
    refused(&place(&client, &[&unique_name()]).await, "active-orders");
    // Issued.
    client.collect(&to_issue, &[&name], Key::new()).await;
    place(&client, &[&unique_name()]).await.expect(201);
    refused(&place(&client, &[&unique_name()]).await, "active-orders");
    // Failed, though no order was written to when it did.
    let authorization = to_fail.authorizations().remove(0);
    client.answer_blindly(&authorization, "http-01").await;
    client.wait_for(&authorization, "invalid").await;
    place(&client, &[&unique_name()]).await.expect(201);
    refused(&place(&client, &[&unique_name()]).await, "active-orders");
    // Given up.
    let authorization = to_end.authorizations().remove(0);
    client.send(&authorization, json!({"status": "deactivated"})).await.expect(200);
    place(&client, &[&unique_name()]).await.expect(201);
    refused(&place(&client, &[&unique_name()]).await, "active-orders");
}

async fn ari_04_a_renewal_that_is_due_is_not_among_the_active_orders(server: Arc<Deployment>) {
    let client = server.account().await;
    let issue = async |profile: &str| {
        let name = unique_name();
        let order = client.order_under(profile, &[&name]).await;
        (client.collect(&order, &[&name], Key::new()).await, name)
    };
    let (first, second, early) = (issue("due").await, issue("due").await, issue("trusted").await);
    let renewal = |(issued, name): &(flows::Issued, String)| json!({"identifiers": identifiers(&[name]), "replaces": issued.chain.renewal_id(), "profile": "trusted"});
    client.new_order(renewal(&first)).await.expect(201);
    for _ in 0..5 {
        place(&client, &[&unique_name()]).await.expect(201);
    }
    refused(&place(&client, &[&unique_name()]).await, "active-orders");
    refused(&client.new_order(renewal(&early)).await, "active-orders");
    client.new_order(renewal(&second)).await.expect(201);
}

async fn i_10_expiry_makes_room_without_a_sweep(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..3 {
        place(&client, &[&unique_name()]).await.expect(201);
    }
    let seconds = refused(&place(&client, &[&unique_name()]).await, "active-orders");
    assert!(seconds <= 4, "{seconds}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    place(&client, &[&unique_name()]).await.expect(201);
}

fn an_hour_before(now: Timestamp) -> Timestamp {
    now.minus(Duration::from_secs(3600))
}

fn rows(account: &AccountId, now: Timestamp, cap: Option<u32>) -> NewOrderRows {
    let identifier = Identifier::Dns(unique_name());
    let authorization = Authorization {
        id: AuthorizationId::new(),
        account_id: account.clone(),
        profile: "default".into(),
        identifier: identifier.clone(),
        wildcard: false,
        outcome: Outcome::Pending,
        created_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        token: "token".into(),
        challenge_types: Vec::new(),
        attempted: None,
        validated_at: None,
        error: None,
    };
    let order = Order {
        id: OrderId::new(),
        account_id: account.clone(),
        profile: "default".into(),
        identifiers: vec![identifier],
        not_before: None,
        not_after: None,
        replaces: None,
        exempt: false,
        created_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        progress: Progress::Open,
        error: None,
        serial: None,
        authorizations: vec![(&authorization).into()],
    };
    let cap = cap.map(|most| ActiveCap { most, now, untouched_since: an_hour_before(now) });
    NewOrderRows { order, authorizations: vec![authorization], replaces: None, cap }
}

/// Three stores on one new Postgres database, as three replicas have them.
async fn stores() -> (Vec<Store>, String) {
    let url = Postgres::shared().database();
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Store::postgres(&url, 8).await.unwrap());
    }
    stores[0].migrate().await.unwrap();
    (stores, url)
}

/// The stores alone, without the rest of a request between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_10_three_stores_never_place_one_too_many() {
    let (stores, _) = stores().await;
    for round in 0..5 {
        let (account, now) =
            (account(&stores[0], FleetClock::machine_now()).await, FleetClock::machine_now());
        let cap = 1 + round;
        let placing: Vec<_> = (0..64)
            .map(|index| {
                let (store, rows) = (stores[index % 3].clone(), rows(&account, now, Some(cap)));
                tokio::spawn(async move { store.insert_order(rows).await.unwrap() })
            })
            .collect();
        let mut placed = 0;
        for each in placing {
            match each.await.unwrap() {
                Placing::Placed => placed += 1,
                other => assert_eq!(other, Placing::TooManyActive),
            }
        }
        assert_eq!(placed, cap);
        // What was not placed left nothing behind.
        assert_eq!(
            stores[1].active_order_ends(&account, now, an_hour_before(now)).await.unwrap().len(),
            cap as usize
        );
        let orders = stores[2].orders_of_account(&account, "", 100, FleetClock::machine_now()).await.unwrap();
        assert_eq!(orders.len(), cap as usize);
        let late = now.plus(Duration::from_secs(3601));
        assert_eq!(stores[0].active_order_ends(&account, late, an_hour_before(late)).await.unwrap(), []);
        assert_eq!(stores[0].insert_order(rows(&account, late, Some(1))).await.unwrap(), Placing::Placed);
    }
}

/// The count goes by the index of the account's open orders, however many others it has.
#[tokio::test]
async fn i_10_the_count_costs_what_is_open_and_not_the_history() {
    let (stores, url) = stores().await;
    let postgres = Postgres::shared();
    let account = account(&stores[0], FleetClock::machine_now()).await;
    let history = |expires: &str, progress: &str, count: u32| {
        format!(
            "INSERT INTO orders (id, account_id, profile, identifiers, created_at, expires_at, progress) \
             SELECT md5('{progress}{expires}' || n), '{account}', 'default', '[]', 0, {expires}, '{progress}' \
             FROM generate_series(1, {count}) n;"
        )
    };
    let future = FleetClock::machine_now().plus(Duration::from_secs(3600)).micros().to_string();
    postgres.psql(&url, &(history(&future, "valid", 20_000) + &history("1", "open", 5_000)));
    postgres.psql(&url, &(history(&future, "open", 3) + "ANALYZE"));
    let statements = all_statements(Dialect::Postgres);
    let (_, text) = statements.iter().find(|(name, _)| *name == "ACTIVE_ORDER_ENDS").expect("there");
    let text = text.lines().skip(1).collect::<Vec<_>>().join(" ");
    let now = FleetClock::machine_now().micros();
    let plan = postgres.psql(
        &url,
        &format!(
            "SET enable_seqscan = off; PREPARE s (TEXT, BIGINT, BIGINT) AS {text}; \
             EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF) EXECUTE s ('{account}', {now}, -1)"
        ),
    );
    assert!(plan.contains("orders_active") && !plan.contains("Seq Scan on orders"), "{plan}");
    let (now, always) = (Timestamp::from_micros(now), Timestamp::from_micros(-1));
    assert_eq!(stores[0].active_order_ends(&account, now, always).await.unwrap().len(), 3);
    // They were placed at the beginning of time and never touched.
    let mut rows = rows(&account, now, Some(3));
    assert_eq!(stores[0].active_order_ends(&account, now, an_hour_before(now)).await.unwrap(), []);
    rows.cap = Some(ActiveCap { most: 3, now, untouched_since: always });
    assert_eq!(stores[0].insert_order(rows).await.unwrap(), Placing::TooManyActive);
}

/// Run by hand: `cargo test --test it -- --ignored --nocapture rates_of_placing`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rates_of_placing() {
    let (stores, _) = stores().await;
    let home = folder("rates");
    let sqlite = Store::sqlite(&home.join("rates.sqlite")).await.unwrap();
    sqlite.migrate().await.unwrap();
    for (name, store) in [("Postgres", &stores[0]), ("SQLite", &sqlite)] {
        for (tasks, shared) in [(1, false), (8, false), (8, true)] {
            for cap in [None, Some(1_000_000), None, Some(1_000_000)] {
                let one = account(store, FleetClock::machine_now()).await;
                let start = std::time::Instant::now();
                let running: Vec<_> = (0..tasks)
                    .map(|_| {
                        let (store, one) = (store.clone(), one.clone());
                        tokio::spawn(async move {
                            for _ in 0..1_600 / tasks {
                                // Few open orders each: the cost of the lock and the count, not of a crowd.
                                let account = if shared { one.clone() } else { AccountId::new() };
                                let placed =
                                    store.insert_order(rows(&account, FleetClock::machine_now(), cap));
                                assert_eq!(placed.await.unwrap(), Placing::Placed);
                            }
                        })
                    })
                    .collect();
                for task in running {
                    task.await.unwrap();
                }
                let rate = 1_600.0 / start.elapsed().as_secs_f64();
                println!("{name}, {tasks} tasks, one account {shared}, cap {}: {rate:.0}/s", cap.is_some());
            }
        }
    }
}
