//! new-nonce (RFC 8555 §7.2). The nonce itself is put on by the envelope, as on every answer to a POST.

use axum::http::StatusCode;

/// HEAD: 200 (NON-01; instant-acme takes nothing else).
pub(super) async fn head() -> StatusCode {
    StatusCode::OK
}

/// GET: 204.
pub(super) async fn get() -> StatusCode {
    StatusCode::NO_CONTENT
}
