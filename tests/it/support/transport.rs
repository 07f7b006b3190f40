//! HTTP to one chosen replica: HTTP/1.1 or HTTP/2, plain or TLS, each connection used again while it lasts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::run::SOON;

/// The version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// How one replica is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    tls: Option<(ServerName<'static>, Arc<RootCertStore>)>,
}

/// What went wrong below HTTP, in words.
pub type TransportError = String;

/// A byte stream to a replica.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Endpoint {
    /// Plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// TLS with a certificate for `name` under `root` (PEM).
    pub fn tls(address: SocketAddr, name: &str, root: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a root");
        }
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { address, tls: Some((name, Arc::new(roots))) }
    }

    /// A new connection, on which nothing has been said.
    pub async fn connect(&self, version: Version) -> Result<Box<dyn Stream>, TransportError> {
        let protocol = if version == Version::Http2 { "h2" } else { "http/1.1" };
        let (stream, agreed) = self.handshake(&[protocol]).await?;
        assert!(self.tls.is_none() || agreed.as_deref() == Some(protocol), "ALPN settles on {agreed:?}");
        Ok(stream)
    }

    /// A new connection for which ALPN offers these protocols, and the one that the server chose. (Nothing is offered
    /// without TLS.)
    pub async fn handshake(
        &self,
        offered: &[&str],
    ) -> Result<(Box<dyn Stream>, Option<String>), TransportError> {
        let stream = TcpStream::connect(self.address).await.map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some((name, roots)) = &self.tls else { return Ok((Box::new(stream), None)) };
        let mut config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name.clone(), stream).await.map_err(|e| format!("TLS: {e}"))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        let agreed = agreed.map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        Ok((Box::new(stream), agreed))
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn open(endpoint: &Endpoint, version: Version) -> Result<Self, TransportError> {
        let io = TokioIo::new(endpoint.connect(version).await?);
        let text = |e: hyper::Error| format!("handshake: {e:?}");
        Ok(match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(text)?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    async fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, TransportError> {
        let response = match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let (parts, body) = response.map_err(|e| format!("request: {e:?}"))?.into_parts();
        let body = body.collect().await.map_err(|e| format!("body: {e:?}"))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

/// One client's idle connections.
#[derive(Default)]
pub struct Connections(Mutex<Vec<(SocketAddr, Version, Sender)>>);

impl Connections {
    /// Sends one request to `endpoint` and reads the whole answer. The request's URI is the full URL of the resource:
    /// what of it goes on the wire depends on the version.
    pub async fn exchange(
        &self,
        endpoint: &Endpoint,
        version: Version,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, TransportError> {
        if version == Version::Http1 {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
            let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let host = authority.parse().map_err(|_| "no authority")?;
            request.headers_mut().entry(http::header::HOST).or_insert(host);
            *request.uri_mut() = path.parse().map_err(|_| "no path")?;
        }
        let work = async {
            let mut sender = match self.take(endpoint.address, version).await {
                Some(sender) => sender,
                None => Sender::open(endpoint, version).await?,
            };
            let response = sender.send(request).await?;
            // A body that was not read to its end leaves a connection that the server can only close.
            if response.status() != http::StatusCode::PAYLOAD_TOO_LARGE {
                self.0.lock().expect("not poisoned").push((endpoint.address, version, sender));
            }
            Ok(response)
        };
        tokio::time::timeout(SOON, work).await.map_err(|_| format!("no answer within {SOON:?}"))?
    }

    async fn take(&self, address: SocketAddr, version: Version) -> Option<Sender> {
        loop {
            let mut sender = {
                let mut idle = self.0.lock().expect("not poisoned");
                let index = idle.iter().position(|(a, v, _)| (*a, *v) == (address, version))?;
                idle.swap_remove(index).2
            };
            if sender.is_usable().await {
                return Some(sender);
            }
        }
    }
}
