//! Values as clients see them: JSON objects with their members in a fixed order, and the headers around them (GEN-14).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::acme::account::Account;
use crate::acme::authorization::{Authorization, AuthorizationStatus};
use crate::acme::challenge::{ChallengeStatus, ChallengeType};
use crate::acme::identifier::Identifier;
use crate::acme::order::{Order, OrderStatus};
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;
use crate::service::Urls;

/// How soon a client polls again, in seconds (AUT-08, ORD-12).
const POLL_AGAIN: u32 = 1;

#[derive(Serialize)]
struct IdentifierView {
    r#type: &'static str,
    value: String,
}

impl From<&Identifier> for IdentifierView {
    fn from(identifier: &Identifier) -> Self {
        Self { r#type: identifier.kind(), value: identifier.value() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountView<'a> {
    status: &'static str,
    contact: &'a [String],
    terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<&'a Value>,
    orders: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderView<'a> {
    status: &'static str,
    expires: String,
    identifiers: Vec<IdentifierView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
    authorizations: Vec<String>,
    finalize: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

#[derive(Serialize)]
struct AuthorizationView<'a> {
    identifier: IdentifierView,
    status: &'static str,
    expires: String,
    challenges: Vec<ChallengeView<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wildcard: bool,
}

#[derive(Serialize)]
struct ChallengeView<'a> {
    r#type: &'static str,
    url: String,
    status: &'static str,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    validated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds one `Link` line: the URL, then `rel`, quoted and first (GEN-02).
pub(super) fn link(headers: &mut HeaderMap, url: &str, relation: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("<{url}>;rel=\"{relation}\"")) {
        headers.append(header::LINK, value);
    }
}

/// Adds `Location`.
pub(super) fn location(response: &mut Response<Body>, url: &str) {
    if let Ok(value) = HeaderValue::from_str(url) {
        response.headers_mut().insert(header::LOCATION, value);
    }
}

fn poll_again(response: &mut Response<Body>) {
    response.headers_mut().insert(header::RETRY_AFTER, POLL_AGAIN.into());
}

/// An account (RFC 8555 §7.1.2).
pub(super) fn account(status: StatusCode, account: &Account, urls: &Urls) -> Response<Body> {
    let view = AccountView {
        status: account.status.as_str(),
        contact: &account.contacts,
        terms_of_service_agreed: account.terms_agreed_at.is_some(),
        external_account_binding: account.external_account.as_ref().map(|external| &external.binding),
        orders: urls.orders(&account.id),
    };
    let mut response = json(status, &view);
    location(&mut response, &urls.account(&account.id));
    response
}

/// An order (RFC 8555 §7.1.3). `profile` is shown where the client could have named it.
pub(super) fn order(status: StatusCode, order: &Order, urls: &Urls, now: Timestamp) -> Response<Body> {
    let seen = order.status(now);
    let certificate =
        order.serial.filter(|_| seen == OrderStatus::Valid).map(|serial| urls.certificate(&serial, 0));
    let view = OrderView {
        status: seen.as_str(),
        expires: order.expires_at.to_string(),
        identifiers: order.identifiers.iter().map(Into::into).collect(),
        profile: Some(&order.profile),
        not_before: order.not_before.map(Timestamp::with_fraction),
        not_after: order.not_after.map(Timestamp::with_fraction),
        replaces: order.replaces.as_deref(),
        error: order.failure(now),
        authorizations: order.authorizations.iter().map(|each| urls.authorization(&each.id)).collect(),
        finalize: urls.finalize(&order.id),
        certificate,
    };
    let mut response = json(status, &view);
    location(&mut response, &urls.order(&order.id));
    if matches!(seen, OrderStatus::Processing | OrderStatus::Pending) {
        poll_again(&mut response);
    }
    response
}

fn challenge_view<'a>(
    authorization: &'a Authorization,
    kind: ChallengeType,
    status: ChallengeStatus,
    urls: &Urls,
) -> ChallengeView<'a> {
    let attempted = authorization.attempted == Some(kind);
    let error = authorization.error.as_ref().filter(|_| attempted);
    ChallengeView {
        r#type: kind.as_str(),
        url: urls.challenge(&authorization.id, kind),
        status: status.as_str(),
        token: authorization.token.clone(),
        validated: authorization.validated(kind).map(|at| at.to_string()),
        error,
    }
}

/// An authorization (RFC 8555 §7.1.4).
pub(super) fn authorization(
    status: StatusCode,
    authorization: &Authorization,
    urls: &Urls,
    now: Timestamp,
) -> Response<Body> {
    let seen = authorization.status(now);
    let challenges = authorization.challenges();
    let view = AuthorizationView {
        identifier: (&authorization.identifier).into(),
        status: seen.as_str(),
        expires: authorization.expires_at.to_string(),
        challenges: challenges
            .iter()
            .map(|(kind, status)| challenge_view(authorization, *kind, *status, urls))
            .collect(),
        wildcard: authorization.wildcard,
    };
    let mut response = json(status, &view);
    if seen == AuthorizationStatus::Pending {
        poll_again(&mut response);
    }
    response
}

/// A challenge (RFC 8555 §7.1.5), with `up` to its authorization (AUT-06).
pub(super) fn challenge(authorization: &Authorization, kind: ChallengeType, urls: &Urls) -> Response<Body> {
    let shown = authorization.challenges().into_iter().find(|(each, _)| *each == kind);
    let status = shown.map_or(ChallengeStatus::Pending, |(_, status)| status);
    let mut response = json(StatusCode::OK, &challenge_view(authorization, kind, status, urls));
    link(response.headers_mut(), &urls.authorization(&authorization.id), "up");
    if matches!(status, ChallengeStatus::Pending | ChallengeStatus::Processing) {
        poll_again(&mut response);
    }
    response
}
