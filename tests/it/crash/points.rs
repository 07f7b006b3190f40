//! At each named point of the work a replica kills or stops itself. (`--features faults` compiles the points.)

use std::time::Instant;

use serde_json::json;

use super::{Server, TAKEOVER, assert_soon, until};
use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::{Order, text};
use crate::support::keys::{Key, base64url};
use crate::support::responder::{self, Reply};
use crate::support::run::{runtime, unique_name};
use crate::support::trial::Trial;

/// Replica 0 takes a response and kills itself at `point`: the others see to the rest.
fn validation_killed_at(point: &str, answered: Option<bool>) {
    let server = Deployment::with(Kind::Fleet, &Settings::new().killed_at(point));
    runtime().block_on(async {
        let client = server.account().await;
        let trial = Trial::http(&client, |answer| Reply::Body(answer.to_owned())).await;
        let url = text(&trial.challenge, "url");
        let answer = client.post(&url).json(json!({})).through(0).ready().await.try_send().await;
        if let Some(answered) = answered {
            assert_eq!(answer.is_ok(), answered, "{answer:?}");
        }
        server.replica(0).wait_for_fault().await;
        let dead = Instant::now();
        // A client whose answer was lost responds again, which changes nothing.
        client.send(&url, json!({})).await.expect(200);
        client.wait_for(&trial.url, "valid").await;
        assert_soon(point, dead, TAKEOVER);
        client.collect(&trial.order, &[&trial.name()], Key::new()).await;
        server.assert_at_rest();
    });
}

#[test]
fn aut_07_killed_before_the_answer_to_a_response() {
    validation_killed_at("validation-accepted", Some(false));
}

#[test]
fn aut_07_killed_with_the_verdict_in_hand() {
    validation_killed_at("validation-done", None);
}

#[test]
fn aut_07_killed_after_the_verdict_was_recorded() {
    validation_killed_at("validation-recorded", None);
}

/// The row of an order's certificate.
pub(super) fn on_record(server: &Server, order: &Order, columns: &str) -> String {
    let id = order.url.rsplit('/').next().expect("an id");
    server.sql(&format!("SELECT {columns} FROM certificates WHERE order_id = '{id}'"))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Waits for the order's certificate: the one on record, with the serial that was reserved, whoever is asked.
pub(super) async fn assert_one_certificate(
    client: &crate::support::client::Client,
    order: &Order,
    serial: &str,
) {
    let server = &client.server;
    let url = client.wait_for(&order.url, "valid").await.string("certificate");
    let chain = Chain::parse(&client.read(&url).await.expect(200).text());
    assert_eq!(hex(&chain.serial()).trim_start_matches('0'), serial.trim_start_matches('0'));
    let der = if server.kind == Kind::Fleet { "encode(der, 'hex')" } else { "lower(hex(der))" };
    assert_eq!(on_record(server, order, "serial"), serial, "one row, and it is the reserved one");
    assert_eq!(on_record(server, order, der), hex(chain.leaf_der()), "what was downloaded is on record");
    for _ in 0..server.size() {
        let again = Chain::parse(&client.read(&url).await.expect(200).text());
        assert_eq!(again.leaf_der(), chain.leaf_der(), "one certificate");
    }
    server.assert_at_rest();
}

/// Replica 0 takes a finalize and kills itself at `point`.
fn issuance_killed_at(kind: Kind, point: &str) {
    let server = Deployment::with(kind, &Settings::new().killed_at(point));
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload.clone()).through(0).ready().await;
        ask.try_send().await.expect_err("the answer is lost");
        server.replica(0).wait_for_fault().await;
        if kind == Kind::Embedded {
            server.restart(0);
            client.forget_nonces();
        }
        let dead = Instant::now();
        let reserved = on_record(&server, &order, "serial");
        assert!(reserved.len() >= 16, "the serial is on record before the signature: {reserved:?}");
        // A client whose answer was lost asks again, by any replica: there is no second job.
        for _ in 0..2 {
            client.send(&order.finalize(), payload.clone()).await.problem(403, "orderNotReady");
            let state = client.read(&order.url).await.expect(200).state();
            assert!(state == "processing" || state == "valid", "{state}");
        }
        client.wait_for(&order.url, "valid").await;
        assert_soon(point, dead, TAKEOVER);
        assert_one_certificate(&client, &order, &reserved).await;
    });
}

#[test]
fn ord_12_killed_when_the_issuance_has_begun() {
    issuance_killed_at(Kind::Fleet, "issuance-begun");
}

#[test]
fn ord_12_killed_with_the_signature_in_hand() {
    issuance_killed_at(Kind::Fleet, "issuance-signed");
}

