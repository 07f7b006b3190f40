//! CRT-04 to CRT-06: revocation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::acme::time::FleetClock;
use serde_json::json;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificates::crl_url;
use crate::support::certificate::{Chain, csr, parameters};
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{Issued, revocation};
use crate::support::keys::{Key, base64url};
use crate::support::response::Response;
use crate::support::run::{SOON, unique_name};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        crt_04_the_account_that_ordered_revokes
        crt_04_an_account_authorized_for_all_names_revokes
        crt_04_the_key_of_the_certificate_revokes
        crt_04_nobody_else_revokes
        crt_05_reasons_that_subscribers_may_give_are_taken
        crt_05_a_revoked_certificate_is_already_revoked
        crt_05_a_key_that_revoked_itself_gets_no_further_certificate
        crt_05_certificates_of_others_are_not_ours_to_revoke
        crt_06_a_revoked_serial_is_in_the_next_crl;
}

/// revoke-cert, signed by the key of the certificate.
pub async fn by_its_own_key(client: &Client, issued: &Issued, reason: Option<i64>) -> Response {
    let url = client.resource("revokeCert").await;
    let post = client.post(&url).signed_by(&issued.key).by_jwk();
    post.json(revocation(issued.chain.leaf_der(), reason)).send().await
}

async fn crt_04_the_account_that_ordered_revokes(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    client.revoke(issued.chain.leaf_der(), None).await.expect(200);
}

async fn crt_04_an_account_authorized_for_all_names_revokes(server: Arc<Deployment>) {
    let (owner, heir) = (server.account().await, server.account().await);
    let (one, two) = (unique_name(), unique_name());
    let issued = owner.issue(&[&one, &two]).await;
    let first = heir.order(&[&one]).await;
    heir.authorize(&first, "http-01").await;
    heir.revoke(issued.chain.leaf_der(), None).await.problem(403, "unauthorized");
    let second = heir.order(&[&two]).await;
    heir.revoke(issued.chain.leaf_der(), None).await.problem(403, "unauthorized");
    heir.authorize(&second, "dns-01").await;
    heir.revoke(issued.chain.leaf_der(), Some(4)).await.expect(200);
}

async fn crt_04_the_key_of_the_certificate_revokes(server: Arc<Deployment>) {
    let issued = server.account().await.issue_any().await;
    // Without any account.
    by_its_own_key(&server.client(), &issued, None).await.expect(200);
}

async fn crt_04_nobody_else_revokes(server: Arc<Deployment>) {
    let (owner, stranger) = (server.account().await, server.account().await);
    let issued = owner.issue_any().await;
    let payload = revocation(issued.chain.leaf_der(), None);
    stranger.revoke(issued.chain.leaf_der(), None).await.problem(403, "unauthorized");
    let url = stranger.resource("revokeCert").await;
    for key in [Key::new(), owner.key.duplicate()] {
        let answer = stranger.post(&url).signed_by(&key).by_jwk().json(payload.clone()).send().await;
        answer.problem(403, "unauthorized");
    }
    // Trust in the names, if never so valid, is no proof of them.
    let names = issued.chain.names();
    stranger.ready_order(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    stranger.revoke(issued.chain.leaf_der(), None).await.problem(403, "unauthorized");
    let forged = stranger.post(&url).protect("jwk", issued.key.jwk()).unprotect("kid").json(payload);
    forged.send().await.problem(400, "malformed");
    owner.revoke(issued.chain.leaf_der(), None).await.expect(200);
}

async fn crt_05_reasons_that_subscribers_may_give_are_taken(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    for reason in [-1, 2, 6, 7, 8, 10, 11, 256] {
        client.revoke(issued.chain.leaf_der(), Some(reason)).await.problem(400, "badRevocationReason");
        by_its_own_key(&client, &issued, Some(reason)).await.problem(400, "badRevocationReason");
    }
    for reason in [0, 1, 3, 4, 5, 9] {
        let issued = client.issue_any().await;
        client.revoke(issued.chain.leaf_der(), Some(reason)).await.expect(200);
    }
    client.revoke(issued.chain.leaf_der(), Some(0)).await.expect(200);
}

async fn crt_05_a_revoked_certificate_is_already_revoked(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    // All at once through all replicas: one is first.
    let asks = (0..6).map(|_| client.revoke(issued.chain.leaf_der(), None));
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(400, "alreadyRevoked");
    }
    client.revoke(issued.chain.leaf_der(), Some(1)).await.problem(400, "alreadyRevoked");
    // Revoked, and still there for who has to read it.
    client.read(&issued.url).await.expect(200);
}

