//! Accounts (RFC 8555 §7.3), and the read that begins every signed request: the account together with the resource
//! that the request is about, in one statement.

use serde_json::json;

use super::audit::PerRow;
use super::row::{
    self, ACCOUNT_COLUMNS, account_columns, authorization_columns, certificate_columns, order_columns,
};
use super::statement::{Parameter, parameters, statements};
use super::{StorageError, Store};
use crate::acme::account::Account;
use crate::acme::audit::{Action, Actor, Event};
use crate::acme::authorization::Authorization;
use crate::acme::certificate::{Certificate, Serial};
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::order::Order;
use crate::acme::time::Timestamp;

/// Whether account `$account` is valid. All that hangs on an account ends with it, and what is written for it asks.
macro_rules! account_is_valid {
    ($account:literal) => {
        concat!("(SELECT v.status FROM accounts v WHERE v.id = ", $account, ") = 'valid'")
    };
}
pub(super) use account_is_valid;

statements! {
    ACCOUNT = "SELECT ", account_columns!(), " FROM accounts a WHERE a.id = $1";
    ACCOUNT_BY_KEY = "SELECT ", account_columns!(), " FROM accounts a WHERE a.key_thumbprint = $1";
    ACCOUNT_AND_ORDER = "SELECT ", account_columns!(), ", ", order_columns!(), " FROM accounts a \
        LEFT JOIN orders o ON o.id = $2 LEFT JOIN order_authorizations l ON l.order_id = o.id \
        LEFT JOIN authorizations z ON z.id = l.authorization_id WHERE a.id = $1 ORDER BY l.position";
    ACCOUNT_AND_AUTHORIZATION = "SELECT ", account_columns!(), ", ", authorization_columns!(), " FROM accounts a \
        LEFT JOIN authorizations z ON z.id = $2 WHERE a.id = $1";
    ACCOUNT_AND_CERTIFICATE = "SELECT ", account_columns!(), ", ", certificate_columns!(), " FROM accounts a \
        LEFT JOIN certificates c ON c.serial = $2 AND c.der IS NOT NULL WHERE a.id = $1";
    INSERT_ACCOUNT = "INSERT INTO accounts (id, key_thumbprint, jwk, status, contacts, terms_agreed_at, created_at, \
        external_account_kid, external_account_profile, external_account_binding) \
        SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), 'valid', CAST($4 AS TEXT), CAST($5 AS BIGINT), \
        CAST($6 AS BIGINT), CAST($7 AS TEXT), CAST($8 AS TEXT), CAST($9 AS TEXT) \
        WHERE NOT EXISTS (SELECT 1 FROM blocked_keys WHERE key_sha256 = $10) \
        ON CONFLICT (key_thumbprint) DO NOTHING RETURNING id";
    UPDATE_CONTACTS = "UPDATE accounts SET contacts = $2 \
        WHERE id = $1 AND status = 'valid' AND contacts <> $2 RETURNING id";
    DEACTIVATE_ACCOUNT = "UPDATE accounts SET status = 'deactivated', untidied_since = $2 \
        WHERE id = $1 AND status = 'valid' RETURNING id";
    CHANGE_KEY = "UPDATE accounts SET key_thumbprint = $3, jwk = $4 \
        WHERE id = $1 AND key_thumbprint = $2 AND status = 'valid' \
        AND NOT EXISTS (SELECT 1 FROM blocked_keys WHERE key_sha256 = $5) RETURNING id";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] =
    &[(INSERT_ACCOUNT, None), (UPDATE_CONTACTS, None), (DEACTIVATE_ACCOUNT, None), (CHANGE_KEY, None)];

impl Store {
    /// An account by its name.
    pub async fn account(&self, id: &AccountId) -> Result<Option<Account>, StorageError> {
        self.read(ACCOUNT, parameters![id]).await?.first().map(row::account).transpose()
    }

    /// An account by its key's thumbprint (RFC 8555 §7.3.1).
    pub async fn account_by_key(&self, thumbprint: &str) -> Result<Option<Account>, StorageError> {
        self.read(ACCOUNT_BY_KEY, parameters![thumbprint]).await?.first().map(row::account).transpose()
    }

