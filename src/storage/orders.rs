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

/// The orders of account $1 that could be active at $2.
macro_rules! open {
    () => {
        "o.account_id = $1 AND o.progress IN ('open', 'processing') AND o.exempt = 0 AND o.expires_at > $2"
    };
}

/// The orders of account $1 that are pending, ready or processing at $2, as `Order::status` has it, without those that
/// were placed at $3 or before and had no step since: none of their authorizations was responded to for them.
/// (migrations/0013_exempted.postgres.sql says the same.)
macro_rules! active {
    () => {
        concat!(
            open!(),
            " AND (o.progress = 'processing' OR ((o.created_at > $3 OR EXISTS (SELECT 1 FROM order_authorizations x \
               JOIN authorizations y ON y.id = x.authorization_id WHERE x.order_id = o.id \
               AND y.attempted IS NOT NULL AND (y.validated_at IS NULL OR y.validated_at >= o.created_at))) \
             AND NOT EXISTS (SELECT 1 FROM order_authorizations x JOIN authorizations y ON y.id = x.authorization_id \
               WHERE x.order_id = o.id AND (y.outcome NOT IN ('pending', 'valid') OR y.expires_at <= $2))))"
        )
    };
}

statements! {
    ORDER = "SELECT ", order_columns!(), " FROM orders o \
        LEFT JOIN order_authorizations l ON l.order_id = o.id \
        LEFT JOIN authorizations z ON z.id = l.authorization_id WHERE o.id = $1 ORDER BY l.position";
    ORDERS_OF_ACCOUNT = "SELECT o.id FROM orders o WHERE o.account_id = $1 AND o.id > $2 AND o.progress <> 'invalid' \
        AND (o.progress = 'valid' OR o.expires_at > $4) ORDER BY o.id LIMIT $3";
    /// An upper bound of the active orders, cheaper than their number.
    OPEN_ORDERS = "SELECT COUNT(*) FROM orders o WHERE ", open!();
    /// As many as $4 at most, the latest first: those are the most likely to count.
    ACTIVE_ORDERS = "SELECT COUNT(*) FROM (SELECT 1 FROM orders o WHERE ", active!(), " \
        ORDER BY o.expires_at DESC LIMIT $4) x";
    /// For each active order when it ends by itself: an open one with the first of its authorizations.
    ACTIVE_ORDER_ENDS = "SELECT o.expires_at, MIN(CASE WHEN o.progress = 'open' THEN z.expires_at END) FROM orders o \
        LEFT JOIN order_authorizations l ON l.order_id = o.id \
        LEFT JOIN authorizations z ON z.id = l.authorization_id WHERE ", active!(), " \
        GROUP BY o.id, o.expires_at ORDER BY o.expires_at LIMIT 10000";
    /// An order that is exempt ($4) spends what the certificate grants once, and once more when the operator asks (ARI-04).
    REPLACE_CERTIFICATE = "UPDATE certificates SET replaced_by = $2, \
        exempted_at = CASE WHEN CAST($4 AS BIGINT) = 0 THEN exempted_at \
          WHEN renewal_asked_at > CAST($5 AS BIGINT) THEN renewal_asked_at ELSE CAST($5 AS BIGINT) END \
        WHERE serial = $1 AND (replaced_by IS NULL OR replaced_by = $3) \
        AND (CAST($4 AS BIGINT) = 0 OR exempted_at IS NULL OR exempted_at < renewal_asked_at) RETURNING serial";
}

const ORDER_COLUMNS: &str = "id, account_id, profile, identifiers, not_before, not_after, replaces, created_at, expires_at, progress, \
     exempt";
/// How many they are.
const ORDER_VALUES: usize = 11;
macro_rules! authorization_columns {
    () => {
        "id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, created_at, expires_at, \
         token, challenge_types"
    };
}
const AUTHORIZATION_COLUMNS: &str = authorization_columns!();

/// Counts an account's active orders, and lets nobody add one before the transaction ends.
pub(super) const LOCK_ACTIVE_ORDERS: &str =
    "-- LOCK_ACTIVE_ORDERS\nSELECT chancery_active_orders($1, $2, $3, $4)";

/// How many active orders an account may have once its next is placed (design I-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveCap {
    /// So many at most.
    pub most: u32,
    /// Orders that have expired by now do not count.
    pub now: Timestamp,
    /// Orders that were placed by then do not count until somebody responds to one of their challenges.
    pub untouched_since: Timestamp,
}

