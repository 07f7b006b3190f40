//! Rows become values here, and nowhere else. A row that breaks a rule is a named error, never a guess.

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::error::StorageError;
use crate::acme::account::{Account, AccountStatus};
use crate::acme::authorization::{Authorization, Outcome};
use crate::acme::certificate::{Certificate, Content, Revocation, RevocationReason, Serial};
use crate::acme::challenge::ChallengeType;
use crate::acme::external_account::{ExternalAccount, ExternalAccountKey};
use crate::acme::id::{AccountId, AuthorizationId, ExternalAccountKid, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::order::{Order, OrderAuthorization, Progress};
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;

/// The columns of an account, to be read at offset 0 of a row.
macro_rules! account_columns {
    () => {
        "a.id, a.key_thumbprint, a.jwk, a.status, a.contacts, a.terms_agreed_at, a.created_at, a.external_account_kid, \
         a.external_account_profile, a.external_account_binding"
    };
}
/// How many they are.
pub(super) const ACCOUNT_COLUMNS: usize = 10;

/// The columns of an authorization.
macro_rules! authorization_columns {
    () => {
        "z.id, z.account_id, z.profile, z.identifier_type, z.identifier_value, z.wildcard, z.outcome, z.expires_at, \
         z.token, z.challenge_types, z.attempted, z.validated_at, z.error, z.created_at"
    };
}
/// How many they are.
pub(super) const AUTHORIZATION_COLUMNS: usize = 14;

/// The columns of an order and of one of its authorizations.
macro_rules! order_columns {
    () => {
        "o.id, o.account_id, o.profile, o.identifiers, o.not_before, o.not_after, o.replaces, o.created_at, \
         o.expires_at, o.progress, o.error, o.serial, o.exempt, z.id, z.outcome, z.expires_at, z.validated_at, \
         z.attempted, z.error"
    };
}

/// The columns of a certificate.
macro_rules! certificate_columns {
    () => {
        "c.serial, c.order_id, c.account_id, c.profile, c.issuer_id, c.identifiers, c.key_sha256, c.public_key, \
         c.not_before, c.not_after, c.content, c.der, c.issued_at, c.revoked_at, c.revocation_reason"
    };
}

/// The columns of an external account key but its secret, to be read at offset 0 of a row.
macro_rules! external_account_key_columns {
    () => {
        "k.kid, k.profile, k.uses_left, k.expires_at, k.revoked_at, k.created_at"
    };
}
/// How many they are.
pub(super) const EXTERNAL_ACCOUNT_KEY_COLUMNS: usize = 6;

pub(super) use {
    account_columns, authorization_columns, certificate_columns, external_account_key_columns, order_columns,
};

/// Reads the columns of one table from a row, one after the other.
struct Columns<'r> {
    row: &'r AnyRow,
    at: usize,
    table: &'static str,
    key: String,
}

impl<'r> Columns<'r> {
    /// `None` if the key at `at` is NULL: the outer join found nothing.
    fn start(row: &'r AnyRow, at: usize, table: &'static str) -> Result<Option<Self>, StorageError> {
        let key: Option<String> = row.try_get(at)?;
        Ok(key.map(|key| Self { row, at, table, key }))
    }

    fn next<T>(&mut self) -> Result<T, StorageError>
    where
        T: sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>,
    {
        let value = self.row.try_get(self.at)?;
        self.at += 1;
        Ok(value)
    }

    fn corrupt(&self, column: &'static str) -> StorageError {
        StorageError::Corrupt { table: self.table, column, row: self.key.clone() }
    }

    /// Reads a text and turns it into a value.
    fn parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StorageError> {
        let text: String = self.next()?;
        parse(&text).ok_or_else(|| self.corrupt(column))
    }

    fn parsed_option<T>(
        &mut self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        let text: Option<String> = self.next()?;
        text.map(|text| parse(&text).ok_or_else(|| self.corrupt(column))).transpose()
    }

    fn time(&mut self) -> Result<Timestamp, StorageError> {
        self.next().map(Timestamp::from_micros)
    }

    fn time_option(&mut self) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.next::<Option<i64>>()?.map(Timestamp::from_micros))
    }
}

fn problem(text: &str) -> Option<Problem> {
    Problem::from_json(&serde_json::from_str(text).ok()?)
}

/// Identifiers as they are stored: `[["dns","a.test"],…]`.
pub(super) fn write_identifiers(identifiers: &[Identifier]) -> String {
    Value::from_iter(identifiers.iter().map(|i| json!([i.kind(), i.value()]))).to_string()
}

fn read_identifiers(text: &str) -> Option<Vec<Identifier>> {
    let pairs: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    pairs.iter().map(|(kind, value)| Identifier::parse(kind, value).ok()).collect()
}

/// Challenge types as they are stored: separated by spaces.
pub(super) fn write_challenge_types(types: &[ChallengeType]) -> String {
    types.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
}

fn read_challenge_types(text: &str) -> Option<Vec<ChallengeType>> {
    text.split_whitespace().map(ChallengeType::parse).collect()
}

