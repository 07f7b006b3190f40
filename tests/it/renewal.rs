//! ARI and ORD-14: renewal information, and orders that replace a certificate (RFC 9773).

use std::sync::Arc;

use chancery::acme::time::{FleetClock, Timestamp};
use serde_json::json;

use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers, text};
use crate::support::keys::{Key, base64url};
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        ari_01_anyone_may_read_the_window_of_a_certificate
        ari_01_bad_ids_are_malformed_and_unknown_ones_404
        ari_02_a_revoked_certificate_has_a_window_in_the_past
        ari_02_a_certificate_that_the_operator_wants_renewed_has_one_too
        ari_03_certificates_issued_together_do_not_come_back_together
        ord_14_replaces_names_a_certificate_of_the_account_that_shares_a_name
        ord_14_a_certificate_is_replaced_once;
}

async fn ask(client: &Client, id: &str) -> Response {
    let url = client.resource("renewalInfo").await;
    client.get(&format!("{url}/{id}")).await
}

/// Start and end of the suggested window.
fn window(answer: &Response) -> (Timestamp, Timestamp) {
    let window = answer.json()["suggestedWindow"].clone();
    let read = |member: &str| Timestamp::parse_rfc3339(&text(&window, member)).expect("RFC 3339");
    (read("start"), read("end"))
}

async fn ari_01_anyone_may_read_the_window_of_a_certificate(server: Arc<Deployment>) {
    let issued = server.account().await.issue_any().await;
    let stranger = server.client();
    for _ in 0..server.size() {
        let answer = ask(&stranger, &issued.chain.renewal_id()).await.expect(200);
        assert_eq!(answer.content_type(), "application/json", "{answer}");
        assert!(answer.retry_after().is_some(), "{answer}");
        assert_eq!(answer.nonce(), None, "{answer}");
        let (start, end) = window(&answer);
        let leaf = issued.chain.leaf();
        let validity = leaf.validity();
        assert!(start < end, "{answer}");
        assert!(start.seconds() > validity.not_before.timestamp(), "{answer}");
        assert!(end.seconds() <= validity.not_after.timestamp(), "{answer}");
        assert!(start > FleetClock::machine_now(), "no need to renew now: {answer}");
    }
}

async fn ari_01_bad_ids_are_malformed_and_unknown_ones_404(server: Arc<Deployment>) {
    let issued = server.account().await.issue_any().await;
    let client = server.client();
    let (issuer, serial) = (base64url(&issued.chain.authority_key_id()), base64url(&issued.chain.serial()));
    for bad in [
        "AAAA".to_owned(),
        ".".to_owned(),
        format!("{issuer}."),
        format!(".{serial}"),
        format!("{issuer}.{serial}.x"),
        format!("{issuer}.{serial}="),
        format!("{issuer}=.{serial}"),
        format!("{issuer}.!{serial}"),
    ] {
        let answer = ask(&client, &bad).await;
        assert_eq!(answer.status, 400, "{bad}: {answer}");
        answer.problem(400, "malformed");
    }
    for unknown in [
        format!("{issuer}.{}", base64url(&[7; 16])),
        format!("{}.{serial}", base64url(&[7; 20])),
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".to_owned(),
    ] {
        ask(&client, &unknown).await.expect(404).any_problem();
    }
}

async fn ari_02_a_revoked_certificate_has_a_window_in_the_past(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    client.revoke(issued.chain.leaf_der(), Some(4)).await.expect(200);
    for _ in 0..server.size() {
        let answer = ask(&client, &issued.chain.renewal_id()).await.expect(200);
        let (start, end) = window(&answer);
        assert!(start < end && end <= FleetClock::machine_now(), "renew at once: {answer}");
        assert!(answer.string("explanationURL").starts_with("http"), "{answer}");
    }
}

