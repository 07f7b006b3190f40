//! new-order, order, finalize (RFC 8555 §7.4).

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};

use super::problem::Rejection;
use super::signed::{Alone, post_as_get};
use super::{App, view};
use crate::acme::id::OrderId;
use crate::acme::message::{Finalize, NewOrder};
use crate::acme::order::Order;
use crate::service;

pub(super) async fn new_order(State(app): State<App>, request: Request) -> Result<Response<Body>, Rejection> {
    place(&app, request, None).await
}

pub(super) async fn new_profile_order(
    State(app): State<App>,
    Path(profile): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    place(&app, request, Some(&profile)).await
}

async fn place(app: &App, request: Request, profile: Option<&str>) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    let request = NewOrder::parse(&signed.payload)?;
    let order = service::orders::new_order(&app.services, &signed.account, request, profile).await?;
    Ok(view::order(StatusCode::CREATED, &order, &app.services.urls, app.services.now()))
}

pub(super) async fn order(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let id = OrderId::parse(&id).ok_or_else(|| Rejection::missing("order"))?;
    let (_, order, payload) = app.signed::<Order>(request, id).await?.resource()?;
    post_as_get(&payload)?;
    Ok(view::order(StatusCode::OK, &order, &app.services.urls, app.services.now()))
}

pub(super) async fn finalize(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let id = OrderId::parse(&id).ok_or_else(|| Rejection::missing("order"))?;
    let (account, order, payload) = app.signed::<Order>(request, id).await?.resource()?;
    let request = Finalize::parse(&payload)?;
    let order = service::finalize::finalize(&app.services, &account, order, request).await?;
    Ok(view::order(StatusCode::OK, &order, &app.services.urls, app.services.now()))
}
