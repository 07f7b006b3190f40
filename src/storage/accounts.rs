//! Accounts (RFC 8555 §7.3), and the read that begins every signed request: the account together with the resource
//! that the request is about, in one statement.

use super::row::{
    self, ACCOUNT_COLUMNS, account_columns, authorization_columns, certificate_columns, order_columns,
};
use super::statement::{Parameter, parameters, run, statements};
use super::{StorageError, Store};
use crate::acme::account::Account;
use crate::acme::authorization::Authorization;
use crate::acme::certificate::{Certificate, Serial};
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::order::Order;

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
        VALUES ($1, $2, $3, 'valid', $4, $5, $6, $7, $8, $9) ON CONFLICT (key_thumbprint) DO NOTHING RETURNING id";
    UPDATE_CONTACTS = "UPDATE accounts SET contacts = $2 WHERE id = $1 AND status = 'valid' RETURNING id";
    DEACTIVATE_ACCOUNT =
        "UPDATE accounts SET status = 'deactivated' WHERE id = $1 AND status = 'valid' RETURNING id";
    DEACTIVATE_AUTHORIZATIONS = "UPDATE authorizations SET outcome = 'deactivated', lease_token = NULL, \
        lease_until = NULL WHERE account_id = $1 AND outcome IN ('pending', 'valid')";
    END_ORDERS = "UPDATE orders SET progress = 'invalid', error = $2 WHERE account_id = $1 AND progress = 'open'";
    CHANGE_KEY = "UPDATE accounts SET key_thumbprint = $3, jwk = $4 \
        WHERE id = $1 AND key_thumbprint = $2 AND status = 'valid' RETURNING id";
}

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

    /// Makes an account; `false` if its key has one already, whoever came first (ACC-02). One that is bound to an
    /// external account is made by [`Self::insert_bound_account`].
    pub async fn insert_account(&self, account: &Account) -> Result<bool, StorageError> {
        Ok(!self.write(INSERT_ACCOUNT, account_parameters(account)).await?.is_empty())
    }

    /// Replaces a valid account's contacts (RFC 8555 §7.3.2); `false` if it is not valid.
    pub async fn update_contacts(&self, id: &AccountId, contacts: &[String]) -> Result<bool, StorageError> {
        Ok(!self.write(UPDATE_CONTACTS, parameters![id, contacts_json(contacts)]).await?.is_empty())
    }

    /// Deactivates a valid account and ends what it has open (RFC 8555 §7.3.6); `false` if it is not valid. `error` is
    /// what its open orders then say, as a problem document.
    pub async fn deactivate_account(&self, id: &AccountId, error: String) -> Result<bool, StorageError> {
        let id = id.clone();
        self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if run(connection, DEACTIVATE_ACCOUNT.into(), parameters![&id]).await?.is_empty() {
                    return Ok(false);
                }
                run(connection, DEACTIVATE_AUTHORIZATIONS.into(), parameters![&id]).await?;
                run(connection, END_ORDERS.into(), parameters![&id, error]).await?;
                Ok(true)
            })
        }))
        .await
    }

    /// Replaces the key of a valid account that still has the old one (RFC 8555 §7.3.5); `false` if it has not.
    /// `UniqueViolation` if the new key has an account (KEY-02).
    pub async fn change_key(
        &self,
        id: &AccountId,
        old_thumbprint: &str,
        new_thumbprint: &str,
        new_jwk: &str,
    ) -> Result<bool, StorageError> {
        let values = parameters![id, old_thumbprint, new_thumbprint, new_jwk];
        Ok(!self.write(CHANGE_KEY, values).await?.is_empty())
    }
}

/// What [`INSERT_ACCOUNT`] takes.
pub(super) fn account_parameters(account: &Account) -> Vec<Parameter> {
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
        external.map(|external| external.binding.to_string())
    ]
}

fn contacts_json(contacts: &[String]) -> String {
    serde_json::Value::from(contacts.to_vec()).to_string()
}
