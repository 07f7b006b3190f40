//! The ACME listener: Chancery's answers as they are, over the suite's own TLS certificate. `/dir` is the directory.
//!
//! Where the suite wants good nonces refused, some are spoiled on their way to the client instead, so that it is
//! Chancery which refuses them: the client sees Chancery's `badNonce`, and the nonce that comes with it.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::Failure;
use crate::settings::PREFIX;

static REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

#[derive(Clone)]
struct Front {
    chancery: SocketAddr,
    spoiled: u32,
    ready: watch::Receiver<bool>,
}

/// What is served to clients: `chancery`, once it is ready, of whose nonces `spoiled` in a hundred are spoiled.
pub(crate) fn router(chancery: SocketAddr, spoiled: u32, ready: watch::Receiver<bool>) -> axum::Router {
    axum::Router::new().fallback(forward).with_state(Front { chancery, spoiled, ready })
}

async fn forward(State(mut front): State<Front>, request: Request) -> Response {
    let is_ready = front.ready.wait_for(|ready| *ready).await.is_ok();
    let outcome = match is_ready {
        true => ask(front.chancery, request).await,
        false => Err("Chancery is gone".into()),
    };
    match outcome {
        Ok(mut response) => {
            spoil(&mut response, front.spoiled);
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
    *request.uri_mut() = target(request.uri());
    *request.version_mut() = http::Version::HTTP_11;
    let mut response = sender.send_request(request).await?;
    for name in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(response.map(Body::new))
}

/// Where Chancery has what Pebble has at `uri`.
fn target(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.path() != "/dir" {
        return path.into();
    }
    let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{PREFIX}/directory{query}").parse().unwrap_or_else(|_| path.into())
}

/// With a chance of `share` in a hundred, makes the nonce one that Chancery never gave out.
fn spoil(response: &mut Response, share: u32) {
    let Some(nonce) = response.headers_mut().get_mut(&REPLAY_NONCE) else { return };
    let mut octets = [0; 4];
    if share == 0 || aws_lc_rs::rand::fill(&mut octets).is_err() || u32::from_ne_bytes(octets) % 100 >= share
    {
        return;
    }
    if let Ok(spoiled) = HeaderValue::from_bytes(&spoiled(nonce.as_bytes())) {
        *nonce = spoiled;
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
        let nonce = |share| {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(&REPLAY_NONCE, HeaderValue::from_static("abcdA"));
            spoil(&mut response, share);
            response.headers()[&REPLAY_NONCE].clone()
        };
        let count = |share| (0..1000).filter(|_| nonce(share) == "abcdB").count();
        assert_eq!((count(0), count(100)), (0, 1000));
        assert!((100..300).contains(&count(20)), "a fifth, within eight deviations");
    }
}