    /// An account, and an order of anyone's.
    pub async fn account_and_order(
        &self,
        account: &AccountId,
        order: &OrderId,
    ) -> Result<Option<(Account, Option<Order>)>, StorageError> {
        let rows = self.read(ACCOUNT_AND_ORDER, parameters![account, order]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        Ok(Some((row::account(first)?, row::order(&rows, ACCOUNT_COLUMNS)?)))
    }

    /// An account, and an authorization of anyone's.
    pub async fn account_and_authorization(
        &self,
        account: &AccountId,
        authorization: &AuthorizationId,
    ) -> Result<Option<(Account, Option<Authorization>)>, StorageError> {
        let rows = self.read(ACCOUNT_AND_AUTHORIZATION, parameters![account, authorization]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        Ok(Some((row::account(first)?, row::authorization(first, ACCOUNT_COLUMNS)?)))
    }

    /// An account, and an issued certificate of anyone's.
    pub async fn account_and_certificate(
        &self,
        account: &AccountId,
        serial: &Serial,
    ) -> Result<Option<(Account, Option<Certificate>)>, StorageError> {
        let rows = self.read(ACCOUNT_AND_CERTIFICATE, parameters![account, serial]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        Ok(Some((row::account(first)?, row::certificate(first, ACCOUNT_COLUMNS)?)))
    }

    /// Makes an account whose key has this SHA-256; `false` if the key has one already, whoever came first (ACC-02), or is
    /// blocked (CRT-05). One that is bound to an external account is made by [`Self::insert_bound_account`].
    pub async fn insert_account(&self, account: &Account, key_sha256: &str) -> Result<bool, StorageError> {
        let event = self.account_created(account);
        self.write_audited(INSERT_ACCOUNT, account_parameters(account, key_sha256), event).await
    }

    /// Replaces a valid account's contacts (RFC 8555 §7.3.2); `false` if it is not valid, or they are these already.
    pub async fn update_contacts(&self, id: &AccountId, contacts: &[String]) -> Result<bool, StorageError> {
        let event = self.event(Action::AccountContactsChanged).account(id);
        let event = event.detail(json!({"contacts": contacts.len()}));
        self.write_audited(UPDATE_CONTACTS, parameters![id, contacts_json(contacts)], event).await
    }

    /// Deactivates a valid account (RFC 8555 §7.3.6); `false` if it is not valid. What it has open is over by that, and is
    /// ended on record by the sweeper ([`Self::end_hanging`]).
    pub async fn deactivate_account(&self, id: &AccountId, now: Timestamp) -> Result<bool, StorageError> {
        let event = self.event(Action::AccountDeactivated).account(id);
        self.write_audited(DEACTIVATE_ACCOUNT, parameters![id, now], event).await
    }

    /// An account makes itself, by its key.
    pub(super) fn account_created(&self, account: &Account) -> Event {
        let event = self.event(Action::AccountCreated).account(&account.id);
        event.by(&Actor::Account(account.id.clone())).detail(json!({
            "key": account.key_thumbprint,
            "contacts": account.contacts.len(),
            "terms_agreed": account.terms_agreed_at.is_some(),
            "external_account_key": account.external_account.as_ref().map(|external| external.kid.as_str()),
        }))
    }

    /// Replaces the key of a valid account that still has the old one (RFC 8555 §7.3.5); `false` if it has not, or if the
    /// new key, whose SHA-256 is `new_key_sha256`, is blocked (CRT-05). `UniqueViolation` if the new key has an account (KEY-02).
    pub async fn change_key(
        &self,
        id: &AccountId,
        old_thumbprint: &str,
        new_thumbprint: &str,
        new_jwk: &str,
        new_key_sha256: &str,
    ) -> Result<bool, StorageError> {
        let values = parameters![id, old_thumbprint, new_thumbprint, new_jwk, new_key_sha256];
        let event = self.event(Action::AccountKeyChanged).account(id);
        let event = event.detail(json!({"old_key": old_thumbprint, "new_key": new_thumbprint}));
        self.write_audited(CHANGE_KEY, values, event).await
    }
}

/// What [`INSERT_ACCOUNT`] takes.
pub(super) fn account_parameters(account: &Account, key_sha256: &str) -> Vec<Parameter> {
    let external = account.external_account.as_ref();
    parameters![
        &account.id,
        &account.key_thumbprint,
        &account.jwk,
        contacts_json(&account.contacts),
        account.terms_agreed_at,
        account.created_at,
        external.map(|external| external.kid.to_string()),
        external.and_then(|external| external.profile.clone()),
        external.map(|external| external.binding.to_string()),
        key_sha256
    ]
}

fn contacts_json(contacts: &[String]) -> String {
    serde_json::Value::from(contacts.to_vec()).to_string()
}
