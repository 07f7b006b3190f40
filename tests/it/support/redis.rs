//! A real redis-server on a free port in a temporary folder.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use super::process::Process;
use super::run::{SOON, folder, free_port, wait_until};

/// A running server, or one that was killed and can be started again.
pub(crate) struct RedisServer {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    arguments: Vec<String>,
}

impl RedisServer {
    /// A server that keeps nothing on disk by itself.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more arguments, such as `--replicaof`.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chancery-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut server = Self { process: None, folder, port: free_port(), arguments };
        server.start_again().await;
        server
    }

    /// Starts the killed server again on the same port, with what is in its folder.
    pub(crate) async fn start_again(&mut self) {
        let port = self.port.to_string();
        let folder = self.folder.display().to_string();
        let fixed =
            ["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--save", "", "--appendonly", "no"];
        let first = self.sentinel_file().exists().then(|| self.sentinel_file().display().to_string());
        let all: Vec<String> = match first {
            Some(file) => vec![file, "--sentinel".to_owned()],
            None => fixed.iter().map(|&a| a.to_owned()).chain(self.arguments.clone()).collect(),
        };
        self.process = Some(Process::start("redis-server", all, &[], &self.folder.join("log")));
        let start = Instant::now();
        while self.try_connection().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "no Redis:\n{}", self.process().log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A sentinel that watches `master` under the name `main`.
    pub(crate) async fn start_sentinel(master: &Self) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("chancery-sentinel-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut server = Self { process: None, folder, port: free_port(), arguments: Vec::new() };
        let settings = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
            server.port,
            server.folder.display(),
            master.port
        );
        std::fs::write(server.sentinel_file(), settings).expect("a file");
        server.start_again().await;
        server
    }

    fn sentinel_file(&self) -> PathBuf {
        self.folder.join("sentinel.conf")
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A port for an argument such as `--cluster-port`.
    pub(crate) fn spare_port() -> String {
        free_port().to_string()
    }

    /// The argument that followed `--cluster-port`.
    pub(crate) fn cluster_port(&self) -> String {
        let at =
            self.arguments.iter().position(|argument| argument == "--cluster-port").expect("it was given");
        self.arguments[at + 1].clone()
    }

    /// `redis://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The running server.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    /// Ends it at once; what was not on disk is lost.
    pub(crate) fn kill(&mut self) {
        let process = self.process.take().expect("it was started");
        process.signal("KILL");
        process.wait_for_end(Duration::from_secs(5));
    }

    async fn try_connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut connection = redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// A connection of the test's own.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.try_connection().await.expect("Redis runs")
    }

    /// One command, given as words.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await).await.expect("Redis answers")
    }

    /// How often a command was called, by its name in lower case.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap_or("").parse().expect("a number"))
    }

    /// All keys with their remaining time to live in milliseconds (-1: for ever).
    pub(crate) async fn keys(&self) -> Vec<(String, i64)> {
        let mut keys = Vec::new();
        for key in self.command::<Vec<String>>(&["KEYS", "*"]).await {
            // -2: it expired just now.
            match self.command(&["PTTL", &key]).await {
                -2 => {}
                ttl => keys.push((key, ttl)),
            }
        }
        keys
    }

    /// Its clock, in microseconds since the epoch.
    pub(crate) async fn micros(&self) -> i64 {
        let (seconds, micros): (i64, i64) = self.command(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Redis server for tests that only need one to be there; [`RedisServer`] can do more.
pub struct Redis {
    port: u16,
    process: Mutex<Process>,
}

impl Redis {
    /// Starts a server that is empty.
    pub fn start() -> Self {
        let port = free_port();
        Self { port, process: Mutex::new(run(port)) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends its process a signal, such as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        self.process.lock().expect("not poisoned").signal(name);
    }

    /// Kills it.
    pub fn kill(&self) {
        let process = self.process.lock().expect("not poisoned");
        process.signal("KILL");
        process.wait_for_end(SOON);
    }

    /// Starts it again on the same port, empty.
    pub fn restart_empty(&self) {
        if self.process.lock().expect("not poisoned").is_running() {
            self.kill();
        }
        *self.process.lock().expect("not poisoned") = run(self.port);
    }
}

fn run(port: u16) -> Process {
    let home = folder("redis");
    let (text, log) = (port.to_string(), home.join("log"));
    let place = home.display().to_string();
    let arguments =
        ["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &place];
    let process = Process::start("redis-server", arguments, &[], &log);
    wait_until("Redis takes connections", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}
