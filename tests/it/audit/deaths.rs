//! The audit trail when replicas die.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{actions, id, of_account, of_order};
use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::text;
use crate::support::keys::{Key, base64url};
use crate::support::run::{unique_name, wait_until};
use crate::wire_tests;

wire_tests! {
    dying_before_the_signature => a_job_that_is_taken_over_is_the_replicas_own;
    Deployment::mortal => the_trail_agrees_with_the_books_whatever_dies_when;
}

fn dying_before_the_signature(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_JOB_LEASE", "1s")
        .set("CHANCERY_JOB_TICK", "100ms")
        .set("CHANCERY_TEST_FAULT", "issuance-begun");
    Deployment::with(kind, &settings)
}

/// The replica that began an issuance dies of it; another one ends it, or the same one when it is back.
async fn a_job_that_is_taken_over_is_the_replicas_own(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
    let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
    ask.try_send().await.expect_err("no answer from a dead replica");
    wait_until("the replica is dead", || !server.replica(0).is_running());
    if server.size() == 1 {
        server.restart(0);
        client.forget_nonces();
    }
    client.wait_for(&order.url, "valid").await;
    let events = of_order(&client, &order.url);
    assert_eq!(actions(&events), ["order.placed", "order.processing", "certificate.issued"]);
    assert_eq!(text(&events[1], "actor"), format!("account:{}", id(client.account())));
    assert_eq!((text(&events[2], "actor"), &events[2]["request_id"]), ("replica".to_owned(), &Value::Null));
    assert_eq!(text(&events[2], "account"), id(client.account()));
    assert_eq!(events[2]["detail"]["takings"], 2);
}

async fn the_trail_agrees_with_the_books_whatever_dies_when(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut serials = BTreeSet::new();
    for delay in [0, 1, 2, 3, 5, 8] {
        let name = unique_name();
        let order = client.order(&[&name]).await;
        client.authorize(&order, "http-01").await;
        let payload = || json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload()).through(0).ready().await.try_send();
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
            server.kill(0);
        };
        let _ = tokio::join!(ask, kill);
        if server.size() == 1 {
            server.restart(0);
            client.forget_nonces();
        }
        if client.post(&order.url).through(1).send().await.expect(200).state() == "ready" {
            client.post(&order.finalize()).json(payload()).through(1).send().await;
        }
        serials.insert(id(&client.wait_for(&order.url, "valid").await.string("certificate")).to_owned());
        let words = ["order.placed", "authorization.accepted", "authorization.validated", "order.processing"];
        assert_eq!(actions(&of_order(&client, &order.url)), [&words[..], &["certificate.issued"]].concat());
        if server.size() > 1 {
            server.restart(0);
        }
    }
    let issued = of_account(&client).into_iter().filter(|event| event["action"] == "certificate.issued");
    let issued: Vec<_> = issued.map(|event| text(&event, "serial")).collect();
    assert_eq!(issued.len(), serials.len(), "one event a certificate");
    assert_eq!(BTreeSet::from_iter(issued), serials);
}
