//! The directory (RFC 8555 §7.1.1), one for each profile beside the default's.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, header};
use serde::Serialize;

use super::App;
use super::problem::Rejection;
use super::signed::{Alone, post_as_get};
use crate::service::Services;

/// The documents, which never change while the process runs.
pub(super) struct Directories {
    default: String,
    profiles: BTreeMap<String, String>,
    index: HeaderValue,
}

impl Directories {
    /// Writes them.
    pub(super) fn new(services: &Services) -> Self {
        let index = format!("<{}>;rel=\"index\"", services.urls.directory(None));
        Self {
            default: document(services, None),
            profiles: services
                .profiles
                .keys()
                .map(|name| (name.clone(), document(services, Some(name))))
                .collect(),
            index: HeaderValue::from_str(&index).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// The value of `Link: <DIRECTORY>;rel="index"` (GEN-02).
    pub(super) fn index_link(&self) -> HeaderValue {
        self.index.clone()
    }
}

/// RFC 8555 §7.1.1, with its members in the order of that section (GEN-14).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Directory<'a> {
    new_nonce: String,
    new_account: String,
    new_order: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_authz: Option<String>,
    revoke_cert: String,
    key_change: String,
    renewal_info: String,
    meta: Meta<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    terms_of_service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    website: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    caa_identities: &'a [String],
    external_account_required: bool,
    /// Names with their descriptions.
    profiles: BTreeMap<&'a str, &'a str>,
}

fn document(services: &Services, profile: Option<&str>) -> String {
    let (urls, settings) = (&services.urls, &services.settings);
    let directory = Directory {
        new_nonce: urls.of("/new-nonce"),
        new_account: urls.profiled(profile, "new-account"),
        new_order: urls.profiled(profile, "new-order"),
        new_authz: settings.pre_authorization.then(|| urls.profiled(profile, "new-authz")),
        revoke_cert: urls.of("/revoke-cert"),
        key_change: urls.of("/key-change"),
        renewal_info: urls.of("/renewal-info"),
        meta: Meta {
            terms_of_service: settings.terms_of_service.as_deref(),
            website: settings.website.as_deref(),
            caa_identities: &settings.caa_identities,
            external_account_required: services
                .profile(profile, None)
                .is_ok_and(|profile| profile.external_account_required),
            profiles: services
                .profiles
                .values()
                .map(|each| (each.name.as_str(), each.description.as_str()))
                .collect(),
        },
    };
    serde_json::to_string(&directory).unwrap_or_default()
}

fn show(document: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_owned()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn show_profile(app: &App, profile: &str) -> Result<Response<Body>, Rejection> {
    app.directories.profiles.get(profile).map(|text| show(text)).ok_or_else(|| Rejection::missing("profile"))
}

pub(super) async fn get(State(app): State<App>) -> Response<Body> {
    show(&app.directories.default)
}

pub(super) async fn get_profile(
    State(app): State<App>,
    Path(profile): Path<String>,
) -> Result<Response<Body>, Rejection> {
    show_profile(&app, &profile)
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    post_as_get(&signed.payload)?;
    Ok(show(&app.directories.default))
}

pub(super) async fn post_profile(
    State(app): State<App>,
    Path(profile): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    post_as_get(&signed.payload)?;
    show_profile(&app, &profile)
}
