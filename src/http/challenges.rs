//! Challenges (RFC 8555 §7.5.1).

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::Response;

use super::problem::Rejection;
use super::{App, view};
use crate::acme::authorization::Authorization;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::AuthorizationId;
use crate::acme::message::Members;
use crate::service;

pub(super) async fn challenge(
    State(app): State<App>,
    Path((id, kind)): Path<(String, String)>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let id = AuthorizationId::parse(&id).ok_or_else(|| Rejection::missing("challenge"))?;
    let kind = ChallengeType::parse(&kind).ok_or_else(|| Rejection::missing("challenge"))?;
    let (account, authorization, payload) = app.signed::<Authorization>(request, id).await?.resource()?;
    if !authorization.has_challenge(kind) {
        return Err(Rejection::missing("challenge"));
    }
    // POST-as-GET reads and never starts anything (AUT-06); an object, usually {}, responds.
    let authorization = if payload.is_empty() {
        authorization
    } else {
        Members::parse(&payload)?;
        service::challenges::respond(&app.services, &account, authorization, kind).await?
    };
    Ok(view::challenge(&authorization, kind, &app.services.urls))
}
