//! The directory (RFC 8555 §7.1.1), one for each profile beside the default's.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, header};
use serde_json::{Map, Value, json};

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

fn document(services: &Services, profile: Option<&str>) -> String {
    let urls = &services.urls;
    let settings = &services.settings;
    let mut meta = Map::new();
    if let Some(terms) = &settings.terms_of_service {
        meta.insert("termsOfService".into(), terms.as_str().into());
    }
    if let Some(website) = &settings.website {
        meta.insert("website".into(), website.as_str().into());
    }
    if !settings.caa_identities.is_empty() {
        meta.insert("caaIdentities".into(), json!(settings.caa_identities));
    }
    let required = services.profile(profile, None).is_ok_and(|profile| profile.external_account_required);
    meta.insert("externalAccountRequired".into(), required.into());
    let described =
        services.profiles.values().map(|each| (each.name.clone(), each.description.as_str().into()));
    meta.insert("profiles".into(), Value::Object(described.collect()));
    let mut directory = json!({
        "newNonce": urls.of("/new-nonce"),
        "newAccount": urls.profiled(profile, "new-account"),
        "newOrder": urls.profiled(profile, "new-order"),
        "revokeCert": urls.of("/revoke-cert"),
        "keyChange": urls.of("/key-change"),
        "renewalInfo": urls.of("/renewal-info"),
        "meta": meta,
    });
    if settings.pre_authorization {
        directory["newAuthz"] = urls.profiled(profile, "new-authz").into();
    }
    directory.to_string()
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
