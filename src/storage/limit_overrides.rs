//! Capacities of limits that an operator gave to single keys. What a limit or a key is, this room does not know.

use serde_json::{Value, json};
use sqlx::Row;

use super::audit::{self, PerRow, append, run_audited};
use super::statement::{Parameter, parameters, run, statements};
use super::{StorageError, Store};
use crate::acme::audit::{Action, Event};
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;

statements! {
    LIMIT_OVERRIDES = "SELECT limit_name, limit_key, capacity FROM limit_overrides \
        WHERE limit_name > '' ORDER BY limit_name, limit_key LIMIT 100000";
    LIMIT_OVERRIDES_VERSION = "SELECT version FROM limit_overrides_version WHERE id = 1";
    SET_LIMIT_OVERRIDE = "INSERT INTO limit_overrides (limit_name, limit_key, capacity, changed_at) \
        VALUES ($1, $2, $3, $4) \
        ON CONFLICT (limit_name, limit_key) DO UPDATE SET capacity = excluded.capacity, changed_at = excluded.changed_at \
        RETURNING limit_key";
    REMOVE_LIMIT_OVERRIDE =
        "DELETE FROM limit_overrides WHERE limit_name = $1 AND limit_key = $2 RETURNING limit_key";
    COUNT_UP_LIMIT_OVERRIDES = "UPDATE limit_overrides_version SET version = version + 1 WHERE id = 1";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] =
    &[(SET_LIMIT_OVERRIDE, None), (REMOVE_LIMIT_OVERRIDE, None)];

/// The capacity of one key under one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// The limit's name.
    pub limit: String,
    /// What the limit counts by.
    pub key: String,
    /// How much it allows; 0 for no limit.
    pub capacity: u32,
}

/// What one key has used of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitUse {
    /// The limit's name.
    pub limit: String,
    /// What the limit counts by.
    pub key: String,
    /// How much was used.
    pub used: u32,
}

impl Store {
    /// A number that every change of an override counts up.
    pub async fn limit_overrides_version(&self) -> Result<i64, StorageError> {
        let rows = self.read(LIMIT_OVERRIDES_VERSION, Vec::new()).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// All overrides, at most 100 000, by limit and key.
    pub async fn limit_overrides(&self) -> Result<Vec<LimitOverride>, StorageError> {
        let rows = self.read(LIMIT_OVERRIDES, Vec::new()).await?;
        let read = |row: &sqlx::any::AnyRow| -> Result<LimitOverride, StorageError> {
            let capacity: i64 = row.try_get(2)?;
            let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
            Ok(LimitOverride { limit: row.try_get(0)?, key: row.try_get(1)?, capacity })
        };
        rows.iter().map(read).collect()
    }

    /// Gives a key a capacity of its own, in place of the one it had.
    pub async fn set_limit_override(&self, new: &LimitOverride, now: Timestamp) -> Result<(), StorageError> {
        let values = parameters![&new.limit, &new.key, i64::from(new.capacity), now];
        let event = self.override_event(Action::LimitOverrideSet, &new.limit, &new.key, Some(new.capacity));
        self.change_override(SET_LIMIT_OVERRIDE, values, event).await.map(|_| ())
    }

    /// Takes a key's own capacity away; `false` if it has none.
    pub async fn remove_limit_override(&self, limit: &str, key: &str) -> Result<bool, StorageError> {
        let event = self.override_event(Action::LimitOverrideRemoved, limit, key, None);
        self.change_override(REMOVE_LIMIT_OVERRIDE, parameters![limit, key], event).await
    }

    /// Notes that what was used of limits is about to be forgotten. It is counted in the other store, so the events come
    /// first: no reset is without its event, though one that fails has its event too.
    pub async fn note_limit_resets(&self, used: &[LimitUse]) -> Result<(), StorageError> {
        let event = |each: &LimitUse| {
            let detail = json!({"limit": each.limit, "key": each.key, "used": each.used});
            self.limit_event(Action::LimitReset, &each.key, detail)
        };
        let events: Vec<Event> = used.iter().map(event).collect();
        let (dialect, noted) = (self.dialect, events.clone());
        let work = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                for event in &noted {
                    append(connection, dialect, event).await?;
                }
                Ok(())
            })
        }));
        work.await?;
        events.iter().for_each(audit::log);
        Ok(())
    }

    fn override_event(&self, action: Action, limit: &str, key: &str, capacity: Option<u32>) -> Event {
        self.limit_event(action, key, json!({"limit": limit, "key": key, "capacity": capacity}))
    }

    /// An event about a key, which is in the trail of the account that it begins with, if it does.
    fn limit_event(&self, action: Action, key: &str, detail: Value) -> Event {
        let account = AccountId::parse(key.split('/').next().unwrap_or(key));
        Event { account, ..self.event(action).detail(detail) }
    }

    async fn change_override(
        &self,
        text: &'static str,
        values: Vec<Parameter>,
        event: Event,
    ) -> Result<bool, StorageError> {
        let (dialect, changed) = (self.dialect, event.clone());
        let work = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if !run_audited(connection, dialect, text, values, &changed).await? {
                    return Ok(false);
                }
                run(connection, COUNT_UP_LIMIT_OVERRIDES.into(), Vec::new()).await?;
                Ok(true)
            })
        }));
        let changed = work.await?;
        if changed {
            audit::log(&event);
        }
        Ok(changed)
    }
}
