//! docs/rfc.md is held to the code: what it cites exists, what it lists is tested, and what the code cites is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::floors::files_under;

/// A row of the tables of rules.
struct Row {
    rules: Vec<String>,
    sections: Vec<Citation>,
    files: Vec<String>,
    /// Each with the file that it is in.
    tests: Vec<(String, String)>,
}

/// A number and a section: `RFC 8555 §7.4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Citation {
    rfc: String,
    section: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of docs/rfc.md whose table begins with the column `rule`. `§` without a number before it is of the RFC that
/// the heading names.
fn rows() -> Vec<Row> {
    let (mut rows, mut heading, mut in_table) = (Vec::new(), String::new(), false);
    for line in read(&root().join("docs/rfc.md")).lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = citations(&format!("{title} §0")).first().map_or(String::new(), |c| c.rfc.clone());
            in_table = false;
        }
        in_table |= line.starts_with("| rule |");
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !in_table || !line.starts_with("| ") || cells[0] == "rule" || cells[0] == "---" {
            continue;
        }
        let [rules, sections, requirement, files, tests, _note] = cells.as_slice() else {
            panic!("not six columns: {line}");
        };
        assert!(!requirement.is_empty(), "{line}");
        let sections = if sections.starts_with("RFC") {
            citations(sections)
        } else {
            citations(&format!("RFC {heading} {sections}"))
        };
        let quoted =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let (mut file, mut named) = (String::new(), Vec::new());
        for word in quoted(tests) {
            if word.contains('/') {
                file = word;
            } else {
                named.push((file.clone(), word));
            }
        }
        let rules = rules.split(' ').filter(|rule| *rule != "—").map(str::to_owned).collect();
        rows.push(Row { rules, sections, files: quoted(files), tests: named });
    }
    assert!(rows.len() > 80, "the tables were found: {}", rows.len());
    rows
}

/// `RFC 8555 §7.4`, and the sections that are listed after it: `RFC 7518 §6.2, §6.3 and §6.4`.
fn citations(text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for rest in text.split("RFC ").skip(1) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (rfc, mut rest) = rest.split_at(digits);
        loop {
            let separators = [", §", " and §", " to §", "; §", " §"];
            let Some(after) = separators.iter().find_map(|separator| rest.strip_prefix(separator)) else {
                break;
            };
            let length = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'.').count();
            let section = after[..length].trim_end_matches('.').to_owned();
            found.push(Citation { rfc: rfc.to_owned(), section });
            rest = &after[length..];
        }
    }
    found
}

/// A source file's text with its comments run together, so that a citation may be broken across lines.
fn running_text(path: &Path) -> String {
    let lines = read(path);
    let plain =
        lines.lines().map(|line| line.trim().trim_start_matches("//").trim_start_matches(['/', '!']).trim());
    plain.collect::<Vec<_>>().join(" ")
}

fn sources(folders: &[&str]) -> Vec<PathBuf> {
    folders.iter().flat_map(|folder| files_under(&root().join(folder))).collect()
}

/// The tests that run, each with its file: functions below `#[test]` or `#[tokio::test]` and those of `wire_tests!`.
pub fn tests() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for file in sources(&["src", "tests"]) {
        let path = file.strip_prefix(root()).expect("under the root").display().to_string();
        let (mut marked, mut listed) = (false, false);
        for line in read(&file).lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(name) = function(line) {
                if std::mem::take(&mut marked) {
                    found.insert((path.clone(), name));
                }
            } else if line == "wire_tests! {" {
                listed = true;
            } else if line == "}" {
                listed = false;
            } else if listed {
                let name = line.rsplit(' ').next().unwrap_or(line);
                found.insert((path.clone(), name.trim_end_matches(';').to_owned()));
            }
        }
    }
    found
}

fn function(line: &str) -> Option<String> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split_once('(').map(|(name, _)| name.to_owned())
}

/// The ids in a test's name: `NON-05` and `NON-06` of `non_05_non_06_redis_keeps`.
fn rules_of(test: &str) -> Vec<String> {
    let words: Vec<&str> = test.split('_').collect();
    let is_id = |pair: &&[&str]| {
        pair[0].len() == 3 && pair[1].len() == 2 && pair[1].bytes().all(|byte| byte.is_ascii_digit())
    };
    let pairs = words.chunks_exact(2).take_while(is_id);
    pairs.map(|pair| format!("{}-{}", pair[0].to_uppercase(), pair[1])).collect()
}

#[test]
fn cited_files_and_tests_exist() {
    let tests = tests();
    let mut wrong = BTreeSet::new();
    for row in rows() {
        wrong.extend(row.files.into_iter().filter(|file| !root().join(file).is_file()));
        let missing = row.tests.into_iter().filter(|test| !tests.contains(test));
        wrong.extend(missing.map(|(file, test)| format!("{test} in {file}")));
    }
    assert!(wrong.is_empty(), "docs/rfc.md cites what is not there: {wrong:#?}");
}

