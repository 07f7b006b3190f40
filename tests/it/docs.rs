//! The documents are held to the code: metrics, links, and the map.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::floors::files_under;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn metrics_are_documented_and_what_is_documented_is_counted() {
    let mut used = BTreeSet::new();
    for file in files_under(&root().join("src")) {
        let text = std::fs::read_to_string(&file).expect("readable");
        for name in ["counter!(", "gauge!(", "histogram!("] {
            for (_, rest) in text.match_indices(name).map(|(at, _)| text.split_at(at + name.len())) {
                let quoted = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                used.extend(
                    quoted.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("chancery_")),
                );
            }
        }
    }
    assert!(used.len() > 10, "the metrics were found: {used:?}");
    let page = read("docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect();
    assert_eq!(documented, used, "docs/metrics.md (left) and the macros in src (right)");
    for name in words(&page).filter(|word| word.starts_with("chancery_")) {
        assert!(used.contains(&name), "docs/metrics.md speaks of {name}");
    }
}

/// The words of a text that could be names of metrics or variables.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned)
}

/// Every page that is held to the code.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for folder in ["docs", "lua", "migrations", "deploy", "loadtest"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder").flatten();
        found.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    found
}

#[test]
fn links_lead_to_files() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("readable");
        let folder = document.parent().expect("in a folder");
        for target in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
        {
            let path = target.split('#').next().unwrap_or("");
            let elsewhere = target.contains("://") || path.is_empty();
            if !elsewhere && !folder.join(path).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn variables_in_the_documents_are_settings() {
    let mut unknown = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("readable");
        unknown.extend(unknown_variables(&text).iter().map(|name| format!("{}: {name}", document.display())));
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// The names in a text that look like variables of ours, and are none.
pub fn unknown_variables(text: &str) -> Vec<String> {
    let known: BTreeSet<String> = words(&read("docs/configuration.md")).collect();
    let unknown = |name: &String| {
        let of_file = name.strip_suffix("_FILE").is_some_and(|name| known.contains(name));
        // CHANCERY_PROFILES_NAME_KEY has the keys of the default profile.
        let of_profile = name.strip_prefix("CHANCERY_PROFILES_").is_some_and(|rest| {
            known
                .iter()
                .filter_map(|known| known.strip_prefix("CHANCERY_DEFAULT_PROFILE_"))
                .any(|key| rest.strip_suffix(key).is_some_and(|name| name.len() > 1 && name.ends_with('_')))
        });
        // Not settings: what all begin with, and what tests set.
        let of_tests = name == "CHANCERY_" || name.starts_with("CHANCERY_TEST_");
        !known.contains(name) && !of_file && !of_profile && !of_tests
    };
    words(text).filter(|word| word.starts_with("CHANCERY_")).filter(unknown).collect()
}

#[test]
fn the_map_names_every_room_and_only_files_that_exist() {
    let map = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(root().join("src")).expect("src").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        if name != "lib" && !map.contains(&format!("`{name}`")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
    let code = map.split('`').skip(1).step_by(2);
    for path in code.filter(|word| word.contains('/') && !word.contains([' ', ':']) && !word.starts_with('/'))
    {
        let path = path.trim_end_matches("*.rs");
        let exists = root().join(path).exists() || root().join("src").join(path).exists();
        assert!(exists, "ARCHITECTURE.md names {path}");
    }
}
