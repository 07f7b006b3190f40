//! The certificates of the ACME listener that our own authority makes: rows like any other certificate's (I-4), without an
//! order and an account.

use serde_json::json;

use super::audit::PerRow;
use super::finalization::{INSERT_RESERVATION, Reservation, reservation_parameters};
use super::orders::identifier_values;
use super::statement::{parameters, statements};
use super::{StorageError, Store};
use crate::acme::audit::Action;
use crate::acme::time::Timestamp;

statements! {
    RECORD_LISTENER_CERTIFICATE = "UPDATE certificates SET der = $2, issued_at = $3 \
        WHERE serial = $1 AND (der IS NULL) IS TRUE RETURNING serial";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] =
    &[(INSERT_RESERVATION, None), (RECORD_LISTENER_CERTIFICATE, None)];

impl Store {
    /// Puts a certificate for the listener on record before it is signed.
    pub async fn reserve_listener_certificate(&self, reservation: &Reservation) -> Result<(), StorageError> {
        let event = self.event(Action::CertificateReserved).serial(&reservation.serial);
        let event = event.detail(json!({"key_sha256": reservation.key_sha256}));
        self.write_audited(INSERT_RESERVATION, reservation_parameters(reservation), event).await?;
        Ok(())
    }

    /// Puts the signed certificate on record; `false` if it is on record already, or not reserved.
    pub async fn record_listener_certificate(
        &self,
        reservation: &Reservation,
        der: Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let event = self.event(Action::CertificateIssued).serial(&reservation.serial).detail(json!({
            "profile": reservation.profile,
            "identifiers": identifier_values(&reservation.identifiers),
            "not_after": reservation.not_after.to_string(),
        }));
        let values = parameters![&reservation.serial, der, now];
        self.write_audited(RECORD_LISTENER_CERTIFICATE, values, event).await
    }
}
