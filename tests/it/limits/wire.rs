//! What a client sees of limits.

use std::sync::Arc;

use serde_json::json;

use super::{limited, place, place_ready, refused, use_up};
use crate::support::certificate::csr;
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{Order, challenge, identifiers, text};
use crate::support::keys::Key;
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    limited =>
        ari_04_an_order_that_renews_what_is_due_is_not_counted
        lim_01_a_challenge_is_not_answered_when_too_many_validations_failed
        lim_01_an_order_too_many_is_refused_with_all_that_helps
        lim_01_failed_validations_are_counted_by_account_and_identifier
        lim_01_key_changes_are_counted_and_failed_ones_are_not
        lim_01_pre_authorizations_are_counted_as_orders
        lim_01_the_same_set_of_identifiers_is_issued_so_often
        lim_02_what_is_refused_is_not_counted
        lim_03_of_forty_orders_at_once_exactly_the_capacity_pass
        lim_01_responses_to_a_challenge_are_counted_and_reads_are_not;
}

async fn lim_01_an_order_too_many_is_refused_with_all_that_helps(server: Arc<Deployment>) {
    let client = server.account().await;
    use_up(&client, 6).await;
    for _ in 0..2 * server.size() {
        let seconds = refused(&place(&client, &[&unique_name()]).await, "new-orders");
        // One use in ten minutes, of which some have passed.
        assert!((540..=600).contains(&seconds), "{seconds}");
    }
    // The answer's nonce works, and other limits and accounts are not touched (LIM-04).
    client.read(client.account()).await.expect(200);
    place_ready(&server.account().await, &[&unique_name()]).await.expect(201);
    let orders = client.read(&text(&client.read(client.account()).await.json(), "orders")).await.expect(200);
    assert_eq!(orders.json()["orders"].as_array().map(Vec::len), Some(6), "{orders}");
    for replica in 0..server.size() {
        let metrics = server.replica(replica).ops_get("/metrics").expect("metrics").1;
        for line in ["limit=\"new-orders\",result=\"allowed\"", "limit=\"new-orders\",result=\"refused\""] {
            assert!(metrics.contains(&format!("chancery_limits_total{{{line}}}")), "{line}: {metrics}");
        }
    }
}

async fn lim_01_pre_authorizations_are_counted_as_orders(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    let url = client.resource("newAuthz").await;
    let ask = async |name: &str| {
        let payload = json!({"identifier": {"type": "dns", "value": name}});
        client.send(&url, payload).await
    };
    for _ in 0..8 {
        ask("denied.test").await.problem(400, "rejectedIdentifier");
        ask("*.a.test").await.problem(400, "malformed");
    }
    use_up(&client, 4).await;
    for _ in 0..2 {
        ask(&unique_name()).await.expect(201);
    }
    for _ in 0..2 * server.size() {
        let seconds = refused(&ask(&unique_name()).await, "new-orders");
        assert!((540..=600).contains(&seconds), "{seconds}");
    }
    refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
    // At once, through all replicas: exactly as many as the limit allows.
    let racing = (0..20).map(|_| other.send(&url, json!({"identifier": identifiers(&[&unique_name()])[0]})));
    let answers = futures_util::future::join_all(racing).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 6);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        refused(answer, "new-orders");
    }
}

async fn lim_02_what_is_refused_is_not_counted(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..8 {
        place(&client, &["denied.test"]).await.problem(400, "rejectedIdentifier");
        place(&client, &[]).await.problem(400, "malformed");
        let payload = json!({"identifiers": identifiers(&[&unique_name()]), "profile": "none"});
        client.new_order(payload).await.problem(400, "invalidProfile");
    }
    // Refused when the charge is paid already: the certificate is replaced by another order at the same moment.
    let issued = client.issue_any().await;
    let replaces = issued.chain.renewal_id();
    let names = issued.chain.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let order = json!({"identifiers": identifiers(&names), "replaces": replaces, "profile": "trusted"});
    let racing = (0..12).map(|_| client.new_order(order.clone()));
    let answers = futures_util::future::join_all(racing).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem_of(&["alreadyReplaced", "rateLimited"]);
    }
    // Two are used: four are left, and no more.
    use_up(&client, 4).await;
    refused(&place(&client, &[&unique_name()]).await, "new-orders");
}

