//! What `openssl` says of the certificates, chains and CRLs made here, and what is said here of openssl's.

use std::fs;
use std::time::Duration;

use crate::acme::certificate::{RevocationReason, Serial};
use crate::acme::identifier::Identifier;
use crate::acme::profile::KeyType;
use crate::acme::time::FleetClock;
use crate::pki::authority::{AuthorityKey, ISSUING_VALIDITY, ROOT_VALIDITY, create_authority};
use crate::pki::chain::{pem, to_pem};
use crate::pki::crl::{CrlTemplate, RevokedEntry};
use crate::pki::csr::Csr;
use crate::pki::error::IssuerError;
use crate::pki::issuer::{Issuer, LocalIssuer};
use crate::pki::openssl::{Folder, KeyKind};
use crate::pki::parts::Parts;
use crate::pki::template::Template;

const HOUR: Duration = Duration::from_secs(3_600);

/// An authority in the folder, as root.pem and issuing.pem.
fn authority(folder: &Folder, key: AuthorityKey) -> LocalIssuer {
    let now = FleetClock::machine_now();
    let new = create_authority("Test", key, now, ROOT_VALIDITY, ISSUING_VALIDITY).unwrap();
    folder.write("root.pem", &new.root_certificate);
    folder.write("issuing.pem", &new.issuing_certificate);
    LocalIssuer::from_pem(&new.issuing_certificate, &new.issuing_key, &[new.root_certificate], false).unwrap()
}

fn csr(folder: &Folder, key: KeyKind) -> Csr {
    folder.key("leaf.key", key);
    folder.run("req -new -key leaf.key -subj /CN=www.a.test -outform DER -out leaf.csr");
    Csr::parse(&fs::read(folder.path("leaf.csr")).unwrap(), &KeyType::ALL).unwrap()
}

fn template(public_key: Vec<u8>) -> Template {
    let now = FleetClock::machine_now();
    Template {
        serial: Serial::from_random([0x5a; 16]),
        identifiers: vec![
            Identifier::Dns("www.a.test".into()),
            Identifier::Dns("*.b.test".into()),
            Identifier::Ip("192.0.2.7".parse().unwrap()),
            Identifier::Ip("2001:db8::7".parse().unwrap()),
        ],
        common_name: None,
        not_before: now.minus(HOUR),
        not_after: now.plus(24 * HOUR),
        public_key,
        client_auth: false,
        crl_url: Some("http://ca.test/1.crl".into()),
        issuer_url: Some("http://ca.test/1.crt".into()),
        policy_oid: Some("1.3.6.1.4.1.99999.1".into()),
    }
}

#[tokio::test]
async fn crt_03_leaves_have_what_they_must_and_verify_under_every_kind_of_issuer() {
    for issuer_key in [AuthorityKey::P256, AuthorityKey::P384, AuthorityKey::Rsa2048, AuthorityKey::Rsa4096] {
        let folder = Folder::new();
        let issuer = authority(&folder, issuer_key);
        let leaf_kinds: &[KeyKind] = match issuer_key {
            AuthorityKey::P256 => {
                &[KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519, KeyKind::Rsa(2048)]
            }
            _ => &[KeyKind::P256],
        };
        for leaf_kind in leaf_kinds {
            let csr = csr(&folder, *leaf_kind);
            let leaf = issuer.issue(&template(csr.public_key.clone())).await.unwrap();
            assert_eq!(Parts::cut(&leaf).unwrap().public_key, csr.public_key);
            folder.write("leaf.pem", to_pem(&leaf, &issuer.chains()[0]));
            let verified = folder.run(
                "verify -x509_strict -purpose sslserver -verify_hostname www.a.test -CAfile root.pem \
                 -untrusted issuing.pem leaf.pem",
            );
            assert!(verified.contains("leaf.pem: OK"), "{verified}");
            folder.run("verify -verify_hostname x.b.test -CAfile root.pem -untrusted issuing.pem leaf.pem");
            folder.run("verify -verify_ip 2001:db8::7 -CAfile root.pem -untrusted issuing.pem leaf.pem");
            folder.fail("verify -verify_hostname b.test -CAfile root.pem -untrusted issuing.pem leaf.pem");
            check_text(&folder.run("x509 -in leaf.pem -noout -text"), *leaf_kind, &issuer);
        }
    }
}