/// What became of placing an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// The certificate that it replaces was taken by another order meanwhile; nothing is placed.
    AlreadyReplaced,
    /// It is there.
    Placed,
    /// The account has as many active orders as it may have; nothing is placed.
    TooManyActive,
}

/// What placing an order writes.
#[derive(Debug)]
pub struct NewOrderRows {
    /// The order; its `authorizations` name new and reused ones alike.
    pub order: Order,
    /// Those of its authorizations that are new.
    pub authorizations: Vec<Authorization>,
    /// The certificate that it replaces, and the dead order that claimed to do so before, if one did (RFC 9773 §5).
    pub replaces: Option<(Serial, Option<OrderId>)>,
    /// The cap on the account's active orders, if it holds for this one.
    pub cap: Option<ActiveCap>,
}

/// The statements that place an order with `new` new authorizations and `all` in all: one on Postgres, three on SQLite.
pub(super) fn insert_statements(dialect: Dialect, new: usize, all: usize) -> Vec<String> {
    let order =
        |from| format!("INSERT INTO orders ({ORDER_COLUMNS}) VALUES {}", placeholders(from, 1, ORDER_VALUES));
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
            let first_link = ORDER_VALUES + 1 + 11 * new;
            let authorized = format!(", authorized AS ({})", authorizations(ORDER_VALUES + 1));
            let authorized = if new == 0 { String::new() } else { authorized };
            let audited = audit::arm(first_link + 3 * all, "placed", None);
            vec![format!(
                "-- INSERT_ORDER\nWITH placed AS ({} RETURNING id){authorized}, {audited} {}",
                order(1),
                links(first_link)
            )]
        }
    }
}

