//! new-authz and authorizations (RFC 8555 §7.4.1, §7.5).

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};

use super::problem::Rejection;
use super::signed::Alone;
use super::{App, view};
use crate::acme::authorization::Authorization;
use crate::acme::id::AuthorizationId;
use crate::acme::message::{AuthorizationUpdate, NewAuthorization};
use crate::service;

pub(super) async fn new_authorization(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    make(&app, request, None).await
}

pub(super) async fn new_profile_authorization(
    State(app): State<App>,
    Path(profile): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    make(&app, request, Some(&profile)).await
}

async fn make(app: &App, request: Request, profile: Option<&str>) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    let request = NewAuthorization::parse(&signed.payload)?;
    let services = &app.services;
    let made =
        service::authorizations::new_authorization(services, &signed.account, request, profile).await?;
    let mut response = view::authorization(StatusCode::CREATED, &made, &services.urls, services.now());
    view::location(&mut response, &services.urls.authorization(&made.id));
    Ok(response)
}

pub(super) async fn authorization(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let id = AuthorizationId::parse(&id).ok_or_else(|| Rejection::missing("authorization"))?;
    let (_, authorization, payload) = app.signed::<Authorization>(request, id).await?.resource()?;
    let authorization = if payload.is_empty() {
        authorization
    } else {
        let update = AuthorizationUpdate::parse(&payload)?;
        service::authorizations::update(&app.services, authorization, update).await?
    };
    Ok(view::authorization(StatusCode::OK, &authorization, &app.services.urls, app.services.now()))
}