fn check_text(text: &str, leaf_kind: KeyKind, issuer: &LocalIssuer) {
    let colons = issuer.id().to_ascii_uppercase().into_bytes();
    let key_id: Vec<_> = colons.chunks(2).map(|pair| String::from_utf8_lossy(pair)).collect();
    let usage = match leaf_kind {
        KeyKind::Rsa(_) => "Digital Signature, Key Encipherment\n",
        _ => "Digital Signature\n",
    };
    // "Label: critical" and the line after it.
    let has = |label: &str, value: &str| {
        let place = text.find(label).unwrap_or_else(|| panic!("{label} in {text}"));
        let rest = &text[place + label.len()..];
        assert!(rest.trim_start().starts_with(value), "{label} {value} in {text}");
    };
    has(
        "Subject Alternative Name: critical",
        "DNS:www.a.test, DNS:*.b.test, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7",
    );
    has("X509v3 Key Usage: critical", usage);
    has("Extended Key Usage:", "TLS Web Server Authentication\n");
    has("Basic Constraints: critical", "CA:FALSE");
    has("Authority Key Identifier:", &key_id.join(":"));
    has("CA Issuers -", "URI:http://ca.test/1.crt");
    has("CRL Distribution Points:", "Full Name:\n                  URI:http://ca.test/1.crl");
    has("Certificate Policies:", "Policy: 1.3.6.1.4.1.99999.1");
    has("Subject:", "Subject Public Key Info");
    assert!(text.contains("X509v3 Subject Key Identifier:"));
    assert_eq!(text.matches("X509v3 ").count(), 8 + 1, "nothing else: {text}");
}

#[tokio::test]
async fn crt_03_common_name_and_client_auth_where_asked_for() {
    let folder = Folder::new();
    let issuer = authority(&folder, AuthorityKey::P256);
    let mut template = template(csr(&folder, KeyKind::P256).public_key);
    template.common_name = Some("www.a.test".into());
    template.client_auth = true;
    (template.crl_url, template.issuer_url, template.policy_oid) = (None, None, None);
    folder.write("leaf.pem", to_pem(&issuer.issue(&template).await.unwrap(), &[]));
    let text = folder.run("x509 -in leaf.pem -noout -text");
    assert!(text.contains("Subject: CN = www.a.test\n"), "{text}");
    assert!(text.contains("X509v3 Subject Alternative Name: \n"), "not critical beside a subject: {text}");
    assert!(text.contains("TLS Web Server Authentication, TLS Web Client Authentication\n"), "{text}");
    for absent in ["Authority Information Access", "CRL Distribution Points", "Certificate Policies"] {
        assert!(!text.contains(absent), "{absent}");
    }
    folder.run("verify -x509_strict -purpose sslclient -CAfile root.pem -untrusted issuing.pem leaf.pem");
}

#[tokio::test]
async fn i_04_the_same_template_gives_the_same_octets_to_sign() {
    for key in [AuthorityKey::P256, AuthorityKey::Rsa2048] {
        let folder = Folder::new();
        let issuer = authority(&folder, key);
        let template = template(csr(&folder, KeyKind::P256).public_key);
        let first = issuer.issue(&template).await.unwrap();
        let again = issuer.issue(&template).await.unwrap();
        let (first, again) = (Parts::cut(&first).unwrap(), Parts::cut(&again).unwrap());
        assert_eq!(first.tbs, again.tbs);
        assert_eq!(first.serial, template.serial.as_bytes());
        let mut other = template;
        other.serial = Serial::from_random([0x5b; 16]);
        let other = issuer.issue(&other).await.unwrap();
        assert_ne!(first.tbs, Parts::cut(&other).unwrap().tbs);
    }
}

