//! Orders (RFC 8555 §7.4): placed with their authorizations in one write, read with them in one statement.

use serde_json::{Value, json};

use super::audit::{self, event_parameters};
use super::row::{self, order_columns, write_challenge_types, write_identifiers};
use super::statement::{Parameter, parameters, run, statements};
use super::{Dialect, StorageError, Store, placeholders};
use crate::acme::audit::{Action, Event};
use crate::acme::authorization::Authorization;
use crate::acme::certificate::Serial;
use crate::acme::id::{AccountId, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::order::{Order, OrderAuthorization};
use crate::acme::time::Timestamp;

statements! {
    ORDER = "SELECT ", order_columns!(), " FROM orders o \
        LEFT JOIN order_authorizations l ON l.order_id = o.id \
        LEFT JOIN authorizations z ON z.id = l.authorization_id WHERE o.id = $1 ORDER BY l.position";
    ORDERS_OF_ACCOUNT = "SELECT o.id FROM orders o WHERE o.account_id = $1 AND o.id > $2 AND o.progress <> 'invalid' \
        ORDER BY o.id LIMIT $3";
    REPLACE_CERTIFICATE = "UPDATE certificates SET replaced_by = $2 \
        WHERE serial = $1 AND (replaced_by IS NULL OR replaced_by = $3) RETURNING serial";
}

const ORDER_COLUMNS: &str =
    "id, account_id, profile, identifiers, not_before, not_after, replaces, created_at, expires_at, progress";
macro_rules! authorization_columns {
    () => {
        "id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, created_at, expires_at, \
         token, challenge_types"
    };
}
const AUTHORIZATION_COLUMNS: &str = authorization_columns!();

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
        Dialect::Postgres => {
            let authorized =
                if new == 0 { String::new() } else { format!(", authorized AS ({})", authorizations(11)) };
            let first_link = 11 + 11 * new;
            let audited = audit::arm(first_link + 3 * all, "placed", None);
            vec![format!(
                "-- INSERT_ORDER\nWITH placed AS ({} RETURNING id){authorized}, {audited} {}",
                order(1),
                links(first_link)
            )]
        }
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

/// Inserts one authorization by itself (pre-authorization, RFC 8555 §7.4.1).
pub(super) const INSERT_AUTHORIZATION: &str = concat!(
    "-- INSERT_AUTHORIZATION\nINSERT INTO authorizations (",
    authorization_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id"
);

/// Identifiers as the audit trail shows them.
pub(super) fn identifier_values(identifiers: &[Identifier]) -> Value {
    identifiers.iter().map(Identifier::value).collect()
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
        let event = self.order_placed(&order, &authorizations);
        let placed = self.place(order, authorizations.len(), replaces, groups, event.clone()).await?;
        if placed {
            audit::log(&event);
        }
        Ok(placed)
    }

    fn order_placed(&self, order: &Order, new: &[Authorization]) -> Event {
        let reused = order.authorizations.iter().filter(|each| new.iter().all(|a| a.id != each.id));
        let reused: Vec<&str> = reused.map(|each| each.id.as_str()).collect();
        self.event(Action::OrderPlaced).account(&order.account_id).order(&order.id).detail(json!({
            "profile": order.profile,
            "identifiers": identifier_values(&order.identifiers),
            "authorizations": order.authorizations.iter().map(|each| each.id.as_str()).collect::<Vec<_>>(),
            "reused": Some(reused).filter(|reused| !reused.is_empty()),
            "replaces": order.replaces,
        }))
    }

    async fn place(
        &self,
        order: Order,
        new: usize,
        replaces: Option<(Serial, Option<OrderId>)>,
        groups: [Vec<Parameter>; 3],
        event: Event,
    ) -> Result<bool, StorageError> {
        let texts = insert_statements(self.dialect, new, order.authorizations.len());
        if self.dialect == Dialect::Postgres && replaces.is_none() {
            for text in texts {
                self.write(text, [groups.concat(), event_parameters(&event)].concat()).await?;
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
                    Dialect::Postgres => vec![[groups.concat(), event_parameters(&event)].concat()],
                    Dialect::Sqlite => groups.into_iter().filter(|group| !group.is_empty()).collect(),
                };
                for (text, values) in texts.into_iter().zip(values) {
                    run(connection, text.into(), values).await?;
                }
                if dialect == Dialect::Sqlite {
                    audit::append(connection, &event).await?;
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

    /// A page of an account's orders, oldest first: at most `limit` that come after `after` (ACC-09).
    pub async fn orders_of_account(
        &self,
        account: &AccountId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<OrderId>, StorageError> {
        let rows = self.read(ORDERS_OF_ACCOUNT, parameters![account, after, limit]).await?;
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
