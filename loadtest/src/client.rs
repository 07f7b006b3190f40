//! The client's side of RFC 8555 §6: kept-alive connections to every replica, and signed requests over them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;
use crate::jws::AccountKey;
use crate::recorder::Recorder;
use crate::step::Step;

/// Largest response body that is read.
const BODY_LIMIT: usize = 1 << 20;
/// How often one request is sent when its nonces are refused: what lego and certbot do.
const ATTEMPTS: usize = 5;

/// A registered account.
pub(crate) struct Account {
    /// Its key.
    pub(crate) key: AccountKey,
    /// The `kid` member of its requests, name and all.
    pub(crate) identity: String,
}

/// The replicas under load, and the directory they share.
pub(crate) struct Fleet {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) directory: Directory,
    tls: TlsConnector,
    timeout: Duration,
}

/// One replica's address, from its directory URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) encrypted: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) directory_url: String,
}

/// The members of the directory (RFC 8555 §7.1.1) that flows use.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Directory {
    pub(crate) new_nonce: String,
    pub(crate) new_account: String,
    pub(crate) new_order: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
}

impl Fleet {
    /// Reads the directory from the first of the `servers`.
    pub(crate) async fn discover(
        servers: &[String],
        root: Option<&std::path::Path>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let replicas = servers.iter().map(|url| Replica::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let mut fleet = Self { replicas, directory: Directory::default(), tls: connector(root)?, timeout };
        let first = fleet.replicas.first().ok_or_else(|| Failure::Setup("no server is named".into()))?;
        let url = first.directory_url.clone();
        let mut connection =
            fleet.connect(0).await.map_err(|cause| Failure::Setup(format!("{url}: {cause}")))?;
        let request = request(Method::GET, &url, Bytes::new())?;
        let answer = connection.send_request(request).await;
        let answer = answer.map_err(|error| Failure::Setup(format!("{url}: {error}")))?;
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| Failure::Setup(format!("{url}: {error}")))?.to_bytes();
        fleet.directory = serde_json::from_slice(&body)
            .map_err(|error| Failure::Setup(format!("{url} gives no directory: {error}")))?;
        Ok(fleet)
    }

    /// A stream to a replica, encrypted where its URL says so.
    async fn connect(&self, replica: usize) -> Result<SendRequest<Full<Bytes>>, String> {
        let replica = &self.replicas[replica];
        let stream =
            TcpStream::connect((replica.host.as_str(), replica.port)).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        if !replica.encrypted {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(replica.host.clone()).map_err(|e| e.to_string())?;
        handshake(self.tls.connect(name, stream).await.map_err(|e| e.to_string())?).await
    }

    /// Connects to a replica as [`Fleet::connect`], for a caller that writes its own HTTP.
    pub(crate) async fn connect_plain(&self, replica: usize) -> Result<TcpStream, String> {
        let replica = &self.replicas[replica];
        let stream =
            TcpStream::connect((replica.host.as_str(), replica.port)).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(stream)
    }
}

impl Replica {
    /// Takes a directory URL apart. IPv6 addresses stand in brackets.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let refused = |what: &str| Failure::Setup(format!("`{url}` {what}"));
        let (scheme, authority, _) = split_url(url).ok_or_else(|| refused("is not a URL"))?;
        let encrypted = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(refused("is neither http nor https")),
        };
        let default_port = if encrypted { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| refused("has a port that is no number"))?)
            }
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { encrypted, host, port, directory_url: url.to_owned() })
    }
}

