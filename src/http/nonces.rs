//! new-nonce (RFC 8555 §7.2). The nonce itself is put on by the envelope, as on every answer to a POST.

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::App;
use super::problem::Rejection;
use super::signed::{Alone, post_as_get};

/// HEAD: 200 (NON-01; instant-acme takes nothing else).
pub(super) async fn head() -> StatusCode {
    StatusCode::OK
}

/// GET: 204.
pub(super) async fn get() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// POST-as-GET: as GET (RFC 8555 §6.3).
pub(super) async fn post(State(app): State<App>, request: Request) -> Result<StatusCode, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    post_as_get(&signed.payload)?;
    Ok(get().await)
}
