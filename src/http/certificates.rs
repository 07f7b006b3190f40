//! Certificates (RFC 8555 §7.4.2), and what their extensions point at: the CRL and the issuer's certificate.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, header};

use super::problem::Rejection;
use super::signed::post_as_get;
use super::{App, view};
use crate::acme::certificate::{Certificate, Serial};
use crate::service;

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

pub(super) async fn crl(
    State(app): State<App>,
    Path(file): Path<String>,
) -> Result<Response<Body>, Rejection> {
    let missing = || Rejection::missing("CRL");
    // Read before the store is asked: Postgres refuses octets that no issuer's name has.
    let name = file.strip_suffix(".crl").filter(|name| name.bytes().all(|b| b.is_ascii_hexdigit()));
    let issuer = name.ok_or_else(missing)?;
    let der = service::crls::current(&app.services, issuer).await?.ok_or_else(missing)?;
    Ok(binary(der, "application/pkix-crl"))
}

pub(super) async fn issuer(
    State(app): State<App>,
    Path(file): Path<String>,
) -> Result<Response<Body>, Rejection> {
    let named = file.strip_suffix(".der").and_then(|id| app.services.issuer_named(id));
    let issuer = named.ok_or_else(|| Rejection::missing("issuer"))?;
    Ok(binary(issuer.certificate_der().to_vec(), "application/pkix-cert"))
}

fn binary(octets: Vec<u8>, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(octets));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
