//! key-change (RFC 8555 §7.3.5): the account's key signs the outer JWS, the new key the inner one.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};

use super::problem::{Rejection, refused};
use super::signed::Alone;
use super::{App, view};
use crate::acme::message::KeyChange;
use crate::acme::problem::Problem;
use crate::jose::{Jws, KeyReference};
use crate::service::{Refusal, ServiceError, key_change as service};

pub(super) async fn key_change(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Rejection> {
    let unverified = app.unverified(request).await?;
    let url = unverified.url().to_owned();
    let signed = app.by_account::<Alone>(unverified, ()).await?;
    let inner = Jws::parse(&signed.payload)?;
    let KeyReference::Jwk(new_key) = &inner.key else {
        return Err(Problem::malformed("the inner JWS must have the new key as \"jwk\"").into());
    };
    if inner.url.as_deref() != Some(url.as_str()) {
        return Err(Problem::malformed("the inner JWS must have the same \"url\" as the outer one").into());
    }
    if inner.nonce.is_some() {
        return Err(Problem::malformed("the inner JWS must not have a \"nonce\"").into());
    }
    let request = KeyChange::parse(inner.verify(new_key)?)?;
    let urls = &app.services.urls;
    match service::key_change(&app.services, &signed.account, new_key, &request).await {
        Ok(account) => Ok(view::account(StatusCode::OK, &account, urls)),
        Err(ServiceError::Refused(Refusal::KeyInUse(owner))) => {
            let url = urls.account(&owner);
            Err(refused(&Refusal::KeyInUse(owner), Some(url)))
        }
        Err(error) => Err(error.into()),
    }
}
