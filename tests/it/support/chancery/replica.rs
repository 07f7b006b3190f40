//! One process of a deployment.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::{PROGRAM, Settings};
use crate::support::process::Process;
use crate::support::run::{SOON, free_port, wait_until, with_log};
use crate::support::transport::Endpoint;

/// One `chancery serve` process.
pub struct Replica {
    /// Where it serves ACME.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`.
    pub ops: SocketAddr,
    /// Its data folder.
    pub data_dir: PathBuf,
    pub(super) endpoint: OnceLock<Endpoint>,
    pub(super) environment: Vec<(String, String)>,
    /// What only the next start has beside it.
    pub(super) fault: Mutex<Vec<(String, String)>>,
    /// The fault point that this start is to meet, and how long the log was before.
    pub(super) armed: Mutex<Option<(String, usize)>>,
    pub(super) log: PathBuf,
    pub(super) process: Mutex<Option<Process>>,
}

impl Replica {
    pub(super) fn new(
        home: &Path,
        port: u16,
        mut environment: Vec<(String, String)>,
        settings: &Settings,
    ) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (listen, ops, data_dir) = (local(port), local(free_port()), home.join("data"));
        environment.push(("CHANCERY_LISTEN".into(), listen.to_string()));
        environment.push(("CHANCERY_OPS_LISTEN".into(), ops.to_string()));
        environment.push(("CHANCERY_DATA_DIR".into(), data_dir.display().to_string()));
        environment.extend(settings.environment.iter().cloned());
        let (endpoint, process) = (OnceLock::new(), Mutex::new(None));
        let (fault, armed) = (Mutex::default(), Mutex::default());
        Self { listen, ops, data_dir, endpoint, environment, fault, armed, log: home.join("log"), process }
    }

    /// How a client reaches it.
    pub fn endpoint(&self) -> &Endpoint {
        self.endpoint.get_or_init(|| {
            let last = |wanted: &str| self.environment.iter().rev().find(|(name, _)| name == wanted);
            if last("CHANCERY_TLS_MODE").is_some_and(|(_, mode)| mode == "off") {
                return Endpoint::plain(self.listen);
            }
            // Beside the issuing certificate, wherever that is.
            let issuing =
                last("CHANCERY_CA_CERT").map(|(_, file)| Path::new(file).with_file_name("root.pem"));
            let root = issuing.unwrap_or_else(|| self.data_dir.join("root.pem"));
            let root = std::fs::read_to_string(root).expect("a root is there");
            // Its certificate has the name that clients call it by.
            let external = last("CHANCERY_EXTERNAL_URL").map(|(_, url)| url.parse::<http::Uri>());
            let external = external.and_then(Result::ok);
            let host = external.as_ref().and_then(|url| url.host()).unwrap_or("localhost");
            Endpoint::tls(self.listen, host, &root)
        })
    }

    /// How what certificates name is reached, if `url` is of the plain listener that has it.
    pub fn public_endpoint(&self, url: &str) -> Option<Endpoint> {
        let listen = self.environment.iter().rev().find(|(name, _)| name == "CHANCERY_CA_LISTEN")?;
        let listen: SocketAddr = listen.1.parse().ok()?;
        let url: http::Uri = url.parse().ok()?;
        (url.scheme_str() == Some("http") && url.port_u16() == Some(listen.port()))
            .then(|| Endpoint::plain(listen))
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.process.lock().expect("not poisoned").as_ref().is_some_and(Process::is_running)
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("not poisoned").as_ref().expect("started").pid()
    }

    /// Sends its process a signal, such as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        self.process.lock().expect("not poisoned").as_ref().expect("started").signal(name);
    }

    /// Kills its process and waits for its end.
    pub fn kill(&self) {
        let process = self.process.lock().expect("not poisoned").take().expect("started");
        process.signal("KILL");
        process.wait_for_end(SOON);
    }

    /// What its operations listener answers to a GET: status and body.
    pub fn ops_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.ops, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// A value of its `/metrics`, by the name with its labels as they are written there; 0 if it has none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.ops_get("/metrics").map(|(_, text)| text).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    pub(super) fn start(&self) {
        let fault = std::mem::take(&mut *self.fault.lock().expect("not poisoned"));
        let point = fault.iter().find(|(name, _)| name == "CHANCERY_TEST_FAULT");
        let armed = point.map(|(_, point)| (point.clone(), self.log().len()));
        *self.armed.lock().expect("not poisoned") = armed;
        let environment = [self.environment.as_slice(), &fault].concat();
        let process = Process::start(PROGRAM, ["serve"], &environment, &self.log);
        *self.process.lock().expect("not poisoned") = Some(process);
    }

    /// Waits until it takes requests. One that was started with a fault point may meet it under the load of others
    /// before anybody has seen it ready: that is the fault that was asked for, and no failure to start.
    pub(super) fn wait_until_ready(&self) {
        wait_until("the replica is ready", || {
            if self.has_met_its_fault() {
                return true;
            }
            let ready = self.ops_get("/readyz").is_some_and(|(status, _)| status == 200);
            // Looked at last: it may have met its fault, and ended, since it was looked at first.
            let ended = !self.is_running() && !self.has_met_its_fault();
            assert!(!ended, "{}", with_log("chancery ended", &self.log()));
            ready
        });
    }

    /// Whether the fault point that it was started with has been reached: the program says so before the signal.
    pub(super) fn has_met_its_fault(&self) -> bool {
        let armed = self.armed.lock().expect("not poisoned");
        armed.as_ref().is_some_and(|(point, before)| {
            self.log().get(*before..).is_some_and(|log| log.contains(&format!("fault point {point}\n")))
        })
    }
}