async fn lim_03_of_forty_orders_at_once_exactly_the_capacity_pass(server: Arc<Deployment>) {
    let client = server.account().await;
    let names: Vec<String> = (0..40).map(|_| unique_name()).collect();
    let orders = names.iter().map(|name| {
        let client = &client;
        async move { place_ready(client, &[name]).await }
    });
    let answers = futures_util::future::join_all(orders).await;
    let placed = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(placed, 6);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        refused(answer, "new-orders");
    }
}

/// Changes the key of the account from `old` to `new`, as the client `from` whose key is `old`.
async fn change_key(from: &Client, old: &Key, new: &Key) -> Response {
    let url = from.resource("keyChange").await;
    let payload = json!({"account": from.account(), "oldKey": old.jwk()});
    let inner = from.post(&url).signed_by(new).by_jwk().no_nonce().json(payload).sealed();
    from.post(&url).signed_by(old).by_kid(from.account()).json(inner).send().await
}

async fn lim_01_key_changes_are_counted_and_failed_ones_are_not(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    for _ in 0..4 {
        change_key(&client, &client.key, &other.key).await.expect(409);
    }
    let keys = [Key::new(), Key::new(), Key::new()];
    change_key(&client, &client.key, &keys[0]).await.expect(200);
    change_key(&client, &keys[0], &keys[1]).await.expect(200);
    let seconds = refused(&change_key(&client, &keys[1], &keys[2]).await, "key-changes");
    assert!((1700..=1800).contains(&seconds), "{seconds}");
    // The key is as it was.
    let url = client.account();
    client.post(url).signed_by(&keys[1]).by_kid(url).send().await.expect(200);
    change_key(&other, &other.key, &keys[2]).await.expect(200);
}

/// Lets one validation of `name` fail.
async fn fail(client: &Client, name: &str) {
    let order = client.order(&[name]).await;
    let authorization = order.authorizations().remove(0);
    client.answer_blindly(&authorization, "dns-01").await;
    client.wait_for(&authorization, "invalid").await;
}

async fn lim_01_failed_validations_are_counted_by_account_and_identifier(server: Arc<Deployment>) {
    let (client, name, other) = (server.account().await, unique_name(), unique_name());
    fail(&client, &name).await;
    fail(&client, &name).await;
    let answer = place(&client, &[&other, &name]).await;
    refused(&answer, "failed-validations");
    let problem = answer.json();
    assert_eq!(problem["subproblems"][0]["identifier"], json!({"type": "dns", "value": name}), "{answer}");
    // The name's wildcard needs the same proof.
    refused(&place(&client, &[&format!("*.{name}")]).await, "failed-validations");
    place(&client, &[&other]).await.expect(201);
    place(&server.account().await, &[&name]).await.expect(201);
    // What needs no proof is not asked for any.
    place_ready(&client, &[&name]).await.expect(201);
}

async fn lim_01_a_challenge_is_not_answered_when_too_many_validations_failed(server: Arc<Deployment>) {
    let (client, name) = (server.account().await, unique_name());
    let waiting = client.order(&[&name]).await;
    fail(&client, &name).await;
    fail(&client, &name).await;
    refused(&place(&client, &[&name]).await, "failed-validations");
    let url = waiting.authorizations().remove(0);
    let authorization = client.read(&url).await.expect(200).json();
    let challenge = challenge(&authorization, "http-01").expect("offered");
    client.prepare(&authorization, &challenge);
    let answer = client.send(&text(&challenge, "url"), json!({})).await;
    refused(&answer, "failed-validations");
    assert_eq!(client.read(&url).await.state(), "pending");
    // Reading stays free.
    client.read(&text(&challenge, "url")).await.expect(200);
}

