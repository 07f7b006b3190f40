//! What the leader takes away (design I-12). Each sweep walks an index from its oldest end, a page of rows a statement;
//! each statement that changes something is fenced: it carries the leader's epoch, and changes nothing if that is over.
//!
//! An expired authorization is not marked, for no mark would mean anything: clients see `expired` from the facts (I-1),
//! no index of open ones is slower for it, and a new word for its outcome could not be read by a replica of the version
//! before. It is deleted after its retention, once no order rests on it. An expired order is marked `invalid`, which
//! takes it out of the indexes of open orders and of jobs; its error is left empty, so that it goes on to say what it
//! said before (`Order::failure`).

use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::audit::{
    self, PerRow, append, audited_statement, counting_arm, counting_parameters, event_parameters,
};
use super::leader::Term;
use super::statement::{Parameter, parameters, run};
use super::{Dialect, StorageError, Store};
use crate::acme::audit::{Action, Event};
use crate::acme::time::Timestamp;

/// What is swept, in the order in which it is swept: what ends first makes room for what rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sweep {
    /// Orders that expired unfinished: marked `invalid`.
    ExpiredOrders,
    /// Leases of validations whose authorization expired: nobody may take these jobs any more.
    Jobs,
    /// Orders that are over: deleted with their links to authorizations.
    FinishedOrders,
    /// Expired authorizations that no order rests on: deleted.
    Authorizations,
    /// Expired certificates whose order is gone: deleted.
    Certificates,
    /// Replicas that were not seen for long: forgotten.
    Replicas,
    /// Events of the audit trail: deleted.
    AuditEvents,
}

/// Where a sweep is in its index: everything up to here has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) at: i64,
    pub(super) key: String,
}

impl Cursor {
    /// The oldest end of the index.
    pub const fn start() -> Self {
        Self { at: i64::MIN, key: String::new() }
    }
}

/// What one statement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many rows it changed.
    pub rows: usize,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

/// How a sweep finds its rows, and what it does to them.
struct Walk {
    name: &'static str,
    table: &'static str,
    /// The time that decides whether a row is due, and the row's key: the columns of the index, in this order.
    index: (&'static str, &'static str),
    /// The condition of the partial index, if it is one.
    only: Option<&'static str>,
    /// The beginning of the statement that changes rows.
    change: &'static str,
    /// What must be gone before the row may go: `table.column = own` must find nothing.
    after: Option<After>,
}

struct After {
    own: &'static str,
    table: &'static str,
    column: &'static str,
}

/// What the audit trail says of the rows that a sweep changed.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// Of each row that it is in another state now.
    Each(Action, PerRow),
    /// Of a page how many rows are gone.
    Counted(Action),
    /// Nothing: they are of no kind that has a trail.
    Nothing,
}

