//! Debian's Redis on a free port in a temporary folder, keeping nothing on disk.

use crate::support::process::Process;
use crate::support::run::{SOON, folder, free_port, wait_until};

/// A Redis server.
pub struct Redis {
    port: u16,
    process: Process,
}

impl Redis {
    /// Starts a server that is empty.
    pub fn start() -> Self {
        let port = free_port();
        Self { port, process: run(port) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it.
    pub fn kill(&self) {
        self.process.signal("KILL");
        self.process.wait_for_end(SOON);
    }

    /// Starts it again on the same port, empty.
    pub fn restart_empty(&mut self) {
        if self.process.is_running() {
            self.kill();
        }
        self.process = run(self.port);
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
