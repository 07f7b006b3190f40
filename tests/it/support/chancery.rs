//! Chancery itself: one process on SQLite, or a fleet of replicas on Postgres and Redis.

mod faults;

pub use faults::refusal;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::responder;
use crate::support::run::{SOON, folder, free_port, wait_until};
use crate::support::transport::Endpoint;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chancery");

/// What every deployment is configured with beside its addresses and stores.
const CONFIGURATION: &str = r#"
website = "https://www.chancery.test/"

[validation]
attempts = 2
timeout = "3s"

[crl]
interval = "2s"

# No balancer has to notice that a replica leaves, but in the tests that have one.
[shutdown]
delay = "0s"

# Tests share accounts and addresses; those of limits turn on what they need.
[limits]
new_orders_per_hour = 0
active_orders = 0
key_changes_per_hour = 0
challenge_responses_per_hour = 0
new_accounts_per_hour = 0
failed_validations_per_hour = 0
duplicate_certificates_per_day = 0

[terms]
url = "https://www.chancery.test/terms"

[default_profile]
denied_names = ["denied.test", ".denied.test"]

[profiles.trusted]
description = "Names are taken on trust."
authorization = "trusted"
accept_anyone = true
client_auth = true

[profiles.plain]
description = "No wildcards, no addresses, no common name, nothing used again."
authorization = "trusted"
accept_anyone = true
wildcards = false
ip_addresses = false
common_name = false
reuse_authorizations = false
key_types = ["p256", "p384"]
"#;

/// The CA's name in CAA records.
pub const CAA_IDENTITY: &str = "ca.chancery.test";

/// The terms of service that every account agrees to.
pub const TERMS: &str = "https://www.chancery.test/terms";

/// How the server is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One process, SQLite, TLS by itself.
    Embedded,
    /// Three replicas on one Postgres database and one Redis, plain HTTP, one CA from files.
    Fleet,
}

/// What a special deployment has that the shared one has not.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    environment: Vec<(String, String)>,
    toml: String,
    replicas: Option<usize>,
    fault: Vec<(String, String)>,
    own_postgres: bool,
    through_proxy: bool,
    redis_through_proxy: bool,
    unmigrated: bool,
    own: Vec<(usize, String, String)>,
}

impl Settings {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// With an environment variable, which wins over everything else.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With an environment variable for one replica of a fleet alone.
    pub fn set_for(mut self, replica: usize, name: &str, value: impl Into<String>) -> Self {
        self.own.push((replica, name.to_owned(), value.into()));
        self
    }

    /// With more TOML at the end of the configuration file.
    pub fn toml(mut self, text: &str) -> Self {
        self.toml += text;
        self
    }

    /// With a fleet of this size.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = Some(count);
        self
    }
}

/// A running server.
pub struct Deployment {
    /// How it is deployed.
    pub kind: Kind,
    /// The external base URL, without a slash at the end.
    pub base_url: String,
    /// The URL of its directory.
    pub directory: String,
    replicas: Vec<Replica>,
    turn: AtomicUsize,
    stores: Option<Stores>,
}

/// What a fleet shares.
struct Stores {
    database: String,
    redis: Redis,
    /// A cluster of its own, where the one that all tests share will not do.
    postgres: Option<Postgres>,
    proxy: Option<Proxy>,
    redis_proxy: Option<Proxy>,
}

