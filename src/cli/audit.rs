//! `chancery audit`: reads the audit trail, of an account, an order, a certificate or all.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::Configured;
use crate::acme::audit::{Action, Event};
use crate::acme::certificate::Serial;
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::time::Timestamp;
use crate::config::{self, Config, Database};
use crate::server::{self, StartError};
use crate::storage::{Store, Trail};

/// How many events are read at once.
const PAGE: i64 = 500;

/// `chancery audit`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct AuditCommand {
    /// What is asked about.
    #[command(flatten)]
    pub about: About,
    /// Only what happened since so long ago, such as 24h or 30d [default: everything that is kept]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub since: Option<Duration>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// What is asked about: one of these.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
pub struct About {
    /// An account's id or URL: what it did and what was done to it
    #[arg(long, value_name = "ID", value_parser = account)]
    pub account: Option<AccountId>,
    /// An order's id or URL: what became of it and of its authorizations
    #[arg(long, value_name = "ID", value_parser = order)]
    pub order: Option<OrderId>,
    /// A certificate's serial, in hexadecimal with or without colons, or its URL
    #[arg(long, value_name = "HEX", value_parser = serial)]
    pub serial: Option<Serial>,
    /// Everything: also what operators do, and replicas by themselves
    #[arg(long)]
    pub all: bool,
}

fn last_part(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::parse(last_part(text)).ok_or_else(|| "an account's id has 32 hexadecimal digits".to_owned())
}

fn order(text: &str) -> Result<OrderId, String> {
    OrderId::parse(last_part(text)).ok_or_else(|| "an order's id has 32 hexadecimal digits".to_owned())
}

pub(super) fn serial(text: &str) -> Result<Serial, String> {
    let digits = last_part(text).replace(':', "").to_ascii_lowercase();
    Serial::parse(&format!("{digits:0>32}"))
        .ok_or_else(|| "a serial of this server has 31 or 32 hexadecimal digits".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .ok_or_else(|| "a time span is a whole number and a unit, such as 24h".to_owned())
}

/// Writes what the trail has, oldest first, a line an event. Answers how many there were.
pub async fn run(command: &AuditCommand, config: &Config, out: &mut impl Write) -> Result<usize, StartError> {
    let store = open(config).await?;
    let now = store.now().await?;
    let from = command.since.map_or(Timestamp::from_micros(0), |since| now.minus(since));
    let About { account, order, serial, all: _ } = &command.about;
    if let Some(order) = order {
        let events = of_order(&store, order, from).await?;
        return write(&events, command.json, out);
    }
    let trail = match (account, serial) {
        (Some(account), _) => Trail::Account(account.clone()),
        (None, Some(serial)) => Trail::Serial(*serial),
        (None, None) => Trail::Whole,
    };
    let (mut after, mut count) = ((from, String::new()), 0);
    loop {
        let events = store.audit_trail(&trail, (after.0, &after.1), PAGE).await?;
        count += write(&events, command.json, out)?;
        match events.last() {
            Some(last) => after = (last.at, last.id.clone()),
            None => return Ok(count),
        }
    }
}

/// Opens the database without changing anything in it, also while replicas use it.
async fn open(config: &Config) -> Result<Store, StartError> {
    match &config.database {
        Database::Sqlite(path) if !path.exists() => {
            Err(format!("there is no database at {}: no server ran here yet", path.display()).into())
        }
        Database::Sqlite(path) => Ok(Store::sqlite_read_only(path).await?),
        Database::Postgres(_) => server::open_store(config).await,
    }
}

/// The events of an order and of its authorizations, which stand in the event of its placing. Bounded: an order has at
/// most a hundred names.
async fn of_order(store: &Store, order: &OrderId, from: Timestamp) -> Result<Vec<Event>, StartError> {
    let start = (Timestamp::from_micros(0), "");
    let mut events = store.audit_trail(&Trail::Order(order.clone()), start, PAGE).await?;
    let placed = events.iter().filter(|event| event.action == Action::OrderPlaced.as_str());
    let named = placed.filter_map(|event| event.detail["authorizations"].as_array()).flatten();
    let ids: Vec<AuthorizationId> =
        named.filter_map(|id| AuthorizationId::parse(id.as_str()?)).take(100).collect();
    events.extend(store.audit_of_authorizations(&ids).await?);
    events.retain(|event| event.at >= from);
    events.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(events)
}

fn write(events: &[Event], json: bool, out: &mut impl Write) -> Result<usize, StartError> {
    for event in events {
        if json { writeln!(out, "{}", serde_json::to_string(event)?)? } else { writeln!(out, "{event}")? }
    }
    out.flush()?;
    Ok(events.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_people_have_them_at_hand() {
        let id = AccountId::new();
        assert_eq!(account(&format!("https://ca.test/account/{id}")), Ok(id.clone()));
        assert_eq!(account(id.as_str()), Ok(id));
        let known = Serial::from_random([5; 16]);
        let colons = "05:05:05:05:05:05:05:05:05:05:05:05:05:05:05:05";
        for text in [colons, &known.to_string(), "5050505050505050505050505050505"] {
            assert_eq!(serial(text), Ok(known), "{text}");
        }
        assert!(account("x").is_err() && order("").is_err() && serial("zz").is_err() && span("1").is_err());
    }
}
