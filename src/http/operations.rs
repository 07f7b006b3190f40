//! The second listener, for operators: is it alive, may it get traffic, what does it count.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use serde_json::json;

use super::view;
use crate::service::Services;

/// How long a check of readiness waits for its answer.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// Writes the metrics.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Operations {
    services: Arc<Services>,
    render: RenderMetrics,
}

/// `/livez`, `/readyz`, `/metrics`.
pub fn router(services: Arc<Services>, render: RenderMetrics) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Operations { services, render })
}

/// Database, Redis and CA each by name; 503 unless all are well and the replica is not stopping.
async fn ready(State(operations): State<Operations>) -> Response<Body> {
    let services = &operations.services;
    let database = async { services.store.ping().await.map_err(|error| error.to_string()) };
    let nonces = async { services.nonces.ping().await.map_err(|error| error.to_string()) };
    let (database, redis) =
        tokio::join!(tokio::time::timeout(CHECK_LIMIT, database), tokio::time::timeout(CHECK_LIMIT, nonces));
    let redis_answers = matches!(redis, Ok(Ok(())));
    let word = |result: Result<Result<(), String>, _>| match result {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(why)) => why,
        Err(_) => "no answer in time".to_owned(),
    };
    let ca = if services.issuer.not_after() > services.now() {
        "ok"
    } else {
        "the issuing certificate has expired"
    };
    let body = json!({
        "database": word(database),
        "redis": word(redis),
        "limits": match (redis_answers, services.limits.counts_alone()) {
            (true, _) => "ok",
            (false, true) => "counted by this replica alone",
            (false, false) => "what is limited is refused",
        },
        "ca": ca,
        "replica": if services.jobs.is_stopping() { "stopping" } else { "ok" },
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