async fn crt_05_a_key_that_revoked_itself_gets_no_further_certificate(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    by_its_own_key(&client, &issued, Some(4)).await.expect(200);
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    for _ in 0..server.size() {
        let answer = client.finalize(&order, &csr(&issued.key.to_rcgen(), &[&name])).await;
        assert_eq!(answer.status, 400, "{answer}");
        answer.problem_of(&["badCSR", "badPublicKey"]);
    }
    client.collect(&order, &[&name], Key::new()).await;
    let crl = listed(&client, &issued.chain).await;
    assert_eq!(crl, Some(1), "whatever was said, a key that gives itself up is compromised");
}

async fn crt_05_certificates_of_others_are_not_ours_to_revoke(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let foreign = parameters(&[&unique_name()]).self_signed(&Key::new().to_rcgen()).expect("a certificate");
    let answer = client.revoke(foreign.der(), None).await;
    assert!(matches!(answer.status, 400 | 404), "{answer}");
    answer.any_problem();
    // One of ours in all but one octet of its signature.
    let mut forged = issued.chain.leaf_der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let answer = client.revoke(&forged, None).await;
    assert!(matches!(answer.status, 400 | 403 | 404), "{answer}");
    let url = client.resource("revokeCert").await;
    for payload in [
        json!({}),
        json!({"certificate": ""}),
        json!({"certificate": "AAAA"}),
        json!({"certificate": "+/=="}),
        json!({"certificate": base64url(&issued.chain.leaf_der()[..100])}),
        json!({"certificate": base64url(&[issued.chain.leaf_der(), &[0]].concat())}),
    ] {
        let answer = client.send(&url, payload).await;
        assert!(matches!(answer.status, 400 | 404), "{answer}");
        answer.any_problem();
    }
    let issuer = issued.chain.certificate(1).as_raw().to_vec();
    let answer = client.revoke(&issuer, None).await;
    assert!(
        matches!(answer.status, 400 | 403 | 404),
        "the issuing certificate is not the client's: {answer}"
    );
    client.revoke(issued.chain.leaf_der(), None).await.expect(200);
}

/// Waits for a CRL that lists the leaf; its reason there, zero where none is given.
pub async fn listed(client: &Client, chain: &Chain) -> Option<u8> {
    let (url, start) = (crl_url(chain), Instant::now());
    loop {
        let der = client.get(&url).await.expect(200).body;
        let (rest, crl) = CertificateRevocationList::from_der(&der).expect("a CRL");
        assert!(rest.is_empty());
        crl.verify_signature(chain.certificate(1).public_key()).expect("signed by the issuer");
        let now = FleetClock::machine_now().seconds();
        assert!(crl.last_update().timestamp() <= now + 1);
        assert!(crl.next_update().is_some_and(|next| next.timestamp() > now), "not out of date");
        if let Some(entry) = crl.iter_revoked_certificates().find(|one| one.raw_serial() == chain.serial()) {
            return Some(entry.reason_code().map_or(0, |(_, reason)| reason.0));
        }
        if start.elapsed() > SOON {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn crt_06_a_revoked_serial_is_in_the_next_crl(server: Arc<Deployment>) {
    let client = server.account().await;
    let (issued, kept) = (client.issue_any().await, client.issue_any().await);
    client.revoke(issued.chain.leaf_der(), Some(4)).await.expect(200);
    assert_eq!(listed(&client, &issued.chain).await, Some(4));
    let der = client.get(&crl_url(&kept.chain)).await.expect(200).body;
    let (_, crl) = CertificateRevocationList::from_der(&der).expect("a CRL");
    let serial = kept.chain.serial();
    assert!(crl.iter_revoked_certificates().all(|one| one.raw_serial() != serial), "only what was revoked");
}
