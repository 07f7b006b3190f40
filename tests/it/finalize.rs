//! ORD-09 to ORD-12: from a ready order to one certificate.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, SanType};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use crate::support::certificate::{Chain, csr, csr_of, named, parameters};
use crate::support::chancery::Deployment;
#[cfg(feature = "faults")]
use crate::support::chancery::{Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::Order;
use crate::support::keys::{Key, KeyKind, base64url};
#[cfg(feature = "faults")]
use crate::support::run::runtime;
use crate::support::run::{unique_address, unique_name};
use crate::support::weak_keys::{NeutralKey, WeakRsa};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        ord_09_of_sixteen_finalizes_one_passes_and_one_certificate_is_issued
        ord_09_an_order_that_is_not_ready_stays_as_it_is
        ord_10_a_csr_that_does_not_fit_is_bad_csr_and_leaves_the_order_ready
        ord_10_a_csr_that_cannot_be_read_leaves_the_order_ready
        ord_10_common_name_and_alternative_names_together_are_the_names
        ord_10_nothing_of_the_csr_but_its_key_is_in_the_certificate
        ord_10_what_would_not_be_granted_is_bad_csr_and_says_so
        ord_10_requests_of_old_clients_are_read
        ord_11_each_kind_of_key_is_certified
        ord_11_weak_keys_are_refused
        ord_11_a_profile_may_allow_fewer_kinds_of_key;
    Deployment::mortal =>
        ord_12_no_crash_leaves_an_order_processing;
}

async fn ord_09_of_sixteen_finalizes_one_passes_and_one_certificate_is_issued(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..3 {
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let keys: Vec<_> = (0..16).map(|_| Key::new()).collect();
        let mut asks = Vec::new();
        for (replica, key) in keys.iter().enumerate() {
            let payload = json!({"csr": base64url(&csr(&key.to_rcgen(), &[&name]))});
            let post = client.post(&order.finalize()).json(payload).through(replica);
            asks.push(post.nonce(client.fresh_nonce().await).ready().await.send());
        }
        let answers = join_all(asks).await;
        let winners: Vec<_> = (0..16).filter(|index| answers[*index].status == 200).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.problem(403, "orderNotReady");
        }
        let won = &answers[winners[0]];
        assert_eq!(won.location(), order.url, "{won}");
        for replica in 0..server.size() {
            let read = client.post(&order.url).through(replica).send().await.expect(200);
            assert!(matches!(read.state().as_str(), "processing" | "valid"), "never ready again: {read}");
        }
        let url = client.wait_for(&order.url, "valid").await.string("certificate");
        let pem = client.read(&url).await.expect(200).text();
        let chain = Chain::parse(&pem);
        let spki = rcgen::PublicKeyData::subject_public_key_info(&keys[winners[0]].to_rcgen());
        assert_eq!(
            chain.leaf().public_key().raw,
            spki,
            "the certificate is for the key of the one that passed"
        );
        for _ in 0..server.size() {
            assert_eq!(client.read(&url).await.expect(200).text(), pem, "one certificate");
        }
    }
}

/// Finalizing again and again changes nothing.
async fn assert_not_ready(client: &Client, order: &Order, name: &str) {
    let before = client.read(&order.url).await.expect(200).json();
    for _ in 0..client.server.size() {
        let answer = client.finalize(order, &csr(&Key::new().to_rcgen(), &[name])).await;
        answer.problem(403, "orderNotReady");
    }
    assert_eq!(client.read(&order.url).await.expect(200).json(), before);
}

async fn ord_09_an_order_that_is_not_ready_stays_as_it_is(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let pending = client.order(&[&name]).await;
    assert_not_ready(&client, &pending, &name).await;
    client.send(&pending.authorizations()[0], json!({"status": "deactivated"})).await.expect(200);
    assert_eq!(client.read(&pending.url).await.state(), "invalid");
    assert_not_ready(&client, &pending, &name).await;
    let done = client.ready_order(&[&name]).await;
    client.collect(&done, &[&name], Key::new()).await;
    assert_not_ready(&client, &done, &name).await;
}

/// The order takes a right CSR after all the wrong ones.
async fn assert_still_ready(client: &Client, order: &Order, names: &[&str]) {
    for _ in 0..client.server.size() {
        assert_eq!(client.read(&order.url).await.expect(200).state(), "ready");
    }
    client.collect(order, names, Key::new()).await;
}

