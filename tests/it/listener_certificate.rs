//! The listener's own certificate is on record, reused for its lifetime, and revocable.

use std::time::{Duration, Instant};

use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificates::crl_url;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::revocation;
use crate::support::keys::Key;
use crate::support::run::{SOON, runtime};

/// Leaf and key of the certificate that a replica keeps.
fn kept(server: &Deployment, replica: usize) -> (Vec<u8>, String) {
    let text = std::fs::read_to_string(server.replica(replica).data_dir.join("listener.pem")).expect("kept");
    let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).expect("PEM");
    (pem.contents, text[text.find("-----BEGIN PRIVATE KEY").expect("a key")..].to_owned())
}

#[test]
fn the_listeners_certificate_is_on_record_and_outlives_restarts() {
    let secured = Settings::new().set("CHANCERY_TLS_MODE", "auto");
    for (kind, settings) in [(Kind::Embedded, Settings::new()), (Kind::Fleet, secured)] {
        let server = Deployment::with(kind, &settings);
        for replica in 0..server.size() {
            let (leaf, _) = kept(&server, replica);
            let (_, parsed) = X509Certificate::from_der(&leaf).expect("a certificate");
            let serial = parsed.raw_serial_as_string();
            let trail = server.command(&["audit", "--serial", &serial, "--json"]);
            let actions: Vec<_> = trail
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["action"].clone())
                .collect();
            assert_eq!(actions, [json!("certificate.reserved"), json!("certificate.issued")], "{trail}");
        }
        let before = kept(&server, 0);
        server.kill(0);
        server.restart(0);
        assert_eq!(kept(&server, 0), before, "a restart makes no other");
        runtime().block_on(async { server.account().await.issue_any().await });
    }
}

#[test]
fn the_listeners_certificate_can_be_revoked_and_is_then_replaced() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    let (leaf, key) = kept(&server, 0);
    let (_, parsed) = X509Certificate::from_der(&leaf).expect("a certificate");
    let found = parsed
        .extensions()
        .iter()
        .any(|one| matches!(one.parsed_extension(), ParsedExtension::CRLDistributionPoints(_)));
    assert!(found, "it names its CRL, over plain HTTP");
    runtime().block_on(async {
        let client = server.account().await;
        let url = client.resource("revokeCert").await;
        client.send(&url, revocation(&leaf, None)).await.problem(403, "unauthorized");
        let key = Key::from_pem(&key);
        let by_key = client.post(&url).signed_by(&key).by_jwk().json(revocation(&leaf, None));
        by_key.send().await.expect(200);
        let (revoked, crl) = (Instant::now(), crl_url(&client.issue_any().await.chain));
        loop {
            let list = client.get(&crl).await.expect(200).body;
            let (_, list) = CertificateRevocationList::from_der(&list).expect("a CRL");
            if list.iter_revoked_certificates().any(|one| one.raw_serial() == parsed.raw_serial()) {
                break;
            }
            assert!(revoked.elapsed() < SOON, "it is not listed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    server.restart(0);
    assert_ne!(kept(&server, 0).0, leaf, "a revoked one serves no longer");
    runtime().block_on(async { server.account().await });
}
