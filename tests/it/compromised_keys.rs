//! CRT-05: a compromised key is a fact about the key, whoever's certificates have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::revocation::{by_its_own_key, listed};
use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Issued, text};
use crate::support::keys::{Key, KeyKind, base64url};
use crate::support::run::{SOON, runtime, unique_name, wait_until};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        crt_05_a_compromised_key_takes_all_its_certificates_with_it
        crt_05_an_earlier_reason_is_raised_to_key_compromise_once
        crt_05_a_compromised_key_gets_no_account
        crt_05_an_account_whose_key_is_compromised_orders_again_under_a_new_one
        crt_05_an_account_that_calls_a_key_compromised_speaks_for_itself
        crt_05_another_account_knows_nothing_of_the_key;
    Deployment::mortal =>
        crt_05_what_a_killed_replica_left_is_revoked_by_others;
}

/// A certificate for a name of its own, with this key.
async fn with_key(client: &Client, key: &Key) -> Issued {
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    client.collect(&order, &[&name], key.duplicate()).await
}

/// Asserts that the account gets no certificate for `key`, by any replica.
async fn assert_refused(client: &Client, key: &Key) {
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    for _ in 0..client.server.size() {
        client.finalize(&order, &csr(&key.to_rcgen(), &[&name])).await.problem(400, "badCSR");
    }
}

fn id(url: &str) -> &str {
    url.rsplit('/').next().expect("an id")
}

/// What the trail of a certificate says after its issuance: actions, and the codes of the reasons.
fn revocations(server: &Deployment, issued: &Issued) -> Vec<(String, i64)> {
    let trail = server.command(&["audit", "--serial", id(&issued.url), "--json"]);
    let events = trail.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let told = events.filter(|event| event["detail"]["reason"].is_i64());
    told.map(|event| (text(&event, "action"), event["detail"]["reason"].as_i64().expect("a code"))).collect()
}

async fn assert_due_now(client: &Client, issued: &Issued) {
    let url = client.resource("renewalInfo").await;
    for _ in 0..client.server.size() {
        let info = client.get(&format!("{url}/{}", issued.chain.renewal_id())).await.expect(200).json();
        let end = text(&info["suggestedWindow"], "end");
        let now = chancery::acme::time::FleetClock::machine_now().to_string();
        assert!(end < now && info["explanationURL"].is_string(), "{info}");
    }
}

async fn crt_05_a_compromised_key_takes_all_its_certificates_with_it(server: Arc<Deployment>) {
    for kind in [KeyKind::Es256, KeyKind::Rs256] {
        let (one, other) = (server.account().await, server.account().await);
        let key = Key::of(kind);
        let (first, second) = (with_key(&one, &key).await, with_key(&one, &key).await);
        let (others, kept) = (with_key(&other, &key).await, one.issue_any().await);
        by_its_own_key(&server.client(), &first, Some(0)).await.expect(200);
        // Whether the job has come to them or not.
        for issued in [&second, &others] {
            assert_due_now(&one, issued).await;
        }
        assert_refused(&other, &key).await;
        for issued in [&first, &second, &others] {
            assert_eq!(listed(&one, &issued.chain).await, Some(1));
            assert_eq!(revocations(&server, issued), [("certificate.revoked".to_owned(), 1)]);
            by_its_own_key(&one, issued, None).await.problem(400, "alreadyRevoked");
        }
        one.revoke(kept.chain.leaf_der(), Some(0)).await.expect(200);
    }
}

async fn crt_05_an_earlier_reason_is_raised_to_key_compromise_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let key = Key::new();
    let (first, second) = (with_key(&client, &key).await, with_key(&client, &key).await);
    for issued in [&first, &second] {
        client.revoke(issued.chain.leaf_der(), Some(4)).await.expect(200);
        assert_eq!(listed(&client, &issued.chain).await, Some(4));
    }
    client.revoke(first.chain.leaf_der(), Some(1)).await.problem(400, "alreadyRevoked");
    let asks = (0..6).map(|_| by_its_own_key(&client, &first, Some(1)));
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(400, "alreadyRevoked");
    }
    for issued in [&first, &second] {
        let start = Instant::now();
        while listed(&client, &issued.chain).await != Some(1) {
            assert!(start.elapsed() < SOON, "the list says key compromise soon");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let told = [("certificate.revoked".to_owned(), 4), ("certificate.reason_raised".to_owned(), 1)];
        assert_eq!(revocations(&server, issued), told);
    }
}

