//! Orders (RFC 8555 §7.4): placed with their authorizations in one write, read with them in one statement.

use super::row::{self, order_columns, write_challenge_types, write_identifiers};
use super::statement::{Parameter, parameters, run, statements};
use super::{Dialect, StorageError, Store, placeholders};
use crate::acme::authorization::Authorization;
use crate::acme::certificate::Serial;
use crate::acme::id::{AccountId, OrderId};
use crate::acme::order::{Order, OrderAuthorization};
use crate::acme::time::Timestamp;

statements! {
    ORDER = "SELECT ", order_columns!(), " FROM orders o \
        LEFT JOIN order_authorizations l ON l.order_id = o.id \
        LEFT JOIN authorizations z ON z.id = l.authorization_id WHERE o.id = $1 ORDER BY l.position";
    ORDERS_OF_ACCOUNT = "SELECT o.id FROM orders o WHERE o.account_id = $1 AND o.id > $2 AND o.progress <> 'invalid' \
        AND (o.progress = 'valid' OR o.expires_at > $4) ORDER BY o.id LIMIT $3";
    REPLACE_CERTIFICATE = "UPDATE certificates SET replaced_by = $2 \
        WHERE serial = $1 AND (replaced_by IS NULL OR replaced_by = $3) RETURNING serial";
}

const ORDER_COLUMNS: &str =
    "id, account_id, profile, identifiers, not_before, not_after, replaces, created_at, expires_at, progress";
const AUTHORIZATION_COLUMNS: &str = "id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, \
     created_at, expires_at, token, challenge_types";

/// What placing an order writes.
#[derive(Debug)]
pub struct NewOrderRows {
    /// The order; its `authorizations` name new and reused ones alike.
    pub order: Order,
    /// Those of its authorizations that are new.
    pub authorizations: Vec<Authorization>,
    /// The certificate that it replaces, and the dead order that claimed to do so before, if one did (RFC 9773 §5).
    pub replaces: Option<(Serial, Option<OrderId>)>,
}

/// The statements that place an order with `new` new authorizations and `all` in all: one on Postgres, three on SQLite.
pub(super) fn insert_statements(dialect: Dialect, new: usize, all: usize) -> Vec<String> {
    let order = |from| format!("INSERT INTO orders ({ORDER_COLUMNS}) VALUES {}", placeholders(from, 1, 10));
    let authorizations = |from| {
        let values = placeholders(from, new, 11);
        format!("INSERT INTO authorizations ({AUTHORIZATION_COLUMNS}) VALUES {values}")
    };
    let links = |from| {
        let values = placeholders(from, all, 3);
        format!("INSERT INTO order_authorizations (order_id, position, authorization_id) VALUES {values}")
    };
    match dialect {
        Dialect::Sqlite if new == 0 => vec![order(1), links(1)],
        Dialect::Sqlite => vec![order(1), authorizations(1), links(1)],
        Dialect::Postgres if new == 0 => {
            vec![format!("-- INSERT_ORDER\nWITH placed AS ({}) {}", order(1), links(11))]
        }
        Dialect::Postgres => vec![format!(
            "-- INSERT_ORDER\nWITH placed AS ({}), authorized AS ({}) {}",
            order(1),
            authorizations(11),
            links(11 + 11 * new)
        )],
    }
}

fn order_parameters(order: &Order) -> Vec<Parameter> {
    parameters![
        &order.id,
        &order.account_id,
        &order.profile,
        write_identifiers(&order.identifiers),
        order.not_before,
        order.not_after,
        order.replaces.clone(),
        order.created_at,
        order.expires_at,
        order.progress.as_str()
    ]
}

pub(super) fn authorization_parameters(
    authorization: &Authorization,
    created_at: Timestamp,
) -> Vec<Parameter> {
    parameters![
        &authorization.id,
        &authorization.account_id,
        &authorization.profile,
        authorization.identifier.kind(),
        authorization.identifier.value(),
        i64::from(authorization.wildcard),
        authorization.outcome.as_str(),
        created_at,
        authorization.expires_at,
        &authorization.token,
        write_challenge_types(&authorization.challenge_types)
    ]
}

/// The statement that inserts one authorization by itself (pre-authorization, RFC 8555 §7.4.1).
pub(super) fn insert_authorization_statement() -> String {
    format!(
        "-- INSERT_AUTHORIZATION\nINSERT INTO authorizations ({AUTHORIZATION_COLUMNS}) VALUES {}",
        placeholders(1, 1, 11)
    )
}

fn link_parameters(order: &Order) -> Vec<Parameter> {
    let each = order.authorizations.iter().zip(0i64..);
    each.flat_map(|(authorization, position)| parameters![&order.id, position, &authorization.id]).collect()
}

impl Store {
    /// Places an order with its new authorizations, all or nothing. `false` if the certificate that it replaces was
    /// taken by another order meanwhile: nothing is placed then.
    pub async fn insert_order(&self, rows: NewOrderRows) -> Result<bool, StorageError> {
        let NewOrderRows { order, authorizations, replaces } = rows;
        let new = authorizations.iter().flat_map(|a| authorization_parameters(a, order.created_at)).collect();
        let groups = [order_parameters(&order), new, link_parameters(&order)];
        let texts = insert_statements(self.dialect, authorizations.len(), order.authorizations.len());
        if self.dialect == Dialect::Postgres && replaces.is_none() {
            for text in texts {
                self.write(text, groups.concat()).await?;
            }
            return Ok(true);
        }
        let dialect = self.dialect;
        self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if let Some((serial, dead)) = replaces {
                    let dead = dead.map(|id| id.to_string());
                    let values = parameters![&serial, &order.id, dead];
                    if run(connection, REPLACE_CERTIFICATE.into(), values).await?.is_empty() {
                        return Ok(false);
                    }
                }
                let values: Vec<Vec<Parameter>> = match dialect {
                    Dialect::Postgres => vec![groups.concat()],
                    Dialect::Sqlite => groups.into_iter().filter(|group| !group.is_empty()).collect(),
                };
                for (text, values) in texts.into_iter().zip(values) {
                    run(connection, text.into(), values).await?;
                }
                Ok(true)
            })
        }))
        .await
    }

    /// An order with its authorizations.
    pub async fn order(&self, id: &OrderId) -> Result<Option<Order>, StorageError> {
        row::order(&self.read(ORDER, parameters![id]).await?, 0)
    }

    /// A page of an account's orders, oldest first: at most `limit` that come after `after` and are not over without a
    /// certificate at `now` (ACC-09).
    pub async fn orders_of_account(
        &self,
        account: &AccountId,
        after: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<OrderId>, StorageError> {
        let rows = self.read(ORDERS_OF_ACCOUNT, parameters![account, after, limit, now]).await?;
        let read = |row: &sqlx::any::AnyRow| {
            let id: String = sqlx::Row::try_get(row, 0)?;
            OrderId::parse(&id).ok_or(StorageError::Corrupt { table: "orders", column: "id", row: id })
        };
        rows.iter().map(read).collect()
    }
}

impl From<&Authorization> for OrderAuthorization {
    fn from(authorization: &Authorization) -> Self {
        Self {
            id: authorization.id.clone(),
            outcome: authorization.outcome,
            expires_at: authorization.expires_at,
            validated_at: authorization.validated_at,
            error: authorization.error.clone(),
        }
    }
}
