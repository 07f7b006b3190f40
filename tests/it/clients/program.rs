//! Programs by others: found, started in a folder of their own, and given two minutes.

use std::path::Path;
use std::process::Command;

/// How long a client may take for one thing it is asked, in seconds; on a machine with nothing else to do it is a few.
const LIMIT: &str = "120";

/// Asserts that a program is installed.
pub fn require(program: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(
        found,
        "{program} is not installed; `make test` installs it and everything else that the tests need"
    );
}

/// The command that runs a client, ended after a while; `home` is its home, so that nothing is left anywhere else.
pub fn client(program: &str, home: &Path) -> Command {
    require(program);
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT, program]).current_dir(home).envs(surroundings(home));
    command
}

/// The environment that every client is given beside its own.
pub fn surroundings(home: &Path) -> Vec<(String, String)> {
    let home = home.display().to_string();
    [("HOME", home.as_str()), ("XDG_CONFIG_HOME", &home), ("XDG_DATA_HOME", &home)]
        .into_iter()
        .chain([("NO_PROXY", "*"), ("no_proxy", "*")])
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Runs a command that must succeed: what it wrote to its standard output.
pub fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {command:?}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The version of an installed Debian package, without what Debian adds to it.
pub fn debian_version(package: &str) -> String {
    let version = finish(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]));
    let version = version.split_once(':').map_or(version.as_str(), |(_, version)| version);
    version.rsplit_once('-').map_or(version, |(version, _)| version).to_owned()
}

/// Runs openssl, which must succeed: what it wrote to its standard output.
pub fn openssl(arguments: &[&str]) -> String {
    require("openssl");
    finish(Command::new("openssl").args(arguments))
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
