//! A key that gives itself up is blocked, and the trail says so once, even where there is nothing left to revoke.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{actions, id, request_id, trail};
use crate::support::certificate::csr;
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{Issued, revocation, text};
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        a_key_that_raises_the_reason_of_its_revocation_is_one_event
        a_key_that_is_blocked_after_its_revocation_is_one_event
        a_key_that_revokes_what_is_not_revoked_is_one_event;
}

/// revoke-cert, signed by the key of the certificate.
async fn by_its_own_key(client: &Client, issued: &Issued) -> Response {
    let url = client.resource("revokeCert").await;
    let payload = revocation(issued.chain.leaf_der(), None);
    client.post(&url).signed_by(&issued.key).by_jwk().json(payload).send().await
}

async fn assert_blocked(client: &Client, issued: &Issued) {
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    let answer = client.finalize(&order, &csr(&issued.key.to_rcgen(), &[&name])).await;
    answer.problem(400, "badCSR");
}

/// Revokes by the account for `reason`, and then by the key, at once and again. Answers what the key was told, and the
/// last event, which stands for all of it.
async fn revoke_by_both(server: &Deployment, client: &Client, reason: i64) -> (Vec<Response>, Value) {
    let issued = client.issue_any().await;
    client.revoke(issued.chain.leaf_der(), Some(reason)).await.expect(200);
    let mut answers = join_all((0..4).map(|_| by_its_own_key(client, &issued))).await;
    answers.push(by_its_own_key(client, &issued).await);
    assert_blocked(client, &issued).await;
    let events = trail(server, "--serial", id(&issued.url));
    assert_eq!(actions(&events)[2], "certificate.revoked");
    assert_eq!(events.len(), 4, "{events:?}");
    let event = &events[3];
    assert_eq!(text(event, "actor"), "certificate-key", "{event}");
    assert_eq!(text(event, "account"), id(client.account()), "{event}");
    assert_eq!(text(event, "order"), id(&issued.order), "{event}");
    assert_eq!(text(&event["detail"], "key_sha256").len(), 64, "{event}");
    (answers, event.clone())
}

async fn a_key_that_raises_the_reason_of_its_revocation_is_one_event(server: Arc<Deployment>) {
    let (answers, event) = revoke_by_both(&server, &server.account().await, 4).await;
    let granted: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(granted.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(400, "alreadyRevoked");
    }
    assert_eq!(text(&event, "action"), "certificate.reason_raised");
    assert_eq!(text(&event, "request_id"), request_id(granted[0]), "{event}");
    assert_eq!(event["detail"]["reason"], json!(1));
}

async fn a_key_that_is_blocked_after_its_revocation_is_one_event(server: Arc<Deployment>) {
    let (answers, event) = revoke_by_both(&server, &server.account().await, 1).await;
    for answer in &answers {
        answer.problem(400, "alreadyRevoked");
    }
    assert_eq!(text(&event, "action"), "certificate.key_blocked");
    assert!(answers.iter().any(|answer| request_id(answer) == text(&event, "request_id")), "{event}");
}

async fn a_key_that_revokes_what_is_not_revoked_is_one_event(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    by_its_own_key(&client, &issued).await.expect(200);
    by_its_own_key(&client, &issued).await.problem(400, "alreadyRevoked");
    assert_blocked(&client, &issued).await;
    let events = trail(&server, "--serial", id(&issued.url));
    assert_eq!(actions(&events)[2..], ["certificate.revoked"]);
}
