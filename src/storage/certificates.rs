//! Issued certificates and their revocation (RFC 8555 §7.6).

use serde_json::json;

use super::audit::{self, PerRow, run_audited};
use super::row::{self, certificate_columns};
use super::statement::{parameters, run, statements};
use super::{StorageError, Store};
use crate::acme::audit::Action;
use crate::acme::certificate::{Certificate, RevocationReason, Serial};
use crate::acme::id::OrderId;
use crate::acme::time::Timestamp;

statements! {
    CERTIFICATE = "SELECT ", certificate_columns!(), ", c.replaced_by FROM certificates c \
        WHERE c.serial = $1 AND c.der IS NOT NULL";
    REVOKE = "UPDATE certificates SET revoked_at = $2, revocation_reason = $3 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL RETURNING serial";
    BLOCK_KEY = "INSERT INTO blocked_keys (key_sha256, blocked_at) VALUES ($1, $2) \
        ON CONFLICT (key_sha256) DO NOTHING";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] = &[(REVOKE, None)];

impl Store {
    /// An issued certificate, and the order that says it replaces it, if one does (RFC 9773 §5).
    pub async fn certificate(
        &self,
        serial: &Serial,
    ) -> Result<Option<(Certificate, Option<OrderId>)>, StorageError> {
        let rows = self.read(CERTIFICATE, parameters![serial]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let replaced_by: Option<String> = sqlx::Row::try_get(row, 14)?;
        Ok(row::certificate(row, 0)?
            .map(|certificate| (certificate, replaced_by.as_deref().and_then(OrderId::parse))))
    }

    /// Revokes a certificate; `false` if it is revoked already. With `block_key`, its key gets no further certificate
    /// (CRT-05).
    pub async fn revoke(
        &self,
        certificate: &Certificate,
        reason: RevocationReason,
        block_key: bool,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let revoke = parameters![&certificate.serial, now, reason.code()];
        let event = self.event(Action::CertificateRevoked).account(&certificate.account_id);
        let event = event.order(&certificate.order_id).serial(&certificate.serial).detail(json!({
            "reason": reason.code(),
            "key_blocked": Some(true).filter(|_| block_key),
        }));
        if !block_key {
            return self.write_audited(REVOKE, revoke, event).await;
        }
        let block = parameters![&certificate.key_sha256, now];
        let (dialect, revoked) = (self.dialect, event.clone());
        let changed = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                run(connection, BLOCK_KEY.into(), block).await?;
                run_audited(connection, dialect, REVOKE, revoke, &revoked).await
            })
        }));
        let changed = changed.await?;
        if changed {
            audit::log(&event);
        }
        Ok(changed)
    }
}
