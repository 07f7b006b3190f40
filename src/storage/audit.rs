//! The audit trail: each change of state appends one event in the change's own transaction, and none if it changed
//! nothing. On Postgres the event is an arm of the change's statement, so it costs no round trip; on SQLite it is a
//! second statement of the same write. After the commit the event is logged too (target `chancery::audit`).
//!
//! Where a change comes from is carried by the task: the envelope of a request sets it, a job keeps that of the request
//! which began it, and a job that was taken over has none. So no signature between the two needs to hand it through, and
//! no change can be written without it.

use std::cell::RefCell;
use std::future::Future;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::statement::{Parameter, Text, parameters, run, statements};
use super::{Dialect, StorageError, Store, dialect, placeholders};
use crate::acme::audit::{Action, Actor, Event, Origin};
use crate::acme::certificate::Serial;
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::time::{Clock, Timestamp};

macro_rules! columns {
    () => {
        "id, actor, action, account_id, order_id, authorization_id, serial, request_id, client_address, detail, at"
    };
}
/// Which of them is the time. All before it are texts, and parameters.
const AT: usize = 10;

/// What ends a statement that reads events about `$1`: the page after the time `$2` and the id `$3`.
macro_rules! page {
    () => {
        " = $1 AND (at, id) > ($2, $3) ORDER BY at, id LIMIT $4"
    };
}

statements! {
    EVENTS = "SELECT ", columns!(), " FROM audit_events WHERE (at, id) > ($1, $2) ORDER BY at, id LIMIT $3";
    EVENTS_OF_ACCOUNT = "SELECT ", columns!(), " FROM audit_events WHERE account_id", page!();
    EVENTS_OF_ORDER = "SELECT ", columns!(), " FROM audit_events WHERE order_id", page!();
    EVENTS_OF_SERIAL = "SELECT ", columns!(), " FROM audit_events WHERE serial", page!();
}

/// Appends one event. On Postgres it is the database that says when, as in every arm: replicas know its time to within
/// some milliseconds, which is not good enough for an order among what two of them do one after the other.
pub(super) fn append_statement(dialect: Dialect) -> String {
    let now = if dialect == Dialect::Postgres { dialect::NOW } else { "$11" };
    format!(
        "-- APPEND_EVENT\nINSERT INTO audit_events ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {now})",
        columns!()
    )
}

/// Finds the events of any of `count` authorizations.
pub(super) fn events_of_authorizations_statement(count: usize) -> String {
    format!(
        "-- EVENTS_OF_AUTHORIZATIONS\nSELECT {} FROM audit_events WHERE authorization_id IN {} \
         ORDER BY at, id LIMIT 1000",
        columns!(),
        placeholders(1, 1, count)
    )
}

tokio::task_local! {
    static ORIGIN: RefCell<Origin>;
}

/// Does `work`; what it changes comes from `origin`.
pub async fn on_behalf_of<F: Future>(origin: Origin, work: F) -> F::Output {
    ORIGIN.scope(RefCell::new(origin), work).await
}

/// Where changes of the present task come from: for a job that goes on after its request.
pub fn origin() -> Origin {
    ORIGIN.try_with(|origin| origin.borrow().clone()).unwrap_or_default()
}

/// From now on it is `actor` who acts in the present task: its signature holds.
pub fn acts(actor: Actor) {
    // Without an origin the replica acts by itself, and nobody else.
    let _ = ORIGIN.try_with(|origin| origin.borrow_mut().actor = Some(actor));
}

/// The part of an event that a statement fills in which changes many rows: each row gets an event of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PerRow {
    /// The rows are authorizations, and begin with their id.
    Authorization,
    /// The rows are certificates, and begin with their serial, called `id`, and the ids of their account and order.
    Certificate,
    /// The rows are orders, and begin with their id and that of their account.
    Order,
}

