//! Certificate revocation lists, one a issuer: what they list, and the newest one that was signed (CRT-06).

use sqlx::Row;
use sqlx::any::AnyRow;

use super::statement::{parameters, statements};
use super::{StorageError, Store};
use crate::acme::certificate::{Revocation, RevocationReason, Serial};
use crate::acme::time::Timestamp;

statements! {
    CRL_EDITION = "SELECT number, this_update FROM crls WHERE issuer_id = $1";
    CRL = "SELECT number, this_update, next_update, der FROM crls WHERE issuer_id = $1";
    REVOKED_SINCE = "SELECT r.serial, r.revocation_reason FROM certificates r \
        WHERE r.issuer_id = $1 AND r.revoked_at IS NOT NULL AND r.revoked_at >= $2 AND r.not_after > $3 \
        UNION ALL SELECT r.serial, r.revocation_reason FROM certificates r \
        WHERE r.issuer_id = $1 AND r.reason_raised_at IS NOT NULL AND r.reason_raised_at >= $2 AND r.not_after > $3";
    REVOKED = "SELECT serial, revoked_at, revocation_reason FROM certificates \
        WHERE issuer_id = $1 AND revoked_at IS NOT NULL AND not_after > $2 ORDER BY revoked_at, serial";
    INSERT_CRL = "INSERT INTO crls (issuer_id, number, this_update, next_update, der) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (issuer_id) DO NOTHING RETURNING issuer_id";
    REPLACE_CRL = "UPDATE crls SET number = $2, this_update = $3, next_update = $4, der = $5 \
        WHERE issuer_id = $1 AND number = $6 RETURNING issuer_id";
}

/// A signed list.
#[derive(Clone, Debug)]
pub struct Crl {
    /// RFC 5280 §5.2.3: grows by one each time.
    pub number: i64,
    /// When its content was read. (The list itself is dated back.)
    pub made_at: Timestamp,
    /// When the next one will be there at the latest.
    pub next_update: Timestamp,
    /// The list in DER.
    pub der: Vec<u8>,
}

/// Which list of an issuer it is: its number, and when it was made (numbers are used again after a restore).
pub type Edition = (i64, Timestamp);

impl Crl {
    /// Which one it is.
    pub const fn edition(&self) -> Edition {
        (self.number, self.made_at)
    }
}

impl Store {
    /// Which list of an issuer is the newest.
    pub async fn crl_edition(&self, issuer_id: &str) -> Result<Option<Edition>, StorageError> {
        let rows = self.read(CRL_EDITION, parameters![issuer_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some((row.try_get(0)?, Timestamp::from_micros(row.try_get(1)?))))
    }

    /// The newest list of an issuer.
    pub async fn crl(&self, issuer_id: &str) -> Result<Option<Crl>, StorageError> {
        let rows = self.read(CRL, parameters![issuer_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Crl {
            number: row.try_get(0)?,
            made_at: Timestamp::from_micros(row.try_get(1)?),
            next_update: Timestamp::from_micros(row.try_get(2)?),
            der: row.try_get(3)?,
        }))
    }

    /// What was revoked, or whose reason was raised, at or after `since`, and was not yet expired at `ended`.
    pub async fn revoked_since(
        &self,
        issuer_id: &str,
        since: Timestamp,
        ended: Timestamp,
    ) -> Result<Vec<(Serial, RevocationReason)>, StorageError> {
        let rows = self.read(REVOKED_SINCE, parameters![issuer_id, since, ended]).await?;
        let read = |row: &AnyRow| -> Result<(Serial, RevocationReason), StorageError> {
            let serial: String = row.try_get(0)?;
            let corrupt =
                |column| StorageError::Corrupt { table: "certificates", column, row: serial.clone() };
            let reason =
                RevocationReason::from_code(row.try_get(1)?).ok_or_else(|| corrupt("revocation_reason"))?;
            Ok((Serial::parse(&serial).ok_or_else(|| corrupt("serial"))?, reason))
        };
        rows.iter().map(read).collect()
    }

    /// Everything revoked of an issuer that was not yet expired at `after`.
    pub async fn revoked(
        &self,
        issuer_id: &str,
        after: Timestamp,
    ) -> Result<Vec<(Serial, Revocation)>, StorageError> {
        let rows = self.read(REVOKED, parameters![issuer_id, after]).await?;
        let read = |row: &AnyRow| -> Result<(Serial, Revocation), StorageError> {
            let serial: String = row.try_get(0)?;
            let corrupt =
                |column| StorageError::Corrupt { table: "certificates", column, row: serial.clone() };
            let reason =
                RevocationReason::from_code(row.try_get(2)?).ok_or_else(|| corrupt("revocation_reason"))?;
            let at = Timestamp::from_micros(row.try_get(1)?);
            Ok((Serial::parse(&serial).ok_or_else(|| corrupt("serial"))?, Revocation { at, reason }))
        };
        rows.iter().map(read).collect()
    }

    /// Publishes a list that follows number `previous` (none: the first); `false` if another replica was faster.
    pub async fn publish_crl(
        &self,
        issuer_id: &str,
        previous: Option<i64>,
        crl: &Crl,
    ) -> Result<bool, StorageError> {
        let mut values = parameters![issuer_id, crl.number, crl.made_at, crl.next_update, crl.der.clone()];
        let text = if let Some(previous) = previous {
            values.extend(parameters![previous]);
            REPLACE_CRL
        } else {
            INSERT_CRL
        };
        Ok(!self.write(text, values).await?.is_empty())
    }
}