async fn ord_10_a_csr_that_does_not_fit_is_bad_csr_and_leaves_the_order_ready(server: Arc<Deployment>) {
    let client = server.account().await;
    let (one, two, other) = (unique_name(), unique_name(), unique_name());
    let address = unique_address().to_string();
    let names: [&str; 3] = [&one, &two, &address];
    let order = client.ready_order(&names).await;
    let key = Key::new().to_rcgen();
    let with_san = |san: SanType| {
        let mut parameters = parameters(&names);
        parameters.subject_alt_names.push(san);
        csr_of(&key, &parameters)
    };
    let text = |text: &str| text.to_owned().try_into().expect("ASCII");
    let bad = [
        ("a name is missing", csr(&key, &[&one, &two])),
        ("an address is missing", csr(&key, &[&one, &two, &other])),
        ("a name too many", csr(&key, &[&one, &two, &address, &other])),
        ("a wildcard instead", csr(&key, &[&format!("*.{one}"), &two, &address])),
        ("no names", csr(&key, &[])),
        ("a common name too many", csr_of(&key, &named(parameters(&names), &other))),
        ("a common name that is none", csr_of(&key, &named(parameters(&names), "Chancery Ltd"))),
        ("a mail address", with_san(SanType::Rfc822Name(text("a@chancery.test")))),
        ("a URI", with_san(SanType::URI(text("https://chancery.test/")))),
        ("the account's own key", csr(&client.key.to_rcgen(), &names)),
    ];
    for (what, csr) in bad {
        let answer = client.finalize(&order, &csr).await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "badCSR");
    }
    assert_still_ready(&client, &order, &names).await;
}

async fn ord_10_a_csr_that_cannot_be_read_leaves_the_order_ready(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    let good = csr(&Key::new().to_rcgen(), &[&name]);
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let longer = [good.as_slice(), &[0]].concat();
    let bad: [(&str, &[u8]); 6] = [
        ("a wrong signature", &forged),
        ("trailing octets", &longer),
        ("half of it", &good[..good.len() / 2]),
        ("nothing", b""),
        ("no DER", b"-----BEGIN CERTIFICATE REQUEST-----"),
        ("zeros", &[0; 64]),
    ];
    for (what, csr) in bad {
        let answer = client.finalize(&order, csr).await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "badCSR");
    }
    let text = base64url(&good);
    for (what, payload) in [
        ("padding", json!({"csr": format!("{text}==")})),
        ("the other alphabet", json!({"csr": format!("+/{}", &text[2..])})),
        ("no member", json!({})),
        ("null", json!({"csr": Value::Null})),
    ] {
        let answer = client.send(&order.finalize(), payload).await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "malformed");
    }
    assert_still_ready(&client, &order, &[&name]).await;
}

async fn ord_10_common_name_and_alternative_names_together_are_the_names(server: Arc<Deployment>) {
    let client = server.account().await;
    let (one, two) = (unique_name(), unique_name());
    let key = Key::new().to_rcgen();
    for parameters in [
        named(parameters(&[&two]), &one),
        named(parameters(&[&one, &two]), &one),
        named(parameters(&[&two, &one, &two]), &two.to_uppercase()),
        named(parameters(&[&one, &two]), ""),
    ] {
        let order = client.ready_order(&[&one, &two]).await;
        client.finalize(&order, &csr_of(&key, &parameters)).await.expect(200);
        let url = client.wait_for(&order.url, "valid").await.string("certificate");
        let mut names = [one.clone(), two.clone()];
        names.sort();
        assert_eq!(Chain::parse(&client.read(&url).await.text()).names(), names);
    }
}

async fn ord_10_nothing_of_the_csr_but_its_key_is_in_the_certificate(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let key = Key::new();
    let order = client.ready_order(&[&name]).await;
    let mut asked: CertificateParams = parameters(&[&name]);
    asked.is_ca = IsCa::ExplicitNoCa;
    asked.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    asked.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], b"\x05\x00".to_vec())];
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, "Somebody Else");
    client.finalize(&order, &csr_of(&key.to_rcgen(), &asked)).await.expect(200);
    let url = client.wait_for(&order.url, "valid").await.string("certificate");
    let chain = Chain::parse(&client.read(&url).await.text());
    let leaf = chain.leaf();
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().expect("one").expect("a key usage").value;
    assert!(!usage.key_cert_sign() && !usage.crl_sign(), "{usage:?}");
    assert!(!leaf.extended_key_usage().expect("one").expect("some").value.code_signing);
    assert!(leaf.extensions().iter().all(|extension| extension.oid.to_id_string() != "1.2.3.4.5"));
    assert!(!leaf.subject().to_string().contains("Somebody"), "{}", leaf.subject());
}

