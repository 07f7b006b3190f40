//! The directory (RFC 8555 §7.1.1), one for each profile beside the default's.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response};
use serde::Serialize;

use super::App;
use super::document::Document;
use super::problem::Rejection;
use super::signed::{Alone, post_as_get};
use crate::service::Services;

/// How long a cache may keep a directory: it changes with the configuration alone.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The documents, which never change while the process runs.
pub(super) struct Directories {
    default: Document,
    profiles: BTreeMap<String, Document>,
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

fn document(services: &Services, profile: Option<&str>) -> Document {
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
    Document::new(serde_json::to_string(&directory).unwrap_or_default(), "application/json", MAX_AGE)
}

impl App {
    /// The directory of a profile, which must be there.
    fn directory_of(&self, profile: &str) -> Result<&Document, Rejection> {
        self.directories.profiles.get(profile).ok_or_else(|| Rejection::missing("profile"))
    }
}

pub(super) async fn get(State(app): State<App>, headers: HeaderMap) -> Response<Body> {
    app.directories.default.answer(&headers)
}

pub(super) async fn get_profile(
    State(app): State<App>,
    Path(profile): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Rejection> {
    Ok(app.directory_of(&profile)?.answer(&headers))
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    post_as_get(&signed.payload)?;
    Ok(app.directories.default.plain())
}

pub(super) async fn post_profile(
    State(app): State<App>,
    Path(profile): Path<String>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let signed = app.signed::<Alone>(request, ()).await?;
    post_as_get(&signed.payload)?;
    Ok(app.directory_of(&profile)?.plain())
}
