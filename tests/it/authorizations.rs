//! AUT-01 to AUT-08: authorizations, and what a client does with challenges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::time::{FleetClock, Timestamp};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{challenge, text};
use crate::support::keys::Key;
use crate::support::responder::{self, Reply};
use crate::support::run::{unique_address, unique_name};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        aut_01_an_authorization_has_all_its_members
        aut_02_a_proven_authorization_is_valid_on_every_replica
        aut_03_a_deactivated_authorization_ends_its_orders
        aut_03_another_status_is_malformed
        aut_04_new_authz_authorizes_before_there_is_an_order
        aut_04_new_authz_is_for_one_name_without_a_wildcard
        aut_05_the_challenges_fit_the_identifier
        aut_05_a_profile_that_trusts_the_account_shows_one_challenge_as_validated
        aut_06_many_answers_start_one_validation
        aut_06_reading_a_challenge_starts_nothing
        aut_08_pending_and_processing_reads_say_when_to_come_back;
    Deployment::hasty =>
        aut_02_an_authorization_past_its_expiry_reads_expired_at_once;
    Deployment::mortal =>
        aut_07_an_accepted_answer_is_validated_though_its_replica_dies;
}

/// The only authorization of a new order for `name`: its URL and itself.
async fn authorization(client: &Client, name: &str) -> (String, Value) {
    let url = client.order(&[name]).await.authorizations().remove(0);
    let body = client.read(&url).await.expect(200).json();
    (url, body)
}

async fn aut_01_an_authorization_has_all_its_members(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    for (asked, wildcard) in [(name.clone(), false), (format!("*.{name}"), true)] {
        let (url, body) = authorization(&client, &asked).await;
        assert_eq!(body["identifier"], json!({"type": "dns", "value": name}), "{body}");
        assert_eq!(body["status"], "pending", "{body}");
        assert_eq!(body.get("wildcard"), wildcard.then_some(&json!(true)), "{body}");
        let expires = Timestamp::parse_rfc3339(&text(&body, "expires")).expect("RFC 3339");
        assert!(expires > FleetClock::machine_now(), "{body}");
        for challenge in body["challenges"].as_array().expect("challenges") {
            assert_eq!(challenge["status"], "pending", "{body}");
            assert!(text(challenge, "url").starts_with(&format!("{}/", server.base_url)), "{body}");
            let token = Base64UrlUnpadded::decode_vec(&text(challenge, "token")).expect("base64url");
            assert!(token.len() >= 16, "128 bits: {body}");
            for absent in ["validated", "error"] {
                assert!(challenge.get(absent).is_none(), "{body}");
            }
        }
        for _ in 0..server.size() {
            assert_eq!(client.read(&url).await.expect(200).json(), body);
        }
    }
    let (_, one) = authorization(&client, &unique_name()).await;
    let (_, other) = authorization(&client, &unique_name()).await;
    let token = |body: &Value| text(&body["challenges"][0], "token");
    assert_ne!(token(&one), token(&other));
}

async fn aut_02_a_proven_authorization_is_valid_on_every_replica(server: Arc<Deployment>) {
    let client = server.account().await;
    let (url, _) = authorization(&client, &unique_name()).await;
    client.answer(&url, "http-01").await;
    client.wait_for(&url, "valid").await;
    for _ in 0..server.size() {
        let body = client.read(&url).await.expect(200).json();
        assert_eq!(body["status"], "valid", "{body}");
        let proof = challenge(&body, "http-01").expect("the challenge that was met");
        assert_eq!(proof["status"], "valid", "{body}");
        assert!(Timestamp::parse_rfc3339(&text(&proof, "validated")).is_some(), "{body}");
    }
}

async fn aut_02_an_authorization_past_its_expiry_reads_expired_at_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let (pending, body) = authorization(&client, &unique_name()).await;
    let expires = Timestamp::parse_rfc3339(&text(&body, "expires")).expect("RFC 3339");
    while FleetClock::machine_now() < expires.plus(Duration::from_millis(1100)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..server.size() {
        let now = client.read(&pending).await.expect(200);
        assert_eq!(now.state(), "expired", "{now}");
    }
}

async fn aut_03_a_deactivated_authorization_ends_its_orders(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, other) = (unique_name(), unique_name());
    let order = client.order(&[&other, &name]).await;
    let url = order.authorizations().remove(1);
    let gone = client.send(&url, json!({"status": "deactivated"})).await.expect(200);
    assert_eq!(gone.state(), "deactivated", "{gone}");
    for _ in 0..server.size() {
        assert_eq!(client.read(&url).await.state(), "deactivated");
        assert_eq!(client.read(&order.url).await.state(), "invalid");
    }
    // One that is valid ends too, with the order that waits for the rest, and is not used again.
    let order = client.order(&[&name, &other]).await;
    let url = order.authorizations().remove(0);
    client.answer(&url, "http-01").await;
    client.wait_for(&url, "valid").await;
    client.send(&url, json!({"status": "deactivated"})).await.expect(200);
    assert_eq!(client.read(&order.url).await.state(), "invalid");
    assert_eq!(client.order(&[&name]).await.body["status"], "pending");
}

