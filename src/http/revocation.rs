//! revoke-cert (RFC 8555 §7.6): signed by an account, or by the certificate's own key.

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::App;
use super::problem::Rejection;
use super::signed::Alone;
use crate::acme::audit::Actor;
use crate::acme::message::RevokeCertificate;
use crate::jose::KeyReference;
use crate::service::certificates::{Revoker, revoke as revoke_certificate};
use crate::storage::audit;

pub(super) async fn revoke(State(app): State<App>, request: Request) -> Result<StatusCode, Rejection> {
    let unverified = app.unverified(request).await?;
    let (revoker, payload) = match unverified.jws.key {
        KeyReference::Kid(_) => {
            let signed = app.by_account::<Alone>(unverified, ()).await?;
            (Revoker::Account(signed.account), signed.payload)
        }
        KeyReference::Jwk(_) => {
            let (payload, key) = app.by_key(unverified).await?;
            audit::acts(Actor::CertificateKey);
            (Revoker::CertificateKey(key), payload)
        }
    };
    let request = RevokeCertificate::parse(&payload)?;
    revoke_certificate(&app.services, revoker, request).await?;
    Ok(StatusCode::OK)
}
