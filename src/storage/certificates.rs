//! Issued certificates and their revocation (RFC 8555 §7.6).

use serde_json::json;

use super::audit::PerRow;
use super::row::{self, certificate_columns};
use super::statement::{parameters, statements};
use super::{StorageError, Store};
use crate::acme::audit::Action;
use crate::acme::certificate::{Certificate, RevocationReason, Serial};
use crate::acme::id::OrderId;
use crate::acme::time::Timestamp;

statements! {
    CERTIFICATE = "SELECT ", certificate_columns!(), ", c.replaced_by, c.renewal_asked_at, \
        (SELECT b.blocked_at FROM blocked_keys b WHERE b.key_sha256 = c.key_sha256), c.exempted_at FROM certificates c \
        WHERE c.serial = $1 AND c.der IS NOT NULL";
    REVOKE = "UPDATE certificates SET revoked_at = $2, revocation_reason = $3 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL RETURNING serial";
    ASK_FOR_RENEWAL = "UPDATE certificates SET renewal_asked_at = $2 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL AND renewal_asked_at IS NULL RETURNING serial";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] = &[(REVOKE, None), (ASK_FOR_RENEWAL, None)];

/// An issued certificate, and what RFC 9773 adds to it.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// The order that says it replaces it, if one does (RFC 9773 §5).
    pub replaced_by: Option<OrderId>,
    /// When the operator asked for its renewal, if so (RFC 9773 §4.2).
    pub renewal_asked_at: Option<Timestamp>,
    /// Whether its key was shown to be compromised: it is revoked, or will be in a moment (CRT-05).
    pub key_is_blocked: bool,
    /// When an order that replaces it was last exempt from limits for that, if one was (ARI-04).
    pub exempted_at: Option<Timestamp>,
}

impl Store {
    /// An issued certificate by its serial.
    pub async fn certificate(&self, serial: &Serial) -> Result<Option<IssuedCertificate>, StorageError> {
        let rows = self.read(CERTIFICATE, parameters![serial]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let replaced_by: Option<String> = sqlx::Row::try_get(row, 15)?;
        let asked: Option<i64> = sqlx::Row::try_get(row, 16)?;
        let blocked: Option<i64> = sqlx::Row::try_get(row, 17)?;
        let exempted: Option<i64> = sqlx::Row::try_get(row, 18)?;
        Ok(row::certificate(row, 0)?.map(|certificate| IssuedCertificate {
            certificate,
            replaced_by: replaced_by.as_deref().and_then(OrderId::parse),
            renewal_asked_at: asked.map(Timestamp::from_micros),
            key_is_blocked: blocked.is_some(),
            exempted_at: exempted.map(Timestamp::from_micros),
        }))
    }

    /// Records that the operator wants a certificate renewed before its time; `false` if there is nothing to ask for:
    /// it is not issued, is revoked, or was asked for.
    pub async fn ask_for_renewal(&self, serial: &Serial, now: Timestamp) -> Result<bool, StorageError> {
        let Some(IssuedCertificate { certificate, .. }) = self.certificate(serial).await? else {
            return Ok(false);
        };
        let event = self.event(Action::CertificateRenewalAsked).account(&certificate.account_id);
        let event = event.order(&certificate.order_id).serial(serial);
        self.write_audited(ASK_FOR_RENEWAL, parameters![serial, now], event).await
    }

    /// Revokes a certificate; `false` if it is revoked already.
    pub async fn revoke(
        &self,
        certificate: &Certificate,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let event = self.event(Action::CertificateRevoked).account(&certificate.account_id);
        let event = event.order(&certificate.order_id).serial(&certificate.serial);
        let event = event.detail(json!({"reason": reason.code()}));
        self.write_audited(REVOKE, parameters![&certificate.serial, now, reason.code()], event).await
    }
}
