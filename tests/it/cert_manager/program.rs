//! The program that holds cert-manager's controllers (tests/foreign/cert-manager), and the API server it starts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::foreign::folder_of;
use crate::support::process::Process;

/// How long anything here may take: an API server starts, a queue backs off, and many programs share few cores.
const LIMIT: Duration = Duration::from_secs(420);

/// Waits for a condition.
pub fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "still waiting after {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The built program, with etcd and the API server.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    etcd: PathBuf,
    api_server: PathBuf,
}

impl Program {
    /// What the cache holds.
    pub fn built() -> Self {
        Self {
            path: folder_of("cert-manager").join("cert-manager"),
            etcd: folder_of("etcd").join("etcd"),
            api_server: folder_of("kube-apiserver").join("kube-apiserver"),
        }
    }

    /// Where it finds the other two.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![
            variable("CHANCERY_TEST_ETCD", &self.etcd),
            variable("CHANCERY_TEST_KUBE_APISERVER", &self.api_server),
        ]
    }

    /// Starts the scenarios of a plan; `home` is the plan's folder.
    pub fn scenarios(&self, plan: &Value, home: &Path) -> Run {
        let file = home.join("plan.json");
        std::fs::write(&file, plan.to_string()).expect("the plan is written");
        let arguments = ["scenarios".to_owned(), file.display().to_string()];
        let log = home.join("log");
        // It ends the API server and etcd when it is told to end.
        let process = Process::start_ending_by("TERM", &self.path, arguments, &self.environment(), &log);
        Run { process, home: home.to_owned() }
    }
}

/// A run of scenarios.
pub struct Run {
    process: Process,
    home: PathBuf,
}

impl Run {
    /// Waits until a scenario has got to the moment that both sides meet at.
    pub fn asked(&self, scenario: &str) {
        let file = self.home.join(format!("{scenario}.asked"));
        wait(&format!("{scenario} is at its moment"), || {
            assert!(self.process.is_running(), "the program ended:\n{}", self.tail());
            let failed = self.lines().into_iter().find(|line| line.get("error").is_some());
            // What failed comes last: of a long text, the end is what is kept.
            assert!(failed.is_none(), "{}\n{failed:?}", self.tail());
            file.exists()
        });
    }

    /// Lets it go on.
    pub fn go(&self, scenario: &str) {
        self.tell(&format!("{scenario}.go"));
    }

    /// Writes a file that a scenario waits for.
    pub fn tell(&self, file: &str) {
        std::fs::write(self.home.join(file), "").expect("written");
    }

    /// Waits until a scenario is over.
    pub fn has_result(&self, scenario: &str) {
        wait(&format!("{scenario} is over"), || {
            !self.process.is_running() || self.lines().iter().any(|line| line["scenario"] == scenario)
        });
    }

    /// Waits for the end: all results.
    pub fn results(&self) -> Vec<Value> {
        self.process.wait_for_end(LIMIT);
        self.lines()
    }

    /// The results so far; the rest of the log is by cert-manager.
    fn lines(&self) -> Vec<Value> {
        let log = self.process.log();
        let lines = log.lines().filter(|line| line.starts_with("{\"scenario\""));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = self.process.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}