/// Scheme, authority, and path with query of an absolute URL.
pub(crate) fn split_url(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    if authority.is_empty() {
        return None;
    }
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn connector(root: Option<&std::path::Path>) -> Result<TlsConnector, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = root {
        let refused = |what: String| Failure::Setup(format!("{}: {what}", path.display()));
        let certificates =
            rustls_pki_types::CertificateDer::pem_file_iter(path).map_err(|e| refused(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| refused(e.to_string()))?;
            roots.add(certificate).map_err(|e| refused(e.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Setup(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A request for `url` in origin form. `Host` is the authority of the URL, as it would be behind a load
/// balancer.
fn request(method: Method, url: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let refused = || Failure::Setup(format!("`{url}` cannot be requested"));
    let (_, authority, path) = split_url(url).ok_or_else(refused)?;
    let mut request = Request::new(Full::new(body));
    *request.uri_mut() = path.parse().map_err(|_| refused())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| refused())?);
    headers.insert(USER_AGENT, HeaderValue::from_static("chancery-loadtest/0.1"));
    if method == Method::POST {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
    }
    *request.method_mut() = method;
    Ok(request)
}

/// One client: a connection to each replica, and the nonce of its last answer.
pub(crate) struct Session {
    fleet: Arc<Fleet>,
    recorder: Arc<Recorder>,
    connections: Vec<Option<SendRequest<Full<Bytes>>>>,
    turn: usize,
    nonce: Option<String>,
    /// Whether latencies go into the histograms.
    pub(crate) measured: bool,
}

impl Session {
    /// A client whose first request goes to the replica `first` (modulo their number).
    pub(crate) fn new(fleet: Arc<Fleet>, recorder: Arc<Recorder>, first: usize) -> Self {
        let connections = fleet.replicas.iter().map(|_| None).collect();
        Self { fleet, recorder, connections, turn: first, nonce: None, measured: true }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Directory {
        &self.fleet.directory
    }

    /// Records the time since `since` when this session is measured.
    pub(crate) fn time(&self, step: Step, since: Instant) {
        if self.measured {
            self.recorder.time(step, since);
        }
    }

    /// Sends a signed request and gives its answer of success; an empty payload reads (POST-as-GET). A
    /// refused nonce is replaced by the one that came with the refusal, as clients do.
    pub(crate) async fn post(
        &mut self,
        step: Step,
        key: &AccountKey,
        identity: &str,
        url: &str,
        payload: &[u8],
    ) -> Result<Answer, Failure> {
        let mut attempt = 1;
        loop {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let body = key.sign(identity, &nonce, url, payload)?;
            let since = Instant::now();
            let answer = self.exchange(step, Method::POST, url, body).await?;
            if answer.status.is_success() {
                self.time(step, since);
                return Ok(answer);
            }
            let problem = serde_json::from_slice::<Problem>(&answer.body).ok();
            let (kind, detail) = problem.map_or_else(
                || ("without a problem document".to_owned(), String::new()),
                |problem| (problem.kind, problem.detail),
            );
            let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&kind).to_owned();
            if kind == "badNonce" && attempt < ATTEMPTS {
                self.recorder.bad_nonce();
                attempt += 1;
                continue;
            }
            return Err(Failure::Refused { step, status: answer.status, kind, detail });
        }
    }

    async fn new_nonce(&mut self) -> Result<String, Failure> {
        let url = self.fleet.directory.new_nonce.clone();
        let since = Instant::now();
        let answer = self.exchange(Step::NewNonce, Method::HEAD, &url, Bytes::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(Failure::Refused {
                step: Step::NewNonce,
                status: answer.status,
                kind: "to a HEAD".into(),
                detail: String::new(),
            });
        }
        self.time(Step::NewNonce, since);
        self.nonce.take().ok_or_else(|| Failure::Unexpected {
            step: Step::NewNonce,
            what: "answered without a Replay-Nonce".into(),
        })
    }

    /// Sends to the next replica in turn, within the time allowed.
    async fn exchange(
        &mut self,
        step: Step,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        self.turn = (self.turn + 1) % self.connections.len();
        let timeout = self.fleet.timeout;
        let answer =
            tokio::time::timeout(timeout, self.exchange_with(self.turn, step, method, url, body)).await;
        let answer = answer.unwrap_or(Err(Failure::Late(step)));
        if answer.is_err() {
            self.connections[self.turn] = None;
        }
        answer
    }

    /// The open connection to a replica, or a new one.
    async fn connection(&mut self, replica: usize) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        if let Some(mut connection) = self.connections[replica].take() {
            if connection.ready().await.is_ok() {
                return Ok(self.connections[replica].insert(connection));
            }
            self.recorder.reconnect();
        }
        let connection = self.fleet.connect(replica).await?;
        Ok(self.connections[replica].insert(connection))
    }

    async fn exchange_with(
        &mut self,
        replica: usize,
        step: Step,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let transport = |cause: String| Failure::Transport { step, cause };
        let mut request = request(method, url, body)?;
        let mut retried = false;
        let response = loop {
            let connection = self.connection(replica).await.map_err(transport)?;
            match connection.try_send_request(request).await {
                Ok(response) => break response,
                // Given back unsent: the server closed the idle connection at this very moment.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !retried => {
                        retried = true;
                        request = unsent;
                        self.connections[replica] = None;
                        self.recorder.reconnect();
                    }
                    _ => return Err(transport(chain(&error.into_error()))),
                },
            }
        };
        let (parts, body) = response.into_parts();
        if let Some(nonce) = text(&parts.headers, "replay-nonce") {
            self.nonce = Some(nonce);
        }
        if parts.status.is_success() {
            self.recorder.retry_after(text(&parts.headers, RETRY_AFTER.as_str()));
        }
        let body =
            Limited::new(body, BODY_LIMIT).collect().await.map_err(|e| transport(e.to_string()))?.to_bytes();
        Ok(Answer { status: parts.status, location: text(&parts.headers, LOCATION.as_str()), body })
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_urls_are_taken_apart() {
        let parse = |url: &str| Replica::parse(url).map(|r| (r.encrypted, r.host, r.port)).ok();
        assert_eq!(parse("http://127.0.0.1:8080/directory"), Some((false, "127.0.0.1".into(), 8080)));
        assert_eq!(parse("https://acme.test/directory"), Some((true, "acme.test".into(), 443)));
        assert_eq!(parse("http://[::1]:8080/directory"), Some((false, "::1".into(), 8080)));
        assert_eq!(parse("http://[::1]/directory"), Some((false, "::1".into(), 80)));
        assert_eq!(parse("ftp://acme.test/directory"), None);
        assert_eq!(parse("acme.test/directory"), None);
        assert_eq!(parse("http://acme.test:port/directory"), None);
    }

    #[test]
    fn a_request_keeps_the_authority_of_its_url_and_the_path_alone() {
        let made = request(Method::POST, "https://acme.test/order/7?a=b", Bytes::new()).unwrap();
        assert_eq!(made.uri(), "/order/7?a=b");
        assert_eq!(made.headers()[HOST], "acme.test");
        assert_eq!(made.headers()[CONTENT_TYPE], "application/jose+json");
        assert!(request(Method::GET, "acme.test", Bytes::new()).is_err());
    }
}
