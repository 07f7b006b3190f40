//! TLS to hosts whose certificates nobody vouches for: that is what they are asking us for. The peer still has to prove
//! that it holds the key of the certificate that it shows.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::prelude::X509Certificate;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// A client's configuration: TLS 1.2 or 1.3, any certificate, the given ALPN protocols, and no resumption (a resumed
/// session would show no certificate).
pub fn client_config(protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let verifier = AnyCertificate { algorithms: PROVIDER.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whether a certificate names itself as its issuer and is signed with its own key.
pub fn is_self_signed(certificate: &X509Certificate<'_>, der: &[u8]) -> bool {
    let signed = || {
        let [_, signature_algorithm, _] = items(der)?;
        let [key_algorithm, _] = items(certificate.public_key().raw)?;
        let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == signature_algorithm
                && algorithm.public_key_alg_id().as_ref() == key_algorithm
        };
        let algorithm = PROVIDER.signature_verification_algorithms.all.iter().find(fits)?;
        let key = &certificate.public_key().subject_public_key.data;
        let (message, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
        algorithm.verify_signature(key, message, signature).ok()
    };
    certificate.subject().as_raw() == certificate.issuer().as_raw() && signed().is_some()
}

/// The contents of the `N` members of a DER SEQUENCE; `None` if it is not one of so many.
fn items<const N: usize>(der: &[u8]) -> Option<[&[u8]; N]> {
    let (_, sequence) = Any::from_der(der).ok()?;
    let mut rest = sequence.data;
    let mut found = [&[][..]; N];
    for slot in &mut found {
        let (after, item) = Any::from_der(rest).ok()?;
        (*slot, rest) = (item.data, after);
    }
    rest.is_empty().then_some(found)
}

/// Takes any certificate, and checks handshake signatures by its key. The stock verification refuses certificates with
/// critical extensions that it does not know, as those of tls-alpn-01 have, hence this one.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let key = certificate.public_key();
        let [key_algorithm, _] = items(key.raw).ok_or(CertificateError::BadEncoding)?;
        let of_scheme = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, candidates) = of_scheme.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        candidates
            .iter()
            .find(|candidate| candidate.public_key_alg_id().as_ref() == key_algorithm)
            .and_then(|found| {
                found.verify_signature(&key.subject_public_key.data, message, signed.signature()).ok()
            })
            .map(|()| HandshakeSignatureValid::assertion())
            .ok_or_else(|| CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::BadEncoding.into()),
    }
}
