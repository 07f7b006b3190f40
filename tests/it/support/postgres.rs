//! A Postgres cluster of Debian's packages, on a free port in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::support::process::Process;
use crate::support::run::{folder, free_port, unique, wait_until};

/// One cluster. Every test or deployment makes its own database in it.
pub struct Postgres {
    binaries: PathBuf,
    home: PathBuf,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// The cluster that the tests of this run share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A cluster of its own, for tests that kill or restart it.
    pub fn start() -> Self {
        let postgres = Self {
            binaries: newest_binaries(),
            home: folder("postgres"),
            port: free_port(),
            process: Mutex::new(None),
        };
        if is_root() {
            let owned = Command::new("chown").arg("postgres:postgres").arg(&postgres.home).status();
            assert!(owned.is_ok_and(|s| s.success()), "the folder can be given to postgres");
        }
        let (program, arguments) = as_postgres(&postgres.binaries.join("initdb"));
        let made = Command::new(program)
            .args(arguments)
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(postgres.data())
            .current_dir(&postgres.home)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.run();
        postgres
    }

    /// A new empty database: its URL.
    pub fn database(&self) -> String {
        let name = format!("chancery_{}", unique());
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs SQL by psql in `database` (a name, or a URL of ours): rows a line, columns separated by `|`.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let database = database.rsplit('/').next().unwrap_or(database);
        let done = Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", "127.0.0.1"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .expect("psql starts");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    /// Kills the server and its backends, as a power cut would.
    pub fn kill(&self) {
        let process = self.process.lock().expect("not poisoned").take().expect("running");
        // SIGQUIT to the postmaster is its immediate shutdown: nothing is flushed, the log is replayed at start.
        process.signal("QUIT");
        process.wait_for_end(crate::support::run::SOON);
    }

    /// Stops the server as an administrator does: sessions are ended, transactions rolled back.
    pub fn stop_fast(&self) {
        let process = self.process.lock().expect("not poisoned").take().expect("running");
        process.signal("INT");
        process.wait_for_end(crate::support::run::SOON);
    }

    /// Kills the server if it runs, and starts it again on the same port and data.
    pub fn restart(&self) {
        if self.process.lock().expect("not poisoned").is_some() {
            self.kill();
        }
        self.run();
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn run(&self) {
        let (program, arguments) = as_postgres(&self.binaries.join("postgres"));
        let mut arguments: Vec<String> = arguments.into_iter().collect();
        arguments.extend(["-D".to_owned(), self.data().display().to_string()]);
        for setting in [
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.home.display()),
            "listen_addresses=127.0.0.1".to_owned(),
            // Some fleets live as long as the run, and each replica keeps up to eight.
            "max_connections=400".to_owned(),
            "shared_preload_libraries=pg_stat_statements".to_owned(),
            "shared_buffers=64MB".to_owned(),
        ] {
            arguments.extend(["-c".to_owned(), setting]);
        }
        let log = self.home.join("log");
        let process = Process::start_ending_by("QUIT", program, arguments, &[], &log);
        *self.process.lock().expect("not poisoned") = Some(process);
        wait_until("Postgres takes connections", || {
            let ready = Command::new(self.binaries.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            let running =
                self.process.lock().expect("not poisoned").as_ref().is_some_and(Process::is_running);
            assert!(running, "Postgres ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            ready.is_ok_and(|s| s.success())
        });
    }
}

/// Postgres refuses to run as root, so root becomes its Debian user.
fn as_postgres(program: &Path) -> (PathBuf, Vec<String>) {
    if !is_root() {
        return (program.to_owned(), Vec::new());
    }
    let become_postgres = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let arguments = become_postgres.map(str::to_owned).into_iter().chain([program.display().to_string()]);
    ("setpriv".into(), arguments.collect())
}

fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id starts");
        id.stdout.trim_ascii() == b"0"
    })
}

fn newest_binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's Postgres is installed");
    let found = versions.flatten().map(|v| v.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let version = |bin: &PathBuf| {
        bin.parent().and_then(|v| v.file_name()).and_then(|v| v.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    };
    found.max_by_key(version).expect("Debian's Postgres is installed")
}

/// A lock on a table, until it is dropped.
pub struct TableLock(sqlx::PgConnection);

impl TableLock {
    /// Takes the lock in a transaction of its own; `mode` is Postgres's name of it.
    pub async fn take(database: &str, table: &str, mode: &str) -> Self {
        use sqlx::{AssertSqlSafe, Connection, Executor};
        let mut connection = sqlx::PgConnection::connect(database).await.expect("a connection");
        let text = format!("BEGIN; LOCK TABLE {table} IN {mode} MODE");
        connection.execute(AssertSqlSafe(text)).await.expect("a lock");
        Self(connection)
    }
}