#[tokio::test]
async fn crt_06_crls_verify_and_name_what_was_revoked() {
    for key in [AuthorityKey::P256, AuthorityKey::P384, AuthorityKey::Rsa2048] {
        let folder = Folder::new();
        let issuer = authority(&folder, key);
        let template = template(csr(&folder, KeyKind::P256).public_key);
        folder.write("leaf.pem", to_pem(&issuer.issue(&template).await.unwrap(), &[]));
        let now = FleetClock::machine_now();
        let revoked = |serial| RevokedEntry { serial, at: now, reason: RevocationReason::KeyCompromise };
        let mut crl = CrlTemplate {
            number: 0x1234,
            this_update: now.minus(HOUR),
            next_update: now.plus(HOUR),
            revoked: vec![],
            distribution_point: template.crl_url.clone(),
        };
        let verify = "verify -crl_check -CAfile root.pem -untrusted issuing.pem -CRLfile crl.pem leaf.pem";
        let publish = async |crl: &CrlTemplate| {
            folder.write("crl.pem", pem(&issuer.sign_crl(crl).await.unwrap(), "X509 CRL"));
            folder.run("crl -in crl.pem -noout -text -CAfile issuing.pem")
        };
        let text = publish(&crl).await;
        assert!(text.contains("verify OK") && text.contains("No Revoked Certificates"), "{text}");
        folder.run(verify);

        crl.revoked = RevocationReason::ALL
            .into_iter()
            .enumerate()
            .map(|(place, reason)| RevokedEntry {
                reason,
                ..revoked(Serial::from_random([place as u8 + 1; 16]))
            })
            .collect();
        crl.number = u64::MAX;
        let text = publish(&crl).await;
        assert!(text.contains("0xFFFFFFFFFFFFFFFF") || text.contains(&u64::MAX.to_string()), "{text}");
        assert!(
            text.contains("URI:http://ca.test/1.crl") && text.contains("Only User Certificates"),
            "{text}"
        );
        assert_eq!(text.matches("Serial Number:").count(), 6);
        assert_eq!(text.matches("CRL Reason Code").count(), 5, "unspecified is absent: {text}");
        folder.run(verify);

        crl.revoked.push(revoked(template.serial));
        publish(&crl).await;
        let refused = folder.fail(verify);
        assert!(refused.contains("certificate revoked"), "{refused}");

        crl.distribution_point = None;
        crl.revoked = (0..2_000u128)
            .map(|n| revoked(Serial::from_random((n << 8).to_be_bytes())))
            .chain([revoked(template.serial)])
            .collect();
        publish(&crl).await;
        assert!(folder.fail(verify).contains("certificate revoked"));

        crl.next_update = crl.this_update;
        assert!(matches!(issuer.sign_crl(&crl).await, Err(IssuerError::CrlDates)));
    }
}

/// A self-signed authority by openssl, as ca.pem and ca.key (PKCS #8).
fn foreign_authority(folder: &Folder, key: KeyKind, options: &str) -> String {
    folder.key("ca.key", key);
    folder.run(&format!(
        "req -x509 -new -key ca.key -days 30 -out ca.pem -addext keyUsage=critical,keyCertSign,cRLSign {options}"
    ));
    fs::read_to_string(folder.path("ca.pem")).unwrap()
}

fn load(folder: &Folder, certificate: &str, key: &str) -> Result<LocalIssuer, IssuerError> {
    let key = fs::read_to_string(folder.path(key)).unwrap();
    LocalIssuer::from_pem(certificate, &key, &[], false)
}

