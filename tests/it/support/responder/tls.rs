//! The tls-alpn-01 side (RFC 8737): a handshake that is all the answer there is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use crate::support::accept::accept;
use crate::support::certificate::parameters;
use crate::support::keys::sha256;

/// What is shown to a client that asks for one name.
pub struct Handshake {
    parameters: CertificateParams,
    protocols: Vec<Vec<u8>>,
}

impl Handshake {
    /// What RFC 8737 §3 asks for.
    pub fn right(name: &str, key_authorization: &str) -> Self {
        let mut parameters = parameters(&[name]);
        let digest = sha256(key_authorization.as_bytes());
        parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        Self { parameters, protocols: vec![b"acme-tls/1".to_vec()] }
    }

    /// With other contents of the certificate.
    pub fn certificate(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.parameters);
        self
    }

    /// With other protocols for ALPN.
    pub fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    fn config(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let certificate = self.parameters.self_signed(&key).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = any_supported_type(&key).expect("a key");
        // Not by `with_single_cert`, which refuses the critical extension that all this is about.
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(config)
    }
}

type Configs = Arc<Mutex<HashMap<String, Arc<ServerConfig>>>>;

/// The server. Names without a script are cut off.
pub struct Tls {
    port: u16,
    configs: Configs,
}

impl Tls {
    pub(super) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = Self { port: listener.local_addr().expect("bound").port(), configs: Arc::default() };
        server.serve(listener);
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Listens on the same port of another address too.
    pub fn listen_on(&self, address: IpAddr) -> JoinHandle<()> {
        self.serve(std::net::TcpListener::bind((address, self.port)).expect("the port is free"))
    }

    /// Shows the right certificate for a name or an IPv4 address.
    pub fn set(&self, name: &str, key_authorization: &str) {
        self.script(name, &Handshake::right(name, key_authorization));
    }

    /// Shows this to whoever asks for a name or an IPv4 address.
    pub fn script(&self, name: &str, handshake: &Handshake) {
        // RFC 8738 §6: the SNI of an address is its reverse name.
        let sni = match name.parse::<Ipv4Addr>() {
            Ok(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Err(_) => name.to_owned(),
        };
        self.configs.lock().expect("not poisoned").insert(sni, handshake.config());
    }

    fn serve(&self, listener: std::net::TcpListener) -> JoinHandle<()> {
        let configs = Arc::clone(&self.configs);
        accept(listener, move |stream| answer(stream, Arc::clone(&configs)))
    }
}

async fn answer(stream: TcpStream, configs: Configs) -> Option<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
    let name = start.client_hello().server_name().unwrap_or("").to_owned();
    let config = configs.lock().expect("not poisoned").get(&name).cloned()?;
    let mut stream = start.into_stream(config).await.ok()?;
    stream.read(&mut [0; 16]).await.ok().map(|_| ())
}
