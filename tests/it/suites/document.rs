//! docs/suites.md: written by the whole run, read by every run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::Reasons;
use super::run::{Outcome, Ran};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/suites.md")
}

const INTRODUCTION: &str = "\
# Suites written for Pebble

<!-- Written by `make test-suites`; a test holds it to tests/it/suites/reasons.toml. -->

Others test their ACME clients against Pebble, a test server. These suites run here as their authors publish them, without a change,
against Chancery: where they start `pebble`, they get [a shim](../tests/pebble-shim/README.md) that takes Pebble's command line and
configuration, and starts Chancery behind it. Each suite runs in a network of its own, with `pebble-challtestsrv` 2.10.1 as name server
and challenge responder where it starts one.

| suite | from | started with |
| --- | --- | --- |
| instant-acme | its crate 0.8.5, built by its own lock file | 5% of nonces spoiled (Pebble's default), `-strict` |
| lego e2e (four packages) | its module v5.6.0, built with its tags `lego_dnslight,lego_dns_exec` and slogor 1.7.0 | 20% of nonces spoiled (its own setting), `-strict` |
";

/// Writes the document.
pub fn write(all: &[(&str, Ran)], reasons: &Reasons) {
    let mut text = INTRODUCTION.to_owned();
    for (suite, ran) in all {
        let count = |wanted| ran.outcomes.values().filter(|outcome| **outcome == wanted).count();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {suite}\n\n{} passed, {} failed, {} skipped, in {} s.\n\n| test | outcome | why |\n| --- | --- | --- |\n",
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Skipped),
            ran.took.as_secs(),
        );
        for (test, outcome) in &ran.outcomes {
            let why = reasons.get(*suite).and_then(|reasons| reasons.get(test)).map_or("", String::as_str);
            let _ = writeln!(text, "| `{test}` | {} | {why} |", outcome.as_str());
        }
    }
    std::fs::write(path(), text).expect("docs/suites.md is written");
}

/// What the document says became of each test of each suite.
pub fn read() -> BTreeMap<String, BTreeMap<String, Outcome>> {
    let text = std::fs::read_to_string(path()).expect("docs/suites.md");
    let mut all: BTreeMap<String, BTreeMap<String, Outcome>> = BTreeMap::new();
    let mut suite = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut suite);
        }
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let test = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        if let (Some(test), Some(outcome)) = (test, cells.next().and_then(Outcome::parse)) {
            all.entry(suite.clone()).or_default().insert(test.to_owned(), outcome);
        }
    }
    all
}