async fn crt_05_a_compromised_key_gets_no_account(server: Arc<Deployment>) {
    for kind in [KeyKind::Es256, KeyKind::Rs256] {
        let key = Key::of(kind);
        let client = server.account().await;
        let issued = with_key(&client, &key).await;
        by_its_own_key(&client, &issued, None).await.expect(200);
        let stranger = server.client_with(key.duplicate());
        for _ in 0..server.size() {
            let answer = stranger.new_account(json!({"termsOfServiceAgreed": true})).await;
            answer.problem(400, "badPublicKey");
            assert!(answer.detail().contains("compromised"), "{answer}");
            let answer = crate::key_change::change_key(&client, &key).await;
            answer.problem(400, "badPublicKey");
        }
        stranger.new_account(json!({"onlyReturnExisting": true})).await.problem(400, "accountDoesNotExist");
        assert_eq!(client.read(client.account()).await.expect(200).state(), "valid");
    }
}

async fn crt_05_an_account_whose_key_is_compromised_orders_again_under_a_new_one(server: Arc<Deployment>) {
    let owner = server.account().await;
    let key = Key::new();
    let issued = with_key(&owner, &key).await;
    let mut careless = server.account_with(key.duplicate()).await;
    let kept = careless.issue_any().await;
    by_its_own_key(&owner, &issued, None).await.expect(200);
    let name = unique_name();
    let order = careless.ready_order(&[&name]).await;
    let (fresh, changed) = (Key::new(), Key::new());
    let answer = careless.finalize(&order, &csr(&fresh.to_rcgen(), &[&name])).await;
    answer.problem(403, "unauthorized");
    assert!(answer.detail().contains("keyChange"), "{answer}");
    assert_eq!(careless.read(&order.url).await.expect(200).state(), "ready");
    crate::key_change::change_key(&careless, &changed).await.expect(200);
    careless.key = changed;
    careless.collect(&order, &[&name], fresh).await;
    careless.revoke(kept.chain.leaf_der(), None).await.expect(200);
}

async fn crt_05_an_account_that_calls_a_key_compromised_speaks_for_itself(server: Arc<Deployment>) {
    let (one, other) = (server.account().await, server.account().await);
    let key = Key::new();
    let (first, second) = (with_key(&one, &key).await, with_key(&one, &key).await);
    let others = with_key(&other, &key).await;
    one.revoke(first.chain.leaf_der(), Some(1)).await.expect(200);
    assert_eq!(listed(&one, &first.chain).await, Some(1));
    assert_refused(&one, &key).await;
    // For nobody else, and nothing else.
    with_key(&other, &key).await;
    one.revoke(second.chain.leaf_der(), Some(4)).await.expect(200);
    other.revoke(others.chain.leaf_der(), Some(0)).await.expect(200);
    assert_eq!(revocations(&server, &second), [("certificate.revoked".to_owned(), 4)]);
    // Who has the key says more, though there is nothing to raise here.
    by_its_own_key(&other, &first, None).await.problem(400, "alreadyRevoked");
    assert_refused(&other, &key).await;
}

async fn crt_05_another_account_knows_nothing_of_the_key(server: Arc<Deployment>) {
    let (owner, heir) = (server.account().await, server.account().await);
    let (name, key) = (unique_name(), Key::new());
    let order = owner.ready_order(&[&name]).await;
    let issued = owner.collect(&order, &[&name], key.duplicate()).await;
    let order = heir.order(&[&name]).await;
    heir.authorize(&order, "http-01").await;
    heir.revoke(issued.chain.leaf_der(), Some(1)).await.expect(200);
    assert_eq!(listed(&owner, &issued.chain).await, Some(5), "cessation of operation");
    with_key(&owner, &key).await;
}

