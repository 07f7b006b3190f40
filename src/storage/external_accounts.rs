//! Keys of external accounts (RFC 8555 §7.3.4), and the accounts that they bind. Secrets come here sealed.

use serde_json::json;
use sqlx::Row;

use super::accounts::{INSERT_ACCOUNT, account_parameters};
use super::audit::{self, PerRow, append, run_audited};
use super::row::{self, EXTERNAL_ACCOUNT_KEY_COLUMNS, external_account_key_columns};
use super::statement::{parameters, run, statements};
use super::{StorageError, Store};
use crate::acme::account::Account;
use crate::acme::audit::{Action, Actor};
use crate::acme::external_account::{ExternalAccount, ExternalAccountKey};
use crate::acme::id::ExternalAccountKid;
use crate::acme::time::Timestamp;

statements! {
    INSERT_EXTERNAL_ACCOUNT_KEY = "INSERT INTO external_account_keys \
        (kid, sealed_secret, profile, uses_left, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING kid";
    EXTERNAL_ACCOUNT_KEY = "SELECT ", external_account_key_columns!(), ", k.sealed_secret \
        FROM external_account_keys k WHERE k.kid = $1";
    LATEST_EXTERNAL_ACCOUNT_KEY = "SELECT ", external_account_key_columns!(), ", k.sealed_secret \
        FROM external_account_keys k WHERE k.revoked_at IS NULL AND k.kid > '' \
        ORDER BY k.kid DESC LIMIT 1";
    EXTERNAL_ACCOUNT_KEYS = "SELECT ", external_account_key_columns!(), ", \
        (SELECT COUNT(*) FROM accounts a WHERE a.external_account_kid = k.kid) \
        FROM external_account_keys k WHERE k.kid > $1 ORDER BY k.kid LIMIT $2";
    REVOKE_EXTERNAL_ACCOUNT_KEY = "UPDATE external_account_keys SET revoked_at = $2 \
        WHERE kid = $1 AND revoked_at IS NULL RETURNING kid";
    USE_EXTERNAL_ACCOUNT_KEY = "UPDATE external_account_keys SET uses_left = uses_left - 1 \
        WHERE kid = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) \
        AND (uses_left IS NULL OR uses_left > 0) RETURNING kid";
    GIVE_BACK_EXTERNAL_ACCOUNT_KEY = "UPDATE external_account_keys SET uses_left = uses_left + 1 WHERE kid = $1";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] =
    &[(INSERT_EXTERNAL_ACCOUNT_KEY, None), (REVOKE_EXTERNAL_ACCOUNT_KEY, None)];

/// How the making of a bound account ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The account is there, and one use of its key is gone.
    Made,
    /// The account's key has an account already, or is blocked; nothing was used.
    KeyNotFree,
    /// The external account key binds no further account; nothing was made.
    NoUseLeft,
}

impl Store {
    /// Keeps a new key.
    pub async fn insert_external_account_key(
        &self,
        key: &ExternalAccountKey,
        sealed_secret: Vec<u8>,
    ) -> Result<(), StorageError> {
        let uses_left = key.uses_left.map(|uses| i64::try_from(uses).unwrap_or(i64::MAX));
        let values = parameters![
            &key.kid,
            sealed_secret,
            key.profile.clone(),
            uses_left,
            key.expires_at,
            key.created_at
        ];
        let event = self.event(Action::ExternalAccountKeyCreated).detail(json!({
            "kid": key.kid.as_str(),
            "profile": key.profile,
            "uses": key.uses_left,
            "expires_at": key.expires_at.map(|at| at.to_string()),
        }));
        self.write_audited(INSERT_EXTERNAL_ACCOUNT_KEY, values, event).await.map(|_| ())
    }

    /// A key and its sealed secret.
    pub async fn external_account_key(
        &self,
        kid: &ExternalAccountKid,
    ) -> Result<Option<(ExternalAccountKey, Vec<u8>)>, StorageError> {
        self.read(EXTERNAL_ACCOUNT_KEY, parameters![kid]).await?.first().map(key_and_secret).transpose()
    }

    /// The newest key that was not revoked, and its sealed secret.
    pub async fn latest_external_account_key(
        &self,
    ) -> Result<Option<(ExternalAccountKey, Vec<u8>)>, StorageError> {
        self.read(LATEST_EXTERNAL_ACCOUNT_KEY, vec![]).await?.first().map(key_and_secret).transpose()
    }

    /// A page of keys, oldest first, each with the number of accounts that it has bound: at most `limit` that come
    /// after `after`.
    pub async fn external_account_keys(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(ExternalAccountKey, i64)>, StorageError> {
        let rows = self.read(EXTERNAL_ACCOUNT_KEYS, parameters![after, limit]).await?;
        let read = |row| Ok((row::external_account_key(row)?, row.try_get(EXTERNAL_ACCOUNT_KEY_COLUMNS)?));
        rows.iter().map(read).collect()
    }

    /// Withdraws a key: it binds no further account, and its accounts stay. `false` if there is none; a repeat changes
    /// nothing.
    pub async fn revoke_external_account_key(
        &self,
        kid: &ExternalAccountKid,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let event = self.event(Action::ExternalAccountKeyRevoked).detail(json!({"kid": kid.as_str()}));
        let revoked = self.write_audited(REVOKE_EXTERNAL_ACCOUNT_KEY, parameters![kid, now], event).await?;
        Ok(revoked || self.external_account_key(kid).await?.is_some())
    }

    /// Makes an account that is bound to `external`, and uses its key once: both or neither (EAB-03). Of replicas that
    /// race for a key's last use, the first to update its row wins.
    pub async fn insert_bound_account(
        &self,
        account: &Account,
        key_sha256: &str,
        external: &ExternalAccount,
        now: Timestamp,
    ) -> Result<Bound, StorageError> {
        let kid = external.kid.clone();
        let values = account_parameters(account, key_sha256);
        let created = self.account_created(account);
        let used = self.event(Action::ExternalAccountKeyUsed).account(&account.id);
        let used = used.by(&Actor::Account(account.id.clone())).detail(json!({"kid": kid.as_str()}));
        let (dialect, events) = (self.dialect, [used.clone(), created.clone()]);
        let bound = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if run(connection, USE_EXTERNAL_ACCOUNT_KEY.into(), parameters![&kid, now]).await?.is_empty()
                {
                    return Ok(Bound::NoUseLeft);
                }
                if !run_audited(connection, dialect, INSERT_ACCOUNT, values, &created).await? {
                    run(connection, GIVE_BACK_EXTERNAL_ACCOUNT_KEY.into(), parameters![&kid]).await?;
                    return Ok(Bound::KeyNotFree);
                }
                append(connection, dialect, &used).await?;
                Ok(Bound::Made)
            })
        }));
        let bound = bound.await?;
        if bound == Bound::Made {
            events.iter().for_each(audit::log);
        }
        Ok(bound)
    }
}

fn key_and_secret(row: &sqlx::any::AnyRow) -> Result<(ExternalAccountKey, Vec<u8>), StorageError> {
    Ok((row::external_account_key(row)?, row.try_get(EXTERNAL_ACCOUNT_KEY_COLUMNS)?))
}
