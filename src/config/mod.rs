//! The roof's configuration: one table of settings ([`SETTINGS`], [`PROFILE_SETTINGS`]), read from defaults, a TOML
//! file, the environment and flags, and checked as a whole. All that is wrong is said at once.

mod admittance;
mod fault;
mod kind;
mod reader;
mod reference;
mod secret;
mod settings;
mod sources;
mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::acme::profile::Profile;
use crate::peers::Bounds;
use crate::worker::Retention;

pub use fault::{ConfigError, Fault};
pub use kind::Kind;
pub use reference::reference_markdown;
pub use secret::Secret;
pub use settings::{PROFILE_SETTINGS, Preset, SETTINGS, Setting};
pub use sources::Sources;

/// The configuration of one replica.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ACME is served.
    pub listen: SocketAddr,
    /// What every URL handed out begins with: absolute, no slash at the end (GEN-09).
    pub external_url: String,
    /// Where the operator's endpoints are served.
    pub ops_listen: SocketAddr,
    /// Where embedded state lives.
    pub data_dir: PathBuf,
    /// The durable store.
    pub database: Database,
    /// Most connections to Postgres.
    pub database_connections: u32,
    /// The admission store; nothing for the one in process.
    pub redis_url: Option<Secret>,
    /// Whether this may be one of many.
    pub replicas: Replicas,
    /// What the secrets of external account keys are sealed under, where given.
    pub eab_encryption_key: Option<Secret>,
    /// How `listen` speaks.
    pub tls: Tls,
    /// The certificate authority.
    pub ca: Ca,
    /// Revocation lists.
    pub crl: Crl,
    /// How long a nonce may be used.
    pub nonce_lifetime: Duration,
    /// How long an order may take.
    pub order_lifetime: Duration,
    /// How long an order that nobody has taken a step of counts among the active ones.
    pub untouched_after: Duration,
    /// How long an authorization lives.
    pub authorization_lifetime: Duration,
    /// How challenges are validated.
    pub validation: Validation,
    /// CAA records.
    pub caa: Caa,
    /// All profiles by name; `default` is always there.
    pub profiles: BTreeMap<String, Profile>,
    /// The terms of service to agree to.
    pub terms_url: Option<String>,
    /// The site that the directory names.
    pub website: Option<String>,
    /// Whether newAuthz is offered.
    pub pre_authorization: bool,
    /// Bounds on serving.
    pub http: Http,
    /// Rate limits.
    pub limits: Limits,
    /// How long a replica of a fleet goes on taking requests after SIGTERM, no longer ready.
    pub shutdown_delay: Duration,
    /// How long running work may take after a signal to stop.
    pub shutdown_timeout: Duration,
    /// The leases of jobs.
    pub job: Job,
    /// How long the leader stays so without a sign of life.
    pub leader_lease: Duration,
    /// How often the leader sweeps; nothing if this replica never does.
    pub sweep_interval: Option<Duration>,
    /// How long what is over is kept.
    pub retention: Retention,
    /// The log.
    pub log: Log,
    effective: String,
}

/// Where durable state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// `postgres://…`.
    Postgres(Secret),
    /// A file.
    Sqlite(PathBuf),
}

/// Whether this may be one of many replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// Nothing is stated.
    Many,
    /// The operator states that there is no other.
    One,
}

/// How the ACME listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// By a certificate of our own authority.
    Auto,
    /// By a given certificate.
    Files {
        /// The PEM chain, leaf first.
        cert: PathBuf,
        /// The PEM private key.
        key: PathBuf,
    },
    /// Plain HTTP.
    Off,
}

/// The certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// The issuing certificate and key, where given; otherwise they are made in the data folder.
    pub issuer: Option<IssuerFiles>,
    /// PEM files, each one chain after the issuing certificate.
    pub chains: Vec<PathBuf>,
    /// Where they are served over plain HTTP, if they are.
    pub listen: Option<SocketAddr>,
    /// What the URLs of CRLs and issuing certificates begin with; no slash at the end.
    pub public_url: String,
    /// Whether a root at the end of a chain is sent.
    pub include_root: bool,
    /// Folders of authorities that issued before.
    pub previous: Vec<PathBuf>,
    /// Lists of keys that get no certificate.
    pub weak_keys: Vec<PathBuf>,
}

