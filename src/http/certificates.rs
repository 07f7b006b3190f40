//! Certificates (RFC 8555 §7.4.2), and what their extensions point at: the CRL and the issuer's certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, header};
use axum::routing::get;

use super::document::Document;
use super::problem::Rejection;
use super::signed::post_as_get;
use super::{App, view};
use crate::acme::certificate::{Certificate, Serial};
use crate::pki::issuer::Issuer;
use crate::service::{self, Services};

/// How long a cache may keep a CRL at most: a revocation makes a new one at any time.
const CRL_MAX_AGE: Duration = Duration::from_secs(60);

/// How long a cache may keep an issuer's certificate.
const ISSUER_MAX_AGE: Duration = Duration::from_secs(86_400);

pub(super) async fn certificate(
    State(app): State<App>,
    Path(serial): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    download(&app, &serial, 0, request).await
}

pub(super) async fn alternate(
    State(app): State<App>,
    Path((serial, alternate)): Path<(String, String)>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let alternate = alternate.parse().map_err(|_| Rejection::missing("certificate"))?;
    download(&app, &serial, alternate, request).await
}

async fn download(
    app: &App,
    serial: &str,
    chosen: usize,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let serial = Serial::parse(serial).ok_or_else(|| Rejection::missing("certificate"))?;
    let (_, certificate, payload) = app.signed::<Certificate>(request, serial).await?.resource()?;
    post_as_get(&payload)?;
    let services = &app.services;
    let pem = service::certificates::chain(services, &certificate, chosen);
    let pem = pem.ok_or_else(|| Rejection::missing("certificate"))?;
    let mut response = Response::new(Body::from(pem));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/pem-certificate-chain"));
    for other in
        (0..service::certificates::chains(services, &certificate).len()).filter(|other| *other != chosen)
    {
        view::link(headers, &services.urls.certificate(&serial, other), "alternate");
    }
    Ok(response)
}

/// What certificates name.
pub(super) fn public() -> Router<App> {
    Router::new().route("/crl/{file}", get(crl)).route("/issuer/{file}", get(issuer))
}

/// Served from memory alone: a file that is no issuer's is looked for nowhere else.
async fn crl(
    State(app): State<App>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Rejection> {
    let list = file.strip_suffix(".crl").and_then(|issuer| app.services.crls.newest(issuer));
    let list = list.ok_or_else(|| Rejection::missing("CRL"))?;
    let due = list.made_at().plus(app.services.settings.crl_interval).since(app.services.now());
    let (number, made_at) = list.edition;
    let edition = format!("{number:x}-{:x}", made_at.micros());
    let max_age = due.min(CRL_MAX_AGE);
    let document = Document::of_edition(list.der.clone(), "application/pkix-crl", max_age, &edition, made_at);
    Ok(document.answer(&headers))
}

async fn issuer(
    State(app): State<App>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Rejection> {
    let named = file.strip_suffix(".der").and_then(|id| app.issuers.get(id));
    Ok(named.ok_or_else(|| Rejection::missing("issuer"))?.answer(&headers))
}

/// The issuers' certificates, by the issuers' names.
pub(super) type Issuers = BTreeMap<String, Document>;

/// They never change while the process runs.
pub(super) fn issuers(services: &Services) -> Issuers {
    let document = |issuer: &Arc<dyn Issuer>| {
        let der = issuer.certificate_der().to_vec();
        (issuer.id().to_owned(), Document::new(der, "application/pkix-cert", ISSUER_MAX_AGE))
    };
    services.issuers().map(document).collect()
}
