//! A server that a test starts: on its own log file, ended by process id when dropped, and also when the test
//! process itself is gone (a shell holds the other end of a pipe and kills the server when it closes).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::run::with_log;

/// A signal to the whole process group, such as that of a terminal, must not end the shell before its work is done.
const KEEPER: &str = r#"trap : TERM INT HUP; end="$1"; log="$2"; shift 2; "$@" </dev/null >>"$log" 2>&1 & child=$!; echo $child; exec 1>&-; cat >/dev/null; kill -$end $child 2>/dev/null; wait $child 2>/dev/null"#;

/// A running server.
pub struct Process {
    pid: u32,
    started: Instant,
    log: PathBuf,
    keeper: Child,
    /// Held open: when it closes, the keeper kills the server.
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts `program` with `arguments` and the extra `environment`; its output is appended to `log`.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(String, String)],
        log: &Path,
    ) -> Self {
        Self::start_ending_by("KILL", program, arguments, environment, log)
    }

    /// As `start`, but the signal named `end` stops it when it is no longer wanted: for servers that would leave
    /// something behind on the machine if they were killed.
    pub fn start_ending_by<A: AsRef<std::ffi::OsStr>>(
        end: &str,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(String, String)],
        log: &Path,
    ) -> Self {
        File::options().create(true).append(true).open(log).expect("the log can be opened");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", end])
            .arg(log)
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut first = String::new();
        BufReader::new(keeper.stdout.take().expect("piped")).read_line(&mut first).expect("a process id");
        let pid = first.trim().parse().expect("a process id");
        let lifeline = keeper.stdin.take();
        Self { pid, started: Instant::now(), log: log.to_owned(), keeper, lifeline }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What the server has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name, such as `TERM`, `KILL`, `STOP` or `CONT`. After `STOP`, every thread stands still.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill -{name} {} failed", self.pid);
        while name == "STOP" && self.is_running() && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the server still runs.
    pub fn is_running(&self) -> bool {
        state(&format!("/proc/{}/stat", self.pid)).is_some_and(|state| state != 'Z')
    }

    /// Whether a signal keeps the server, every thread of it, from running.
    pub fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        let mut threads = threads.flatten().peekable();
        threads.peek().is_some()
            && threads.all(|thread| state(&thread.path().join("stat").display().to_string()) == Some('T'))
    }

    /// The exit status of a server that has ended; 128 and the signal's number if a signal ended it.
    pub fn exit_code(mut self) -> Option<i32> {
        drop(self.lifeline.take());
        self.keeper.wait().ok()?.code()
    }

    /// Waits until the server has ended by itself or by a signal.
    pub fn wait_for_end(&self, limit: Duration) {
        let start = Instant::now();
        while self.is_running() {
            assert!(
                start.elapsed() < limit,
                "{}",
                with_log(format!("process {} still runs", self.pid), &self.log())
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The state in a `stat` file of /proc: the letter behind the name, which is in parentheses.
fn state(path: &str) -> Option<char> {
    std::fs::read_to_string(path).ok()?.rsplit(')').next()?.trim_start().chars().next()
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.keeper.wait();
    }
}
