//! What clients and operators see of housekeeping.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers};
use crate::support::keys::{Key, base64url};
use crate::support::postgres::Postgres;
use crate::support::run::{SOON, unique_name, wait_until};
use crate::wire_tests;

wire_tests! {
    resting =>
        i_12_clients_see_the_same_before_and_after_a_sweep;
    idle =>
        i_12_replicas_that_do_not_sweep_do_not_stand_for_election;
    eager =>
        i_12_what_is_past_its_retention_is_gone_and_what_rests_on_it_stays;
    Deployment::shared =>
        i_12_status_shows_the_fleet;
}

/// Everything expires after two seconds. A leader sweeps when it is elected, and then not for an hour.
fn resting(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_ORDER_LIFETIME", "2s")
        .set("CHANCERY_AUTHORIZATION_LIFETIME", "2s")
        .set("CHANCERY_LEADER_LEASE", "1s")
        .set("CHANCERY_SWEEP_INTERVAL", "1h");
    Deployment::with(kind, &settings)
}

/// Orders expire after a second, and no replica sweeps.
fn idle(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_ORDER_LIFETIME", "1s")
        .set("CHANCERY_LEADER_LEASE", "500ms")
        .set("CHANCERY_SWEEP_INTERVAL", "0s");
    Deployment::with(kind, &settings)
}

/// Everything expires after two seconds and is swept a second later.
fn eager(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_ORDER_LIFETIME", "2s")
        .set("CHANCERY_AUTHORIZATION_LIFETIME", "2s")
        .set("CHANCERY_RETENTION_ORDERS", "1s")
        .set("CHANCERY_RETENTION_AUTHORIZATIONS", "1s")
        .set("CHANCERY_RETENTION_CERTIFICATES", "1s")
        .set("CHANCERY_CRL_INTERVAL", "900ms")
        .set("CHANCERY_CRL_LIFETIME", "1s")
        .set("CHANCERY_SWEEP_INTERVAL", "200ms");
    Deployment::with(kind, &settings)
}

fn total(server: &Deployment, metric: &str) -> f64 {
    (0..server.size()).map(|index| server.replica(index).metric(metric)).sum()
}

/// What a client sees of a resource.
async fn view(client: &Client, url: &str) -> (u16, Value) {
    let response = client.read(url).await;
    (response.status, response.json())
}

async fn list(client: &Client) -> Value {
    let account = client.account().to_owned();
    let orders = client.read(&account).await.expect(200).string("orders");
    client.read(&orders).await.expect(200).json()
}

/// Waits, for what only time can bring.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = std::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < SOON, "still waiting after {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn i_12_clients_see_the_same_before_and_after_a_sweep(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let (pending, failed) = (client.order(&[&unique_name()]).await, client.order(&[&unique_name()]).await);
    client.answer_blindly(&failed.authorizations()[0], "http-01").await;
    client.wait_for(&failed.authorizations()[0], "invalid").await;
    let ready_name = unique_name();
    let ready = client.ready_order(&[&ready_name]).await;
    let given_up = client.order(&[&unique_name()]).await;
    let gone = json!({"status": "deactivated"});
    client.send(&given_up.authorizations()[0], gone).await.expect(200);
    let mut urls = vec![issued.order.clone(), issued.url.clone()];
    for order in [&pending, &failed, &ready, &given_up] {
        urls.push(order.url.clone());
        urls.extend(order.authorizations());
    }
    let orders = [&pending.url, &failed.url, &ready.url, &given_up.url];
    for url in orders {
        until("it expires", async || view(&client, url).await.1["status"] == "invalid").await;
    }
    // An authorization may outlive its order: all are looked at once nothing changes by time any more.
    until("the last authorization expires", async || {
        view(&client, &given_up.authorizations()[0]).await.1["status"] == "deactivated"
            && view(&client, &ready.authorizations()[0]).await.1["status"] == "expired"
    })
    .await;
    let finalize = async |order: &Order| {
        let request = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&ready_name]))});
        client.send(&order.finalize(), request).await
    };
    let look = async || {
        let mut seen = Vec::new();
        for url in &urls {
            let response = client.read(url).await;
            seen.push((url.clone(), response.status, response.text()));
        }
        seen.push(("list".to_owned(), 200, list(&client).await.to_string()));
        let refused = finalize(&ready).await;
        seen.push(("finalize".to_owned(), refused.status, refused.detail()));
        seen
    };
    let before = look().await;
    assert_eq!(total(&server, "chancery_gc_orders_invalidated_total"), 0.0, "no sweep ran so far");
    assert!(before.iter().any(|(_, _, text)| text.contains("\"expired\"")), "{before:?}");
    // The grace of a sweep is two seconds; whoever is elected afterwards sweeps at once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for index in 0..server.size() {
        server.restart(index);
    }
    until("all four orders are marked", async || match server.database() {
        Some(url) => {
            let open = "SELECT count(*) FROM orders WHERE progress IN ('open', 'processing')";
            Postgres::shared().psql(url, open) == "0"
        }
        None => total(&server, "chancery_gc_orders_invalidated_total") == 4.0,
    })
    .await;
    assert_eq!(look().await, before);
}