#[tokio::test]
async fn issuing_keys_are_read_in_every_usual_form() {
    for (kind, traditional) in [
        (KeyKind::P256, "ec -in ca.key -out old.key"),
        (KeyKind::P384, "ec -in ca.key -out old.key"),
        (KeyKind::Rsa(2048), "rsa -in ca.key -traditional -out old.key"),
        (KeyKind::Rsa(4096), "rsa -in ca.key -traditional -out old.key"),
    ] {
        let folder = Folder::new();
        let certificate = foreign_authority(&folder, kind, "-subj /CN=Old");
        folder.run(traditional);
        let old = fs::read_to_string(folder.path("old.key")).unwrap();
        assert!(old.contains("EC PRIVATE KEY") || old.contains("RSA PRIVATE KEY"), "{old}");
        if old.contains("EC ") {
            // As `openssl ecparam -genkey` writes them.
            folder.write(
                "old.key",
                format!(
                    "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{old}"
                ),
            );
        }
        for key in ["ca.key", "old.key"] {
            let issuer = load(&folder, &certificate, key).unwrap();
            let leaf = issuer.issue(&template(csr(&folder, KeyKind::P256).public_key)).await.unwrap();
            folder.write("leaf.pem", to_pem(&leaf, &issuer.chains()[0]));
            assert!(issuer.chains()[0].is_empty(), "the root is left out");
            folder.run("verify -x509_strict -CAfile ca.pem leaf.pem");
        }
    }
}

#[tokio::test]
async fn an_authority_may_have_any_name() {
    for subject in [
        "-subj /DC=com/DC=example/CN=a",
        "-subj /O=x/OU=a/OU=b/CN=c",
        "-multivalue-rdn -subj /O=a+CN=b",
        "-subj /O=Société/CN=a -utf8",
    ] {
        let folder = Folder::new();
        let certificate = foreign_authority(&folder, KeyKind::P256, subject);
        let issuer = load(&folder, &certificate, "ca.key").expect(subject);
        let leaf = issuer.issue(&template(csr(&folder, KeyKind::P256).public_key)).await.unwrap();
        folder.write("leaf.pem", to_pem(&leaf, &issuer.chains()[0]));
        folder.run("verify -x509_strict -CAfile ca.pem leaf.pem");
        let crl = CrlTemplate {
            number: 1,
            this_update: FleetClock::machine_now().minus(HOUR),
            next_update: FleetClock::machine_now().plus(HOUR),
            distribution_point: None,
            revoked: Vec::new(),
        };
        folder.write("crl.pem", pem(&issuer.sign_crl(&crl).await.unwrap(), "X509 CRL"));
        folder.run("verify -x509_strict -crl_check -CRLfile crl.pem -CAfile ca.pem leaf.pem");
    }
}

#[test]
fn authorities_that_would_issue_wrongly_are_refused() {
    let folder = Folder::new();
    let refusal = |kind, options: &str| {
        let certificate = foreign_authority(&folder, kind, options);
        load(&folder, &certificate, "ca.key").expect_err(options)
    };
    assert!(matches!(refusal(KeyKind::P521, "-subj /CN=a"), IssuerError::KeyKind));
    assert!(matches!(refusal(KeyKind::Ed25519, "-subj /CN=a"), IssuerError::KeyKind));
    let unidentified = refusal(KeyKind::P256, "-subj /CN=a -addext subjectKeyIdentifier=none");
    assert!(unidentified.to_string().contains("subject key identifier"), "{unidentified}");

    let certificate = foreign_authority(&folder, KeyKind::P256, "-subj /O=Société/CN=a");
    load(&folder, &certificate, "ca.key").unwrap();
    folder.key("ca.key", KeyKind::P256);
    let other = load(&folder, &certificate, "ca.key").unwrap_err();
    assert!(matches!(other, IssuerError::KeyMismatch));
    folder.run("pkcs8 -topk8 -in ca.key -out locked.key -passout pass:x");
    assert!(matches!(load(&folder, &certificate, "locked.key"), Err(IssuerError::KeyUnreadable)));
    let twice = certificate.repeat(2);
    assert!(matches!(load(&folder, &twice, "ca.key"), Err(IssuerError::NotOneCertificate(2))));
    assert!(matches!(load(&folder, "", "ca.key"), Err(IssuerError::NotOneCertificate(0))));
}

