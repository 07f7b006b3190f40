//! CRT-01 to CRT-03: the certificate.

use std::collections::HashSet;
use std::sync::Arc;

use chancery::acme::time::FleetClock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};

use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::identifiers;
use crate::support::keys::{Key, KeyKind};
use crate::support::run::{folder, runtime, unique_name};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        crt_01_the_chain_is_pem_leaf_first_without_the_root
        crt_02_serials_are_positive_random_and_never_twice
        crt_03_the_leaf_has_what_rfc_5280_wants
        crt_03_the_usages_follow_key_and_profile
        crt_03_the_policy_follows_the_profile
        crt_03_the_common_name_follows_profile_and_length
        crt_03_the_leaf_says_where_its_issuer_and_crl_are;
}

async fn crt_01_the_chain_is_pem_leaf_first_without_the_root(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let issued = client.issue(&[&name]).await;
    for _ in 0..server.size() {
        let answer = client.read(&issued.url).await.expect(200);
        assert_eq!(answer.content_type(), "application/pem-certificate-chain", "{answer}");
        let chain = Chain::parse(&answer.text());
        assert_eq!(chain.leaf_der(), issued.chain.leaf_der());
        assert_eq!(chain.names(), std::slice::from_ref(&name));
        chain.assert_ordered();
        assert!(chain.len() >= 2, "the issuing certificate comes along");
        for index in 0..chain.len() {
            let one = chain.certificate(index);
            assert_ne!(one.subject().as_raw(), one.issuer().as_raw(), "no root in the chain");
            assert_eq!(one.is_ca(), index > 0);
        }
    }
}

/// An issuing certificate under two roots, of which the second signed the first one's key.
struct Authority {
    issuing: String,
    key: String,
    cross: String,
}

fn authority() -> Authority {
    let named = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.key_identifier_method = KeyIdMethod::Sha256;
        parameters.use_authority_key_identifier_extension = true;
        // The default dates of the library lie beyond what servers take for sane.
        parameters.not_before = FleetClock::machine_now().to_datetime() - time::Duration::days(1);
        parameters.not_after = FleetClock::machine_now().to_datetime() + time::Duration::days(3650);
        parameters
    };
    let (old, new) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let old = Issuer::new(named("Old Root"), old);
    let cross = named("New Root").signed_by(&new, &old).expect("a certificate").pem();
    let new = Issuer::new(named("New Root"), new);
    let key = KeyPair::generate().expect("a key");
    let issuing = named("Issuing").signed_by(&key, &new).expect("a certificate").pem();
    Authority { issuing, key: key.serialize_pem(), cross }
}

/// A CA with two chains, the second by way of an older root.
pub fn two_chains() -> Settings {
    let (authority, home) = (authority(), folder("authority"));
    let write = |name: &str, text: &str| {
        let file = home.join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    Settings::new()
        .set("CHANCERY_CA_CERT", write("issuing.pem", &authority.issuing))
        .set("CHANCERY_CA_KEY", write("issuing.key", &authority.key))
        .set(
            "CHANCERY_CA_CHAIN",
            format!("{},{}", write("short.pem", ""), write("cross.pem", &authority.cross)),
        )
}

#[test]
fn crt_01_other_chains_are_linked_as_alternates() {
    let server = Deployment::with(Kind::Fleet, &two_chains().replicas(2));
    runtime().block_on(async {
        let client = server.account().await;
        let issued = client.issue_any().await;
        assert_eq!(issued.chain.len(), 2, "the first chain is the default");
        let answer = client.read(&issued.url).await.expect(200);
        let alternates = answer.links("alternate");
        assert_eq!(alternates.len(), 1, "{answer}");
        for _ in 0..server.size() {
            let other = client.read(&alternates[0]).await.expect(200);
            assert_eq!(other.content_type(), "application/pem-certificate-chain", "{other}");
            let chain = Chain::parse(&other.text());
            assert_eq!(chain.leaf_der(), issued.chain.leaf_der());
            assert_eq!(chain.len(), 3, "by way of the old root");
            chain.assert_ordered();
            assert!(chain.certificate(2).issuer().to_string().contains("Old Root"));
            assert!(other.links("up").is_empty(), "{other}");
        }
        let stranger = server.account().await;
        stranger.read(&alternates[0]).await.problem(403, "unauthorized");
    });
}

async fn crt_02_serials_are_positive_random_and_never_twice(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut serials = Vec::new();
    for _ in 0..16 {
        serials.push(client.issue_any().await.chain.serial());
    }
    for serial in &serials {
        assert!((8..=20).contains(&serial.len()) && serial[0] < 0x80, "{serial:?}");
        assert!(serial.iter().any(|octet| *octet != 0), "positive");
    }
    assert_eq!(serials.iter().collect::<HashSet<_>>().len(), serials.len());
    // 64 bits or more that vary: in each of eight octets at least, sixteen random serials have six values or more.
    let shortest = serials.iter().map(Vec::len).min().unwrap_or(0);
    let varied = (0..shortest)
        .filter(|index| serials.iter().map(|serial| serial[*index]).collect::<HashSet<_>>().len() >= 6);
    assert!(varied.count() >= 8, "{serials:?}");
}

async fn crt_03_the_leaf_has_what_rfc_5280_wants(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let (leaf, issuer) = (issued.chain.leaf(), issued.chain.certificate(1));
    assert_eq!(leaf.version().0, 2, "X.509 version 3");
    let constraints = leaf.basic_constraints().expect("one");
    assert!(constraints.is_none_or(|constraints| !constraints.value.ca), "CA:FALSE");
    let key_id = issuer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    assert_eq!(Some(issued.chain.authority_key_id()), key_id, "the issuer is named by its key");
    let mut seen = HashSet::new();
    for extension in leaf.extensions() {
        assert!(seen.insert(extension.oid.to_id_string()), "{} twice", extension.oid);
    }
    let validity = leaf.validity();
    assert!(validity.not_after.timestamp() <= issuer.validity().not_after.timestamp());
    let now = FleetClock::machine_now().seconds();
    let backdated = now - validity.not_before.timestamp();
    assert!((30..=120).contains(&backdated), "dated back by a minute, as configured: {backdated} s");
}

async fn crt_03_the_usages_follow_key_and_profile(server: Arc<Deployment>) {
    let client = server.account().await;
    for (profile, kind) in
        [("plain", KeyKind::Es256), ("trusted", KeyKind::Es256), ("trusted", KeyKind::Rs256)]
    {
        let name = unique_name();
        let order = client.order_under(profile, &[&name]).await;
        let issued = client.collect(&order, &[&name], Key::of(kind)).await;
        let leaf = issued.chain.leaf();
        let usage = leaf.key_usage().expect("one").expect("a key usage");
        assert!(usage.critical && usage.value.digital_signature(), "{usage:?}");
        assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign(), "{usage:?}");
        assert_eq!(usage.value.key_encipherment(), kind == KeyKind::Rs256, "{usage:?}");
        let extended = leaf.extended_key_usage().expect("one").expect("an extended key usage");
        assert!(extended.value.server_auth && !extended.value.any, "{extended:?}");
        assert_eq!(extended.value.client_auth, profile == "trusted", "{extended:?}");
    }
}

