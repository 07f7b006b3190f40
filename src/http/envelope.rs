//! What every request passes through and every response carries: an id, a nonce, the index link, the load shed, one
//! log line, and its metrics. No handler can forget them.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use tracing::Instrument;

use super::App;
use super::body::{self, BodyError};
use super::client_address::client_address;
use super::problem::{Rejection, Told};
use crate::acme::audit::Origin;
use crate::acme::problem::Problem;
use crate::peers::{Held, Resource};
use crate::storage::audit;

static REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Begins the ids of this process; the rest is a count. The second half of a UUID is random: replicas that start in the
/// same millisecond differ too.
static PROCESS: LazyLock<String> =
    LazyLock::new(|| uuid::Uuid::now_v7().simple().to_string()[16..].to_owned());
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Marks a request of a client that has as many open as it may: it is answered without being read (GEN-16).
#[derive(Clone, Copy, Debug)]
pub struct TurnedAway;

/// Marks an answer whose octets many answers share, so that whoever takes it slowly holds none of them.
#[derive(Clone, Copy, Debug)]
pub struct Shared;

/// The outermost layer of the ACME surface.
pub(super) async fn envelope(State(app): State<App>, request: Request, next: Next) -> Response<Body> {
    let started = Instant::now();
    let id = format!("{}{:08x}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed));
    let method = request.method().clone();
    let endpoint = matched(&request, app.services.urls.prefix());
    let new_nonce = endpoint == "/new-nonce";
    let is_http1 = request.version() <= Version::HTTP_11;
    let of_a_script = request.headers().contains_key(header::ORIGIN);
    let span = tracing::info_span!("request", id);
    let mut response = if method == Method::OPTIONS && endpoint != "none" {
        preflight()
    } else {
        let client = client_address(&request, &app.trusted_proxies);
        let origin = Origin::request(id.clone(), client);
        audit::on_behalf_of(origin, run(&app, client, request, next, &endpoint))
            .instrument(span.clone())
            .await
    };
    let carries_nonce = method == Method::POST || (new_nonce && response.status().is_success());
    if carries_nonce {
        add_nonce(&app, &mut response, new_nonce);
    }
    add_headers(&app, &mut response, &id, endpoint.ends_with("/directory"));
    allow_scripts(&mut response, of_a_script);
    if is_http1 && app.services.jobs.is_leaving() {
        // The next request goes to a replica that stays. (HTTP/2 has GOAWAY for that, when the listener ends.)
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    span.in_scope(|| record(&method, &endpoint, &response, started));
    response
}

/// The route, without the path of the external URL, which a balancer may leave on requests or not.
fn matched(request: &Request, prefix: &str) -> String {
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    path.strip_prefix(prefix).unwrap_or(path).to_owned()
}

/// Reads the request whole, then runs it unless too many run already, within its time. A client that sends slowly
/// takes a connection, and no place.
async fn run(app: &App, client: IpAddr, request: Request, next: Next, endpoint: &str) -> Response<Body> {
    if request.extensions().get::<TurnedAway>().is_some() {
        return closing(shed(app));
    }
    let (head, body) = request.into_parts();
    let body = match body::read(&app.ledger, client, body).await {
        Ok(body) => body,
        Err(BodyError::Refused(rejection)) => return closing(rejection.into_response()),
        Err(BodyError::TooLarge(rejection, rest)) => {
            if head.version == Version::HTTP_2 {
                body::drain(rest).await;
            }
            return closing(rejection.into_response());
        }
        Err(BodyError::Full) => return closing(shed(app)),
    };
    let request = Request::from_parts(head, Body::from(body.octets.clone()));
    let Some(_place) = place(app, client, endpoint) else { return shed(app) };
    match tokio::time::timeout(app.request_timeout, next.run(request)).await {
        Ok(response) => explained(response),
        Err(_) => Rejection::unavailable("the request took too long; try again", app.ledger.retry_after())
            .into_response(),
    }
}

/// GEN-16.
fn shed(app: &App) -> Response<Body> {
    metrics::counter!("chancery_requests_shed_total").increment(1);
    Rejection::unavailable("the server is busy; send the same request again", app.ledger.retry_after())
        .into_response()
}

/// An answer to a body that was not read to its end: nothing more can be understood on this connection.
fn closing(mut response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::BAD_REQUEST {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A path or a query that axum could not read is told in plain text by axum; GEN-01 wants a problem document.
fn explained(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    if !status.is_client_error() || response.extensions().get::<Told>().is_some() {
        return response;
    }
    let problem = Problem::malformed("the path or the query of the request's URL cannot be read");
    Rejection::from(problem.with_status(status.as_u16())).into_response()
}

/// A place among the running requests. The last fifth is kept for what is shed last: polls, downloads, account look-ups.
/// Challenges are among the polls: uacme and dehydrated ask them, not the authorization, and a response begins no more
/// than its order has been let in for.
fn place(app: &App, client: IpAddr, endpoint: &str) -> Option<Held> {
    let kept = endpoint.starts_with("/order/{order}") && !endpoint.ends_with("finalize")
        || endpoint.ends_with("/new-account")
        || ["/authorization/", "/certificate/", "/challenge/"].iter().any(|path| endpoint.starts_with(path));
    let running = Resource::RunningRequests;
    let spare = if kept { 0 } else { app.ledger.bound(running).most / 5 };
    app.ledger.take(Some(client), running, 1, spare).ok()
}

/// GEN-03, GEN-04. A new-nonce without a nonce is no answer.
fn add_nonce(app: &App, response: &mut Response<Body>, new_nonce: bool) {
    match app.services.nonces.mint().map(HeaderValue::try_from) {
        Ok(Ok(nonce)) => {
            response.headers_mut().insert(&REPLAY_NONCE, nonce);
        }
        other => {
            let why = other.err().map(|error| error.to_string());
            tracing::warn!(why, "no nonce could be minted");
            if new_nonce {
                *response = Rejection::unavailable(
                    "the server cannot make nonces now; try again",
                    app.ledger.retry_after(),
                )
                .into_response();
            }
        }
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn add_headers(app: &App, response: &mut Response<Body>, id: &str, is_directory: bool) {
    let headers = response.headers_mut();
    if !is_directory {
        headers.append(header::LINK, app.directories.index_link());
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(&REQUEST_ID, value);
    }
}

/// RFC 8555 §6.1: scripts of any origin may read. Only they are told (GEN-12): getssl takes the names of headers that are
/// exposed for the headers themselves.
fn allow_scripts(response: &mut Response<Body>, asked: bool) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if asked {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let exposed = HeaderValue::from_static("Link, Location, Replay-Nonce, Retry-After");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// RFC 8555 §6.1: browsers ask before they POST a media type of their own.
fn preflight() -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

fn record(method: &Method, endpoint: &str, response: &Response<Body>, started: Instant) {
    let elapsed = started.elapsed();
    let status = response.status();
    let problem = response.extensions().get::<Told>().map_or("none", |told| told.0.name());
    metrics::counter!("chancery_requests_total", "endpoint" => endpoint.to_owned(), "problem" => problem,
        "status" => status.as_str().to_owned())
    .increment(1);
    metrics::histogram!("chancery_request_seconds", "endpoint" => endpoint.to_owned()).record(elapsed);
    let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    if endpoint == "/new-nonce" && status.is_success() {
        // Nothing was asked and nothing changed, a hundred thousand times a second if a client likes.
        tracing::debug!(%method, endpoint, status = status.as_u16(), problem, microseconds, "request");
    } else {
        tracing::info!(%method, endpoint, status = status.as_u16(), problem, microseconds, "request");
    }
}
