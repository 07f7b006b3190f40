//! tls-alpn-01 (RFC 8737 §3): a certificate with the acmeIdentifier extension, made for the name of each
//! hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{KeyAuthorizationDigest, Published};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Listens on `address` and answers handshakes for names under challenge.
pub(super) async fn start(address: SocketAddr, published: Arc<Published>) -> Result<(), String> {
    let responder = Responder::new(published)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(responder));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(Ok(mut stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    // The handshake was all; the validator may have gone already.
                    drop(stream.shutdown().await);
                }
            });
        }
    });
    Ok(())
}

struct Responder {
    published: Arc<Published>,
    pair: rcgen::KeyPair,
    signing_key: Arc<dyn SigningKey>,
}

impl Responder {
    fn new(published: Arc<Published>) -> Result<Self, String> {
        let pair = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
        let private = PrivateKeyDer::try_from(pair.serialize_der())?;
        let signing_key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|error| error.to_string())?;
        Ok(Self { published, pair, signing_key })
    }

    fn certificate(
        &self,
        name: &str,
        digest: &KeyAuthorizationDigest,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
        Ok(params.self_signed(&self.pair)?.der().clone())
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder")
    }
}

impl ResolvesServerCert for Responder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let digest = self.published.digest(&name)?;
        let certificate = self.certificate(&name, &digest).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![certificate], Arc::clone(&self.signing_key))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_carries_the_name_and_the_critical_extension() {
        let responder = Responder::new(Published::new()).unwrap();
        let der = responder.certificate("a.test", &[0x5a; 32]).unwrap();
        // id-pe-acmeIdentifier, critical, OCTET STRING in OCTET STRING (RFC 8737 §3).
        let mut extension =
            vec![0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20];
        extension.extend([0x5a; 32]);
        assert!(der.windows(extension.len()).any(|window| window == extension));
        assert!(der.windows(8).any(|window| window == b"\x82\x06a.test"));
    }
}