impl PerRow {
    /// The event about `row`. Its id is the time of the first event's and the chance of the row's: SQL says the same in
    /// `arm`.
    pub(super) fn event(self, event: &Event, row: &AnyRow) -> Result<Event, StorageError> {
        let key: String = row.try_get(0)?;
        let chance = key.get(key.len().saturating_sub(16)..).unwrap_or_default();
        let id = format!("{}{chance}", event.id.get(..16).unwrap_or_default());
        let event = Event { id, ..event.clone() };
        Ok(match self {
            Self::Authorization => Event { authorization: AuthorizationId::parse(&key), ..event },
            Self::Certificate => {
                let account = AccountId::parse(row.try_get(1)?);
                let order = OrderId::parse(row.try_get(2)?);
                Event { serial: Serial::parse(&key), account, order, ..event }
            }
            Self::Order => {
                let account = AccountId::parse(row.try_get(1)?);
                Event { order: OrderId::parse(&key), account: event.account.or(account), ..event }
            }
        })
    }
}

/// The arm `audited` of a Postgres statement: for each row of the arm `from` it appends the event whose values are
/// `$first` and those after it.
pub(super) fn arm(first: usize, from: &str, per_row: Option<PerRow>) -> String {
    let value = |column: usize| {
        let value = format!("CAST(${} AS TEXT)", first + column);
        match (per_row, column) {
            (Some(_), 0) => format!("substr({value}, 1, 16) || right({from}.id, 16)"),
            (Some(PerRow::Order | PerRow::Certificate), 3) => {
                format!("COALESCE({value}, {from}.account_id)")
            }
            (Some(PerRow::Certificate), 4) => format!("COALESCE({value}, {from}.order_id)"),
            (Some(PerRow::Order), 4) | (Some(PerRow::Authorization), 5) | (Some(PerRow::Certificate), 6) => {
                format!("COALESCE({value}, {from}.id)")
            }
            _ => value,
        }
    };
    let values = (0..AT).map(value).collect::<Vec<_>>().join(", ");
    let (columns, now) = (columns!(), dialect::NOW);
    format!("audited AS (INSERT INTO audit_events ({columns}) SELECT {values}, {now} FROM {from})")
}

/// The arm `audited` of a Postgres statement that changes many rows of no account's own: one event for all, if there is
/// one, which counts them.
pub(super) fn counting_arm(first: usize, from: &str) -> String {
    let detail = format!("CAST(${} AS TEXT)", first + AT - 1);
    let arm = arm(first, from, None).replace(&detail, "'{\"rows\":' || COUNT(*) || '}'");
    arm.replace(&format!(" FROM {from})"), &format!(" FROM {from} HAVING COUNT(*) > 0)"))
}

/// The values of [`counting_arm`]'s event: all but the detail.
pub(super) fn counting_parameters(event: &Event) -> Vec<Parameter> {
    let mut values = event_parameters(event);
    values.pop();
    values
}

/// On Postgres, the statement `text` (which answers a row for each that it changed) together with its events, whose values
/// follow those of `text`.
pub(super) fn audited_statement(text: &str, per_row: Option<PerRow>) -> String {
    let (name, change) = text.split_once('\n').unwrap_or(("", text));
    let arm = arm(last_parameter(text) + 1, "changed", per_row);
    format!("{name}\nWITH changed AS ({change}), {arm} SELECT * FROM changed")
}

/// The highest number of a parameter in `text`.
fn last_parameter(text: &str) -> usize {
    let number = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    text.split('$').skip(1).filter_map(number).max().unwrap_or(0)
}

/// The values of an event, in the order of its columns, but for the time.
pub(super) fn event_parameters(event: &Event) -> Vec<Parameter> {
    parameters![
        &event.id,
        &event.actor,
        &event.action,
        event.account.as_ref().map(ToString::to_string),
        event.order.as_ref().map(ToString::to_string),
        event.authorization.as_ref().map(ToString::to_string),
        event.serial.as_ref().map(ToString::to_string),
        event.request_id.clone(),
        event.client_address.clone(),
        event.detail.to_string()
    ]
}