#[test]
fn ord_12_killed_after_the_certificate_was_recorded() {
    issuance_killed_at(Kind::Fleet, "issuance-recorded");
}

#[test]
fn ord_12_the_embedded_server_killed_when_the_issuance_has_begun() {
    issuance_killed_at(Kind::Embedded, "issuance-begun");
}

#[test]
fn ord_12_the_embedded_server_killed_with_the_signature_in_hand() {
    issuance_killed_at(Kind::Embedded, "issuance-signed");
}

#[test]
fn ord_12_the_embedded_server_killed_after_the_certificate_was_recorded() {
    issuance_killed_at(Kind::Embedded, "issuance-recorded");
}

/// Leases that are lost soon.
fn stopping_at(point: &str) -> Settings {
    let settings = Settings::new().set("CHANCERY_JOB_LEASE", "1s").set("CHANCERY_JOB_TICK", "100ms");
    settings.signalled_at(point, "STOP")
}

/// Waits until the replica that was stopped has noticed that its job is another's.
async fn assert_comes_too_late(server: &Server) {
    server.replica(0).signal("CONT");
    until("the result comes too late", || {
        let log = server.replica(0).log();
        log.contains("a result came too late") || log.contains("a lease was lost")
    })
    .await;
}

#[test]
fn i_03_a_verdict_under_a_lost_lease_changes_nothing() {
    let server = Deployment::with(Kind::Fleet, &stopping_at("validation-done"));
    runtime().block_on(async {
        let client = server.account().await;
        // Replica 0 finds the wrong answer and stalls with that verdict in hand; the next one finds the right answer.
        let trial = Trial::http(&client, |_| Reply::Body("wrong".to_owned())).await;
        let url = text(&trial.challenge, "url");
        client.post(&url).json(json!({})).through(0).send().await.expect(200);
        server.replica(0).wait_for_fault().await;
        let stalled = Instant::now();
        responder::http().set(&trial.token(), Reply::Body(trial.answer()));
        let valid = client.wait_for(&trial.url, "valid").await.json();
        assert_soon("validation after a SIGSTOP", stalled, TAKEOVER);
        assert_comes_too_late(&server).await;
        for _ in 0..3 {
            assert_eq!(client.read(&trial.url).await.expect(200).json(), valid);
        }
        client.collect(&trial.order, &[&trial.name()], Key::new()).await;
        server.assert_at_rest();
    });
}

#[test]
fn i_04_a_signature_under_a_lost_lease_changes_nothing() {
    let server = Deployment::with(Kind::Fleet, &stopping_at("issuance-signed"));
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
        let others = async {
            server.replica(0).wait_for_fault().await;
            let stalled = Instant::now();
            let reserved = on_record(&server, &order, "serial");
            client.wait_for(&order.url, "valid").await;
            assert_soon("issuance after a SIGSTOP", stalled, TAKEOVER);
            assert_one_certificate(&client, &order, &reserved).await;
            let before = on_record(&server, &order, "serial, issued_at, md5(der)");
            assert_comes_too_late(&server).await;
            (reserved, before)
        };
        let (answer, (reserved, before)) = tokio::join!(ask.send(), others);
        let state = answer.expect(200).state();
        assert!(state == "processing" || state == "valid", "{state}");
        assert_eq!(on_record(&server, &order, "serial, issued_at, md5(der)"), before);
        assert_one_certificate(&client, &order, &reserved).await;
    });
}

#[test]
fn i_03_a_job_that_kills_its_replicas_ends_at_last() {
    // Each start of the one replica dies of the job; then no more.
    let settings = Settings::new().set("CHANCERY_JOB_LEASE", "200ms").set("CHANCERY_JOB_TICK", "50ms");
    let server = Deployment::with(Kind::Embedded, &settings.clone().killed_at("validation-accepted"));
    runtime().block_on(async {
        let client = server.account().await;
        let trial = Trial::http(&client, |_| Reply::Silence).await;
        let ask = client.post(&text(&trial.challenge, "url")).json(json!({})).ready().await;
        ask.try_send().await.expect_err("the answer is lost");
        server.replica(0).wait_for_fault().await;
        let asked = || responder::http().requests(&trial.token()).len();
        // Taken eight times in all, the first of which ended before the target was asked.
        while asked() < 7 {
            let before = asked();
            server.restart(0);
            until("the target is asked again", || asked() > before).await;
            server.kill(0);
        }
        server.restart(0);
        client.forget_nonces();
        client.wait_for(&trial.url, "invalid").await;
        assert_eq!(asked(), 7);
        server.assert_at_rest();
    });
}
