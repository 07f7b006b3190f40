//! What the Dockerfile copies is what cargo needs to load the workspace and to compile the program. (Whether it compiles,
//! `make container-dry-run` shows: a release build.)

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::docs::{read, root};
use crate::floors::files_under;
use crate::support::run::folder;

/// Whether .dockerignore lets a file of the checkout into the build context: the last line that speaks of it decides.
fn is_let_in(ignore: &str, file: &Path) -> bool {
    let lines = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.fold(true, |let_in, line| match line.strip_prefix('!') {
        Some(path) => let_in || file.starts_with(path),
        None if line == "*" => false,
        None => panic!(".dockerignore: {line} is not known here"),
    })
}

/// All files at or below a path of the checkout, without what cargo builds.
fn found_at(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let entries = entries.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with("target"));
    entries.flat_map(|path| found_at(&path)).collect()
}

/// A folder with what the COPY instructions of the Dockerfile's first stage bring there.
fn copied() -> PathBuf {
    let (home, ignore) = (folder("image"), read(".dockerignore"));
    for line in read("deploy/container/Dockerfile").lines() {
        let Some(words) = line.strip_prefix("COPY ").filter(|words| !words.starts_with("--from=")) else {
            continue;
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        let (target, sources) = words.split_last().expect("words");
        for source in sources {
            let mut count = 0;
            for file in found_at(&root().join(source)) {
                let file = file.strip_prefix(root()).expect("below the root");
                if !is_let_in(&ignore, file) {
                    continue;
                }
                let below = file.strip_prefix(source).expect("below the source");
                let place = match below.as_os_str().is_empty() {
                    true if target.ends_with('/') => {
                        home.join(target).join(file.file_name().expect("a name"))
                    }
                    true => home.join(target),
                    false => home.join(target).join(below),
                };
                std::fs::create_dir_all(place.parent().expect("in a folder")).expect("a folder");
                std::fs::copy(root().join(file), place).expect("copied");
                count += 1;
            }
            assert!(count > 0, "COPY {source}: .dockerignore keeps it out");
        }
    }
    home
}

#[test]
fn the_dockerfile_copies_what_cargo_asks_for() {
    let home = copied();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--locked", "--offline", "--no-deps"]);
    let output = metadata.current_dir(&home).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let workspace: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = workspace["packages"].as_array().expect("packages");
    assert!(packages.len() > 1, "the workspace has members");
    let mut targets = 0;
    for target in packages.iter().flat_map(|package| package["targets"].as_array().expect("targets")) {
        let path = target["src_path"].as_str().expect("a path");
        assert!(Path::new(path).is_file(), "{path} is not copied");
        targets += 1;
    }
    assert!(targets >= 4, "{targets} targets");
    assert!(home.join("Cargo.lock").is_file(), "--locked builds need Cargo.lock");
}

#[test]
fn the_dockerfile_copies_what_the_program_includes() {
    let home = copied();
    let mut count = 0;
    for file in files_under(&home.join("src")) {
        let text = std::fs::read_to_string(&file).expect("readable");
        for part in text.split("include_str!(\"").skip(1) {
            let included = file.with_file_name(part.split('"').next().expect("a name"));
            assert!(included.is_file(), "{} includes {}", file.display(), included.display());
            count += 1;
        }
    }
    assert!(count > 8, "{count} files");
}
