//! The certificate of the ACME listener, where our own authority makes it: on record like any other (I-4), so that the
//! audit trail has it, and it can be revoked.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Services;
use super::refusal::ServiceError;
use crate::acme::certificate::{Certificate, Serial};
use crate::acme::id::{AccountId, OrderId};
use crate::acme::identifier::Identifier;
use crate::pki::authority::ServerDraft;
use crate::pki::{self, key};

/// What stands in the record for a profile.
const PROFILE: &str = "listener";

/// A chain in DER, leaf first, and the leaf's key as PKCS #8 in DER.
pub type ChainAndKey = (Vec<Vec<u8>>, Zeroizing<Vec<u8>>);

/// Issues a certificate for these names, with a new key.
pub async fn issue(services: &Services, names: &[Identifier]) -> Result<ChainAndKey, ServiceError> {
    let refused =
        |error| ServiceError::Internal(format!("no certificate could be made for the listener: {error}"));
    let issuer = &services.issuer;
    let draft = ServerDraft::new(names, services.now(), issuer.not_after()).map_err(refused)?;
    let mut template = draft.template;
    // RFC 5280 §8: over https one would need the certificate to look up whether it is good.
    let plain = |url: String| Some(url).filter(|url| url.starts_with("http://"));
    template.crl_url = plain(services.urls.crl(issuer.id()));
    template.issuer_url = plain(services.urls.issuer(issuer.id()));
    let reservation = Certificate {
        serial: template.serial,
        order_id: OrderId::new(),
        account_id: AccountId::nobody(),
        profile: PROFILE.to_owned(),
        issuer_id: issuer.id().to_owned(),
        identifiers: names.to_vec(),
        key_sha256: key::sha256(&template.public_key),
        public_key: template.public_key.clone(),
        not_before: template.not_before,
        not_after: template.not_after,
        // Nobody takes this issuance over: a replica that starts again makes another.
        content: None,
        der: None,
        issued_at: None,
        revocation: None,
    };
    services.store.reserve_listener_certificate(&reservation).await?;
    let leaf = issuer.issue(&template).await.map_err(refused)?;
    if !services.store.record_listener_certificate(&reservation, leaf.clone(), services.now()).await? {
        return Err(ServiceError::Internal("the listener's certificate is not on record".to_owned()));
    }
    tracing::info!(serial = %reservation.serial, "a certificate was made for the listener");
    let chain = issuer.chains().first().into_iter().flatten().cloned();
    Ok((std::iter::once(leaf).chain(chain).collect(), draft.key))
}

/// Whether a certificate that was made before still serves: it is on record, not revoked, by the issuer of now, for these
/// names, and has a third of its time to go.
pub async fn still_serves(
    services: &Services,
    leaf: &[u8],
    names: &[Identifier],
) -> Result<bool, ServiceError> {
    let serial = pki::certificate_serial(leaf).and_then(|serial| Serial::from_bytes(&serial));
    let Some(serial) = serial else { return Ok(false) };
    let Some(found) = services.store.certificate(&serial).await? else { return Ok(false) };
    let certificate = found.certificate;
    let third: Duration = certificate.not_after.since(certificate.not_before) / 3;
    Ok(certificate.der.as_deref() == Some(leaf)
        && certificate.revocation.is_none()
        && certificate.issuer_id == services.issuer.id()
        && certificate.identifiers == names
        && services.now() < certificate.not_after.minus(third))
}
