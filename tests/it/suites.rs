//! Test suites that others wrote for Pebble, run as they are against Chancery behind the shim of `tests/pebble-shim`.
//! docs/suites.md has what became of each of their tests, written by the whole run; tests/it/suites/reasons.toml says
//! why each that does not pass does not, and may not say it of any other.

mod document;
mod run;

use std::collections::BTreeMap;

use crate::support::foreign;
use run::{Outcome, Suite};

/// Every suite: those of Rust first.
fn suites() -> Vec<Suite> {
    let lego = |name, folder: &'static str, program| Suite {
        name,
        source: "lego-e2e",
        folder,
        program,
        arguments: &["-test.v", "-test.count=1", "-test.timeout=15m"],
        list: &["-test.list", "."],
    };
    vec![
        Suite {
            name: "instant-acme",
            source: "instant-acme",
            folder: "instant-acme",
            program: "suite",
            arguments: &["--include-ignored"],
            list: &["--list"],
        },
        lego("lego e2e", "lego/e2e", "suites/e2e.test"),
        lego("lego e2e/eab", "lego/e2e/eab", "suites/eab.test"),
        lego("lego e2e/configuration", "lego/e2e/configuration", "suites/configuration.test"),
        lego("lego e2e/dnschallenge", "lego/e2e/dnschallenge", "suites/dnschallenge.test"),
    ]
}

/// By suite and test: why it does not pass.
type Reasons = BTreeMap<String, BTreeMap<String, String>>;

fn reasons() -> Reasons {
    toml::from_str(include_str!("suites/reasons.toml")).expect("tables of reasons")
}

/// What a suite's tests did that the reasons do not say, or say of tests that pass.
fn surprises(suite: &str, outcomes: &BTreeMap<String, Outcome>) -> Vec<String> {
    let none = BTreeMap::new();
    let reasons = reasons();
    let known = reasons.get(suite).unwrap_or(&none);
    let unexplained = outcomes
        .iter()
        .filter(|(test, outcome)| **outcome != Outcome::Passed && !known.contains_key(*test))
        .map(|(test, outcome)| format!("{suite}: {test} {}, and nothing says why", outcome.as_str()));
    let stale = known
        .keys()
        .filter(|test| !outcomes.get(*test).is_some_and(|outcome| *outcome != Outcome::Passed))
        .map(|test| format!("{suite}: there is a reason for {test}, which passes or is not there"));
    unexplained.chain(stale).collect()
}

/// Runs one suite.
fn run_one(suite: &Suite) -> run::Ran {
    let (folder, responder) = (foreign::folder_of(suite.source), foreign::folder_of("challtestsrv"));
    let ran = suite.run(&folder, &responder);
    let surprises = surprises(suite.name, &ran.outcomes);
    assert!(surprises.is_empty(), "{}\n{}", surprises.join("\n"), ran.output);
    ran
}

#[test]
#[ignore = "needs tests/foreign/build instant-acme challtestsrv"]
fn instant_acme_passes() {
    let ran = run_one(&suites()[0]);
    assert!(ran.outcomes.len() >= 14, "{:?}", ran.outcomes);
}

/// Minutes: `make test-suites`. Writes docs/suites.md.
#[test]
#[ignore = "takes minutes: make test-suites"]
fn the_whole_run() {
    let mut all = Vec::new();
    for suite in suites() {
        let ran = run_one(&suite);
        eprintln!("{}: {} tests in {:?}", suite.name, ran.outcomes.len(), ran.took);
        all.push((suite.name, ran));
    }
    document::write(&all, &reasons());
}

#[test]
fn the_table_and_the_reasons_agree() {
    let recorded = document::read();
    let names: Vec<&str> = suites().iter().map(|suite| suite.name).collect();
    assert_eq!(
        recorded.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        names.iter().copied().collect(),
        "docs/suites.md (left) and the suites that are run"
    );
    let reasons = reasons();
    assert!(reasons.keys().all(|suite| recorded.contains_key(suite)), "reasons are of suites that are run");
    for (suite, outcomes) in &recorded {
        let surprises = surprises(suite, outcomes);
        assert!(surprises.is_empty(), "docs/suites.md: {}", surprises.join("\n"));
    }
}
