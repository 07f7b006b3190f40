//! Floor 4: the ACME surface. Thin handlers on the services: check the signature, call one use case, show its result.

mod accounts;
mod authorizations;
mod body;
mod certificates;
mod challenges;
mod client_address;
mod directory;
mod document;
mod envelope;
mod key_change;
mod nonces;
pub mod operations;
mod orders;
mod problem;
mod renewal;
mod revocation;
mod signed;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;

use crate::acme::problem::{Problem, ProblemType};
use crate::peers::Ledger;
use crate::service::Services;
pub use client_address::client_address;
pub use envelope::{Shared, TurnedAway};
use problem::Rejection;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    services: Arc<Services>,
    directories: Arc<directory::Directories>,
    issuers: Arc<certificates::Issuers>,
    ledger: Arc<Ledger>,
    request_timeout: Duration,
    trusted_proxies: Arc<[IpNet]>,
}

impl App {
    /// Above what `ledger` lets run at once, requests are shed (GEN-16). `trusted_proxies` are believed when they say for
    /// whom they ask.
    pub fn new(
        services: Arc<Services>,
        ledger: Arc<Ledger>,
        request_timeout: Duration,
        trusted_proxies: Vec<IpNet>,
    ) -> Self {
        Self {
            directories: Arc::new(directory::Directories::new(&services)),
            issuers: Arc::new(certificates::issuers(&services)),
            services,
            ledger,
            request_timeout,
            trusted_proxies: trusted_proxies.into(),
        }
    }

    /// The ACME surface.
    pub fn router(self) -> Router {
        let resources = Router::new()
            .route("/directory", get(directory::get).post(directory::post))
            .route("/profiles/{profile}/directory", get(directory::get_profile).post(directory::post_profile))
            .route("/new-nonce", get(nonces::get).head(nonces::head).post(nonces::post))
            .route("/new-account", post(accounts::new_account))
            .route("/profiles/{profile}/new-account", post(accounts::new_profile_account))
            .route("/new-order", post(orders::new_order))
            .route("/profiles/{profile}/new-order", post(orders::new_profile_order))
            .route("/new-authz", post(authorizations::new_authorization))
            .route("/profiles/{profile}/new-authz", post(authorizations::new_profile_authorization))
            .route("/revoke-cert", post(revocation::revoke))
            .route("/key-change", post(key_change::key_change))
            .route("/account/{account}", post(accounts::account))
            .route("/account/{account}/orders", post(accounts::orders))
            .route("/order/{order}", post(orders::order))
            .route("/order/{order}/finalize", post(orders::finalize))
            .route("/authorization/{authorization}", post(authorizations::authorization))
            .route("/challenge/{authorization}/{type}", post(challenges::challenge))
            .route("/certificate/{serial}", post(certificates::certificate))
            .route("/certificate/{serial}/{alternate}", post(certificates::alternate))
            .route("/renewal-info/{id}", get(renewal::renewal_info))
            .merge(certificates::public());
        self.serving(resources)
    }

    /// What certificates name, for a listener that has nothing else: relying parties read it over plain HTTP.
    pub fn public_router(self) -> Router {
        self.serving(certificates::public()).layer(from_fn(read_only))
    }

    fn serving(self, resources: Router<Self>) -> Router {
        let resources = resources
            .fallback(|| async { Rejection::from(not_found()) })
            .method_not_allowed_fallback(|| async { Rejection::from(wrong_method()) });
        let prefix = self.services.urls.prefix().to_owned();
        let router = if prefix.is_empty() {
            resources
        } else {
            Router::new().nest(&prefix, resources.clone()).merge(resources)
        };
        router
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(self.clone(), envelope::envelope))
            .with_state(self)
    }
}

/// Refuses what is no reading before anything else is done for it, a nonce above all.
async fn read_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let allowed = [(header::ALLOW, "GET, HEAD"), (header::CONNECTION, "close")];
    (allowed, Rejection::from(wrong_method())).into_response()
}

fn not_found() -> Problem {
    Problem::malformed("there is nothing at this URL; the directory lists what there is").with_status(404)
}

fn wrong_method() -> Problem {
    Problem::malformed("this resource does not take this method; the Allow header lists those that it takes")
        .with_status(405)
}

/// A panic in a request is a bug: it is logged by the panic hook, and the client learns nothing but that.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let mut response =
        Rejection::from(Problem::new(ProblemType::ServerInternal, "the server failed; this was logged"))
            .into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
