//! Reads the identifiers of a request and holds them against the profile: all bad ones are told at once (ORD-03).

use std::collections::HashSet;

use super::refusal::{Refusal, ServiceError};
use super::{DEFAULT_PROFILE, Services};
use crate::acme::identifier::Identifier;
use crate::acme::message::RawIdentifier;
use crate::acme::problem::Subproblem;
use crate::acme::profile::Profile;
use crate::policy;

/// How many identifiers an order may have (ORD-02).
pub const MAX_IDENTIFIERS: usize = 100;

impl Services {
    /// The profile that a request is bound to: the one it names, else its directory's, else the default.
    pub fn profile(&self, named: Option<&str>, directory: Option<&str>) -> Result<&Profile, ServiceError> {
        let name = named.or(directory).unwrap_or(DEFAULT_PROFILE);
        let shown = || name.chars().take(64).collect();
        self.profiles.get(name).ok_or_else(|| Refusal::InvalidProfile(shown()).into())
    }
}

/// Normalises, folds duplicates and checks; the order of the first occurrences is kept (ORD-16).
pub fn read(
    services: &Services,
    raw: &[RawIdentifier],
    profile: &Profile,
) -> Result<Vec<Identifier>, ServiceError> {
    if raw.is_empty() {
        return Err(Refusal::Malformed("an order needs at least one identifier".to_owned()).into());
    }
    if raw.len() > MAX_IDENTIFIERS {
        let detail =
            format!("an order may have at most {MAX_IDENTIFIERS} identifiers, this one has {}", raw.len());
        return Err(Refusal::Malformed(detail).into());
    }
    let mut seen = HashSet::new();
    let mut identifiers = Vec::new();
    let mut problems = Vec::new();
    for each in raw {
        match Identifier::parse(&each.kind, &each.value) {
            Err(error) => problems.push(Refusal::identifier(&each.kind, &each.value, &error)),
            Ok(identifier) => match policy::names::check(&identifier, profile, &services.settings.ours) {
                Err(refusal) => {
                    problems.push(Subproblem::of(refusal.kind(), refusal.to_string(), &identifier))
                }
                Ok(()) if seen.insert(identifier.clone()) => identifiers.push(identifier),
                Ok(()) => {}
            },
        }
    }
    if problems.is_empty() { Ok(identifiers) } else { Err(Refusal::Identifiers(problems).into()) }
}
