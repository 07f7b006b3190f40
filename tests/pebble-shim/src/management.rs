//! Pebble's management interface: the authority's certificates and keys, and what became of a certificate.

use std::path::PathBuf;
use std::sync::Arc;

use ::chancery::acme::certificate::Serial;
use ::chancery::pki::chain::pem;
use ::chancery::storage::{IssuedCertificate, Store};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HOST, LINK};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};

use crate::Failure;
use crate::authority::Authority;

struct Management {
    authority: Authority,
    database: PathBuf,
    store: OnceCell<Store>,
    ready: watch::Receiver<bool>,
}

type Shared = State<Arc<Management>>;

/// What is served: `authority`, and what Chancery's `database` says once it is ready.
pub(crate) fn router(authority: Authority, database: PathBuf, ready: watch::Receiver<bool>) -> Router {
    let state = Management { authority, database, store: OnceCell::new(), ready };
    Router::new()
        .route("/roots/{number}", get(root))
        .route("/root-keys/{number}", get(root_key))
        .route("/intermediates/{number}", get(intermediate))
        .route("/intermediate-keys/{number}", get(intermediate_key))
        .route("/cert-status-by-serial/{serial}", get(status))
        .route("/set-renewal-info/", post(set_renewal_info))
        .with_state(Arc::new(state))
}

const CHAIN: &str = "application/pem-certificate-chain; charset=utf-8";
const KEY: &str = "application/x-pem-file; charset=utf-8";

async fn root(State(state): Shared, Path(number): Path<String>, request: Request) -> Response {
    let found = chosen(&state, &number).map(|(root, _)| root.clone());
    show(&state, "roots", &number, found, CHAIN, &request)
}

async fn root_key(State(state): Shared, Path(number): Path<String>, request: Request) -> Response {
    let found = chosen(&state, &number).and_then(|(_, key)| key.clone());
    show(&state, "root-keys", &number, found, KEY, &request)
}

async fn intermediate(State(state): Shared, Path(number): Path<String>, request: Request) -> Response {
    let found = chosen(&state, &number).map(|_| state.authority.issuing.clone());
    show(&state, "intermediates", &number, found, CHAIN, &request)
}

async fn intermediate_key(State(state): Shared, Path(number): Path<String>, request: Request) -> Response {
    let found = chosen(&state, &number).and_then(|_| state.authority.shown_key.clone());
    show(&state, "intermediate-keys", &number, found, KEY, &request)
}

/// The root of a number, and its key.
fn chosen<'a>(state: &'a Management, number: &str) -> Option<&'a (String, Option<String>)> {
    state.authority.roots.get(number.parse::<usize>().ok()?)
}

/// A text with links to those of the other roots.
fn show(
    state: &Management,
    kind: &str,
    number: &str,
    found: Option<String>,
    media_type: &'static str,
    request: &Request,
) -> Response {
    let Some(text) = found else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // HTTP/2 has it in the URI.
    let host = request.uri().authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| request.headers().get(HOST)?.to_str().ok()).unwrap_or("localhost");
    let others = (0..state.authority.roots.len()).filter(|other| number.parse() != Ok(*other));
    for other in others {
        let link = format!("<https://{host}/{kind}/{other}>;rel=\"alternate\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().append(LINK, link);
        }
    }
    response
}

async fn status(State(state): Shared, Path(text): Path<String>) -> Response {
    // Hexadecimal digits of either case, with or without leading zeros.
    let Ok(number) = u128::from_str_radix(&text, 16) else {
        return if text.bytes().all(|b| b.is_ascii_hexdigit()) && !text.is_empty() {
            StatusCode::NOT_FOUND.into_response()
        } else {
            StatusCode::BAD_REQUEST.into_response()
        };
    };
    match found(&state, number).await {
        Ok(Some(issued)) => {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            ([(CONTENT_TYPE, json)], shown(number, &issued).to_string()).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()).into_response(),
    }
}

async fn found(state: &Management, number: u128) -> Result<Option<IssuedCertificate>, Failure> {
    let Some(serial) = Serial::from_bytes(&number.to_be_bytes()) else { return Ok(None) };
    state.ready.clone().wait_for(|ready| *ready).await.map(|_| ())?;
    let store = state.store.get_or_try_init(|| Store::sqlite_read_only(&state.database)).await?;
    Ok(store.certificate(&serial).await?)
}

/// As Pebble shows it, member names included.
fn shown(number: u128, issued: &IssuedCertificate) -> Value {
    let certificate = &issued.certificate;
    let mut shown = json!({
        "Status": if certificate.revocation.is_some() { "Revoked" } else { "Valid" },
        "Serial": format!("{number:x}"),
        "Certificate": pem(certificate.der.as_deref().unwrap_or_default(), "CERTIFICATE"),
    });
    if let Some(revocation) = certificate.revocation {
        shown["Reason"] = revocation.reason.code().into();
        // Go's form of a time: 2026-01-02 03:04:05 +0000 UTC.
        let at = revocation.at.to_string();
        shown["RevokedAt"] = at.replace('T', " ").replace('Z', " +0000 UTC").into();
    }
    shown
}

/// Pebble lets a suite put words into the server's mouth; Chancery's answers are its own.
async fn set_renewal_info() -> Response {
    let text = "set-renewal-info is not honoured: Chancery's renewal information is its own\n";
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}