#[test]
fn every_listed_rule_is_tested_and_every_tested_rule_is_listed() {
    let mut cited: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows() {
        for rule in &row.rules {
            let count = row.tests.iter().filter(|(_, test)| rules_of(test).contains(rule)).count();
            *cited.entry(rule.clone()).or_default() += count;
        }
    }
    let untested: Vec<_> = cited.iter().filter(|(_, count)| **count == 0).map(|(rule, _)| rule).collect();
    assert!(untested.is_empty(), "no test is cited for {untested:?}");
    let tested: BTreeSet<String> = tests().iter().flat_map(|(_, test)| rules_of(test)).collect();
    let unlisted: Vec<_> = tested.iter().filter(|rule| !cited.contains_key(*rule)).collect();
    assert!(unlisted.is_empty(), "docs/rfc.md does not list {unlisted:?}");
}

#[test]
fn every_function_named_after_a_rule_runs() {
    let run: BTreeSet<String> = tests().into_iter().map(|(_, test)| test).collect();
    let mut idle = Vec::new();
    for file in sources(&["src", "tests"]) {
        let text = read(&file);
        let named = text.lines().filter_map(|line| function(line.trim()));
        idle.extend(named.filter(|name| !rules_of(name).is_empty() && !run.contains(name)));
    }
    assert!(idle.is_empty(), "these are neither marked as tests nor listed in wire_tests!: {idle:?}");
}

#[test]
fn every_cited_section_is_in_the_table() {
    let listed: BTreeSet<Citation> = rows().into_iter().flat_map(|row| row.sections).collect();
    let covered = |citation: &Citation| {
        let parents = citation.section.match_indices('.').map(|(at, _)| &citation.section[..at]);
        let mut candidates = parents.chain([citation.section.as_str()]);
        candidates.any(|section| {
            listed.contains(&Citation { rfc: citation.rfc.clone(), section: section.to_owned() })
        })
    };
    let mut missing = BTreeSet::new();
    for file in sources(&["src"]) {
        let cited = citations(&running_text(&file));
        missing.extend(cited.into_iter().filter(|citation| !covered(citation)));
    }
    assert!(missing.is_empty(), "no row of docs/rfc.md has {missing:#?}");
}

#[test]
fn citations_have_one_spelling() {
    let mut wrong = Vec::new();
    for file in sources(&["src", "tests", "loadtest"]) {
        let text = running_text(&file);
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        if shown == "tests/it/rfc.rs" {
            continue;
        }
        wrong.extend(misspelt(&text).into_iter().map(|excerpt| format!("{shown}: {excerpt}")));
    }
    assert!(wrong.is_empty(), "write `RFC 8555 §7.4`:\n{}", wrong.join("\n"));
}

/// `RFC8555`, `RFC-8555`, `rfc 8555`, `RFC 8555, section 7`, `Section 7`.
fn misspelt(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let excerpt = |at: usize| text[at..].chars().take(40).collect::<String>();
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices("rfc") {
        let (word, after) = (&text[at..at + 3], &text[at + 3..]);
        // Names such as `parse_rfc3339` and `Rfc3339` are no citations.
        let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let number = |rest: &str| {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            // Nor is a variable such as lego's `RFC2136_NAMESERVER`.
            digits > 0 && !rest[digits..].starts_with('_')
        };
        let together = word == "RFC" && number(after.trim_start_matches('-')) && begins;
        let small = word == "rfc" && number(after.trim_start()) && after.starts_with(' ') && begins;
        if together || small {
            wrong.push(excerpt(at));
        }
    }
    for word in ["section ", "sec. "] {
        let numbered = lower
            .match_indices(word)
            .filter(|(at, _)| lower[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()));
        wrong.extend(numbered.map(|(at, _)| excerpt(at)));
    }
    wrong
}

#[test]
fn this_test_reads_what_people_write() {
    let found = citations("see RFC 7518 §6.2.2, §6.3.2 and §6.4; RFC 1918; (RFC 8555 §11.3). §5 is none");
    let shown: Vec<_> = found.iter().map(|c| format!("{} {}", c.rfc, c.section)).collect();
    assert_eq!(shown, ["7518 6.2.2", "7518 6.3.2", "7518 6.4", "8555 11.3"]);
    assert_eq!(rules_of("non_05_non_06_redis_keeps"), ["NON-05", "NON-06"]);
    assert!(rules_of("a_test_of_nothing").is_empty());
    assert!(misspelt("RFC 8555 §7.4 parse_rfc3339 Rfc3339 follow_rfc_9773 a section of").is_empty());
    for wrong in ["RFC8555 §7", "RFC-8555", "rfc 8555", "RFC 8555, Section 7.4", "see section 7"] {
        assert_eq!(misspelt(wrong).len(), 1, "{wrong}");
    }
}
