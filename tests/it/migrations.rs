//! Migrations only add: a program that does not know one goes on beside it (migrations/README.md).

use std::collections::{BTreeMap, BTreeSet};

/// What does more than add, by file and beginning, with the reason why it may.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "0002_limits.postgres.sql",
        "CREATE FUNCTION chancery_active_orders(",
        "no earlier program calls a function of this name",
    ),
    (
        "0013_exempted.postgres.sql",
        "CREATE FUNCTION chancery_active_orders(",
        "no earlier program calls a function of this name with four parameters",
    ),
];

/// The statements of a migration, without comments, each in one line. What stands between `$$` is one word.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let (mut statements, mut current) = (Vec::new(), String::new());
    for (index, part) in code.join("\n").split("$$").enumerate() {
        if index % 2 == 1 {
            current += "$body$";
            continue;
        }
        let mut pieces = part.split(';');
        current += pieces.next().unwrap_or_default();
        for piece in pieces {
            statements.push(std::mem::replace(&mut current, piece.to_owned()));
        }
    }
    statements.push(current);
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    statements.into_iter().map(words).filter(|statement| !statement.is_empty()).collect()
}

/// The first word of `text` that may be a name.
fn name(text: &str) -> &str {
    text.trim_start().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Why a program that does not know this statement may stumble over what it does; `None` if it only adds. `new` are the
/// tables that this migration has made so far.
fn objection(statement: &str, new: &mut BTreeSet<String>) -> Option<&'static str> {
    let text = statement.to_uppercase();
    let after = |start: &str| text.strip_prefix(start);
    if let Some(rest) = after("CREATE TABLE ") {
        new.insert(name(rest).to_owned());
        return None;
    }
    if let Some(rest) = after("CREATE INDEX ").or_else(|| after("CREATE UNIQUE INDEX ")) {
        let table = rest.split_once(" ON ").map_or("", |(_, table)| name(table));
        let narrows = text.starts_with("CREATE UNIQUE") && !new.contains(table);
        return narrows.then_some("what was allowed before is refused");
    }
    if let Some(rest) = after("INSERT INTO ").or_else(|| after("UPDATE ")) {
        return (!new.contains(name(rest))).then_some("it changes rows that others work on");
    }
    let Some(rest) = after("ALTER TABLE ") else { return Some("it does not only add") };
    let (table, change) = rest.split_once(' ').unwrap_or_default();
    if new.contains(table) {
        return None;
    }
    let Some(column) = change.strip_prefix("ADD COLUMN ") else { return Some("it does not only add") };
    let has = |word: &str| format!(" {column} ").contains(word);
    if column.contains(", ") {
        return Some("a statement adds one column");
    }
    if has(" NOT NULL ") && !has(" DEFAULT ") {
        return Some("rows of a program that does not know the column have no value for it");
    }
    ["UNIQUE", "PRIMARY KEY", "REFERENCES", "CHECK", "GENERATED"]
        .iter()
        .any(|word| has(&format!(" {word} ")) || has(&format!(" {word}(")))
        .then_some("a column that others do not write has no conditions")
}

/// The migrations after the first, both stores', in the order in which they run.
fn migrations() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let files = std::fs::read_dir(folder).expect("the migrations").map(|file| file.expect("a file").path());
    let named = files.filter(|path| path.extension().is_some_and(|end| end == "sql")).map(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        (name, std::fs::read_to_string(path).expect("readable"))
    });
    named.filter(|(name, _)| !name.starts_with("0001_")).collect()
}

#[test]
fn migrations_only_add() {
    let (mut bad, mut seen, mut excepted) = (Vec::new(), 0, BTreeSet::new());
    for (file, text) in migrations() {
        let mut new = BTreeSet::new();
        for statement in statements(&text) {
            seen += 1;
            let exception =
                EXCEPTIONS.iter().position(|(of, start, _)| file == *of && statement.starts_with(start));
            if let Some(exception) = exception {
                excepted.insert(exception);
            } else if let Some(why) = objection(&statement, &mut new) {
                bad.push(format!("{file}: {statement}: {why}"));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(seen > 20, "they were read: {seen}");
    assert_eq!(excepted.len(), EXCEPTIONS.len(), "each exception is one");
}

#[test]
fn every_migration_is_run() {
    let known = include_str!("../../src/storage/mod.rs");
    for file in migrations().keys() {
        assert!(known.contains(&format!("migrations/{file}\")")), "{file}");
    }
}

#[test]
fn what_does_not_only_add_is_seen() {
    for (text, adds) in [
        ("ALTER TABLE orders ADD COLUMN x TEXT;", true),
        ("ALTER TABLE orders ADD COLUMN x BIGINT NOT NULL DEFAULT 0;", true),
        ("-- Only; words\nCREATE INDEX i ON orders (x, y) WHERE x = 1;", true),
        (
            "CREATE TABLE t (x TEXT NOT NULL); CREATE UNIQUE INDEX i ON t (x); INSERT INTO t VALUES ('a');",
            true,
        ),
        ("CREATE TABLE t (x TEXT); UPDATE t SET x = 'a'; ALTER TABLE t ADD COLUMN y TEXT NOT NULL;", true),
        ("ALTER TABLE orders ADD COLUMN x BIGINT NOT NULL;", false),
        ("ALTER TABLE orders ADD COLUMN x TEXT, DROP COLUMN y;", false),
        ("ALTER TABLE orders ADD COLUMN x TEXT UNIQUE;", false),
        ("ALTER TABLE orders ADD COLUMN x TEXT CHECK (x <> '');", false),
        ("alter table orders drop column serial;", false),
        ("ALTER TABLE orders ALTER COLUMN error SET NOT NULL;", false),
        ("ALTER TABLE orders RENAME COLUMN error TO fault;", false),
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (claims < 9);", false),
        ("CREATE UNIQUE INDEX i ON orders (serial);", false),
        ("UPDATE orders SET claims = 0;", false),
        ("DELETE FROM replicas;", false),
        ("DROP INDEX orders_active;", false),
        ("CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION f();", false),
        ("CREATE FUNCTION f() RETURNS BIGINT LANGUAGE sql AS $$ SELECT 1; $$;", false),
        ("CREATE TABLE t (x TEXT); DROP TABLE orders;", false),
    ] {
        let mut new = BTreeSet::new();
        let objections: Vec<_> =
            statements(text).iter().filter_map(|statement| objection(statement, &mut new)).collect();
        assert_eq!(objections.is_empty(), adds, "{text}: {objections:?}");
    }
    assert_eq!(statements("A $$ b; c $$ d; -- e;\nF").len(), 2);
}
