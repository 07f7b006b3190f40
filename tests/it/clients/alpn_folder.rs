//! A TLS server for clients that only write files: it answers tls-alpn-01 (RFC 8737) with the certificates of one
//! folder, `NAME.crt.pem` and `NAME.key.pem`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use crate::support::accept::accept;

/// A running server, until it is dropped.
pub struct AlpnFolder(JoinHandle<()>);

impl AlpnFolder {
    /// Shows whoever asks for a name its certificate in `folder`, if there is one.
    pub fn start(address: Ipv4Addr, port: u16, folder: &Path) -> Self {
        let listener = TcpListener::bind((address, port)).expect("the port is free");
        let folder = folder.to_owned();
        Self(accept(listener, move |stream| answer(stream, folder.clone())))
    }
}

impl Drop for AlpnFolder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(stream: TcpStream, folder: PathBuf) -> Option<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
    let name = start.client_hello().server_name()?.to_owned();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key.pem"))).ok()?;
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.crt.pem"))).ok()?;
    // Not by `with_single_cert`, which refuses the critical extension that all this is about.
    let certified = CertifiedKey::new(vec![certificate], any_supported_type(&key).ok()?);
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let mut stream = start.into_stream(Arc::new(config)).await.ok()?;
    stream.read(&mut [0; 16]).await.ok().map(|_| ())
}