async fn crt_03_the_policy_follows_the_profile(server: Arc<Deployment>) {
    let client = server.account().await;
    for (profile, wanted) in [("plain", Some("1.3.6.1.4.1.32473.1")), ("trusted", None)] {
        let name = unique_name();
        let order = client.order_under(profile, &[&name]).await;
        let issued = client.collect(&order, &[&name], Key::new()).await;
        let leaf = issued.chain.leaf();
        let named = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CertificatePolicies(policies) => {
                Some(policies.iter().map(|policy| policy.policy_id.to_id_string()).collect::<Vec<_>>())
            }
            _ => None,
        });
        assert_eq!(named, wanted.map(|oid| vec![oid.to_owned()]), "{profile}");
    }
}

async fn crt_03_the_common_name_follows_profile_and_length(server: Arc<Deployment>) {
    let client = server.account().await;
    let (short, base) = (unique_name(), unique_name());
    let long = format!("{}.{base}", "a".repeat(60));
    for (profile, name, wanted) in
        [("trusted", &short, Some(short.as_str())), ("trusted", &long, None), ("plain", &short, None)]
    {
        let order = client.order_under(profile, &[name]).await;
        let issued = client.collect(&order, &[name], Key::new()).await;
        let leaf = issued.chain.leaf();
        let common: Vec<_> = leaf.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).collect();
        assert_eq!(common, wanted.into_iter().collect::<Vec<_>>(), "{profile}");
        let san = leaf.subject_alternative_name().expect("one").expect("a SAN");
        if wanted.is_none() {
            assert!(san.critical, "critical where the subject is empty (RFC 5280 §4.2.1.6)");
        }
    }
}

async fn crt_03_the_leaf_says_where_its_issuer_and_crl_are(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.new_order(json!({"identifiers": identifiers(&[&name]), "profile": "trusted"})).await;
    let order = crate::support::flows::Order::of(&order.expect(201));
    client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await.expect(200);
    let url = client.wait_for(&order.url, "valid").await.string("certificate");
    let chain = Chain::parse(&client.read(&url).await.text());
    let issuer = client.get(&issuer_url(&chain)).await.expect(200);
    assert_eq!(
        issuer.body,
        chain.certificate(1).as_raw(),
        "the issuing certificate in DER (RFC 5280 §4.2.2.1)"
    );
    let crl = client.get(&crl_url(&chain)).await.expect(200);
    assert_eq!(crl.content_type(), "application/pkix-crl", "{}", crl.status);
}

/// The URL of its issuer's certificate that a leaf names.
pub fn issuer_url(chain: &Chain) -> String {
    let leaf = chain.leaf();
    let found = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().find_map(|one| match one.access_location {
                GeneralName::URI(url) if one.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2" => {
                    Some(url.to_owned())
                }
                _ => None,
            })
        }
        _ => None,
    });
    found.expect("caIssuers")
}

/// The URL of the CRL that a leaf names.
pub fn crl_url(chain: &Chain) -> String {
    let leaf = chain.leaf();
    let found = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => points.iter().find_map(|point| {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { return None };
            names.iter().find_map(|name| match name {
                GeneralName::URI(url) => Some((*url).to_owned()),
                _ => None,
            })
        }),
        _ => None,
    });
    found.expect("a CRL distribution point")
}
