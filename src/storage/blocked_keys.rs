//! Keys that were shown to be compromised (CRT-05): none of them gets a certificate or an account, and every certificate
//! that has one is revoked. The key's row is the job: it is settled when nothing is left to revoke. Any number of
//! replicas may work on one key, each on rows of its own.

use serde_json::json;
use sqlx::Row;

use super::audit::{self, PerRow, run_audited, run_audited_each};
use super::statement::{parameters, run, statements};
use super::{Dialect, StorageError, Store, dialect};
use crate::acme::audit::Action;
use crate::acme::certificate::{Certificate, RevocationReason};
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;

/// Whether account `$account` may have a certificate for key `$key`: nobody has shown that the key is compromised, nor did
/// the account itself call it so.
macro_rules! key_is_free {
    ($key:literal, $account:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM blocked_keys WHERE key_sha256 = ",
            $key,
            ") AND NOT EXISTS (SELECT 1 FROM certificates r WHERE r.key_sha256 = ",
            $key,
            " AND r.account_id = ",
            $account,
            " AND r.revocation_reason = 1)"
        )
    };
}
pub(super) use key_is_free;

/// What is left of key `$1` at `$2`.
macro_rules! left {
    () => {
        "k.key_sha256 = $1 AND k.not_after > $2 AND (k.revocation_reason IS NULL OR k.revocation_reason <> 1) \
         AND k.der IS NOT NULL"
    };
}

statements! {
    BLOCK_KEY = "INSERT INTO blocked_keys (key_sha256, blocked_at) VALUES ($1, $2) \
        ON CONFLICT (key_sha256) DO NOTHING RETURNING key_sha256";
    KEY_IS_FREE = "SELECT 1 WHERE ", key_is_free!("$1", "$2");
    KEY_IS_BLOCKED = "SELECT key_sha256 FROM blocked_keys WHERE key_sha256 = $1";
    UNSETTLED_KEYS = "SELECT key_sha256 FROM blocked_keys WHERE settled_at IS NULL \
        ORDER BY blocked_at, key_sha256 LIMIT $1";
    SETTLE_KEY = "UPDATE blocked_keys SET settled_at = $2 \
        WHERE key_sha256 = $1 AND settled_at IS NULL AND blocked_at <= $3 \
        AND NOT EXISTS (SELECT 1 FROM certificates k WHERE ", left!(), ") RETURNING key_sha256";
    COMPROMISE_CERTIFICATE = "UPDATE certificates SET revoked_at = $2, revocation_reason = 1 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NULL RETURNING serial";
    /// The date of the revocation stays.
    RAISE_REASON = "UPDATE certificates SET revocation_reason = 1, reason_raised_at = $2 \
        WHERE serial = $1 AND der IS NOT NULL AND revoked_at IS NOT NULL AND revocation_reason <> 1 RETURNING serial";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] = &[(COMPROMISE_CERTIFICATE, None), (RAISE_REASON, None)];

/// What a page of the job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Revokes what is not revoked.
    Revoke,
    /// Raises the reason of what is.
    Raise,
}

impl Page {
    /// At most `$3` certificates of key `$1`; those that another replica is at work on are passed over. What is expected of
    /// a row is said once more as one truth value, so that it is looked for by its serial alone.
    fn statement(self, dialect: Dialect) -> String {
        let (name, set, state) = match self {
            Self::Revoke => ("REVOKE_CERTIFICATES_OF_KEY", "revoked_at = $2", "IS NULL"),
            Self::Raise => ("RAISE_REASONS_OF_KEY", "reason_raised_at = $2", "IS NOT NULL"),
        };
        let lock = if dialect == Dialect::Postgres { dialect::SKIP_LOCKED } else { "" };
        format!(
            concat!(
                "-- {name}\nUPDATE certificates SET {set}, revocation_reason = 1 WHERE serial IN \
                 (SELECT k.serial FROM certificates k WHERE ",
                left!(),
                " AND k.revoked_at {state} ORDER BY k.not_after LIMIT $3{lock}) \
                 AND (revoked_at {state} AND COALESCE(revocation_reason, 0) <> 1) IS TRUE \
                 RETURNING serial AS id, account_id, order_id"
            ),
            name = name,
            set = set,
            state = state,
            lock = lock
        )
    }

    const fn action(self) -> Action {
        match self {
            Self::Revoke => Action::CertificateRevoked,
            Self::Raise => Action::CertificateReasonRaised,
        }
    }
}

