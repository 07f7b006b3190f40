//! new-account, account, and the account's orders (RFC 8555 §7.3, §7.1.2.1).

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::client_address::client_address;
use super::problem::Rejection;
use super::signed::{Alone, post_as_get};
use super::{App, view};
use crate::acme::id::{AccountId, OrderId};
use crate::acme::message::{AccountUpdate, NewAccount};
use crate::service;

pub(super) async fn new_account(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    find_or_make(&app, request, None).await
}

pub(super) async fn new_profile_account(
    State(app): State<App>,
    Path(profile): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    find_or_make(&app, request, Some(&profile)).await
}

async fn find_or_make(
    app: &App,
    request: Request,
    profile: Option<&str>,
) -> Result<Response<Body>, Rejection> {
    let client = client_address(&request, &app.trusted_proxies);
    let unverified = app.unverified(request).await?;
    let url = unverified.url().to_owned();
    let (payload, key) = app.by_key(unverified).await?;
    let request = NewAccount::parse(&payload)?;
    let (account, made) =
        service::accounts::new_account(&app.services, &key, &url, request, profile, client).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok(view::account(status, &account, &app.services.urls))
}

pub(super) async fn account(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    own(&signed.account.id, &id)?;
    // An empty payload reads the account (ACC-10); an object changes it.
    let account = if signed.payload.is_empty() {
        signed.account
    } else {
        let update = AccountUpdate::parse(&signed.payload)?;
        service::accounts::update(&app.services, signed.account, update).await?
    };
    Ok(view::account(StatusCode::OK, &account, &app.services.urls))
}

/// Where a page of the list begins.
#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<String>,
}

#[derive(Serialize)]
struct OrdersView {
    orders: Vec<String>,
}

pub(super) async fn orders(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(page): Query<Page>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    own(&signed.account.id, &id)?;
    post_as_get(&signed.payload)?;
    let after = page.after.as_deref().and_then(OrderId::parse);
    let after = after.as_ref().map_or("", OrderId::as_str);
    let (orders, next) = service::accounts::orders(&app.services, &signed.account.id, after).await?;
    let urls = &app.services.urls;
    let body = OrdersView { orders: orders.iter().map(|order| urls.order(order)).collect() };
    let mut response = view::json(StatusCode::OK, &body);
    if let Some(next) = next {
        let url = format!("{}?after={next}", urls.orders(&signed.account.id));
        view::link(response.headers_mut(), &url, "next");
    }
    Ok(response)
}

/// GEN-11: someone else's account is 403, whether it exists or not, since its URL alone tells nothing.
fn own(account: &AccountId, path: &str) -> Result<(), Rejection> {
    match AccountId::parse(path) {
        Some(id) if id == *account => Ok(()),
        Some(_) => Err(Rejection::not_yours()),
        None => Err(Rejection::missing("account")),
    }
}