async fn ari_02_a_certificate_that_the_operator_wants_renewed_has_one_too(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let serial = chancery::pki::hex(&issued.chain.serial());
    let said = server.command(&["renew", &serial]);
    assert!(said.contains("in the past"), "{said}");
    for _ in 0..server.size() {
        let answer = ask(&client, &issued.chain.renewal_id()).await.expect(200);
        let (start, end) = window(&answer);
        assert!(start < end && end <= FleetClock::machine_now(), "renew at once: {answer}");
        assert!(answer.string("explanationURL").starts_with("http"), "{answer}");
    }
    let account = client.account().rsplit('/').next().expect("an id");
    let trail = server.command(&["audit", "--account", account, "--json"]);
    assert!(trail.contains("\"certificate.renewal_asked\""), "its account's trail has it: {trail}");
    let again = server.command(&["renew", &serial, &"7f".repeat(16)]);
    assert_eq!(again.matches("not on record, revoked, or asked for already").count(), 2, "{again}");
}

async fn ari_03_certificates_issued_together_do_not_come_back_together(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut windows = Vec::new();
    for _ in 0..6 {
        let issued = client.issue_any().await;
        let lifetime = {
            let leaf = issued.chain.leaf();
            leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()
        };
        let (start, end) = window(&ask(&client, &issued.chain.renewal_id()).await.expect(200));
        windows.push((start.seconds(), end.seconds(), lifetime));
    }
    // Clients choose a moment of the window: together the windows must be as wide as a hundredth of the lifetime.
    let first = windows.iter().map(|window| window.0).min().unwrap_or(0);
    let last = windows.iter().map(|window| window.1).max().unwrap_or(0);
    assert!(last - first >= windows[0].2 / 100, "{windows:?}");
}

async fn ord_14_replaces_names_a_certificate_of_the_account_that_shares_a_name(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    let (name, more) = (unique_name(), unique_name());
    let issued = client.issue(&[&name]).await;
    let id = issued.chain.renewal_id();
    let replacing = |names: &[&str], id: &str| json!({"identifiers": identifiers(names), "profile": "trusted", "replaces": id});
    other.new_order(replacing(&[&name], &id)).await.problem(403, "unauthorized");
    client.new_order(replacing(&[&more], &id)).await.problem(400, "malformed");
    let unknown = format!("{}.{}", base64url(&issued.chain.authority_key_id()), base64url(&[7; 16]));
    let foreign = format!("{}.{}", base64url(&[7; 20]), base64url(&issued.chain.serial()));
    for wrong in [unknown.as_str(), &foreign, "", ".", "AAAA", "not.base64url!"] {
        let answer = client.new_order(replacing(&[&name], wrong)).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer}");
        answer.problem(400, "malformed");
    }
    let order = client.new_order(replacing(&[&more, &name], &id)).await.expect(201);
    assert_eq!(order.string("replaces"), id, "{order}");
    assert_eq!(client.read(&order.location()).await.string("replaces"), id);
}

async fn ord_14_a_certificate_is_replaced_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let id = client.issue(&[&name]).await.chain.renewal_id();
    let replacing =
        |profile: &str| json!({"identifiers": identifiers(&[&name]), "profile": profile, "replaces": id});
    // All at once through all replicas: one is taken.
    let asks = (0..8).map(|_| client.new_order(replacing("trusted")));
    let answers = futures_util::future::join_all(asks).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(taken.len(), 1, "{}", taken.len());
    for answer in refused {
        answer.problem(409, "alreadyReplaced");
    }
    client.collect(&Order::of(&taken[0]), &[&name], Key::new()).await;
    client.new_order(replacing("trusted")).await.problem(409, "alreadyReplaced");
    // An order that failed has replaced nothing.
    let id = client.issue(&[&name]).await.chain.renewal_id();
    let fresh = unique_name();
    let replacing =
        json!({"identifiers": identifiers(&[&name, &fresh]), "profile": "default", "replaces": id});
    let failing = Order::of(&client.new_order(replacing.clone()).await.expect(201));
    client.new_order(replacing.clone()).await.problem(409, "alreadyReplaced");
    client.send(&failing.authorizations()[1], json!({"status": "deactivated"})).await.expect(200);
    client.wait_for(&failing.url, "invalid").await;
    client.new_order(replacing).await.expect(201);
}