/// The statements that are written from counts or dialects, with their events on Postgres.
pub(super) fn page_statements(dialect: Dialect) -> Vec<(&'static str, String)> {
    let text = |page: Page| match dialect {
        Dialect::Postgres => audit::audited_statement(&page.statement(dialect), Some(PerRow::Certificate)),
        Dialect::Sqlite => page.statement(dialect),
    };
    vec![("REVOKE_CERTIFICATES_OF_KEY", text(Page::Revoke)), ("RAISE_REASONS_OF_KEY", text(Page::Raise))]
}

/// What became of the certificate whose key gave itself up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compromised {
    /// It is revoked now.
    Revoked,
    /// It was revoked for another reason, and is so as compromised now.
    Raised,
    /// It was revoked as compromised already.
    Already,
}

impl Store {
    /// Blocks the key of `certificate`, and revokes the certificate or raises the reason of its revocation: all or
    /// nothing. The key's other certificates follow by [`Self::revoke_certificates_of`].
    pub async fn compromise(
        &self,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Result<Compromised, StorageError> {
        let event = |action| {
            let event = self.event(action).account(&certificate.account_id);
            event.order(&certificate.order_id).serial(&certificate.serial)
        };
        let key = &certificate.key_sha256;
        let block = parameters![key, now];
        let change = || parameters![&certificate.serial, now];
        let (revoke, raise) = (change(), change());
        let detail =
            json!({"reason": RevocationReason::KeyCompromise.code(), "key_blocked": true, "key_sha256": key});
        let revoked = event(Action::CertificateRevoked).detail(detail.clone());
        let raised = event(Action::CertificateReasonRaised).detail(detail);
        let blocked = event(Action::CertificateKeyBlocked).detail(json!({"key_sha256": key}));
        let dialect = self.dialect;
        let done = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                let blocks = !run(connection, BLOCK_KEY.into(), block).await?.is_empty();
                if run_audited(connection, dialect, COMPROMISE_CERTIFICATE, revoke, &revoked).await? {
                    return Ok((Compromised::Revoked, Some(revoked)));
                }
                if run_audited(connection, dialect, RAISE_REASON, raise, &raised).await? {
                    return Ok((Compromised::Raised, Some(raised)));
                }
                if !blocks {
                    return Ok((Compromised::Already, None));
                }
                audit::append(connection, dialect, &blocked).await?;
                Ok((Compromised::Already, Some(blocked)))
            })
        }));
        let (compromised, event) = done.await?;
        event.iter().for_each(audit::log);
        Ok(compromised)
    }

    /// Whether a key was shown to be compromised, and gets no certificate and no account (CRT-05).
    pub async fn key_is_blocked(&self, key_sha256: &str) -> Result<bool, StorageError> {
        Ok(!self.read(KEY_IS_BLOCKED, parameters![key_sha256]).await?.is_empty())
    }

    /// Whether `account` may have a certificate for a key: it is not blocked, and the account has not called it
    /// compromised itself.
    pub async fn key_is_free(&self, key_sha256: &str, account: &AccountId) -> Result<bool, StorageError> {
        Ok(!self.read(KEY_IS_FREE, parameters![key_sha256, account]).await?.is_empty())
    }

    /// At most `limit` keys of which certificates may be left to revoke, those first that wait for longest.
    pub async fn unsettled_keys(&self, limit: i64) -> Result<Vec<String>, StorageError> {
        let rows = self.read(UNSETTLED_KEYS, parameters![limit]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Revokes at most `limit` certificates of a blocked key that have not ended, or raises the reasons of so many that
    /// were revoked for another one. Answers how many it changed; fewer than `limit` if no more are left to this replica.
    pub async fn revoke_certificates_of(
        &self,
        key_sha256: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<usize, StorageError> {
        let revoked = self.page(Page::Revoke, key_sha256, now, limit).await?;
        if revoked > 0 {
            return Ok(revoked);
        }
        self.page(Page::Raise, key_sha256, now, limit).await
    }

    async fn page(
        &self,
        page: Page,
        key_sha256: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<usize, StorageError> {
        let (dialect, text) = (self.dialect, page.statement(self.dialect));
        let values = parameters![key_sha256, now, i64::from(limit)];
        let event = self.event(page.action()).detail(json!({
            "reason": RevocationReason::KeyCompromise.code(),
            "cause": "its key was compromised",
            "key_sha256": key_sha256,
        }));
        let events = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                run_audited_each(connection, dialect, text, values, &event, PerRow::Certificate).await
            })
        }));
        let events = events.await?;
        events.iter().for_each(audit::log);
        Ok(events.len())
    }

    /// Records that nothing is left to revoke of a key that was blocked at or before `blocked_by`; `false` if something
    /// is, or the key was blocked later, or is settled.
    pub async fn settle_key(
        &self,
        key_sha256: &str,
        now: Timestamp,
        blocked_by: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.write(SETTLE_KEY, parameters![key_sha256, now, blocked_by]).await?.is_empty())
    }
}
