//! Programs by others that no Debian package has: `tests/foreign/build NAME` builds each into a cache outside the
//! checkout. A test that needs one is ignored, and says so where a run lists its tests:
//! `#[ignore = "needs tests/foreign/build NAME"]`. `make test` then runs those whose programs are in the cache
//! (`tests/foreign/run-built`).

use std::path::PathBuf;
use std::process::Command;

/// The folder that holds the built program `name`.
///
/// # Panics
/// Where it was not built.
pub fn folder_of(name: &str) -> PathBuf {
    folder_if_built(name).unwrap_or_else(|| panic!("{name} is not built: tests/foreign/build {name}"))
}

/// The folder that holds the built program `name`, where it was built: for a test that has more to do than that.
pub fn folder_if_built(name: &str) -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/build");
    let output = Command::new(script).args(["--where", name]).output().expect("the script starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end());
    folder.is_dir().then_some(folder)
}
