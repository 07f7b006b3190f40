//! Certificate revocation lists: renewed by schedule, and at once after a revocation (CRT-06).

use std::sync::Arc;
use std::time::Duration;

use super::Services;
use super::refusal::ServiceError;
use crate::acme::certificate::Revocation;
use crate::pki::crl::{CrlTemplate, RevokedEntry};
use crate::pki::issuer::Issuer;
use crate::storage::Crl;

/// Revocations may be stamped by replicas whose clocks differ by a little: looking back this far misses none.
const OVERLAP: Duration = Duration::from_secs(5);

/// Publishes a new list of each issuer for which one is due: there is none, the last one is old, or something was
/// revoked since. Any replica may do this at any time; the number decides who was first.
pub async fn renew_if_due(services: &Services) -> Result<(), ServiceError> {
    for issuer in services.issuers() {
        loop {
            let last = services.store.crl(issuer.id()).await?;
            if let Some(last) = &last
                && is_fresh(services, issuer.id(), last).await?
            {
                break;
            }
            publish(services, issuer, last.map(|last| last.number)).await?;
        }
    }
    Ok(())
}

/// Whether a list has everything, and is not old.
async fn is_fresh(services: &Services, issuer_id: &str, last: &Crl) -> Result<bool, ServiceError> {
    if services.now().since(last.this_update) >= services.settings.crl_interval {
        return Ok(false);
    }
    // What was stamped shortly before the list was made is looked for in the list itself.
    let (since, ended) =
        (last.this_update.minus(OVERLAP), services.now().minus(services.settings.crl_lifetime));
    let recent = services.store.revoked_since(issuer_id, since, ended).await?;
    if recent.is_empty() {
        return Ok(true);
    }
    let listed = crate::pki::crl::reasons(&last.der);
    Ok(recent.iter().all(|(serial, reason)| listed.get(serial) == Some(reason)))
}

/// Signs and publishes the list after number `previous`. If another replica was faster, its list counts.
async fn publish(
    services: &Services,
    issuer: &Arc<dyn Issuer>,
    previous: Option<i64>,
) -> Result<(), ServiceError> {
    let next = sign(services, issuer, previous.unwrap_or(0) + 1).await?;
    if services.store.publish_crl(issuer.id(), previous, next).await? {
        metrics::counter!("chancery_crls_published_total").increment(1);
    }
    Ok(())
}

async fn sign(services: &Services, issuer: &Arc<dyn Issuer>, number: i64) -> Result<Crl, ServiceError> {
    let this_update = services.now().truncated();
    let next_update = this_update.plus(services.settings.crl_lifetime);
    // RFC 5280 §3.3: an entry stays until it has been on a list that was made after the certificate's end.
    let ended = this_update.minus(services.settings.crl_lifetime);
    let revoked = services.store.revoked(issuer.id(), ended).await?;
    let entry = |(serial, revocation): (_, Revocation)| RevokedEntry {
        serial,
        at: revocation.at,
        reason: revocation.reason,
    };
    let template = CrlTemplate {
        number: u64::try_from(number).unwrap_or(1),
        this_update,
        next_update,
        revoked: revoked.into_iter().map(entry).collect(),
        distribution_point: None,
    };
    let signed = issuer.sign_crl(&template).await;
    let der =
        signed.map_err(|error| ServiceError::Internal(format!("the CRL could not be signed: {error}")))?;
    Ok(Crl { number, this_update, next_update, der })
}

/// The newest list of an issuer in DER, if there is one. Reads only: strangers ask for it.
pub async fn current(services: &Services, issuer_id: &str) -> Result<Option<Vec<u8>>, ServiceError> {
    Ok(services.store.crl(issuer_id).await?.map(|crl| crl.der))
}
