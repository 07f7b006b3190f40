//! How a suite is run: its own program, in a network of its own, since suites want fixed ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::run::folder;

/// How long a suite may take, in seconds; the longest takes two minutes on a machine with other work.
const LIMIT: &str = "1200";

/// A suite and how it is started.
pub struct Suite {
    /// What the document calls it.
    pub name: &'static str,
    /// The folder of `tests/foreign` that builds it.
    pub source: &'static str,
    /// Where it runs, in what was built.
    pub folder: &'static str,
    /// Its program there.
    pub program: &'static str,
    /// What runs all its tests.
    pub arguments: &'static [&'static str],
    /// What lists them.
    pub list: &'static [&'static str],
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Failed,
    Passed,
    Skipped,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::Skipped => "skipped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Failed, Self::Passed, Self::Skipped].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// A suite that has run.
pub struct Ran {
    pub outcomes: BTreeMap<String, Outcome>,
    pub output: String,
    pub took: Duration,
}

impl Suite {
    /// Runs it as it was built in `built`, with the challenge responder in `responder`.
    ///
    /// # Panics
    /// Where a test that it lists did not run.
    pub fn run(&self, built: &Path, responder: &Path) -> Ran {
        let home = folder("suite");
        let wrappers = wrappers(&home, responder);
        let listed = listed(&finish(self.command(built, &wrappers, &home).args(self.list)));
        let log = home.join("output");
        let output = File::create(&log).expect("a file");
        let started = Instant::now();
        let mut command = self.command(built, &wrappers, &home);
        command.args(self.arguments).stdin(Stdio::null());
        // What the suite says on standard error comes between the lines that count.
        command.stdout(output).stderr(File::create(home.join("errors")).expect("a file"));
        command.status().expect("timeout starts");
        let took = started.elapsed();
        let output = std::fs::read_to_string(&log).expect("what the suite said");
        let outcomes = outcomes(&output);
        let ran: BTreeSet<String> = outcomes.keys().cloned().collect();
        assert_eq!(ran, listed, "{}: the tests that ran, and those that there are\n{output}", self.name);
        Ran { outcomes, output, took }
    }

    fn command(&self, built: &Path, wrappers: &Path, home: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT, concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/on-loopback")]);
        command.arg(built.join(self.program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(wrappers.to_owned()).chain(std::env::split_paths(&path)));
        command.current_dir(built.join(self.folder)).env("PATH", path.expect("a path"));
        command.env("PEBBLE", wrappers.join("pebble"));
        command.env("CHALLTESTSRV", wrappers.join("pebble-challtestsrv"));
        // lego's suite builds lego: by what is there, since there is no network.
        command.env("LEGO_E2E_TESTS", "CI").env("GOPROXY", "off").env("TMPDIR", home);
        let flags = std::fs::read_to_string(built.join("goflags")).unwrap_or_default();
        command.env("GOFLAGS", format!("{flags} -modfile={}", built.join("lego.mod").display()));
        command
    }
}

/// Runs a command that must succeed: what it wrote to its standard output.
fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {command:?}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A folder with the programs that suites start, each of which writes to a log of its own: their standard output is
/// the suite's otherwise.
fn wrappers(home: &Path, responder: &Path) -> PathBuf {
    let wrappers = home.join("programs");
    std::fs::create_dir(&wrappers).expect("a folder");
    let shim = Path::new(env!("CARGO_BIN_EXE_chancery")).with_file_name("pebble");
    assert!(shim.is_file(), "there is no {}; `cargo test` makes it", shim.display());
    for (name, program) in [("pebble", shim), ("pebble-challtestsrv", responder.join("pebble-challtestsrv"))]
    {
        let log = home.join(name).with_extension("log");
        let body = format!("exec '{}' \"$@\" >>'{}' 2>&1\n", program.display(), log.display());
        let wrapper = wrappers.join(name);
        std::fs::write(&wrapper, format!("#!/bin/sh\n{body}")).expect("written");
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("its owner");
    }
    wrappers
}

/// The names in `name: test` (Rust) and `TestName` (Go).
fn listed(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let rust = line.strip_suffix(": test");
        rust.or_else(|| Some(line).filter(|line| line.starts_with("Test"))).map(str::to_owned)
    };
    text.lines().filter_map(name).collect()
}

/// What `test name ... ok` (Rust) and `--- PASS: TestName (0.08s)` (Go) say.
fn outcomes(text: &str) -> BTreeMap<String, Outcome> {
    let rust = |line: &str| {
        let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let outcome = match word.split(',').next()? {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "ignored" => Outcome::Skipped,
            _ => return None,
        };
        Some((name.to_owned(), outcome))
    };
    let go = |line: &str| {
        let (word, rest) = line.strip_prefix("--- ")?.split_once(": ")?;
        let outcome = match word {
            "PASS" => Outcome::Passed,
            "FAIL" => Outcome::Failed,
            "SKIP" => Outcome::Skipped,
            _ => return None,
        };
        Some((rest.split(' ').next()?.to_owned(), outcome))
    };
    text.lines().filter_map(|line| rust(line).or_else(|| go(line))).collect()
}

#[test]
fn outcomes_are_read_in_both_languages() {
    let text = "test a ... ok\ntest b ... FAILED\ntest c ... ignored, why\n    --- PASS: TestX/sub (0.00s)\n\
                --- PASS: TestX (0.08s)\n--- SKIP: TestY (0.00s)\ntest result: FAILED. 1 passed\n";
    let read = outcomes(text);
    let found: Vec<_> = read.iter().map(|(name, outcome)| (name.as_str(), outcome.as_str())).collect();
    let expected =
        [("TestX", "passed"), ("TestY", "skipped"), ("a", "passed"), ("b", "failed"), ("c", "skipped")];
    assert_eq!(found, expected);
    let names: Vec<String> =
        listed("a: test\nTestX\nok  \tpackage\n3 tests, 0 benchmarks\n").into_iter().collect();
    assert_eq!(names, ["TestX", "a"]);
}