async fn ord_10_what_would_not_be_granted_is_bad_csr_and_says_so(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    let key = Key::new().to_rcgen();
    let extension = |oid: &[u64], content: &[u8], critical: bool| {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        let mut asked = parameters(&[&name]);
        asked.custom_extensions = vec![extension];
        asked
    };
    let mut authority = parameters(&[&name]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (asked, told) in [
        (extension(&[1, 3, 6, 1, 5, 5, 7, 1, 24], b"\x30\x03\x02\x01\x05", false), "must-staple"),
        (authority, "CA:TRUE"),
        (extension(&[1, 2, 3, 4, 5], b"\x05\x00", true), "1.2.3.4.5"),
    ] {
        let answer = client.finalize(&order, &csr_of(&key, &asked)).await;
        answer.problem(400, "badCSR");
        assert!(answer.detail().contains(told), "{told}: {answer}");
    }
    assert_still_ready(&client, &order, &[&name]).await;
}

async fn ord_10_requests_of_old_clients_are_read(server: Arc<Deployment>) {
    let client = server.account().await;
    for (file, names) in [
        ("certbot-1.21", ["a.example.com", "*.example.com"]),
        ("ruby-acme-client-2.0.9", ["a.example.com", "b.example.com"]),
    ] {
        let csr =
            std::fs::read(format!("{}/fuzz/corpus/csr/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        let order = client.ready_order(&names).await;
        client.finalize(&order, &csr).await.expect(200);
        let url = client.wait_for(&order.url, "valid").await.string("certificate");
        let mut names = names.map(str::to_owned);
        names.sort();
        assert_eq!(Chain::parse(&client.read(&url).await.text()).names(), names, "{file}");
    }
}

async fn ord_11_each_kind_of_key_is_certified(server: Arc<Deployment>) {
    let client = server.account().await;
    for kind in KeyKind::ALL {
        let (name, key) = (unique_name(), Key::of(kind));
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key.to_rcgen());
        let order = client.ready_order(&[&name]).await;
        let issued = client.collect(&order, &[&name], key).await;
        assert_eq!(issued.chain.leaf().public_key().raw, spki, "{kind:?}: octet by octet");
    }
}

async fn ord_11_weak_keys_are_refused(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    for (what, key) in [("ROCA", WeakRsa::roca()), ("close primes", WeakRsa::close_primes())] {
        let answer = client.finalize(&order, &csr(&key, &[&name])).await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "badCSR");
    }
    for (what, key) in [("1024 bits", WeakRsa::short()), ("exponent 3", WeakRsa::small_exponent())] {
        let request = csr(&key, &[&name]);
        x509_parser::certification_request::X509CertificationRequest::from_der(&request)
            .expect("well formed");
        let answer = client.finalize(&order, &request).await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "badCSR");
    }
    // Possession is not shown by a signature that is everybody's.
    client.finalize(&order, &csr(&NeutralKey, &[&name])).await.problem(400, "badCSR");
    assert_still_ready(&client, &order, &[&name]).await;
}

async fn ord_11_a_profile_may_allow_fewer_kinds_of_key(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.order_under("plain", &[&name]).await;
    for kind in [KeyKind::Rs256, KeyKind::EdDsa, KeyKind::Es512] {
        let answer = client.finalize(&order, &csr(&Key::of(kind).to_rcgen(), &[&name])).await;
        answer.problem(400, "badCSR");
    }
    assert_still_ready(&client, &order, &[&name]).await;
}

/// A replica stops in the middle of an issuance; another one shows the order meanwhile.
#[cfg(feature = "faults")]
#[test]
fn ord_12_while_issuing_there_is_a_retry_after() {
    let settings = Settings::new().signalled_at("issuance-begun", "STOP").set("CHANCERY_JOB_LEASE", "60s");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let finalizing = client.post(&order.finalize()).json(payload).through(0).send();
        let meanwhile = async {
            server.replica(0).wait_for_fault().await;
            let seen = client.post(&order.url).through(1).send().await.expect(200);
            server.replica(0).signal("CONT");
            seen
        };
        let (finalized, seen) = tokio::join!(finalizing, meanwhile);
        assert_eq!(seen.state(), "processing", "{seen}");
        assert!(seen.retry_after().is_some_and(|seconds| seconds >= 1), "{seen}");
        finalized.expect(200);
        let done = client.wait_for(&order.url, "valid").await;
        assert_eq!(done.retry_after(), None, "{done}");
    });
}

async fn ord_12_no_crash_leaves_an_order_processing(server: Arc<Deployment>) {
    let client = server.account().await;
    for delay in [0, 1, 2, 4, 8, 16] {
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload).through(0).ready().await.try_send();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            server.kill(0);
        };
        let (answer, ()) = tokio::join!(ask, kill);
        if server.size() == 1 {
            server.restart(0);
            client.forget_nonces();
        }
        // The others answer, and finish what the dead one began.
        let read = client.post(&order.url).through(1).send().await.expect(200);
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            assert_ne!(read.state(), "ready", "a 200 is durable: {read}");
        }
        if read.state() == "ready" {
            let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
            let again = client.post(&order.finalize()).json(payload).through(1).send().await;
            assert!(matches!(again.status, 200 | 403), "{again}");
        }
        if server.size() > 1 {
            server.restart(0);
        }
        let url = client.wait_for(&order.url, "valid").await.string("certificate");
        let pem = client.read(&url).await.expect(200).text();
        for replica in 0..server.size() {
            let read = client.post(&url).through(replica).send().await.expect(200);
            assert_eq!(read.text(), pem, "one certificate");
        }
    }
}
