//! Certificate revocation lists: renewed by schedule, and at once after a revocation (CRT-06).

use std::time::Duration;

use super::Services;
use super::refusal::ServiceError;
use crate::acme::time::Timestamp;
use crate::pki::crl::{CrlTemplate, RevokedEntry};
use crate::storage::Crl;

/// Revocations may be stamped by replicas whose clocks differ by a little: looking back this far misses none.
const OVERLAP: Duration = Duration::from_secs(5);

/// Publishes a new list if one is due: there is none, the last one is old, or something was revoked since. Any replica
/// may do this at any time; the number decides who was first.
pub async fn renew_if_due(services: &Services) -> Result<(), ServiceError> {
    let issuer_id = services.issuer.id();
    loop {
        let now = services.now();
        let last = services.store.crl(issuer_id).await?;
        if let Some(last) = &last
            && now.since(last.this_update) < services.settings.crl_interval
            && !is_stale(services, last, now).await?
        {
            return Ok(());
        }
        let next = sign(services, last.as_ref().map_or(1, |last| last.number + 1), now).await?;
        let previous = last.as_ref().map(|last| last.number);
        if services.store.publish_crl(issuer_id, previous, next).await? {
            metrics::counter!("chancery_crls_published_total").increment(1);
            return Ok(());
        }
        // Another replica published meanwhile; look again whether that one has everything.
    }
}

/// Whether the list lacks a revocation. What was stamped shortly before it is looked for in the list itself.
async fn is_stale(services: &Services, last: &Crl, now: Timestamp) -> Result<bool, ServiceError> {
    let issuer_id = services.issuer.id();
    let since = last.this_update.minus(OVERLAP);
    if !services.store.revoked_since(issuer_id, since).await? {
        return Ok(false);
    }
    let listed = crate::pki::crl::serials(&last.der);
    let revoked = services.store.revoked(issuer_id, now).await?;
    Ok(revoked.iter().any(|(serial, revocation)| revocation.at >= since && !listed.contains(serial)))
}

async fn sign(services: &Services, number: i64, now: Timestamp) -> Result<Crl, ServiceError> {
    let this_update = now.truncated();
    let next_update = this_update.plus(services.settings.crl_lifetime);
    let revoked = services.store.revoked(services.issuer.id(), now).await?;
    let template = CrlTemplate {
        number: u64::try_from(number).unwrap_or(1),
        this_update,
        next_update,
        revoked: revoked
            .into_iter()
            .map(|(serial, revocation)| RevokedEntry { serial, at: revocation.at, reason: revocation.reason })
            .collect(),
        distribution_point: None,
    };
    let signed = services.issuer.sign_crl(&template).await;
    let der =
        signed.map_err(|error| ServiceError::Internal(format!("the CRL could not be signed: {error}")))?;
    Ok(Crl { number, this_update, next_update, der })
}

/// The newest list of an issuer in DER, if the issuer is ours.
pub async fn current(services: &Services, issuer_id: &str) -> Result<Option<Vec<u8>>, ServiceError> {
    if issuer_id == services.issuer.id() {
        renew_if_due(services).await?;
    }
    Ok(services.store.crl(issuer_id).await?.map(|crl| crl.der))
}