/// Reads an account at the front of a row.
pub(super) fn account(row: &AnyRow) -> Result<Account, StorageError> {
    let mut columns = Columns { row, at: 0, table: "accounts", key: row.try_get(0)? };
    Ok(Account {
        id: columns.parsed("id", AccountId::parse)?,
        key_thumbprint: columns.next()?,
        jwk: columns.next()?,
        status: columns.parsed("status", AccountStatus::parse)?,
        contacts: columns.parsed("contacts", |text| serde_json::from_str(text).ok())?,
        terms_agreed_at: columns.time_option()?,
        created_at: columns.time()?,
        external_account: {
            let kid = columns.parsed_option("external_account_kid", ExternalAccountKid::parse)?;
            let profile = columns.next()?;
            let binding = columns
                .parsed_option("external_account_binding", |text| serde_json::from_str::<Value>(text).ok())?;
            match (kid, binding) {
                (None, _) => None,
                (Some(kid), Some(binding)) => Some(ExternalAccount { kid, profile, binding }),
                (Some(_), None) => return Err(columns.corrupt("external_account_binding")),
            }
        },
    })
}

/// Reads an external account key at the front of a row.
pub(super) fn external_account_key(row: &AnyRow) -> Result<ExternalAccountKey, StorageError> {
    let mut columns = Columns { row, at: 0, table: "external_account_keys", key: row.try_get(0)? };
    Ok(ExternalAccountKey {
        kid: columns.parsed("kid", ExternalAccountKid::parse)?,
        profile: columns.next()?,
        uses_left: match columns.next::<Option<i64>>()? {
            None => None,
            Some(uses) => Some(u64::try_from(uses).map_err(|_| columns.corrupt("uses_left"))?),
        },
        expires_at: columns.time_option()?,
        revoked_at: columns.time_option()?,
        created_at: columns.time()?,
    })
}

/// Reads an authorization at `at`, if there is one.
pub(super) fn authorization(row: &AnyRow, at: usize) -> Result<Option<Authorization>, StorageError> {
    let Some(mut columns) = Columns::start(row, at, "authorizations")? else { return Ok(None) };
    Ok(Some(Authorization {
        id: columns.parsed("id", AuthorizationId::parse)?,
        account_id: columns.parsed("account_id", AccountId::parse)?,
        profile: columns.next()?,
        identifier: {
            let kind: String = columns.next()?;
            columns.parsed("identifier_value", |value| Identifier::parse(&kind, value).ok())?
        },
        wildcard: columns.next::<i64>()? != 0,
        outcome: columns.parsed("outcome", Outcome::parse)?,
        expires_at: columns.time()?,
        token: columns.next()?,
        challenge_types: columns.parsed("challenge_types", read_challenge_types)?,
        attempted: columns.parsed_option("attempted", ChallengeType::parse)?,
        validated_at: columns.time_option()?,
        error: columns.parsed_option("error", problem)?,
        created_at: columns.time()?,
    }))
}

/// Reads an order from the rows that join it with its authorizations; `at` is where its columns begin.
pub(super) fn order(rows: &[AnyRow], at: usize) -> Result<Option<Order>, StorageError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let Some(mut columns) = Columns::start(first, at, "orders")? else { return Ok(None) };
    let mut order = Order {
        id: columns.parsed("id", OrderId::parse)?,
        account_id: columns.parsed("account_id", AccountId::parse)?,
        profile: columns.next()?,
        identifiers: columns.parsed("identifiers", read_identifiers)?,
        not_before: columns.time_option()?,
        not_after: columns.time_option()?,
        replaces: columns.next()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        progress: columns.parsed("progress", Progress::parse)?,
        error: columns.parsed_option("error", problem)?,
        serial: columns.parsed_option("serial", Serial::parse)?,
        exempt: columns.next::<i64>()? != 0,
        authorizations: Vec::with_capacity(rows.len()),
    };
    let joined = columns.at;
    for row in rows {
        let Some(mut columns) = Columns::start(row, joined, "authorizations")? else { continue };
        order.authorizations.push(OrderAuthorization {
            id: columns.parsed("id", AuthorizationId::parse)?,
            outcome: columns.parsed("outcome", Outcome::parse)?,
            expires_at: columns.time()?,
            validated_at: columns.time_option()?,
            attempted: columns.parsed_option("attempted", ChallengeType::parse)?,
            error: columns.parsed_option("error", problem)?,
        });
    }
    // Were one missing, the order could look ready without its proof.
    if order.authorizations.len() != order.identifiers.len() {
        return Err(StorageError::Corrupt {
            table: "orders",
            column: "authorizations",
            row: order.id.to_string(),
        });
    }
    Ok(Some(order))
}

/// Reads a certificate at `at`, if there is one.
pub(super) fn certificate(row: &AnyRow, at: usize) -> Result<Option<Certificate>, StorageError> {
    let Some(mut columns) = Columns::start(row, at, "certificates")? else { return Ok(None) };
    Ok(Some(Certificate {
        serial: columns.parsed("serial", Serial::parse)?,
        order_id: columns.parsed("order_id", OrderId::parse)?,
        account_id: columns.parsed("account_id", AccountId::parse)?,
        profile: columns.next()?,
        issuer_id: columns.next()?,
        identifiers: columns.parsed("identifiers", read_identifiers)?,
        key_sha256: columns.next()?,
        public_key: columns.next()?,
        not_before: columns.time()?,
        not_after: columns.time()?,
        content: columns.parsed_option("content", Content::parse)?,
        der: columns.next()?,
        issued_at: columns.time_option()?,
        revocation: {
            let at = columns.time_option()?;
            let reason = columns.next::<Option<i64>>()?.and_then(RevocationReason::from_code);
            match (at, reason) {
                (None, _) => None,
                (Some(at), Some(reason)) => Some(Revocation { at, reason }),
                (Some(_), None) => return Err(columns.corrupt("revocation_reason")),
            }
        },
    }))
}