async fn lim_01_responses_to_a_challenge_are_counted_and_reads_are_not(server: Arc<Deployment>) {
    let (client, stranger) = (server.account().await, server.account().await);
    let url = client.order(&[&unique_name()]).await.authorizations().remove(0);
    let authorization = client.read(&url).await.expect(200).json();
    let offered = |kind| challenge(&authorization, kind).expect("offered");
    client.prepare(&authorization, &offered("http-01"));
    let [http, dns] = ["http-01", "dns-01"].map(|kind| text(&offered(kind), "url"));
    // Those of a stranger are nobody's.
    for _ in 0..5 {
        stranger.send(&http, json!({})).await.problem(403, "unauthorized");
    }
    for _ in 0..3 {
        client.send(&http, json!({})).await.expect(200);
    }
    for _ in 0..2 * server.size() {
        let seconds = refused(&client.send(&http, json!({})).await, "challenge-responses");
        assert!((1080..=1200).contains(&seconds), "one in twenty minutes: {seconds}");
        client.read(&http).await.expect(200);
    }
    // Nothing has become of the validation by this, and another challenge is another.
    client.wait_for(&url, "valid").await;
    refused(&client.send(&http, json!({})).await, "challenge-responses");
    client.send(&dns, json!({})).await.expect(200);
}

async fn lim_01_the_same_set_of_identifiers_is_issued_so_often(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    let (a, b) = (unique_name(), unique_name());
    // Orders alone count nothing: nobody can use up a set without a certificate.
    for _ in 0..3 {
        place_ready(&other, &[&a, &b]).await.expect(201);
    }
    let waiting = client.ready_order(&[&a, &b]).await;
    client.issue(&[&a, &b]).await;
    client.issue(&[&b, &a]).await;
    let seconds = refused(&place_ready(&client, &[&a, &b]).await, "duplicate-certificates");
    assert!((43_000..=43_200).contains(&seconds), "{seconds}");
    refused(&place(&other, &[&b, &a]).await, "duplicate-certificates");
    let csr = csr(&Key::new().to_rcgen(), &[&a, &b]);
    refused(&client.finalize(&waiting, &csr).await, "duplicate-certificates");
    assert_eq!(client.read(&waiting.url).await.state(), "ready");
    client.issue(&[&a]).await;
    client.issue(&[&a, &b, &unique_name()]).await;
}

async fn ari_04_an_order_that_renews_what_is_due_is_not_counted(server: Arc<Deployment>) {
    let client = server.account().await;
    let issue = async |profile: &str| {
        let name = unique_name();
        let order = client.order_under(profile, &[&name]).await;
        (client.collect(&order, &[&name], Key::new()).await, name)
    };
    let (due, early) = (issue("due").await, issue("trusted").await);
    use_up(&client, 4).await;
    refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
    let renewal = |(issued, name): &(crate::support::flows::Issued, String), more: &[&str]| {
        let names = identifiers(&[&[name.as_str()], more].concat());
        json!({"identifiers": names, "replaces": issued.chain.renewal_id(), "profile": "trusted"})
    };
    refused(&client.new_order(renewal(&early, &[])).await, "new-orders");
    // Another account has no part in it, and a name more makes it no renewal.
    let stranger = server.account().await.new_order(renewal(&due, &[])).await;
    stranger.problem(403, "unauthorized");
    refused(&client.new_order(renewal(&due, &[&unique_name()])).await, "new-orders");
    let order = Order::of(&client.new_order(renewal(&due, &[])).await.expect(201));
    // Once only: the next is refused as replaced, not as one too many.
    client.new_order(renewal(&due, &[])).await.problem(409, "alreadyReplaced");
    assert_eq!(client.read(&order.url).await.state(), "ready");
    // A revoked certificate is no way around the limit.
    client.revoke(early.0.chain.leaf_der(), Some(4)).await.expect(200);
    refused(&client.new_order(renewal(&early, &[])).await, "new-orders");
}