async fn aut_03_another_status_is_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    let (url, _) = authorization(&client, &unique_name()).await;
    for status in ["valid", "invalid", "revoked", "expired", "", "Deactivated"] {
        client.send(&url, json!({"status": status})).await.problem(400, "malformed");
    }
    assert_eq!(client.read(&url).await.state(), "pending");
}

async fn aut_04_new_authz_authorizes_before_there_is_an_order(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let url = client.resource("newAuthz").await;
    let payload = json!({"identifier": {"type": "dns", "value": name}});
    let made = client.send(&url, payload).await.expect(201);
    assert_eq!(made.json()["identifier"]["value"], name, "{made}");
    assert_eq!(made.state(), "pending", "{made}");
    let authorization = made.location();
    assert_eq!(client.read(&authorization).await.expect(200).json(), made.json());
    client.answer(&authorization, "http-01").await;
    client.wait_for(&authorization, "valid").await;
    let order = client.order(&[&name]).await;
    assert_eq!(order.body["status"], "ready", "{}", order.body);
    assert_eq!(order.authorizations(), [authorization]);
}

async fn aut_04_new_authz_is_for_one_name_without_a_wildcard(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = client.resource("newAuthz").await;
    let wildcard = format!("*.{}", unique_name());
    for (identifier, kinds) in [
        (json!({"type": "dns", "value": wildcard}), ["malformed", "rejectedIdentifier"]),
        (json!({"type": "dns", "value": "a_b.test"}), ["malformed", "malformed"]),
        (json!({"type": "dns", "value": "www.denied.test"}), ["rejectedIdentifier", "rejectedIdentifier"]),
        (json!({"type": "email", "value": "a@b.test"}), ["unsupportedIdentifier", "unsupportedIdentifier"]),
        (json!("a.test"), ["malformed", "malformed"]),
    ] {
        client.send(&url, json!({"identifier": identifier})).await.problem_of(&kinds);
    }
    client.send(&url, json!({})).await.problem(400, "malformed");
}

async fn aut_05_the_challenges_fit_the_identifier(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, address) = (unique_name(), unique_address().to_string());
    for (asked, wanted) in [
        (name.clone(), ["dns-01", "http-01", "tls-alpn-01"].as_slice()),
        (format!("*.{name}"), &["dns-01"]),
        (address, &["http-01", "tls-alpn-01"]),
    ] {
        let (_, body) = authorization(&client, &asked).await;
        let offered = body["challenges"].as_array().expect("challenges");
        let mut kinds: Vec<_> = offered.iter().map(|challenge| text(challenge, "type")).collect();
        kinds.sort();
        assert_eq!(kinds, wanted, "{body}");
    }
}

async fn aut_05_a_profile_that_trusts_the_account_shows_one_challenge_as_validated(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, address) = (unique_name(), unique_address().to_string());
    let order = client.ready_order(&[&name, &format!("*.{name}"), &address]).await;
    let kinds = ["http-01", "dns-01", "http-01"];
    for (url, kind) in order.authorizations().iter().zip(kinds) {
        let body = client.read(url).await.expect(200).json();
        assert_eq!(body["status"], "valid", "{body}");
        let shown = body["challenges"].as_array().expect("challenges");
        let [shown] = shown.as_slice() else { panic!("one challenge: {body}") };
        assert_eq!((&shown["type"], &shown["status"]), (&json!(kind), &json!("valid")), "{body}");
        assert!(!text(shown, "token").is_empty(), "{body}");
        let validated = Timestamp::parse_rfc3339(&text(shown, "validated")).expect("RFC 3339");
        let age = FleetClock::machine_now().since(validated);
        assert!(age < Duration::from_secs(60) && validated <= FleetClock::machine_now(), "{body}");
        // Reading it and answering it, through any replica, is answered and changes nothing.
        for _ in 0..server.size() {
            for answer in
                [client.read(&text(shown, "url")).await, client.send(&text(shown, "url"), json!({})).await]
            {
                let answer = answer.expect(200);
                assert_eq!(answer.json(), *shown, "{answer}");
                assert_eq!(answer.links("up"), std::slice::from_ref(url), "{answer}");
                assert_eq!(answer.retry_after(), None, "{answer}");
            }
        }
        assert_eq!(client.read(url).await.expect(200).json(), body, "as it was");
        assert!(responder::http().requests(&text(shown, "token")).is_empty(), "nothing was started");
        let other = text(shown, "url").replace(kind, "tls-alpn-01");
        client.send(&other, json!({})).await.problem(404, "malformed");
        client.read(&other).await.problem(404, "malformed");
    }
    let names = [name.as_str(), &format!("*.{name}"), &address];
    client.collect(&order, &names, Key::new()).await;
    // Given up, it still says what had counted.
    let url = &order.authorizations()[0];
    let gone = client.send(url, json!({"status": "deactivated"})).await.expect(200);
    assert_eq!(gone.json()["challenges"][0]["status"], "valid", "{gone}");
    let late = client.send(&text(&gone.json()["challenges"][0], "url"), json!({})).await;
    late.problem(400, "malformed");
}

