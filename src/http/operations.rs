//! The second listener, for operators: is it alive, may it get traffic, what does it count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use serde_json::json;

use super::view;
use crate::service::Services;

/// How long a look at a store waits for its answer.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// How often the stores are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What was seen longer ago than this says nothing of now.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// What the stores were like when they were last looked at. `/readyz` answers from it: in the queue of clients' requests a
/// probe would time out under load, and a balancer would give the load to the others, which would fail next.
#[derive(Default)]
pub struct Readiness(Mutex<Option<Seen>>);

#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    database: bool,
    nonces: bool,
}

impl Readiness {
    /// Looks at the stores again and again, until this is dropped.
    pub async fn keep(&self, services: &Services) {
        let store = services.store.apart();
        let mut before = Seen { at: Instant::now(), database: true, nonces: true };
        loop {
            let (database, nonces) = tokio::join!(
                tokio::time::timeout(CHECK_LIMIT, store.ping()),
                tokio::time::timeout(CHECK_LIMIT, services.nonces.ping())
            );
            // The cause is the operator's to know, once; who asks a replica whether it is ready learns only that it is not.
            if before.database && !matches!(database, Ok(Ok(()))) {
                tracing::warn!(cause = ?database, "the database does not answer");
            }
            if before.nonces && !matches!(nonces, Ok(Ok(()))) {
                tracing::warn!(cause = ?nonces, "the store of nonces does not answer");
            }
            let (database, nonces) = (matches!(database, Ok(Ok(()))), matches!(nonces, Ok(Ok(()))));
            before = Seen { at: Instant::now(), database, nonces };
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn seen(&self) -> Option<Seen> {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|seen| seen.at.elapsed() < GOOD_FOR)
    }
}

/// Writes the metrics.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Operations {
    services: Arc<Services>,
    readiness: Arc<Readiness>,
    render: RenderMetrics,
}

/// `/livez`, `/readyz`, `/metrics`.
pub fn router(services: Arc<Services>, readiness: Arc<Readiness>, render: RenderMetrics) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Operations { services, readiness, render })
}

/// Database, Redis and CA each by name; 503 unless all are well and the replica is not stopping.
async fn ready(State(operations): State<Operations>) -> Response<Body> {
    let services = &operations.services;
    let seen = operations.readiness.seen();
    let word = |well: fn(&Seen) -> bool| match &seen {
        Some(seen) if well(seen) => "ok",
        Some(_) => "does not answer",
        None => "was not looked at lately",
    };
    let redis_answers = seen.is_some_and(|seen| seen.nonces);
    let ca = if services.issuer.not_after() > services.now() {
        "ok"
    } else {
        "the issuing certificate has expired"
    };
    let body = json!({
        "database": word(|seen| seen.database),
        "redis": word(|seen| seen.nonces),
        "limits": match (redis_answers, services.limits.counts_alone()) {
            (true, _) => "ok",
            (false, true) => "counted by this replica alone",
            (false, false) => "what is limited is refused",
        },
        "ca": ca,
        "replica": if services.jobs.is_leaving() { "stopping" } else { "ok" },
    });
    let well = body.as_object().is_some_and(|checks| checks.values().all(|check| check == "ok"));
    view::json(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn metrics(State(operations): State<Operations>) -> Response<Body> {
    let services = &operations.services;
    let (open, idle) = services.store.connections();
    metrics::gauge!("chancery_database_connections", "state" => "open").set(f64::from(open));
    metrics::gauge!("chancery_database_connections", "state" => "idle")
        .set(f64::from(u32::try_from(idle).unwrap_or(0)));
    let mut response = Response::new(Body::from((operations.render)()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