/// The types of the columns of an order and of an authorization.
const ORDER_TYPES: [&str; ORDER_VALUES] =
    ["TEXT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "TEXT", "BIGINT"];
const AUTHORIZATION_TYPES: [&str; 11] =
    ["TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "TEXT", "TEXT"];

/// The statement that places an order on Postgres unless the account has as many active ones as the first parameter after
/// the rows says at the time that the second says, without those that are untouched since the third; the event's values follow. It answers no row then.
pub(super) fn insert_capped_statement(new: usize, all: usize) -> String {
    let values = |first: usize, rows: usize, types: &[&str]| {
        let row = |r: usize| {
            let each = types.iter().enumerate();
            let each = each.map(|(c, kind)| format!("CAST(${} AS {kind})", first + r * types.len() + c));
            format!("({})", each.collect::<Vec<_>>().join(","))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(",")
    };
    let order = values(1, 1, &ORDER_TYPES);
    let authorizations = values(ORDER_VALUES + 1, new, &AUTHORIZATION_TYPES);
    let first_link = ORDER_VALUES + 1 + 11 * new;
    let links = values(first_link, all, &["TEXT", "BIGINT", "TEXT"]);
    let cap = first_link + 3 * all;
    let authorized = if new == 0 {
        String::new()
    } else {
        format!(
            "authorized AS (INSERT INTO authorizations ({AUTHORIZATION_COLUMNS}) \
             SELECT v.* FROM (VALUES {authorizations}) AS v, placed), "
        )
    };
    format!(
        "-- INSERT_ORDER_CAPPED\nWITH counted AS MATERIALIZED (SELECT chancery_active_orders($2, ${now}, ${cap}, ${untouched}) AS active), \
         placed AS (INSERT INTO orders ({ORDER_COLUMNS}) SELECT v.* FROM (VALUES {order}) AS v, counted \
           WHERE counted.active < ${cap} RETURNING id), {authorized}\
         linked AS (INSERT INTO order_authorizations (order_id, position, authorization_id) \
           SELECT v.* FROM (VALUES {links}) AS v, placed), {audited} \
         SELECT id FROM placed",
        now = cap + 1,
        untouched = cap + 2,
        audited = audit::arm(cap + 3, "placed", None)
    )
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
        order.progress.as_str(),
        i64::from(order.exempt)
    ]
}

pub(super) fn authorization_parameters(authorization: &Authorization) -> Vec<Parameter> {
    parameters![
        &authorization.id,
        &authorization.account_id,
        &authorization.profile,
        authorization.identifier.kind(),
        authorization.identifier.value(),
        i64::from(authorization.wildcard),
        authorization.outcome.as_str(),
        authorization.created_at,
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

/// How many active orders an account has, or an upper bound below the cap. Nobody adds one before the transaction ends.
async fn active(
    connection: &mut sqlx::AnyConnection,
    dialect: Dialect,
    account: &AccountId,
    cap: ActiveCap,
) -> Result<i64, StorageError> {
    let ActiveCap { most, now, untouched_since } = cap;
    let most = i64::from(most);
    let texts = match dialect {
        Dialect::Postgres => vec![(LOCK_ACTIVE_ORDERS, parameters![account, now, most, untouched_since])],
        Dialect::Sqlite => vec![
            (OPEN_ORDERS, parameters![account, now]),
            (ACTIVE_ORDERS, parameters![account, now, untouched_since, most]),
        ],
    };
    let mut active = 0;
    for (text, values) in texts {
        let rows = run(connection, text.into(), values).await?;
        active = rows.first().map_or(Ok(0), |row| sqlx::Row::try_get(row, 0))?;
        if active < most {
            break;
        }
    }
    Ok(active)
}

impl Store {
    /// Places an order with its new authorizations, all or nothing.
    pub async fn insert_order(&self, rows: NewOrderRows) -> Result<Placing, StorageError> {
        let NewOrderRows { order, authorizations, replaces, cap } = rows;
        let new = authorizations.iter().flat_map(authorization_parameters).collect();
        let groups = [order_parameters(&order), new, link_parameters(&order)];
        let event = self.order_placed(&order, &authorizations);
        let new = authorizations.len();
        let placing = self.place(order, new, replaces, cap, groups, event.clone()).await?;
        if placing == Placing::Placed {
            audit::log(&event);
        }
        Ok(placing)
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
        cap: Option<ActiveCap>,
        groups: [Vec<Parameter>; 3],
        event: Event,
    ) -> Result<Placing, StorageError> {
        let all = order.authorizations.len();
        let texts = insert_statements(self.dialect, new, all);
        if self.dialect == Dialect::Postgres && replaces.is_none() {
            if let Some(cap) = cap {
                let cap = parameters![i64::from(cap.most), cap.now, cap.untouched_since];
                let values = [groups.concat(), cap, event_parameters(&event)].concat();
                let placed = self.write(insert_capped_statement(new, all), values).await?;
                return Ok(if placed.is_empty() { Placing::TooManyActive } else { Placing::Placed });
            }
            for text in texts {
                self.write(text, [groups.concat(), event_parameters(&event)].concat()).await?;
            }
            return Ok(Placing::Placed);
        }
        let dialect = self.dialect;
        self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if let Some(cap) = cap
                    && active(connection, dialect, &order.account_id, cap).await? >= i64::from(cap.most)
                {
                    return Ok(Placing::TooManyActive);
                }
                if let Some((serial, dead)) = replaces {
                    let dead = dead.map(|id| id.to_string());
                    let exempt = i64::from(order.exempt);
                    let values = parameters![&serial, &order.id, dead, exempt, order.created_at];
                    if run(connection, REPLACE_CERTIFICATE.into(), values).await?.is_empty() {
                        return Ok(Placing::AlreadyReplaced);
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
                    audit::append(connection, dialect, &event).await?;
                }
                Ok(Placing::Placed)
            })
        }))
        .await
    }

    /// When each of an account's active orders ends by itself, the earliest first. `untouched_since` is that of [`ActiveCap`].
    pub async fn active_order_ends(
        &self,
        account: &AccountId,
        now: Timestamp,
        untouched_since: Timestamp,
    ) -> Result<Vec<Timestamp>, StorageError> {
        let rows = self.read(ACTIVE_ORDER_ENDS, parameters![account, now, untouched_since]).await?;
        let read = |row: &sqlx::any::AnyRow| -> Result<Timestamp, StorageError> {
            let order: i64 = sqlx::Row::try_get(row, 0)?;
            let authorization: Option<i64> = sqlx::Row::try_get(row, 1)?;
            Ok(Timestamp::from_micros(authorization.map_or(order, |end| end.min(order))))
        };
        let mut ends: Vec<Timestamp> = rows.iter().map(read).collect::<Result<_, _>>()?;
        ends.sort_unstable();
        Ok(ends)
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
            attempted: authorization.attempted,
            error: authorization.error.clone(),
        }
    }
}
