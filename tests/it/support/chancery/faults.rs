//! What tests do to a deployment that a person would not, and what must hold afterwards.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Deployment, Kind, PROGRAM, Process, Replica, Settings};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::run::SOON;

impl Settings {
    /// Replica 0, until it is started again, meets its end at this fault point.
    pub fn killed_at(self, point: &str) -> Self {
        self.signalled_at(point, "KILL")
    }

    /// Replica 0, until it is started again, sends itself this signal at this fault point.
    pub fn signalled_at(mut self, point: &str, signal: &str) -> Self {
        self.fault = vec![
            ("CHANCERY_TEST_FAULT".to_owned(), point.to_owned()),
            ("CHANCERY_TEST_FAULT_SIGNAL".to_owned(), signal.to_owned()),
        ];
        self
    }

    /// With a Postgres cluster that no other test uses.
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// With a proxy between the replicas and Postgres.
    pub fn through_proxy(mut self) -> Self {
        self.through_proxy = true;
        self
    }
}

impl Deployment {
    /// The fleet's Postgres cluster.
    pub fn postgres(&self) -> &Postgres {
        self.stores.as_ref().and_then(|s| s.postgres.as_ref()).unwrap_or_else(|| Postgres::shared())
    }

    /// The proxy in front of it.
    pub fn proxy(&self) -> &Proxy {
        self.stores.as_ref().and_then(|stores| stores.proxy.as_ref()).expect("it was asked for")
    }

    /// Whether nonces from this instant may still be good: the embedded server keeps them in its process.
    pub fn honours_nonces_of(&self, since: Instant) -> bool {
        let process = self.replica(0).process.lock().expect("not poisoned");
        self.kind == Kind::Fleet || process.as_ref().is_some_and(|process| process.started() < since)
    }

    /// Starts a replica that has ended.
    pub fn start_again(&self, index: usize) {
        let replica = self.replica(index);
        replica.start();
        replica.wait_until_ready();
    }

    /// Runs SQL in the deployment's database: rows a line, columns separated by `|`.
    pub fn sql(&self, text: &str) -> String {
        if let Some(database) = self.database() {
            return self.postgres().psql(database, text);
        }
        let file = self.replica(0).data_dir.join("chancery.sqlite");
        let done = Command::new("sqlite3").args(["-readonly".as_ref(), file.as_os_str()]).arg(text).output();
        let done = done.expect("sqlite3 starts");
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    /// Asserts that no job is open, no lease held, no order between two states, and no serial without a certificate.
    pub fn assert_at_rest(&self) {
        for (what, sql) in [
            (
                "an order is processing, or leased",
                "SELECT id, progress, lease_until FROM orders WHERE progress = 'processing' \
                 OR lease_token IS NOT NULL OR lease_until IS NOT NULL",
            ),
            (
                "a validation is open, or leased",
                "SELECT id, outcome, attempted, lease_until FROM authorizations WHERE lease_token IS NOT NULL \
                 OR lease_until IS NOT NULL OR (outcome = 'pending' AND attempted IS NOT NULL)",
            ),
            (
                "a valid order has no certificate, or a certificate no valid order",
                "SELECT o.id, c.serial FROM orders o LEFT JOIN certificates c ON c.order_id = o.id \
                 AND c.der IS NOT NULL WHERE (o.progress = 'valid') <> (c.serial IS NOT NULL)",
            ),
            (
                "a serial was left without its certificate",
                "SELECT serial FROM certificates WHERE der IS NULL",
            ),
        ] {
            assert_eq!(self.sql(sql), "", "{what}");
        }
    }
}

impl Replica {
    /// What it is configured with.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Whether it runs and no signal keeps it from answering.
    pub fn takes_requests(&self) -> bool {
        let process = self.process.lock().expect("not poisoned");
        process.as_ref().is_some_and(|process| process.is_running() && !process.is_stopped())
    }

    /// Waits until it has sent itself the signal of a fault point: it has ended, or is stopped.
    pub async fn wait_for_fault(&self) {
        let start = Instant::now();
        while self.takes_requests() {
            assert!(start.elapsed() < SOON, "the fault point was not reached");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until its process has ended: the exit status.
    pub async fn ended(&self) -> i32 {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < SOON, "it still runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let process = self.process.lock().expect("not poisoned").take();
        process.and_then(Process::exit_code).expect("an exit status")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs a `chancery` command that must fail by itself: what it says.
pub fn refusal(arguments: &[&str], environment: &[(String, String)]) -> String {
    // A command that does not end by itself is ended.
    let done = Command::new("timeout")
        .args(["20", PROGRAM])
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("chancery starts");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(1), "chancery {} was to fail: {said}", arguments.join(" "));
    said
}