/// Appends an event inside a transaction.
pub(super) async fn append(
    connection: &mut AnyConnection,
    dialect: Dialect,
    event: &Event,
) -> Result<(), StorageError> {
    let mut values = event_parameters(event);
    if dialect == Dialect::Sqlite {
        values.extend(parameters![event.at]);
    }
    run(connection, append_statement(dialect).into(), values).await.map(|_| ())
}

/// Runs `text` inside a transaction, and appends `event` if it changed a row; says whether it did.
pub(super) async fn run_audited(
    connection: &mut AnyConnection,
    dialect: Dialect,
    text: &'static str,
    values: Vec<Parameter>,
    event: &Event,
) -> Result<bool, StorageError> {
    if dialect == Dialect::Postgres {
        let values = [values, event_parameters(event)].concat();
        return Ok(!run(connection, audited_statement(text, None).into(), values).await?.is_empty());
    }
    if run(connection, text.into(), values).await?.is_empty() {
        return Ok(false);
    }
    append(connection, dialect, event).await?;
    Ok(true)
}

/// Runs `text` inside a transaction, and appends an event like `event` for each row that it changed; answers them.
pub(super) async fn run_audited_each(
    connection: &mut AnyConnection,
    dialect: Dialect,
    text: impl Into<Text>,
    values: Vec<Parameter>,
    event: &Event,
    per_row: PerRow,
) -> Result<Vec<Event>, StorageError> {
    let text = text.into();
    let rows = if dialect == Dialect::Postgres {
        let values = [values, event_parameters(event)].concat();
        run(connection, audited_statement(text.as_str(), Some(per_row)).into(), values).await?
    } else {
        run(connection, text, values).await?
    };
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let event = per_row.event(event, row)?;
        if dialect == Dialect::Sqlite {
            append(connection, dialect, &event).await?;
        }
        events.push(event);
    }
    Ok(events)
}

/// Writes an event that is committed into the log.
pub(super) fn log(event: &Event) {
    tracing::info!(
        target: "chancery::audit",
        id = event.id,
        at = event.at_text(),
        actor = event.actor,
        action = event.action,
        account = event.account.as_ref().map(AccountId::as_str),
        order = event.order.as_ref().map(OrderId::as_str),
        authorization = event.authorization.as_ref().map(AuthorizationId::as_str),
        serial = event.serial.map(|serial| serial.to_string()),
        request_id = event.request_id,
        client_address = event.client_address,
        detail = event.detail.to_string(),
        "audit"
    );
}

/// What a part of the trail is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trail {
    /// Everything about an account, its orders, authorizations and certificates.
    Account(AccountId),
    /// Everything about an order.
    Order(OrderId),
    /// Everything about a certificate.
    Serial(Serial),
    /// Everything: also what operators do, and replicas by themselves.
    Whole,
}

impl Store {
    /// An event of the present moment and task.
    pub(super) fn event(&self, action: Action) -> Event {
        Event::new(action, self.clock.now(), origin())
    }

    /// Runs the one statement `text`, which answers a row if it changed something, and then appends `event`; says
    /// whether it did.
    pub(super) async fn write_audited(
        &self,
        text: &'static str,
        values: Vec<Parameter>,
        event: Event,
    ) -> Result<bool, StorageError> {
        let changed = if self.dialect == Dialect::Postgres {
            let values = [values, event_parameters(&event)].concat();
            !self.write(audited_statement(text, None), values).await?.is_empty()
        } else {
            let (dialect, event) = (self.dialect, event.clone());
            self.transaction(Box::new(move |connection| {
                Box::pin(async move { run_audited(connection, dialect, text, values, &event).await })
            }))
            .await?
        };
        if changed {
            log(&event);
        }
        Ok(changed)
    }

