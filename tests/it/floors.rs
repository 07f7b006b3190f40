//! The house has floors: a room imports rooms on floors below its own, and no neighbour.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every room of `src`, floor by floor. The last is the roof, whose rooms may import each other.
const FLOORS: [&[&str]; 6] = [
    &["acme"],
    &["jose", "pki", "storage", "admission", "network", "peers"],
    &["policy", "limits", "validation"],
    &["service"],
    &["http", "worker"],
    &["config", "cli", "telemetry", "listener", "server", "status", "main", "lib"],
];

const ROOF: usize = FLOORS.len() - 1;

#[test]
fn rooms_import_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let files = files_under(&source);
    assert!(files.len() > 10, "the source was found: {files:?}");
    for file in files {
        let path = file.strip_prefix(&source).expect("under src").to_owned();
        let first = path.iter().next().and_then(|part| part.to_str()).expect("a name");
        let room = first.trim_end_matches(".rs").to_owned();
        let Some(floor) = floor_of(&room) else {
            wrong.push(format!("{}: the room {room:?} is on no floor", path.display()));
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("readable");
        for imported in imports(&text) {
            let allowed =
                imported == room || floor == ROOF || floor_of(&imported).is_some_and(|other| other < floor);
            if !allowed {
                wrong.push(format!("{} (floor {floor}) imports {imported}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "
        use crate::acme::time::Clock; // crate::server is only spoken of
        /// See [`crate::http`].
        use crate::{jose::{Jws, Error}, pki, storage::*};
        fn f() { crate::network::connect(); pub(crate) }
        use super::sibling;
    ";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["acme", "jose", "network", "pki", "storage"]);
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that `text` names after `crate::`, outside comments.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_members(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

/// The first identifier of each member of `a::b, c::{d, e}, f}`.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut member, mut members) = (0, String::new(), Vec::new());
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(std::mem::take(&mut member)),
            _ => member.push(letter),
        }
    }
    members.push(member);
    members.iter().filter_map(|member| identifier(member.trim())).collect()
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    // `crate::Thing` and macros at the crate's root belong to no room.
    (!name.is_empty() && !text[name.len()..].starts_with('!')).then_some(name)
}

pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