async fn aut_06_many_answers_start_one_validation(server: Arc<Deployment>) {
    let client = server.account().await;
    let (url, body) = authorization(&client, &unique_name()).await;
    let offered = challenge(&body, "http-01").expect("http-01");
    let (challenge_url, token) = (text(&offered, "url"), text(&offered, "token"));
    client.prepare(&body, &offered);
    let mut asks = Vec::new();
    for replica in 0..9 {
        let post = client.post(&challenge_url).json(json!({})).through(replica);
        asks.push(post.nonce(client.fresh_nonce().await).ready().await.send());
    }
    for answer in join_all(asks).await {
        let answer = answer.expect(200);
        assert_eq!(answer.links("up"), std::slice::from_ref(&url), "{answer}");
        assert!(matches!(answer.state().as_str(), "processing" | "valid"), "{answer}");
        assert_eq!(answer.string("url"), challenge_url, "{answer}");
        assert_eq!(answer.string("token"), token, "{answer}");
        assert_eq!(answer.string("type"), "http-01", "{answer}");
    }
    client.wait_for(&url, "valid").await;
    for _ in 0..server.size() {
        let again = client.send(&challenge_url, json!({})).await.expect(200);
        assert_eq!(again.state(), "valid", "{again}");
        assert_eq!(again.links("up"), std::slice::from_ref(&url), "{again}");
    }
    assert_eq!(responder::http().requests(&token).len(), 1, "one validation");
}

async fn aut_06_reading_a_challenge_starts_nothing(server: Arc<Deployment>) {
    let client = server.account().await;
    let (url, body) = authorization(&client, &unique_name()).await;
    for offered in body["challenges"].as_array().expect("challenges") {
        let challenge_url = text(offered, "url");
        for _ in 0..server.size() {
            let read = client.read(&challenge_url).await.expect(200);
            assert_eq!(read.json(), *offered, "{read}");
            assert_eq!(read.links("up"), std::slice::from_ref(&url), "{read}");
        }
        assert!(responder::http().requests(&text(offered, "token")).is_empty());
    }
    assert_eq!(client.read(&url).await.state(), "pending");
    // Another challenge of an authorization that is decided cannot be started any more.
    client.answer(&url, "http-01").await;
    client.wait_for(&url, "valid").await;
    let other = text(&challenge(&body, "dns-01").expect("dns-01"), "url");
    let late = client.send(&other, json!({})).await.expect(200);
    assert_eq!(late.state(), "pending", "{late}");
    assert_eq!(client.read(&url).await.state(), "valid");
}

async fn aut_07_an_accepted_answer_is_validated_though_its_replica_dies(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..2 {
        let (url, body) = authorization(&client, &unique_name()).await;
        let offered = challenge(&body, "http-01").expect("http-01");
        let token = text(&offered, "token");
        // The first validation gets no answer, so that its replica dies while it waits.
        let (key_authorization, asked) = (client.key_authorization(&token), AtomicBool::new(false));
        let reply = move |_: &responder::HttpRequest| match asked.swap(true, Ordering::SeqCst) {
            false => Reply::Silence,
            true => Reply::Body(key_authorization.clone()),
        };
        responder::http().set(&token, Reply::By(Arc::new(reply)));
        let post = client.post(&text(&offered, "url")).json(json!({})).through(0);
        post.send().await.expect(200);
        server.kill(0);
        if server.size() == 1 {
            server.restart(0);
            client.forget_nonces();
        }
        let start = std::time::Instant::now();
        loop {
            let read = client.post(&url).through(1).send().await.expect(200);
            if read.state() == "valid" {
                break;
            }
            assert!(read.state() == "pending" && start.elapsed() < crate::support::run::SOON, "{read}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if server.size() > 1 {
            server.restart(0);
        }
    }
}

async fn aut_08_pending_and_processing_reads_say_when_to_come_back(server: Arc<Deployment>) {
    let client = server.account().await;
    let (url, body) = authorization(&client, &unique_name()).await;
    assert!(client.read(&url).await.retry_after().is_some());
    let offered = challenge(&body, "http-01").expect("http-01");
    responder::http().set(&text(&offered, "token"), Reply::Silence);
    let challenge_url = text(&offered, "url");
    let started = client.send(&challenge_url, json!({})).await.expect(200);
    assert_eq!(started.state(), "processing", "{started}");
    for answer in [started, client.read(&challenge_url).await, client.read(&url).await] {
        assert!(answer.retry_after().is_some_and(|seconds| seconds <= 60), "{answer}");
    }
    let valid = client.issue_any().await.order;
    assert_eq!(client.read(&valid).await.expect(200).retry_after(), None, "nothing to wait for");
}
