//! The server's own certificate: from PEM, and replaced while running.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Why a certificate cannot serve.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// No certificate in the text.
    #[error("there is no PEM block CERTIFICATE in the certificate chain")]
    ChainEmpty,
    /// A certificate block is broken.
    #[error("the certificate chain is not PEM: {0}")]
    ChainUnreadable(rustls_pki_types::pem::Error),
    /// The key is broken, of no supported kind, or does not fit the certificate.
    #[error("the private key cannot serve this certificate: {0}")]
    KeyRefused(rustls::Error),
    /// No key in the text, or a broken one.
    #[error("the private key is not PEM (PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY): {0}")]
    KeyUnreadable(rustls_pki_types::pem::Error),
    /// The TLS library refuses to work.
    #[error("TLS cannot be set up: {0}")]
    Refused(rustls::Error),
}

/// A certificate that is replaced while running: handshakes that begin after [`Self::store`] see the new one.
#[derive(Debug)]
pub struct ReloadingCertificate(ArcSwap<CertifiedKey>);

impl ReloadingCertificate {
    /// Reads a PEM chain, leaf first, and its PEM private key; they must belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<Self>, CertificateError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified_key(chain, key)?))))
    }

    /// Replaces the certificate; on an error the one before stays.
    pub fn store(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        self.0.store(Arc::new(certified_key(chain, key)?));
        Ok(())
    }

    /// The certificates in use as DER, leaf first.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.0.load().cert.iter().map(|certificate| certificate.to_vec()).collect()
    }
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS 1.2 and 1.3 with that certificate, for HTTP/2 and HTTP/1.1.
pub fn tls_config(certificate: Arc<ReloadingCertificate>) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Refused)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for a certificate that stays.
pub fn tls_from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, CertificateError> {
    tls_config(ReloadingCertificate::from_pem(chain, key)?)
}

fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(CertificateError::ChainUnreadable)?;
    if chain.is_empty() {
        return Err(CertificateError::ChainEmpty);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::KeyUnreadable)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(CertificateError::KeyRefused)
}