/// One `chancery serve` process.
pub struct Replica {
    /// Where it serves ACME.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`.
    pub ops: SocketAddr,
    /// Its data folder.
    pub data_dir: PathBuf,
    endpoint: OnceLock<Endpoint>,
    environment: Vec<(String, String)>,
    /// What only the next start has beside it.
    fault: Mutex<Vec<(String, String)>>,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Deployment {
    /// The deployment of this kind that most tests share; tests on it use names and accounts of their own.
    pub fn shared(kind: Kind) -> Arc<Self> {
        static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
        static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
        let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
        cell.get_or_init(|| Self::with(kind, &Settings::new())).clone()
    }

    /// Like `shared`, but orders, authorizations and nonces end after two seconds.
    pub fn hasty(kind: Kind) -> Arc<Self> {
        static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
        static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
        let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
        let settings = Settings::new()
            .set("CHANCERY_ORDER_LIFETIME", "2s")
            .set("CHANCERY_AUTHORIZATION_LIFETIME", "2s")
            .set("CHANCERY_NONCE_LIFETIME", "2s");
        cell.get_or_init(|| Self::with(kind, &settings)).clone()
    }

    /// Like `shared`, but for one test alone, which may kill replicas: jobs of dead ones are taken on after a second.
    pub fn mortal(kind: Kind) -> Arc<Self> {
        Self::with(kind, &Settings::new().set("CHANCERY_JOB_LEASE", "1s").set("CHANCERY_JOB_TICK", "100ms"))
    }

    /// A deployment with `settings`, for one test.
    pub fn with(kind: Kind, settings: &Settings) -> Arc<Self> {
        match kind {
            Kind::Embedded => Self::start_embedded(settings),
            Kind::Fleet => Self::start_fleet(settings),
        }
    }

    fn start_embedded(settings: &Settings) -> Arc<Self> {
        let home = folder("embedded");
        let port = free_port();
        let base_url = format!("https://localhost:{port}");
        let mut environment = common(&home, settings);
        environment.push(("CHANCERY_EXTERNAL_URL".into(), base_url.clone()));
        let mut replica = Replica::new(&home, port, environment, settings);
        replica.fault = Mutex::new(settings.fault.clone());
        replica.start();
        replica.wait_until_ready();
        Self::of(Kind::Embedded, base_url, vec![replica], None, settings)
    }

    fn start_fleet(settings: &Settings) -> Arc<Self> {
        let home = folder("fleet");
        let postgres = settings.own_postgres.then(Postgres::start);
        let database = postgres.as_ref().unwrap_or_else(|| Postgres::shared()).database();
        let proxy = settings.through_proxy.then(|| Proxy::start(&database));
        let redis = Redis::start();
        let redis_proxy = settings.redis_through_proxy.then(|| Proxy::start(&redis.url()));
        let authority = home.join("authority");
        run(&["ca", "init", "--data-dir", &authority.display().to_string()], &[]);
        let base_url = "https://acme.chancery.test".to_owned();
        let mut environment = common(&home, settings);
        environment.extend(
            [
                ("CHANCERY_EXTERNAL_URL", base_url.clone()),
                ("CHANCERY_TLS_MODE", "off".to_owned()),
                ("CHANCERY_DATABASE_URL", proxy.as_ref().map_or(&database, Proxy::url).clone()),
                ("CHANCERY_REDIS_URL", redis_proxy.as_ref().map_or_else(|| redis.url(), |p| p.url().clone())),
                ("CHANCERY_CA_CERT", authority.join("issuing.pem").display().to_string()),
                ("CHANCERY_CA_KEY", authority.join("issuing.key").display().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let one = |index: usize| {
            let home = home.join(format!("replica{index}"));
            std::fs::create_dir_all(&home).expect("a folder");
            let mut environment = environment.clone();
            let own = settings.own.iter().filter(|(replica, ..)| *replica == index);
            environment.extend(own.map(|(_, name, value)| (name.clone(), value.clone())));
            Replica::new(&home, free_port(), environment, settings)
        };
        let mut replicas: Vec<_> = (0..settings.replicas.unwrap_or(3)).map(one).collect();
        replicas[0].fault = Mutex::new(settings.fault.clone());
        if !settings.unmigrated {
            run(&["migrate"], &replicas[0].environment);
        }
        replicas.iter().for_each(Replica::start);
        replicas.iter().for_each(Replica::wait_until_ready);
        let stores = Stores { database, redis, postgres, proxy, redis_proxy };
        Self::of(Kind::Fleet, base_url, replicas, Some(stores), settings)
    }

    fn of(
        kind: Kind,
        base_url: String,
        replicas: Vec<Replica>,
        stores: Option<Stores>,
        settings: &Settings,
    ) -> Arc<Self> {
        let external = settings.environment.iter().rev().find(|(name, _)| name == "CHANCERY_EXTERNAL_URL");
        let base_url = external.map_or(base_url, |(_, value)| value.trim_end_matches('/').to_owned());
        let directory = format!("{base_url}/directory");
        Arc::new(Self { kind, base_url, directory, replicas, turn: AtomicUsize::new(0), stores })
    }

    /// Another ACME server, which answers as this deployment from here on: to try the kit itself.
    pub fn outside(base_url: String, directory: String, endpoint: Endpoint, process: Process) -> Arc<Self> {
        let replica = Replica {
            listen: endpoint.address,
            ops: endpoint.address,
            data_dir: PathBuf::new(),
            endpoint: OnceLock::from(endpoint),
            environment: Vec::new(),
            fault: Mutex::default(),
            log: PathBuf::new(),
            process: Mutex::new(Some(process)),
        };
        let (turn, replicas) = (AtomicUsize::new(0), vec![replica]);
        Arc::new(Self { kind: Kind::Embedded, base_url, directory, replicas, turn, stores: None })
    }

    /// How many replicas there are.
    pub fn size(&self) -> usize {
        self.replicas.len()
    }

    /// One replica; the count starts anew after the last.
    pub fn replica(&self, index: usize) -> &Replica {
        &self.replicas[index % self.replicas.len()]
    }

    /// The number of the replica whose turn it is.
    pub fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.replicas.len()
    }

    /// Kills a replica, as the kernel would.
    pub fn kill(&self, index: usize) {
        self.replica(index).kill();
    }

    /// Starts a replica that was killed, with the configuration it had.
    pub fn restart(&self, index: usize) {
        let replica = self.replica(index);
        if replica.is_running() {
            replica.kill();
        }
        replica.start();
        replica.wait_until_ready();
    }

    /// The URL of the fleet's database.
    pub fn database(&self) -> Option<&str> {
        self.stores.as_ref().map(|stores| stores.database.as_str())
    }

    /// The fleet's Redis.
    pub fn redis(&self) -> Option<&Redis> {
        self.stores.as_ref().map(|stores| &stores.redis)
    }

    /// Runs a `chancery` command with the configuration of the first replica: its output.
    pub fn command(&self, arguments: &[&str]) -> String {
        run(arguments, &self.replica(0).environment)
    }

    /// Runs a `chancery` command that is to be refused: what it says.
    pub fn refused_command(&self, arguments: &[&str]) -> String {
        refused(arguments, &self.replica(0).environment)
    }

    /// What all replicas have logged.
    pub fn log(&self) -> String {
        self.replicas.iter().map(|r| std::fs::read_to_string(&r.log).unwrap_or_default()).collect()
    }
}

impl Replica {
    fn new(home: &Path, port: u16, mut environment: Vec<(String, String)>, settings: &Settings) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (listen, ops, data_dir) = (local(port), local(free_port()), home.join("data"));
        environment.push(("CHANCERY_LISTEN".into(), listen.to_string()));
        environment.push(("CHANCERY_OPS_LISTEN".into(), ops.to_string()));
        environment.push(("CHANCERY_DATA_DIR".into(), data_dir.display().to_string()));
        environment.extend(settings.environment.iter().cloned());
        let (endpoint, process) = (OnceLock::new(), Mutex::new(None));
        let fault = Mutex::default();
        Self { listen, ops, data_dir, endpoint, environment, fault, log: home.join("log"), process }
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
            Endpoint::tls(self.listen, "localhost", &root)
        })
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.process.lock().expect("not poisoned").as_ref().is_some_and(Process::is_running)
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

    fn start(&self) {
        let fault = std::mem::take(&mut *self.fault.lock().expect("not poisoned"));
        let environment = [self.environment.as_slice(), &fault].concat();
        let process = Process::start(PROGRAM, ["serve"], &environment, &self.log);
        *self.process.lock().expect("not poisoned") = Some(process);
    }

    fn wait_until_ready(&self) {
        wait_until("the replica is ready", || {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(self.is_running(), "chancery ended; its log:\n{}", log());
            self.ops_get("/readyz").is_some_and(|(status, _)| status == 200)
        });
    }
}

fn done(arguments: &[&str], environment: &[(String, String)]) -> std::process::Output {
    let environment = environment.iter().map(|(name, value)| (name, value));
    Command::new(PROGRAM).args(arguments).envs(environment).output().expect("chancery starts")
}

/// Runs a `chancery` command that ends by itself, and must fail: what it says.
pub fn refused(arguments: &[&str], environment: &[(String, String)]) -> String {
    let done = done(arguments, environment);
    assert!(!done.status.success(), "chancery {}: not refused", arguments.join(" "));
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Runs a `chancery` command that ends by itself.
pub fn run(arguments: &[&str], environment: &[(String, String)]) -> String {
    let done = done(arguments, environment);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "chancery {}: {errors}", arguments.join(" "));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn common(home: &Path, settings: &Settings) -> Vec<(String, String)> {
    let file = home.join("chancery.toml");
    std::fs::write(&file, format!("{CONFIGURATION}\n{}", settings.toml))
        .expect("the configuration is written");
    [
        ("CHANCERY_CONFIG", file.display().to_string()),
        ("CHANCERY_CAA_IDENTITIES", CAA_IDENTITY.to_owned()),
        ("CHANCERY_VALIDATION_HTTP01_PORT", responder::http().port().to_string()),
        ("CHANCERY_VALIDATION_TLSALPN01_PORT", responder::tls().port().to_string()),
        ("CHANCERY_VALIDATION_DNS_SERVERS", responder::dns().address().to_string()),
        ("CHANCERY_VALIDATION_ALLOW_NETWORKS", "127.0.0.0/8,::1/128".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