async fn i_12_what_is_past_its_retention_is_gone_and_what_rests_on_it_stays(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let first = client.issue(&[&name]).await;
    let replaces = first.chain.renewal_id();
    let order = json!({"identifiers": identifiers(&[&name]), "profile": "trusted", "replaces": replaces});
    let second = Order::of(&client.new_order(order.clone()).await.expect(201));
    let second = client.collect(&second, &[&name], Key::new()).await;
    let open = client.order(&[&unique_name()]).await;
    let authorizations = open.authorizations();
    for url in [&first.order, &second.order, &open.url, &authorizations[0]] {
        until("it is swept", async || view(&client, url).await.0 == 404).await;
    }
    assert_eq!(list(&client).await, json!({"orders": []}));
    // The certificates are not expired: everything about them goes on.
    for url in [&first.url, &second.url] {
        client.read(url).await.expect(200);
    }
    client.new_order(order).await.problem(409, "alreadyReplaced");
    client.revoke(second.chain.leaf_der(), Some(1)).await.expect(200);
    wait_until("the counters tell it", || {
        total(&server, "chancery_gc_authzs_expired_total") >= 3.0
            && total(&server, "chancery_gc_orders_invalidated_total") >= 1.0
            && total(&server, "chancery_gc_lag_seconds") < 60.0
    });
    assert_eq!(total(&server, "chancery_gc_nonces_reaped_total"), 0.0);
    // An account survives its orders, and starts anew.
    client.issue_any().await;
}

/// A candidate would have stood at once; the order's expiry and the lag of sweeps, seconds later, show that none did.
async fn i_12_replicas_that_do_not_sweep_do_not_stand_for_election(server: Arc<Deployment>) {
    let client = server.account().await;
    let order = client.order(&[&unique_name()]).await;
    client.wait_for(&order.url, "invalid").await;
    wait_until("the expired order is due for longer than a sweep would leave it", || {
        !server.command(&["status"]).contains("sweeps     nothing is due")
    });
    let status = server.command(&["status"]);
    assert!(status.contains("leader     none; the last epoch was 0\n"), "{status}");
    assert_eq!(total(&server, "chancery_leader"), 0.0);
    assert_eq!(total(&server, "chancery_gc_runs_total"), 0.0);
}

async fn i_12_status_shows_the_fleet(server: Arc<Deployment>) {
    wait_until("somebody leads", || total(&server, "chancery_leader") == 1.0);
    let mut text = String::new();
    wait_until("all replicas are announced", || {
        let seen = server.command(&["status"]);
        seen.contains(&format!("replicas   {}\n", server.size())) && seen.contains("  leads ")
    });
    text.push_str(&server.command(&["status"]));
    let store = if server.kind == Kind::Fleet { "Postgres" } else { "SQLite" };
    for part in [
        format!("database   {store}, schema version ").as_str(),
        if server.kind == Kind::Fleet { "redis      ok\n" } else { "redis      not configured" },
        "epoch ",
        "sweeps     ",
        " validations",
        " issuances",
        env!("CARGO_PKG_VERSION"),
        server.replica(0).listen.to_string().as_str(),
        server.replica(0).ops.to_string().as_str(),
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    println!("{text}");
}
