//! Download and revocation (RFC 8555 §7.4.2, §7.6).

use super::refusal::{Refusal, ServiceError};
use super::{Services, limits};
use crate::acme::account::Account;
use crate::acme::certificate::{Certificate, RevocationReason, Serial};
use crate::acme::message::RevokeCertificate;
use crate::jose::PublicKey;
use crate::limits::Use;
use crate::pki;
use crate::storage::Compromised;

/// Who asks for a revocation.
pub enum Revoker {
    /// An account, by its `kid`.
    Account(Account),
    /// The holder of the certificate's private key, by `jwk`.
    CertificateKey(PublicKey),
}

/// The chains that can be offered for a certificate, the default one first (CRT-01); none if its issuer is no longer
/// configured.
pub fn chains<'s>(services: &'s Services, certificate: &Certificate) -> &'s [Vec<Vec<u8>>] {
    services.issuer_named(&certificate.issuer_id).map_or(&[], |issuer| issuer.chains())
}

/// What a client downloads: PEM, the leaf first. `None` if there is no such alternate.
pub fn chain(services: &Services, certificate: &Certificate, alternate: usize) -> Option<String> {
    let leaf = certificate.der.as_deref()?;
    match chains(services, certificate) {
        [] if alternate == 0 => Some(pki::chain::to_pem(leaf, &[])),
        chains => chains.get(alternate).map(|further| pki::chain::to_pem(leaf, further)),
    }
}

/// Revokes a certificate that this server issued (CRT-04, CRT-05). Only a signature by the certificate's key proves that
/// the key is compromised, and then counts for all that has the key. The account that ordered it may call the key
/// compromised, which counts for this certificate, and for what the account itself asks for later; another account, which
/// controls the names, knows nothing of the key.
pub async fn revoke(
    services: &Services,
    revoker: Revoker,
    request: RevokeCertificate,
) -> Result<(), ServiceError> {
    let certificate = issued(services, &request.certificate).await?;
    let code = request.reason.unwrap_or(0);
    let reason = || RevocationReason::from_code(code).ok_or(Refusal::BadRevocationReason(code));
    let (payer, reason) = match revoker {
        Revoker::Account(account) if certificate.account_id == account.id => (account.id, reason()?),
        Revoker::Account(account) => {
            if !authorized_for_all(services, &account, &certificate).await? {
                return Err(Refusal::Unauthorized(
                    "the account neither ordered the certificate nor holds valid authorizations for all its names",
                )
                .into());
            }
            let reason = match reason()? {
                RevocationReason::KeyCompromise => RevocationReason::CessationOfOperation,
                other => other,
            };
            (account.id, reason)
        }
        Revoker::CertificateKey(key) => {
            if !key.has_spki(&certificate.public_key) {
                return Err(
                    Refusal::Unauthorized("the request is not signed by the certificate's key").into()
                );
            }
            // Whoever signs with it has shown that it is out of its subscriber's hands, whatever the reason given. No limit
            // stands before this: a key is compromised once.
            reason()?;
            return compromise(services, &certificate).await;
        }
    };
    let held = services.limits.take(&[Use::revocation(&payer)]).await?;
    let done = services.store.revoke(&certificate, reason, services.now()).await;
    if !matches!(done, Ok(true)) {
        limits::refund_if_not_done(services, held, &done).await;
    }
    if !done? {
        return Err(Refusal::AlreadyRevoked.into());
    }
    revoked(services, &certificate, reason);
    Ok(())
}

/// Revokes a certificate whose key has shown that it is compromised; the key's other certificates follow.
async fn compromise(services: &Services, certificate: &Certificate) -> Result<(), ServiceError> {
    let compromised = services.store.compromise(certificate, services.now()).await?;
    services.key_blocked.notify_one();
    if compromised == Compromised::Already {
        return Err(Refusal::AlreadyRevoked.into());
    }
    revoked(services, certificate, RevocationReason::KeyCompromise);
    Ok(())
}

fn revoked(services: &Services, certificate: &Certificate, reason: RevocationReason) {
    tracing::info!(serial = %certificate.serial, reason = reason.code(), "revoked");
    metrics::counter!("chancery_revocations_total").increment(1);
    services.crl_wanted.notify_one();
}

/// The record of a certificate that a client sent, which must be ours to the last octet.
async fn issued(services: &Services, der: &[u8]) -> Result<Certificate, ServiceError> {
    let unknown = || Refusal::NotFound("certificate: this server did not issue it");
    let serial = pki::certificate_serial(der).ok_or_else(|| {
        Refusal::Malformed(
            "\"certificate\" must be one certificate in DER, base64url without padding".to_owned(),
        )
    })?;
    let serial = Serial::from_bytes(&serial).ok_or_else(unknown)?;
    let certificate = services.store.certificate(&serial).await?.ok_or_else(unknown)?.certificate;
    if certificate.der.as_deref() == Some(der) { Ok(certificate) } else { Err(unknown().into()) }
}

async fn authorized_for_all(
    services: &Services,
    account: &Account,
    certificate: &Certificate,
) -> Result<bool, ServiceError> {
    let names = &certificate.identifiers;
    let held = services.store.valid_authorizations(&account.id, names, services.now()).await?;
    // What a profile grants on trust proves nothing about other people's certificates; storage leaves it out.
    Ok(names.iter().all(|name| held.iter().any(|authorization| authorization.ordered_identifier() == *name)))
}