#[test]
fn leaves_and_authorities_without_rights_are_no_issuers() {
    let folder = Folder::new();
    for (extension, why) in [
        ("-addext basicConstraints=CA:FALSE -addext keyUsage=keyCertSign,cRLSign", "not a CA"),
        ("-addext basicConstraints=CA:TRUE -addext keyUsage=cRLSign", "keyCertSign"),
        ("-addext basicConstraints=CA:TRUE -addext keyUsage=keyCertSign", "cRLSign"),
    ] {
        folder.key("ca.key", KeyKind::P256);
        folder.write("empty.conf", "[req]\ndistinguished_name=dn\n[dn]\n");
        folder.run(&format!(
            "req -x509 -config empty.conf -new -key ca.key -days 30 -subj /CN=a -out ca.pem {extension}"
        ));
        let certificate = fs::read_to_string(folder.path("ca.pem")).unwrap();
        let refused = load(&folder, &certificate, "ca.key").unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[test]
fn chains_are_checked_link_by_link() {
    let now = FleetClock::machine_now();
    let create =
        || create_authority("Test", AuthorityKey::P256, now, ROOT_VALIDITY, ISSUING_VALIDITY).unwrap();
    let (ours, stranger) = (create(), create());
    let load = |chains: &[String], include_root| {
        LocalIssuer::from_pem(&ours.issuing_certificate, &ours.issuing_key, chains, include_root)
    };
    let lengths = |issuer: LocalIssuer| issuer.chains().iter().map(Vec::len).collect::<Vec<_>>();
    let root = ours.root_certificate.clone();
    assert_eq!(lengths(load(&[], false).unwrap()), [1]);
    assert_eq!(lengths(load(&[root.clone(), String::new()], true).unwrap()), [2, 1]);
    assert_eq!(lengths(load(std::slice::from_ref(&root), false).unwrap()), [1]);
    // The stranger's root has the same name, and another key.
    let refused = load(&[root.clone(), stranger.root_certificate.clone()], false).unwrap_err();
    assert!(matches!(refused, IssuerError::ChainOrder { chain: 2, position: 2 }), "{refused}");
    let twice = format!("{root}{}", ours.issuing_certificate);
    let refused = load(&[twice], false).unwrap_err();
    assert!(matches!(refused, IssuerError::ChainOrder { chain: 1, position: 3 }), "{refused}");
}

/// Not a test of anything but speed: `cargo test --lib -- --ignored --nocapture issuing_speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn issuing_speed() {
    let folder = Folder::new();
    let der = {
        csr(&folder, KeyKind::P256);
        fs::read(folder.path("leaf.csr")).unwrap()
    };
    let rate = |count: u32, started: std::time::Instant| f64::from(count) / started.elapsed().as_secs_f64();
    let started = std::time::Instant::now();
    for _ in 0..5_000 {
        Csr::parse(&der, &KeyType::ALL).unwrap();
    }
    println!("CSR (P-256): {:.0}/s", rate(5_000, started));
    for (key, count) in
        [(AuthorityKey::P256, 5_000), (AuthorityKey::P384, 1_000), (AuthorityKey::Rsa4096, 100)]
    {
        let issuer = authority(&folder, key);
        let template = template(csr(&folder, KeyKind::P256).public_key);
        let started = std::time::Instant::now();
        for _ in 0..count {
            issuer.issue(&template).await.unwrap();
        }
        println!("issue ({key:?}): {:.0}/s", rate(count, started));
    }
}