/// A given issuing certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFiles {
    /// Its PEM certificate.
    pub cert: PathBuf,
    /// Its PEM private key.
    pub key: PathBuf,
}

/// Revocation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crl {
    /// How often one is made.
    pub interval: Duration,
    /// How long one is valid; longer than the interval.
    pub lifetime: Duration,
}

/// How challenges are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The port asked for http-01.
    pub http01_port: u16,
    /// The port asked for tls-alpn-01.
    pub tlsalpn01_port: u16,
    /// The resolvers; empty for the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Networks that may be connected to though refused by themselves.
    pub allow_networks: Vec<IpNet>,
    /// Networks that may not be connected to.
    pub refuse_networks: Vec<IpNet>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often to attempt.
    pub attempts: u32,
    /// How long all attempts may take together, pauses and CAA included.
    pub deadline: Duration,
    /// How many by http-01 at once on this replica.
    pub http01_concurrency: usize,
    /// How many by dns-01.
    pub dns01_concurrency: usize,
    /// How many by tls-alpn-01.
    pub tlsalpn01_concurrency: usize,
    /// How many of one account, by each.
    pub per_account: usize,
    /// How many connections to one address at once.
    pub per_target: usize,
    /// Whether names below `localhost` are this machine.
    pub local_names: bool,
}

/// CAA records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// The issuer names that stand for us.
    pub identities: Vec<String>,
    /// Whether they are asked for.
    pub check: bool,
    /// Zones above which nothing is asked.
    pub stop_at: Vec<String>,
    /// How many levels are asked about.
    pub max_levels: usize,
}

/// Rate limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Which defaults the capacities have.
    pub preset: crate::limits::Preset,
    /// How much each allows.
    pub capacities: crate::limits::Capacities,
    /// How old a certificate must be so that the order that renews it is exempt (ARI-04).
    pub exempt_after: Duration,
    /// Whether each replica counts alone while Redis is away; otherwise what is limited is refused.
    pub alone_without_redis: bool,
    /// Where refused clients are sent.
    pub help: crate::limits::Help,
}

/// Bounds on serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// What peers may hold.
    pub bounds: Bounds,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a connection may be kept without a request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Who is believed about the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether they speak the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The leases of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// How long a job belongs to its replica.
    pub lease: Duration,
    /// How often others look; shorter than the lease.
    pub tick: Duration,
    /// How many issuances at once on this replica.
    pub issuances: usize,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How an event is written.
    pub format: LogFormat,
    /// Which events are written: a level or a filter.
    pub level: String,
}

/// How an event of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Reads a time span as settings have it: one whole number and one of the units `ms`, `s`, `m`, `h`, `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    kind::read_duration(text)
}

impl Config {
    /// Reads and checks everything. Blocks on the files named. The error names everything that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        reader::read(sources::Gathered::from(sources))
    }

    /// The data folder alone, for a command that needs no more of the configuration, which may not be complete yet. What is wrong
    /// with the sources themselves is an error all the same, but for secrets that are not there.
    pub fn data_dir(sources: &Sources) -> Result<PathBuf, ConfigError> {
        reader::data_dir(sources::Gathered::from(sources))
    }

    /// Whether this process has no replicas beside it: what it makes in its data folder is then for itself alone.
    pub fn is_alone(&self) -> bool {
        self.replicas == Replicas::One || matches!(self.database, Database::Sqlite(_))
    }

    /// What is not wrong, and yet not what an operator is likely to want.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.ca.public_url.starts_with("https://") {
            warnings.push(format!(
                "ca.public_url is {}: certificates name their CRL and issuer there, and many relying parties do not \
                 fetch these over https (RFC 5280 §8). Set it to an http:// URL that reaches ca.listen, or /crl/ and \
                 /issuer/ of listen",
                self.ca.public_url
            ));
        }
        warnings
    }

    /// The settings in force as a TOML document, one a line with its source behind it; secrets are not shown.
    pub fn effective(&self) -> &str {
        &self.effective
    }
}

#[cfg(test)]
mod tests;
