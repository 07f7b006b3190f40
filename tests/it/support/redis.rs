//! A real redis-server on a free port in a temporary folder.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::process::Process;
use super::run::{SOON, folder, free_port, wait_until};

use crate::support::run::with_log;

/// A running server, or one that was killed and can be started again.
pub struct Redis {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Mutex<Process>,
}

impl Redis {
    /// A server that is empty, and keeps nothing on disk by itself.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments, such as `--replicaof`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let (port, folder) = (free_port(), folder("redis"));
        let (port_text, place) = (port.to_string(), folder.display().to_string());
        let fixed = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--dir",
            &place,
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        let arguments = fixed.iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        Self::run(port, folder, arguments)
    }

    /// A sentinel that watches `master` under the name `main`.
    pub fn start_sentinel(master: &Self) -> Self {
        let (port, folder) = (free_port(), folder("sentinel"));
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
            folder.display(),
            master.port
        );
        let file = folder.join("sentinel.conf");
        std::fs::write(&file, settings).expect("a file");
        Self::run(port, folder, vec![file.display().to_string(), "--sentinel".to_owned()])
    }

    fn run(port: u16, folder: PathBuf, arguments: Vec<String>) -> Self {
        let process = Mutex::new(process(port, &folder, &arguments));
        Self { port, folder, arguments, process }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("not poisoned")
    }

    /// Starts the killed server again on the same port, with what is in its folder.
    pub fn start_again(&self) {
        *self.process() = process(self.port, &self.folder, &self.arguments);
    }

    /// Starts it again on the same port, empty; ends it first if it runs.
    pub fn restart_empty(&self) {
        if self.process().is_running() {
            self.kill();
        }
        let dump = self.folder.join("dump.rdb");
        if dump.exists() {
            std::fs::remove_file(dump).expect("a dump can be removed");
        }
        self.start_again();
    }

    /// Sends its process a signal, such as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        self.process().signal(name);
    }

    /// Ends it at once; what was not on disk is lost.
    pub fn kill(&self) {
        let process = self.process();
        process.signal("KILL");
        process.wait_for_end(SOON);
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A port for an argument such as `--cluster-port`.
    pub fn spare_port() -> String {
        free_port().to_string()
    }

    /// The argument that followed `--cluster-port`.
    pub fn cluster_port(&self) -> String {
        let at =
            self.arguments.iter().position(|argument| argument == "--cluster-port").expect("it was given");
        self.arguments[at + 1].clone()
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("Redis runs")
    }

    /// One command, given as words; panics if Redis does not answer.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await).await.expect("Redis answers")
    }

    /// How often a command was called, by its name in lower case.
    pub async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap_or("").parse().expect("a number"))
    }

    /// All keys with their remaining time to live in milliseconds (-1: for ever).
    pub async fn keys(&self) -> Vec<(String, i64)> {
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
    pub async fn micros(&self) -> i64 {
        let (seconds, micros): (i64, i64) = self.command(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }
}

/// Starts a server and waits until it serves: one that still loads its dump says so instead of PONG.
fn process(port: u16, folder: &std::path::Path, arguments: &[String]) -> Process {
    let process = Process::start("redis-server", arguments, &[], &folder.join("log"));
    wait_until("Redis serves", || {
        assert!(process.is_running(), "{}", with_log("redis-server ended", &process.log()));
        answers(port).unwrap_or(false)
    });
    process
}

fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"+PONG")
}
