//! The tested program is the released one: what tests bring along changes no feature of what the program is built from.

use std::collections::BTreeMap;
use std::process::Command;

/// The features of each crate, by name and version, in one resolution.
fn features(arguments: &[&str]) -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"])
        .args(arguments)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().filter_map(|line| line.split_once('|'));
    lines
        .map(|(package, features)| (package.to_owned(), features.trim_end_matches(" (*)").to_owned()))
        .collect()
}

#[test]
fn the_tested_features_are_the_released_ones() {
    let released = features(&["--package", "chancery", "--edges", "normal,build"]);
    // As `make test` builds it.
    let tested = features(&["--features", "faults", "--edges", "normal,build,dev"]);
    assert!(released.len() > 200 && tested.len() > released.len(), "{} {}", released.len(), tested.len());
    let mut differ = Vec::new();
    for (package, features) in released.iter().filter(|(package, _)| !package.starts_with("chancery ")) {
        if tested.get(package) != Some(features) {
            differ.push(format!(
                "{package}: released with {features:?}, tested with {:?}",
                tested.get(package)
            ));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
