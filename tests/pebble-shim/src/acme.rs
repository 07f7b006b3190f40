//! The ACME listener: Chancery's answers as they are, over the suite's own TLS certificate. `/dir` is the directory.
//!
//! Where the suite wants good nonces refused, some are spoiled on their way to the client instead, so that it is
//! Chancery which refuses them: the client sees Chancery's `badNonce`, and the nonce that comes with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::Failure;
use crate::settings::PREFIX;

static REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// Where Pebble has its directory.
const DIRECTORY: &str = "/dir";

#[derive(Clone)]
struct Front {
    chancery: SocketAddr,
    spoiler: Arc<Spoiler>,
    ready: watch::Receiver<bool>,
}

/// What is served to clients: `chancery`, once it is ready, of whose nonces `spoiled` in a hundred are spoiled.
pub(crate) fn router(chancery: SocketAddr, spoiled: u32, ready: watch::Receiver<bool>) -> axum::Router {
    axum::Router::new().fallback(forward).with_state(Front {
        chancery,
        spoiler: Arc::new(Spoiler::new(spoiled)),
        ready,
    })
}

async fn forward(State(mut front): State<Front>, request: Request) -> Response {
    let is_ready = front.ready.wait_for(|ready| *ready).await.is_ok();
    let outcome = match is_ready {
        true => ask(front.chancery, request).await,
        false => Err("Chancery is gone".into()),
    };
    match outcome {
        Ok(mut response) => {
            front.spoiler.pass(&mut response);
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("pebble (Chancery): {error}\n")).into_response(),
    }
}

/// One request on a connection of its own; both ends are on this machine.
async fn ask(chancery: SocketAddr, mut request: Request) -> Result<Response, Failure> {
    let stream = TcpStream::connect(chancery).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    if let Some(authority) = request.uri().authority() {
        // HTTP/2 has no Host.
        let host = HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().remove(CONNECTION);
    // POST-as-GET of the directory is signed for `/dir`, which Chancery does not know. It is public: a GET shows the same,
    // and all that a POST has beside it is a nonce.
    let mut nonce = None;
    if request.method() == Method::POST && request.uri().path() == DIRECTORY {
        request = get(request);
        let asked = http::Request::head(format!("{PREFIX}/new-nonce")).body(Body::empty())?;
        let answer = sender.send_request(asked).await?;
        nonce = answer.headers().get(&REPLAY_NONCE).cloned();
        sender.ready().await?;
    }
    *request.uri_mut() = target(request.uri());
    *request.version_mut() = http::Version::HTTP_11;
    let mut response = sender.send_request(request).await?;
    for name in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    if let Some(nonce) = nonce {
        add_nonce(response.headers_mut(), nonce);
    }
    Ok(response.map(Body::new))
}

/// A GET of what the request POSTs to.
fn get(request: Request) -> Request {
    let (mut head, _) = request.into_parts();
    head.method = Method::GET;
    for name in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Request::from_parts(head, Body::empty())
}

/// An answer with a nonce is kept by nobody (RFC 8555 §6.5.1).
fn add_nonce(headers: &mut HeaderMap, nonce: HeaderValue) {
    headers.insert(&REPLAY_NONCE, nonce);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Where Chancery has what Pebble has at `uri`.
fn target(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.path() != DIRECTORY {
        return path.into();
    }
    let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{PREFIX}/directory{query}").parse().unwrap_or_else(|_| path.into())
}

/// Makes of some nonces ones that Chancery never gave out: evenly, since by chance three may come one after the other, at
/// which clients give up, and a suite would fail once in some dozen runs.
struct Spoiler {
    /// How many in a hundred.
    share: u64,
    seen: AtomicU64,
}

impl Spoiler {
    fn new(share: u32) -> Self {
        Self { share: share.into(), seen: AtomicU64::new(0) }
    }

    fn pass(&self, response: &mut Response) {
        let Some(nonce) = response.headers_mut().get_mut(&REPLAY_NONCE) else { return };
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let due = |seen: u64| seen * self.share / 100;
        if due(seen + 1) > due(seen)
            && let Ok(spoiled) = HeaderValue::from_bytes(&spoiled(nonce.as_bytes()))
        {
            *nonce = spoiled;
        }
    }
}

/// A nonce of the same form whose seal is wrong.
fn spoiled(nonce: &[u8]) -> Vec<u8> {
    let mut nonce = nonce.to_vec();
    if let Some(last) = nonce.last_mut() {
        *last = if *last == b'A' { b'B' } else { b'A' };
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_moves() {
        for (uri, wanted) in [
            ("https://a/dir", "/certZ/servedByChancery/directory"),
            ("/dir?x=1", "/certZ/servedByChancery/directory?x=1"),
            ("/dir/", "/dir/"),
            ("https://a/certZ/b?c", "/certZ/b?c"),
        ] {
            assert_eq!(target(&uri.parse().unwrap()).to_string(), wanted);
        }
    }

    #[test]
    fn nonces_are_spoiled_as_often_as_is_asked() {
        let is_spoiled = |spoiler: &Spoiler| {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(&REPLAY_NONCE, HeaderValue::from_static("abcdA"));
            spoiler.pass(&mut response);
            response.headers()[&REPLAY_NONCE] == "abcdB"
        };
        for (share, count) in [(0, 0), (5, 50), (20, 200), (100, 1000)] {
            let spoiler = Spoiler::new(share);
            let passed: Vec<bool> = (0..1000).map(|_| is_spoiled(&spoiler)).collect();
            assert_eq!(passed.iter().filter(|spoiled| **spoiled).count(), count, "{share}");
            let in_a_row = passed.windows(2).any(|both| both == [true, true]);
            assert_eq!(in_a_row, share == 100, "{share}: who asks again gets a good one");
        }
    }
}