    /// A page of the trail, oldest first: at most `limit` events after the instant and id `after`.
    pub async fn audit_trail(
        &self,
        trail: &Trail,
        after: (Timestamp, &str),
        limit: i64,
    ) -> Result<Vec<Event>, StorageError> {
        let (text, subject) = match trail {
            Trail::Account(id) => (EVENTS_OF_ACCOUNT, id.to_string()),
            Trail::Order(id) => (EVENTS_OF_ORDER, id.to_string()),
            Trail::Serial(serial) => (EVENTS_OF_SERIAL, serial.to_string()),
            Trail::Whole => (EVENTS, String::new()),
        };
        let mut values = parameters![after.0, after.1, limit];
        if *trail != Trail::Whole {
            values.insert(0, subject.into());
        }
        let rows = self.read(text, values).await?;
        rows.iter().map(read_event).collect()
    }

    /// The trail of authorizations, oldest first: at most a thousand events.
    pub async fn audit_of_authorizations(
        &self,
        authorizations: &[AuthorizationId],
    ) -> Result<Vec<Event>, StorageError> {
        if authorizations.is_empty() {
            return Ok(Vec::new());
        }
        let values = authorizations.iter().map(Parameter::from).collect();
        let rows = self.read(events_of_authorizations_statement(authorizations.len()), values).await?;
        rows.iter().map(read_event).collect()
    }
}

fn read_event(row: &AnyRow) -> Result<Event, StorageError> {
    let id: String = row.try_get(0)?;
    let text = |column: usize| -> Result<Option<String>, sqlx::Error> { row.try_get(column) };
    let corrupt = |column| StorageError::Corrupt { table: "audit_events", column, row: id.clone() };
    macro_rules! parsed {
        ($column:literal, $name:literal, $parse:expr) => {
            text($column)?.map(|text| $parse(&text).ok_or_else(|| corrupt($name))).transpose()?
        };
    }
    let detail: String = row.try_get(9)?;
    Ok(Event {
        at: Timestamp::from_micros(row.try_get(AT)?),
        actor: row.try_get(1)?,
        action: row.try_get(2)?,
        account: parsed!(3, "account_id", AccountId::parse),
        order: parsed!(4, "order_id", OrderId::parse),
        authorization: parsed!(5, "authorization_id", AuthorizationId::parse),
        serial: parsed!(6, "serial", Serial::parse),
        request_id: text(7)?,
        client_address: text(8)?,
        detail: serde_json::from_str(&detail).map_err(|_| corrupt("detail"))?,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_an_arm_of_the_statement_and_takes_the_parameters_after_its_own() {
        let text = audited_statement("-- X\nUPDATE t SET a = $2 WHERE b = $10 RETURNING id", None);
        assert!(text.starts_with(
            "-- X\nWITH changed AS (UPDATE t SET a = $2 WHERE b = $10 RETURNING id), audited AS ("
        ));
        assert!(text.contains("SELECT CAST($11 AS TEXT), CAST($12 AS TEXT)"), "{text}");
        assert!(text.contains("CAST($20 AS TEXT), CAST(extract"), "{text}");
        assert!(text.ends_with("FROM changed) SELECT * FROM changed"), "{text}");
        let each = arm(1, "changed", Some(PerRow::Order));
        assert!(each.contains("substr(CAST($1 AS TEXT), 1, 16) || right(changed.id, 16), CAST($2"), "{each}");
        let all = counting_arm(8, "gone");
        assert!(
            all.contains(r#"CAST($16 AS TEXT), '{"rows":' || COUNT(*) || '}', CAST(extract"#)
                && all.ends_with(" FROM gone HAVING COUNT(*) > 0)"),
            "{all}"
        );
        assert!(each.contains("COALESCE(CAST($5 AS TEXT), changed.id), CAST($6"), "{each}");
    }

    #[tokio::test]
    async fn a_task_knows_on_whose_behalf_it_works() {
        assert_eq!(origin(), Origin::default());
        acts(Actor::Operator);
        assert_eq!(origin(), Origin::default());
        let request = Origin::request("r".to_owned(), std::net::IpAddr::from([127, 0, 0, 1]));
        on_behalf_of(request.clone(), async {
            assert_eq!(origin(), request);
            acts(Actor::CertificateKey);
            assert_eq!(origin(), Origin { actor: Some(Actor::CertificateKey), ..request.clone() });
        })
        .await;
    }
}
