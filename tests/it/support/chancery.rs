//! Chancery itself: one process on SQLite, or a fleet of replicas on Postgres and Redis.

mod faults;
mod replica;
mod settings;

pub use faults::refusal;
pub use replica::Replica;
pub use settings::Settings;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use settings::common;

use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::run::{folder, free_port};
use crate::support::transport::Endpoint;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_chancery");

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
        environment.push(("CHANCERY_CA_LISTEN".into(), format!("127.0.0.1:{}", free_port())));
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
            armed: Mutex::default(),
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

    /// Runs a `chancery` command with the configuration of the first replica: what it logs.
    pub fn log_of_command(&self, arguments: &[&str]) -> String {
        let done = done(arguments, &self.replica(0).environment);
        assert!(done.status.success(), "chancery {}", arguments.join(" "));
        String::from_utf8_lossy(&done.stderr).into_owned()
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