impl Told {
    /// The events about `rows`, made from the `event` that all of them are like.
    fn events(self, event: Option<Event>, rows: &[AnyRow]) -> Result<Vec<Event>, StorageError> {
        match (self, event) {
            (Self::Each(_, per_row), Some(event)) => {
                rows.iter().map(|row| per_row.event(&event, row)).collect()
            }
            (Self::Counted(_), Some(event)) if !rows.is_empty() => {
                Ok(vec![event.detail(json!({"rows": rows.len()}))])
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The condition that makes a statement of an old leader change nothing: of its epoch `$first`, its holder, and the present.
pub(super) fn fence(first: usize) -> String {
    format!(
        "EXISTS (SELECT 1 FROM leader WHERE leader.id = 1 AND leader.epoch = ${first} \
         AND leader.holder = ${} AND leader.lease_until > ${})",
        first + 1,
        first + 2
    )
}

/// How many rows are looked at for the oldest that is due.
const OLDEST_AMONG: u32 = 500;

impl Sweep {
    /// All sweeps, in their order.
    pub const ALL: [Self; 7] = [
        Self::ExpiredOrders,
        Self::Jobs,
        Self::FinishedOrders,
        Self::Authorizations,
        Self::Certificates,
        Self::Replicas,
        Self::AuditEvents,
    ];

    /// The word for it in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredOrders => "expired_orders",
            Self::Jobs => "jobs",
            Self::FinishedOrders => "finished_orders",
            Self::Authorizations => "authorizations",
            Self::Certificates => "certificates",
            Self::Replicas => "replicas",
            Self::AuditEvents => "audit_events",
        }
    }

    const fn told(self) -> Told {
        match self {
            Self::ExpiredOrders => Told::Each(Action::OrderExpired, PerRow::Order),
            Self::FinishedOrders => Told::Counted(Action::OrderSwept),
            Self::Authorizations => Told::Counted(Action::AuthorizationSwept),
            Self::Certificates => Told::Counted(Action::CertificateSwept),
            Self::Jobs | Self::Replicas | Self::AuditEvents => Told::Nothing,
        }
    }

    const fn walk(self) -> Walk {
        match self {
            Self::ExpiredOrders => Walk {
                name: "EXPIRED_ORDERS",
                table: "orders",
                index: ("expires_at", "id"),
                only: Some("progress IN ('open', 'processing')"),
                change: "UPDATE orders SET progress = 'invalid', lease_token = NULL, lease_until = NULL",
                after: None,
            },
            Self::Jobs => Walk {
                name: "JOBS",
                table: "authorizations",
                index: ("expires_at", "id"),
                only: Some("outcome = 'pending' AND lease_until IS NOT NULL AND lease_until <= $1"),
                change: "UPDATE authorizations SET lease_token = NULL, lease_until = NULL",
                after: None,
            },
            Self::FinishedOrders => Walk {
                name: "FINISHED_ORDERS",
                table: "orders",
                index: ("expires_at", "id"),
                only: Some("progress IN ('valid', 'invalid')"),
                change: "DELETE FROM orders",
                after: None,
            },
            Self::Authorizations => Walk {
                name: "AUTHORIZATIONS",
                table: "authorizations",
                index: ("expires_at", "id"),
                only: None,
                change: "DELETE FROM authorizations",
                after: Some(After { own: "id", table: "order_authorizations", column: "authorization_id" }),
            },
            Self::Certificates => Walk {
                name: "CERTIFICATES",
                table: "certificates",
                index: ("not_after", "serial"),
                only: None,
                change: "DELETE FROM certificates",
                after: Some(After { own: "order_id", table: "orders", column: "id" }),
            },
            Self::Replicas => Walk {
                name: "REPLICAS",
                table: "replicas",
                index: ("seen_at", "id"),
                only: None,
                change: "DELETE FROM replicas",
                after: None,
            },
            Self::AuditEvents => Walk {
                name: "AUDIT_EVENTS",
                table: "audit_events",
                index: ("at", "id"),
                only: None,
                change: "DELETE FROM audit_events",
                after: None,
            },
        }
    }
}

impl Walk {
    /// Which rows are due at `$1`.
    fn due(&self) -> String {
        let only = self.only.map(|only| format!("{only} AND ")).unwrap_or_default();
        format!("{only}{} <= $1", self.index.0)
    }

    /// `what` of the rows that are due after the cursor (`$2`, `$3`), in the index's order.
    fn page(&self, what: &str, limit: &str) -> String {
        let (at, key) = self.index;
        format!(
            "SELECT {what} FROM {} WHERE {} AND ({at}, {key}) > ($2, $3) ORDER BY {at}, {key} LIMIT {limit}",
            self.table,
            self.due()
        )
    }

    /// The last row of the page, if it is full: `$4` is one less than its size.
    fn end(&self) -> String {
        let (at, key) = self.index;
        format!("-- SWEEP_{}_END\n{}", self.name, self.page(&format!("{at}, {key}"), "1 OFFSET $4"))
    }

    /// Changes what may be changed of the page of `$4` rows, under the fence.
    fn change(&self) -> String {
        let key = self.index.1;
        let free = self.after.as_ref().map(|after| {
            let After { own, table, column } = after;
            format!(" AND NOT EXISTS (SELECT 1 FROM {table} r WHERE r.{column} = {}.{own})", self.table)
        });
        format!(
            "{} WHERE {key} IN ({}) AND {}{} AND {} RETURNING {key}",
            self.change,
            self.page(key, "$4"),
            self.due(),
            free.unwrap_or_default(),
            fence(5)
        )
    }

    /// When the oldest row became due that could be swept now.
    fn oldest(&self) -> String {
        let (at, key) = self.index;
        let own = self.after.as_ref().map_or(key, |after| after.own);
        let free = self.after.as_ref().map(|After { table, column, .. }| {
            format!(" WHERE NOT EXISTS (SELECT 1 FROM {table} r WHERE r.{column} = x.own)")
        });
        format!(
            "-- SWEEP_{}_OLDEST\nSELECT x.due FROM (SELECT {at} AS due, {own} AS own FROM {} WHERE {} \
             ORDER BY {at}, {key} LIMIT {OLDEST_AMONG}) x{} ORDER BY x.due LIMIT 1",
            self.name,
            self.table,
            self.due(),
            free.unwrap_or_default()
        )
    }
}

/// What changes rows, in the order in which it runs; the last answers the keys. Orders go together with their links, and
/// what has a trail with its events: in one statement on Postgres, in one transaction on SQLite.
fn change_statements(sweep: Sweep, dialect: Dialect) -> Vec<String> {
    let walk = sweep.walk();
    let (name, mut change) = (walk.name, walk.change());
    if let Told::Each(_, PerRow::Order) = sweep.told() {
        change += ", account_id";
    }
    // The event's values follow those of the page and the fence.
    let audited = || counting_arm(8, "gone");
    match (sweep, dialect, sweep.told()) {
        (Sweep::FinishedOrders, Dialect::Postgres, _) => vec![format!(
            "-- SWEEP_{name}\nWITH gone AS ({change}), unlinked AS (DELETE FROM order_authorizations \
             WHERE order_id IN (SELECT id FROM gone)), {} SELECT id FROM gone",
            audited()
        )],
        (_, Dialect::Postgres, Told::Each(_, per_row)) => {
            vec![audited_statement(&format!("-- SWEEP_{name}\n{change}"), Some(per_row))]
        }
        (_, Dialect::Postgres, Told::Counted(_)) => {
            vec![format!("-- SWEEP_{name}\nWITH gone AS ({change}), {} SELECT * FROM gone", audited())]
        }
        (Sweep::FinishedOrders, Dialect::Sqlite, _) => vec![
            format!(
                "-- SWEEP_{name}_LINKS\nDELETE FROM order_authorizations WHERE order_id IN ({}) AND {}",
                walk.page("id", "$4"),
                fence(5)
            ),
            format!("-- SWEEP_{name}\n{change}"),
        ],
        _ => vec![format!("-- SWEEP_{name}\n{change}")],
    }
}

/// Every statement of every sweep with its name.
pub(super) fn all_statements(dialect: Dialect) -> Vec<(&'static str, String)> {
    let of = |sweep: Sweep| {
        let walk = sweep.walk();
        let mut texts = vec![walk.end(), walk.oldest()];
        texts.extend(change_statements(sweep, dialect));
        texts.into_iter().map(move |text| (sweep.as_str(), text))
    };
    Sweep::ALL.into_iter().flat_map(of).collect()
}

impl Store {
    /// Sweeps one page: at most `limit` rows (at least 1) after `from` that became due at or before `due`, in the order
    /// in which they did. Changes nothing unless `term` is the leader's at `now`.
    pub async fn sweep(
        &self,
        sweep: Sweep,
        term: &Term,
        now: Timestamp,
        due: Timestamp,
        from: &Cursor,
        limit: u32,
    ) -> Result<Swept, StorageError> {
        let limit = i64::from(limit.max(1));
        let place = |count: i64| parameters![due, from.at, &from.key, count];
        let end = self.read(sweep.walk().end(), place(limit - 1)).await?;
        let next = match end.first() {
            Some(row) => Some(Cursor { at: row.try_get(0)?, key: row.try_get(1)? }),
            None => None,
        };
        let fence = parameters![term.epoch, &term.holder, now];
        let rows = self.change(sweep, [place(limit), fence].concat()).await?;
        Ok(Swept { rows, next })
    }

    /// Changes one page, together with its events in the audit trail. Answers how many rows it changed.
    async fn change(&self, sweep: Sweep, values: Vec<Parameter>) -> Result<usize, StorageError> {
        let (dialect, told) = (self.dialect, sweep.told());
        let event = match told {
            Told::Each(action, _) | Told::Counted(action) => Some(self.event(action)),
            Told::Nothing => None,
        };
        let mut texts = change_statements(sweep, dialect);
        let (rows, events) = match texts.pop() {
            Some(text) if dialect == Dialect::Postgres => {
                let more = match told {
                    Told::Each(..) => event.as_ref().map(event_parameters),
                    Told::Counted(_) => event.as_ref().map(counting_parameters),
                    Told::Nothing => None,
                };
                let rows = self.write(text, [values, more.unwrap_or_default()].concat()).await?;
                (rows.len(), told.events(event, &rows)?)
            }
            last => {
                let work = self.transaction(Box::new(move |connection| {
                    Box::pin(async move {
                        let mut rows = Vec::new();
                        for text in texts.into_iter().chain(last) {
                            rows = run(connection, text.into(), values.clone()).await?;
                        }
                        let events = told.events(event, &rows)?;
                        for event in &events {
                            append(connection, dialect, event).await?;
                        }
                        Ok((rows.len(), events))
                    })
                }));
                work.await?
            }
        };
        events.iter().for_each(audit::log);
        Ok(rows)
    }

    /// When the oldest row became due that a sweep would take now; `None` if there is none. Looks at a bounded number of
    /// rows, so it may miss one behind many that wait for something else.
    pub async fn oldest_due(&self, sweep: Sweep, due: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let rows = self.read(sweep.walk().oldest(), parameters![due]).await?;
        Ok(rows.first().map(|row| row.try_get(0).map(Timestamp::from_micros)).transpose()?)
    }
}
