//! Programs by others that no Debian package has: `tests/foreign/build NAME` builds each into a cache outside the
//! checkout. Where the cache is warm, the tests run; where it is not, they say so loudly and pass, unless
//! `CHANCERY_TEST_FOREIGN=required` asks for them.

use std::path::PathBuf;
use std::process::Command;

/// The folder that holds the built program `name`; none, said loudly on standard error, where it was not built.
///
/// # Panics
/// Where it was not built and `CHANCERY_TEST_FOREIGN=required`.
pub fn folder_of(name: &str) -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/build");
    let output = Command::new(script).args(["--where", name]).output().expect("the script starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end());
    if folder.is_dir() {
        return Some(folder);
    }
    let wanted = std::env::var("CHANCERY_TEST_FOREIGN").is_ok_and(|value| value == "required");
    assert!(!wanted, "{name} is not built: tests/foreign/build {name}");
    not_run(name, &format!("it is not in the cache; `tests/foreign/build {name}` builds it"));
    None
}

/// Says on the standard error of the whole run, which the test harness does not hold back, that a test did not run.
pub fn not_run(what: &str, why: &str) {
    use std::io::Write;
    // `eprintln!` would be captured with the output of a test that passes.
    let line = format!("\n*** NOT RUN: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}