async fn crt_05_what_a_killed_replica_left_is_revoked_by_others(server: Arc<Deployment>) {
    let client = server.account().await;
    let key = Key::new();
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(with_key(&client, &key).await);
    }
    if server.kind == Kind::Fleet {
        copy(&server, &all[0], 3_000);
    }
    let url = client.resource("revokeCert").await;
    let payload = crate::support::flows::revocation(all[0].chain.leaf_der(), None);
    let ask = client.post(&url).signed_by(&key).by_jwk().json(payload).through(0).ready().await;
    ask.send().await.expect(200);
    server.kill(0);
    if server.kind == Kind::Embedded {
        server.start_again(0);
        client.forget_nonces();
    }
    let start = Instant::now();
    let left = "SELECT count(*) FROM certificates WHERE profile <> 'listener' AND (revoked_at IS NULL OR revocation_reason <> 1)";
    wait_until("all are revoked", || server.sql(left) == "0");
    println!(
        "{} certificates were revoked within {:?}",
        server.sql("SELECT count(*) FROM certificates WHERE profile <> 'listener'"),
        start.elapsed()
    );
    let settled = "SELECT count(*) FROM blocked_keys WHERE settled_at IS NULL";
    wait_until("the key is settled", || server.sql(settled) == "0");
    assert!(start.elapsed() > Duration::from_secs(9), "what was being recorded meanwhile is waited for");
    let told = "SELECT count(*) - count(DISTINCT serial), count(DISTINCT serial) - \
                (SELECT count(*) FROM certificates WHERE profile <> 'listener') FROM audit_events WHERE action = 'certificate.revoked'";
    assert_eq!(server.sql(told), "0|0", "one event each");
    for issued in &all[18..] {
        assert_eq!(listed(&client, &issued.chain).await, Some(1));
    }
}

/// So many more rows of a certificate, with serials of their own.
fn copy(server: &Deployment, issued: &Issued, count: u32) {
    server.sql(&format!(
        "INSERT INTO certificates (serial, order_id, account_id, profile, issuer_id, identifiers, key_sha256, public_key, \
         not_before, not_after, der, issued_at, content) SELECT '1' || substr(md5('s' || n), 2), md5('o' || n), account_id, \
         profile, issuer_id, identifiers, key_sha256, public_key, not_before, not_after, der, issued_at, content \
         FROM certificates, generate_series(1, {count}) n WHERE serial = '{}'",
        id(&issued.url)
    ));
}

#[cfg(feature = "faults")]
/// A key that is blocked between begin and finish of an issuance: whoever takes the job over does not finish it.
fn blocked_during_issuance(kind: Kind) {
    let server = Deployment::with(kind, &Settings::new().killed_at("issuance-begun"));
    runtime().block_on(async {
        let client = server.account().await;
        let key = Key::new();
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = |key: &Key| json!({"csr": base64url(&csr(&key.to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload(&key)).through(0).ready().await;
        ask.try_send().await.expect_err("the answer is lost");
        server.replica(0).wait_for_fault().await;
        if kind == Kind::Embedded {
            server.restart(0);
            client.forget_nonces();
        }
        // The fault is gone with the replica that had it: a certificate for the same key by the others.
        let issued = client.collect(&client.ready_order(&[&name]).await, &[&name], key.duplicate()).await;
        by_its_own_key(&client, &issued, None).await.expect(200);
        let over = client.wait_for(&order.url, "invalid").await;
        let error = over.json()["error"].clone();
        assert!(text(&error, "type").ends_with(":badCSR"), "{over}");
        assert!(text(&error, "detail").contains("compromised"), "{over}");
        let unrevoked = "SELECT count(*) FROM certificates WHERE profile <> 'listener' AND der IS NOT NULL AND revoked_at IS NULL";
        assert_eq!(server.sql(unrevoked), "0");
    });
}

#[cfg(feature = "faults")]
#[test]
fn crt_05_a_key_blocked_during_issuance_gets_no_certificate_embedded() {
    blocked_during_issuance(Kind::Embedded);
}

#[cfg(feature = "faults")]
#[test]
fn crt_05_a_key_blocked_during_issuance_gets_no_certificate_fleet() {
    blocked_during_issuance(Kind::Fleet);
}
