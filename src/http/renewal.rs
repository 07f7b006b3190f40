//! Renewal information (RFC 9773 §4): a plain GET.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, header};
use serde::Serialize;

use super::problem::Rejection;
use super::{App, view};
use crate::service::renewal;

#[derive(Serialize)]
struct Window {
    start: String,
    end: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenewalInfoView {
    suggested_window: Window,
    #[serde(rename = "explanationURL", skip_serializing_if = "Option::is_none")]
    explanation_url: Option<String>,
}

pub(super) async fn renewal_info(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response<Body>, Rejection> {
    let info = renewal::renewal_info(&app.services, &id).await?;
    let window = Window { start: info.start.to_string(), end: info.end.to_string() };
    let body = RenewalInfoView { suggested_window: window, explanation_url: info.explanation_url };
    let mut response = view::json(StatusCode::OK, &body);
    response.headers_mut().insert(header::RETRY_AFTER, info.ask_again.as_secs().into());
    Ok(response)
}
