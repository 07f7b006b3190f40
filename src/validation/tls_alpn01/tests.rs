//! Against TLS servers on loopback, with certificates that are right, and wrong in every way.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DnType, Issuer, KeyPair, SanType, SignatureAlgorithm};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::acme::challenge::ChallengeType;
use crate::network::NetworkConfig;
use crate::network::fakes::{FakeDns, config, network};
use crate::validation::{ValidationConfig, validate as validate_any};

const OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 31];
const EXPECTED: &str = "tok.thumb";
/// Either version alone.
const VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];

fn extension(key_authorization: &str, critical: bool) -> CustomExtension {
    let digest = digest(&SHA256, key_authorization.as_bytes());
    let mut extension = CustomExtension::from_oid_content(OID, [&[0x04, 0x20][..], digest.as_ref()].concat());
    extension.set_criticality(critical);
    extension
}

fn params(names: Vec<SanType>, extensions: Vec<CustomExtension>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "challenge");
    params.subject_alt_names = names;
    params.custom_extensions = extensions;
    params
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn right() -> CertificateParams {
    params(vec![dns("a.test")], vec![extension(EXPECTED, true)])
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn judged(params: &CertificateParams) -> Result<(), Wrong> {
    let key = key(&rcgen::PKCS_ECDSA_P256_SHA256);
    let certificate = params.self_signed(&key).unwrap();
    judge(EXPECTED, &Identifier::Dns("a.test".into()), certificate.der())
}

#[test]
fn aut_12_a_certificate_for_exactly_this_name_and_key_authorization_proves() {
    assert_eq!(judged(&right()), Ok(()));
    assert_eq!(judged(&params(vec![dns("A.Test")], vec![extension(EXPECTED, true)])), Ok(()));
    for algorithm in [
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let certificate = right().self_signed(&key(algorithm)).unwrap();
        assert_eq!(judge(EXPECTED, &Identifier::Dns("a.test".into()), certificate.der()), Ok(()));
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address: IpAddr = address.parse().unwrap();
        let names = vec![SanType::IpAddress(address)];
        let certificate =
            params(names, vec![extension(EXPECTED, true)]).self_signed(&key(&rcgen::PKCS_ED25519)).unwrap();
        assert_eq!(judge(EXPECTED, &Identifier::Ip(address), certificate.der()), Ok(()));
        let other = Identifier::Ip("192.0.2.2".parse().unwrap());
        assert!(judge(EXPECTED, &other, certificate.der()).is_err());
    }
}

#[test]
fn aut_12_anything_more_or_less_is_told() {
    let acme = || vec![extension(EXPECTED, true)];
    let mut not_octets = CustomExtension::from_oid_content(OID, vec![0x04, 0x00]);
    not_octets.set_criticality(true);
    for (case, word) in [
        (params(vec![dns("b.test")], acme()), "subjectAltName must be a.test"),
        (params(vec![dns("*.a.test")], acme()), "subjectAltName must be a.test"),
        (params(vec![dns("a.test"), dns("b.test")], acme()), "nothing else"),
        (params(vec![dns("a.test"), dns("a.test")], acme()), "nothing else"),
        (params(vec![SanType::Rfc822Name("a.test".try_into().unwrap())], acme()), "nothing else"),
        (params(vec![SanType::IpAddress("192.0.2.1".parse().unwrap())], acme()), "nothing else"),
        (params(vec![], acme()), "no subjectAltName"),
        (params(vec![dns("a.test")], vec![]), "no acmeIdentifier"),
        (params(vec![dns("a.test")], vec![extension(EXPECTED, false)]), "not critical"),
        (params(vec![dns("a.test")], vec![extension("tok.other", true)]), "holds 0420"),
        (params(vec![dns("a.test")], vec![not_octets]), "holds 0400"),
    ] {
        let wrong = judged(&case).unwrap_err();
        assert!(wrong.what.contains(word), "{word}: {wrong:?}");
    }
    assert!(judge(EXPECTED, &Identifier::Dns("a.test".into()), b"\x30\x00").is_err());
}

#[test]
fn aut_12_a_certificate_that_another_signed_proves_nothing() {
    let (ours, theirs) = (key(&rcgen::PKCS_ECDSA_P256_SHA256), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    // The issuer's name is that of the subject, but not its key.
    let issuer = Issuer::new(right(), &theirs);
    let forged = right().signed_by(&ours, &issuer).unwrap();
    let wrong = judge(EXPECTED, &Identifier::Dns("a.test".into()), forged.der()).unwrap_err();
    assert!(wrong.what.contains("not self-signed"), "{wrong:?}");
    // The issuer's key is that of the subject, but not its name.
    let mut other = right();
    other.distinguished_name.push(DnType::CommonName, "someone else");
    let issuer = Issuer::new(other, &ours);
    let renamed = right().signed_by(&ours, &issuer).unwrap();
    assert!(judge(EXPECTED, &Identifier::Dns("a.test".into()), renamed.der()).is_err());
}

/// Shows one certificate to those who ask for one server name.
#[derive(Debug)]
struct Responder {
    server_name: String,
    certificate: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Responder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let asked = hello.server_name() == Some(&self.server_name) && offered == [PROTOCOL];
        asked.then(|| Arc::clone(&self.certificate))
    }
}

struct Server {
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    protocols: Vec<Vec<u8>>,
    shown_with: Option<KeyPair>,
}

impl Default for Server {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, protocols: vec![PROTOCOL.to_vec()], shown_with: None }
    }
}

