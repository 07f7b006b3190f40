//! Capacities that an operator gave to single keys, as this replica last read them from the database.

use std::collections::HashMap;

use arc_swap::ArcSwap;

use super::names::Limit;

/// The overrides in force in this replica.
#[derive(Debug, Default)]
pub(super) struct Overrides(ArcSwap<Table>);

#[derive(Debug, Default)]
struct Table {
    version: Option<i64>,
    capacities: HashMap<(Limit, String), u32>,
}

impl Overrides {
    /// The version that was read; nothing before the first.
    pub(super) fn version(&self) -> Option<i64> {
        self.0.load().version
    }

    /// Replaces all.
    pub(super) fn store(&self, version: i64, all: impl IntoIterator<Item = (Limit, String, u32)>) {
        let capacities = all.into_iter().map(|(limit, key, capacity)| ((limit, key), capacity)).collect();
        self.0.store(Table { version: Some(version), capacities }.into());
    }

    /// The capacity of a key, if it has one of its own.
    pub(super) fn of(&self, limit: Limit, key: &str) -> Option<u32> {
        let table = self.0.load();
        // Most fleets have none: no key is copied to find that out.
        if table.capacities.is_empty() {
            return None;
        }
        table.capacities.get(&(limit, key.to_owned())).copied()
    }
}
