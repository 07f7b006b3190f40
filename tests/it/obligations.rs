//! What clients rely on beyond the letter of RFC 8555. `docs/clients.md` lists it, O1 to O30; for each line there is a test
//! here that speaks to three replicas as the client it protects does, and minds what that client minds.

mod accounts;
mod bodies;
mod challenges;
mod codes;
mod headers;
mod nonces;
mod order_life;
mod overload;
mod transport;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::rfc;
use crate::support::chancery::{Deployment, Kind};
use crate::support::run::runtime;

/// Runs a test on the fleet of three that most tests share.
fn on_the_fleet(test: impl AsyncFnOnce(Arc<Deployment>)) {
    on(Deployment::shared(Kind::Fleet), test);
}

/// Runs a test on a fleet of three.
fn on(server: Arc<Deployment>, test: impl AsyncFnOnce(Arc<Deployment>)) {
    assert_eq!((server.kind, server.size()), (Kind::Fleet, 3), "obligations are kept by fleets");
    runtime().block_on(test(server));
}

/// How many obligations there are.
const COUNT: usize = 30;

/// The table of `docs/clients.md`: the tests that each obligation names.
fn listed() -> BTreeMap<usize, Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let page = std::fs::read_to_string(page).expect("docs/clients.md");
    let mut found = BTreeMap::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| O")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [id, obligation, clients, tests] = cells.as_slice() else { panic!("not four columns: {row}") };
        assert!(!obligation.is_empty() && !clients.is_empty(), "{row}");
        let id = id.parse().unwrap_or_else(|_| panic!("no number: {row}"));
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(found.insert(id, tests).is_none(), "O{id} is listed twice");
    }
    found
}

#[test]
fn every_obligation_is_listed_with_all_its_tests() {
    let listed = listed();
    assert!(listed.keys().copied().eq(1..=COUNT), "O1 to O{COUNT}: {:?}", listed.keys());
    let here = |file: &str| file.starts_with("tests/it/obligations/");
    let tests: Vec<String> =
        rfc::tests().into_iter().filter(|(file, _)| here(file)).map(|test| test.1).collect();
    for (id, named) in listed {
        let prefix = format!("o{id:02}_");
        let mut written: Vec<&String> = tests.iter().filter(|test| test.starts_with(&prefix)).collect();
        let mut named: Vec<&String> = named.iter().collect();
        written.sort();
        named.sort();
        assert!(!written.is_empty(), "O{id} has no test");
        assert_eq!(named, written, "O{id}: docs/clients.md (left) and tests/it/obligations (right)");
    }
    let stray: Vec<_> = tests.iter().filter(|test| !test.starts_with('o')).collect();
    assert!(stray.is_empty(), "tests of no obligation: {stray:?}");
}