impl Server {
    async fn start(self, server_name: &str, params: &CertificateParams) -> SocketAddr {
        let own = key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let certificate = params.self_signed(&own).unwrap();
        let shown_with = self.shown_with.unwrap_or(own);
        let der = PrivateKeyDer::try_from(shown_with.serialize_der()).unwrap();
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
        let responder = Responder {
            server_name: server_name.to_owned(),
            certificate: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(responder));
        config.alpn_protocols = self.protocols;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        });
        address
    }
}

async fn verdict(network: &Network, identifier: &Identifier, port: u16) -> Verdict {
    let attempt =
        Attempt { kind: ChallengeType::TlsAlpn01, identifier, token: "tok", key_thumbprint: "thumb" };
    validate_any(&attempt, network, &ValidationConfig { http01_port: 80, tls_alpn01_port: port }).await
}

async fn of(server: Server, params: &CertificateParams) -> Verdict {
    let zone = FakeDns::start().await;
    zone.host("a.test", &["127.0.0.1".parse().unwrap()]);
    let address = server.start("a.test", params).await;
    verdict(&network(&[&zone]), &Identifier::Dns("a.test".into()), address.port()).await
}

#[tokio::test]
async fn aut_12_names_are_proven_over_tls_1_3_and_1_2() {
    for versions in VERSIONS {
        assert_eq!(of(Server { versions, ..Server::default() }, &right()).await, Verdict::Valid);
    }
}

#[tokio::test]
async fn aut_12_addresses_are_proven_by_their_reverse_names() {
    let identifier = Identifier::Ip("127.0.0.1".parse().unwrap());
    let names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let params = params(names, vec![extension(EXPECTED, true)]);
    let address = Server::default().start("1.0.0.127.in-addr.arpa", &params).await;
    assert_eq!(verdict(&network(&[]), &identifier, address.port()).await, Verdict::Valid);
    let six = Identifier::Ip("2001:db8::567:89ab".parse().unwrap());
    assert_eq!(sni(&six), "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

#[tokio::test]
async fn aut_12_a_server_without_the_protocol_proves_nothing() {
    let Verdict::Invalid(problem) = of(Server { protocols: vec![], ..Server::default() }, &right()).await
    else {
        panic!()
    };
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    assert!(problem.detail.contains("acme-tls/1"), "{problem}");
    // One that knows others only refuses the handshake; it may yet learn.
    let server = Server { protocols: vec![b"h2".to_vec()], ..Server::default() };
    let Verdict::Retry(problem) = of(server, &right()).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Tls);
}

#[tokio::test]
async fn aut_12_wrong_certificates_are_final_and_stolen_ones_fail_the_handshake() {
    let wrong = params(vec![dns("a.test")], vec![extension("tok.other", true)]);
    let Verdict::Invalid(problem) = of(Server::default(), &wrong).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::IncorrectResponse);
    assert!(problem.detail.contains("127.0.0.1:"), "{problem}");
    // Whoever shows a certificate must hold its key.
    for versions in VERSIONS {
        let shown_with = Some(key(&rcgen::PKCS_ECDSA_P256_SHA256));
        let server = Server { versions, shown_with, ..Server::default() };
        let Verdict::Retry(problem) = of(server, &right()).await else { panic!() };
        assert_eq!(problem.kind, ProblemType::Tls);
    }
}

#[tokio::test]
async fn aut_12_what_does_not_shake_hands_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let http_timeout = Duration::from_millis(200);
    let hasty = Network::new(NetworkConfig { http_timeout, ..config(&[]) }).unwrap();
    let identifier = Identifier::Ip("127.0.0.1".parse().unwrap());
    let Verdict::Retry(problem) = verdict(&hasty, &identifier, port).await else { panic!() };
    assert!(problem.detail.contains(&format!("127.0.0.1:{port} was not done within")), "{problem}");
    drop(listener);
    let Verdict::Retry(problem) = verdict(&hasty, &identifier, port).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Connection);
    let strict = Network::new(NetworkConfig { allow_networks: Vec::new(), ..config(&[]) }).unwrap();
    assert!(matches!(verdict(&strict, &identifier, port).await, Verdict::Invalid(_)));
}
