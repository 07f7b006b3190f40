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
    CERTIFICATE = "SELECT ", certificate_columns!(), ", c.replaced_by, c.renewal_asked_at FROM certificates c \
        WHERE c.serial = $1 AND c.der IS NOT NULL";
    REVOKE = "UPDATE certificates SET revoked_at = $2, revocation_reason = $3 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL RETURNING serial";
    ASK_FOR_RENEWAL = "UPDATE certificates SET renewal_asked_at = $2 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL AND renewal_asked_at IS NULL RETURNING serial";
    BLOCK_KEY = "INSERT INTO blocked_keys (key_sha256, blocked_at) VALUES ($1, $2) \
        ON CONFLICT (key_sha256) DO NOTHING RETURNING key_sha256";
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
}

impl Store {
    /// An issued certificate by its serial.
    pub async fn certificate(&self, serial: &Serial) -> Result<Option<IssuedCertificate>, StorageError> {
        let rows = self.read(CERTIFICATE, parameters![serial]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let replaced_by: Option<String> = sqlx::Row::try_get(row, 15)?;
        let asked: Option<i64> = sqlx::Row::try_get(row, 16)?;
        Ok(row::certificate(row, 0)?.map(|certificate| IssuedCertificate {
            certificate,
            replaced_by: replaced_by.as_deref().and_then(OrderId::parse),
            renewal_asked_at: asked.map(Timestamp::from_micros),
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

    /// Revokes a certificate; `false` if it is revoked already. With `block_key`, its key gets no further certificate
    /// (CRT-05), also if the certificate is revoked already: that is an event of its own, if the key was not blocked.
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
        let blocked = self.event(Action::CertificateKeyBlocked).account(&certificate.account_id);
        let blocked = blocked.order(&certificate.order_id).serial(&certificate.serial);
        let dialect = self.dialect;
        let done = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                let blocks = !run(connection, BLOCK_KEY.into(), block).await?.is_empty();
                if run_audited(connection, dialect, REVOKE, revoke, &event).await? {
                    return Ok((true, Some(event)));
                }
                if !blocks {
                    return Ok((false, None));
                }
                audit::append(connection, dialect, &blocked).await?;
                Ok((false, Some(blocked)))
            })
        }));
        let (revoked, event) = done.await?;
        if let Some(event) = event {
            audit::log(&event);
        }
        Ok(revoked)
    }
}
