//! From new-order to certificate: what an order reads, and where.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{on, on_the_fleet};
use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::{Ask, Client};
use crate::support::flows::{Order, identifiers, revocation, text};
use crate::support::keys::{Key, base64url};
use crate::support::responder::{self, Rcode};
use crate::support::response::Response;
use crate::support::run::unique_name;

/// cert-manager (x/crypto), acmez, acme-tiny, uacme and dehydrated give up when an order that was finalized reads `ready`.
#[test]
fn o01_after_finalize_no_replica_shows_the_order_as_it_was_before() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        for round in 0..6 {
            join_all((0..9).map(|index| race(&client, round + index))).await;
        }
    });
}

/// Finalizes through one replica and reads through the two others the moment that the answer is there.
async fn race(client: &Client, first: usize) {
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    let mut reads = Vec::new();
    for replica in [1, 2, 1, 2] {
        let nonce = client.fresh_nonce().await;
        reads.push(client.post(&order.url).nonce(nonce).through(first + replica).ready().await);
    }
    let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
    let finalize = client.post(&order.finalize()).json(payload).through(first).send().await.expect(200);
    let mut seen = vec![finalize];
    seen.extend(join_all(reads.into_iter().map(Ask::send)).await);
    for read in &seen {
        let state = read.clone().expect(200).state();
        assert!(matches!(state.as_str(), "processing" | "valid"), "finalized, and then: {read}");
    }
    // Nor does it go back later.
    let valid = client.wait_for(&order.url, "valid").await;
    assert!(valid.string("certificate").starts_with("https://"), "{valid}");
}

/// The same while issuance takes longer than finalize waits for it: here, since CAA cannot be looked up again.
#[test]
fn o01_an_order_that_takes_long_reads_processing_on_every_replica() {
    let settings = Settings::new().set("CHANCERY_VALIDATION_ATTEMPTS", "12");
    on(Deployment::with(Kind::Fleet, &settings), async |server| {
        let client = server.account().await;
        let name = unique_name();
        let order = client.order(&[&name]).await;
        client.authorize(&order, "http-01").await;
        server.sql("UPDATE authorizations SET validated_at = validated_at - 36000000000");
        responder::dns().fail_caa(&name, Rcode::ServerFailure);
        let answer = client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await.expect(200);
        assert_eq!(answer.state(), "processing", "{answer}");
        let mut turns = 0..;
        let state = loop {
            let replica = turns.next().expect("without end");
            let read = client.post(&order.url).through(replica).send().await.expect(200);
            if read.state() != "processing" {
                break read.state();
            }
            assert!(read.retry_after().is_some(), "{read}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(state, "invalid", "it cannot be issued");
        for replica in 0..server.size() {
            let read = client.post(&order.url).through(replica).send().await.expect(200);
            assert_eq!(
                (read.state().as_str(), read.json()["error"].is_object()),
                ("invalid", true),
                "{read}"
            );
            // RFC 8555 §6.7.1: which identifier it was.
            let told = read.json()["error"]["subproblems"][0]["identifier"]["value"].clone();
            assert_eq!(told, name, "{read}");
        }
    });
}

/// cert-manager (x/crypto) polls the `Location` of the answer to finalize; mod_md keeps it.
#[test]
fn o02_new_order_and_finalize_say_where_the_order_is() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        for replica in 0..server.size() {
            let name = unique_name();
            let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
            let url = client.resource("newOrder").await;
            let placed = client.post(&url).json(payload).through(replica).send().await.expect(201);
            let order = Order::of(&placed);
            let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
            let ask = client.post(&order.finalize()).json(payload).through(replica + 1);
            let finalized = ask.send().await.expect(200);
            assert_eq!(finalized.headers.get_all("location").iter().count(), 1, "{finalized}");
            assert_eq!(finalized.location(), order.url, "{finalized}");
            let valid = client.wait_for(&finalized.location(), "valid").await;
            Chain::parse(&client.read(&valid.string("certificate")).await.expect(200).text());
        }
    });
}

/// cert-manager takes a 403 to finalize for "somebody has finalized it", and goes on with what the order then reads;
/// certbot and acmez know the type.
#[test]
fn o22_to_finalize_twice_is_refused_and_the_order_goes_on() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let request = csr(&Key::new().to_rcgen(), &[&name]);
        client.finalize(&order, &request).await.expect(200);
        let certificate = client.wait_for(&order.url, "valid").await.string("certificate");
        for csr in [request, csr(&Key::new().to_rcgen(), &[&name])] {
            for replica in 0..server.size() {
                let payload = json!({"csr": base64url(&csr)});
                let again = client.post(&order.finalize()).json(payload).through(replica).send().await;
                again.problem(403, "orderNotReady");
                let read = client.post(&order.url).through(replica + 1).send().await.expect(200);
                assert_eq!(
                    (read.state().as_str(), read.string("certificate")),
                    ("valid", certificate.clone())
                );
            }
        }
        client.read(&certificate).await.expect(200);
    });
}

/// certbot takes every 409 for a conflict of accounts. lego, acmez and acme.sh drop `replaces` and ask again.
#[test]
fn o23_only_a_certificate_replaced_twice_and_a_key_in_use_are_409() {
    on_the_fleet(async |server| {
        let (client, other) = (server.account().await, server.account().await);
        let issued = client.issue_any().await;
        let name = issued.chain.names().remove(0);
        let plain = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
        let mut replacing = plain.clone();
        replacing["replaces"] = json!(issued.chain.renewal_id());
        client.new_order(replacing.clone()).await.expect(201);
        for _ in 0..server.size() {
            client.new_order(replacing.clone()).await.problem(409, "alreadyReplaced");
            client.new_order(plain.clone()).await.expect(201);
        }
        // RFC 8555 §7.3.5 wants this one.
        let url = client.resource("keyChange").await;
        let inner = json!({"account": client.account(), "oldKey": client.key.jwk()});
        let inner = client.post(&url).signed_by(&other.key).by_jwk().json(inner).sealed();
        let taken = client.send(&url, inner).await.expect(409);
        assert_eq!(taken.location(), other.account(), "{taken}");
        // What may well be said twice.
        let mut answers = vec![client.new_account(json!({"termsOfServiceAgreed": true})).await];
        let order = client.ready_order(&[&name]).await;
        let csr = csr(&Key::new().to_rcgen(), &[&name]);
        answers.extend(join_all((0..6).map(|_| client.finalize(&order, &csr))).await);
        let url = client.resource("revokeCert").await;
        let revoke = || client.send(&url, revocation(issued.chain.leaf_der(), None));
        answers.extend(join_all((0..3).map(|_| revoke())).await);
        assert_none_is_409(&answers);
    });
}

fn assert_none_is_409(answers: &[Response]) {
    for answer in answers {
        assert!(answer.status != 409 && answer.status < 500, "{answer}");
    }
    let refused = |answer: &&Response| answer.status >= 400;
    let kinds: Vec<_> = answers.iter().filter(refused).map(|answer| text(&answer.json(), "type")).collect();
    assert_eq!(kinds.len(), 7, "of six finalizes one passes, of three revocations one: {kinds:?}");
}
