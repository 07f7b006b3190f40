//! One bounded HTTP GET with redirects, as http-01 wants it (RFC 8555 §8.3, AUT-10): every hop resolved, judged and
//! connected to anew, nobody's certificate verified, little read, all of it within `http_timeout`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::acme::problem::printable;
use crate::network::Network;
use crate::network::connect::{ConnectError, Connection, Host};
use crate::network::url::{HttpUrl, RedirectError, RedirectPorts};

/// How much of a body is read, in octets.
pub const MAX_BODY: usize = 4096;
/// How many redirects are followed.
pub const MAX_REDIRECTS: usize = 10;
/// How long the head of a response may be, in octets.
const MAX_HEAD: usize = 16 * 1024;

/// What came back, at the end of all redirects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The body, or its first [`MAX_BODY`] octets.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// The address that answered.
    pub address: SocketAddr,
    /// The URL that was answered, cut where it is long.
    pub url: String,
}

/// One response, as read from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The Location header; `Some` only if the status is a redirect.
    pub location: Option<Vec<u8>>,
    /// The body, or its first [`MAX_BODY`] octets; not read where the status is a redirect.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
}

/// Why nothing came back, and from where it did not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("fetching {url}{}: {failure}", from(.address))]
pub struct FetchError {
    /// The URL that failed, which may be the target of a redirect; cut where it is long.
    pub url: String,
    /// The address connected to, if it came to that.
    pub address: Option<SocketAddr>,
    /// What happened.
    pub failure: FetchFailure,
}

fn from(address: &Option<SocketAddr>) -> String {
    address.map(|address| format!(" from {address}")).unwrap_or_default()
}

/// What can happen to a fetch.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchFailure {
    /// The host was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer did not speak HTTP/1, or broke off.
    #[error("{0}")]
    Http(&'static str),
    /// The peer redirected to where we do not go.
    #[error("the redirect to \"{location}\" is not followed: {error}")]
    Redirect {
        /// The Location header, cut and escaped.
        location: String,
        /// Why.
        error: RedirectError,
    },
    /// All of it took too long.
    #[error("timed out {phase}, after {limit:?} in all")]
    TimedOut {
        /// What was being done.
        phase: &'static str,
        /// The time allowed for the whole fetch.
        limit: Duration,
    },
    /// The TLS handshake with an https target failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// Redirects in circles, or just too many.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
}

/// Where a fetch has got to; outlives the fetch when the time is up.
struct Progress {
    url: HttpUrl,
    address: Option<SocketAddr>,
    phase: &'static str,
}

impl Network {
    /// GETs `start` and follows redirects to `ports`, all within `http_timeout`.
    pub async fn fetch(&self, start: HttpUrl, ports: RedirectPorts) -> Result<Fetched, FetchError> {
        let limit = self.config.http_timeout;
        let mut progress = Progress { url: start, address: None, phase: "connecting" };
        let outcome = tokio::time::timeout(limit, self.follow(&mut progress, ports)).await;
        let phase = progress.phase;
        outcome.unwrap_or(Err(FetchFailure::TimedOut { phase, limit })).map_err(|failure| FetchError {
            url: shown(&progress.url),
            address: progress.address,
            failure,
        })
    }

    async fn follow(&self, progress: &mut Progress, ports: RedirectPorts) -> Result<Fetched, FetchFailure> {
        for _ in 0..=MAX_REDIRECTS {
            let (response, address) = self.get(progress).await?;
            if !is_redirect(response.status) {
                let Response { status, body, cut, .. } = response;
                return Ok(Fetched { status, body, cut, address, url: shown(&progress.url) });
            }
            let location = response.location.as_deref();
            let target = match location {
                Some(location) => progress.url.redirect(location, ports),
                None => Err(RedirectError::NoLocation),
            };
            let location = || printable(location.unwrap_or_default(), 200);
            progress.url = target.map_err(|error| FetchFailure::Redirect { location: location(), error })?;
        }
        Err(FetchFailure::TooManyRedirects)
    }

    async fn get(&self, progress: &mut Progress) -> Result<(Response, SocketAddr), FetchFailure> {
        (progress.phase, progress.address) = ("connecting", None);
        let url = progress.url.clone();
        let Connection { stream, address, place: _place } = self.connect_host(&url.host, url.port).await?;
        progress.address = Some(address);
        if !url.https {
            progress.phase = "waiting for the answer";
            return Ok((exchange(stream, &url).await?, address));
        }
        progress.phase = "during the TLS handshake";
        let connector = TlsConnector::from(self.https.clone());
        let stream = connector
            .connect(server_name(&url.host)?, stream)
            .await
            .map_err(|error| FetchFailure::Tls(printable(error.to_string().as_bytes(), 200)))?;
        progress.phase = "waiting for the answer";
        Ok((exchange(stream, &url).await?, address))
    }
}

fn shown(url: &HttpUrl) -> String {
    printable(url.to_string().as_bytes(), 300)
}

fn server_name(host: &Host) -> Result<ServerName<'static>, FetchFailure> {
    match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|_| FetchFailure::Tls("the name cannot be sent as SNI".to_owned())),
    }
}

const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Sends one GET for `url` over `stream` and reads the response, as far as its bounds go. The connection ends with it.
pub async fn exchange<S>(stream: S, url: &HttpUrl) -> Result<Response, FetchFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::get(url.path.as_str())
        .header(HOST, url.authority())
        .header(USER_AGENT, "chancery")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchFailure::Http("the URL cannot be sent as a request"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| FetchFailure::Http(reason(&error)))?;
    let answer = async {
        let response =
            sender.send_request(request).await.map_err(|error| FetchFailure::Http(reason(&error)))?;
        read(response).await
    };
    tokio::pin!(answer);
    // The connection is driven from here, not from a task of its own: when this future is dropped, all is over. It is
    // dropped as soon as it ends, too: a request that it never took up would wait in it for ever.
    let mut connection = Some(Box::pin(connection));
    loop {
        let driven = async {
            match &mut connection {
                Some(connection) => drop(connection.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = &mut answer => return outcome,
            () = driven => connection = None,
        }
    }
}

async fn read(response: http::Response<Incoming>) -> Result<Response, FetchFailure> {
    let (head, mut body) = response.into_parts();
    let mut result = Response { status: head.status.as_u16(), location: None, body: Vec::new(), cut: false };
    if is_redirect(result.status) {
        result.location = head.headers.get(LOCATION).map(|value| value.as_bytes().to_vec());
        return Ok(result);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(result);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchFailure::Http(reason(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = MAX_BODY - result.body.len();
        result.body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            result.cut = true;
            break;
        }
    }
    Ok(result)
}

fn reason(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        "the head of the answer is too large"
    } else if error.is_parse() {
        "the answer is not HTTP/1"
    } else if error.is_incomplete_message() {
        "the connection was closed before the answer was complete"
    } else {
        "the connection broke off"
    }
}

#[cfg(test)]
mod tests;
