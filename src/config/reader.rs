//! From values to the [`Config`], and what must hold between them.

mod authority;
mod limits;
mod public;
mod retention;
mod validation;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::acme::challenge::ChallengeType;
use crate::acme::identifier::Identifier;
use crate::acme::profile::{AuthorizationMode, KeyType, Profile};

use super::fault::{ConfigError, Fault};
use super::kind::Value;
use super::reference;
use super::settings::SQLITE_FILE;
use super::sources::Gathered;
use super::{Caa, Config, Crl, Database, Job, Log, LogFormat, Replicas, Secret, Tls};

/// Makes the configuration, or says everything that is wrong.
pub(super) fn read(gathered: Gathered) -> Result<Config, ConfigError> {
    let reader = Reader { gathered, contradictions: RefCell::default(), read: RefCell::default() };
    let config = reader.config();
    let mut faults = reader.gathered.faults;
    faults.extend(reader.contradictions.into_inner());
    if faults.is_empty() {
        debug_assert!(
            reader.gathered.entries.iter().all(|entry| reader.read.borrow().contains(&entry.name)),
            "a setting of the table is never read"
        );
        Ok(config)
    } else {
        Err(ConfigError { faults })
    }
}

/// The data folder, whatever the settings together come to.
pub(super) fn data_dir(mut gathered: Gathered) -> Result<PathBuf, ConfigError> {
    gathered.faults.retain(|fault| !matches!(fault, Fault::SecretUnreadable { .. }));
    match gathered.entry("data_dir").and_then(|entry| entry.value.as_ref()) {
        Some(Value::Path(path)) if gathered.faults.is_empty() => Ok(path.clone()),
        _ => Err(ConfigError { faults: gathered.faults }),
    }
}

pub(super) struct Reader {
    gathered: Gathered,
    contradictions: RefCell<Vec<Fault>>,
    /// What has been asked for, so that a row of the table that nobody reads is noticed.
    read: RefCell<BTreeSet<String>>,
}

/// The table and this file are written together; a test reads every row.
fn mismatch(name: &str, value: Option<&Value>) -> ! {
    unreachable!("{name} is read as something else than its row says: {value:?}")
}

impl Reader {
    fn value(&self, name: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(name.to_owned());
        self.gathered.entry(name)?.value.as_ref()
    }

    fn address(&self, name: &str) -> SocketAddr {
        match self.value(name) {
            Some(Value::Address(address)) => *address,
            other => mismatch(name, other),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Boolean(flag)) => *flag,
            other => mismatch(name, other),
        }
    }

    /// A number; the row's bounds make it fit.
    fn count<N: TryFrom<u64>>(&self, name: &str) -> N {
        match self.value(name) {
            Some(Value::Count(number)) => N::try_from(*number).unwrap_or_else(|_| mismatch(name, None)),
            other => mismatch(name, other),
        }
    }

    fn count_if_set<N: TryFrom<u64>>(&self, name: &str) -> Option<N> {
        self.value(name)?;
        Some(self.count(name))
    }

    fn span(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(span)) => *span,
            other => mismatch(name, other),
        }
    }

    fn span_if_set(&self, name: &str) -> Option<Duration> {
        self.value(name)?;
        Some(self.span(name))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            None => None,
            Some(Value::Path(path)) => Some(path.clone()),
            other => mismatch(name, other),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            None => None,
            Some(Value::Text(text)) => Some(text.clone()),
            other => mismatch(name, other),
        }
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        match self.value(name) {
            None => None,
            Some(Value::Texts(texts)) => Some(texts.clone()),
            other => mismatch(name, other),
        }
    }

    fn networks(&self, name: &str) -> Vec<IpNet> {
        match self.value(name) {
            None => Vec::new(),
            Some(Value::Networks(networks)) => networks.clone(),
            other => mismatch(name, other),
        }
    }

    /// Says that settings do not fit together; not when one of them has a fault of its own, which explains more.
    pub(super) fn refuse(&self, settings: &[&str], why: impl Into<String>) {
        let faulty = |name: &&str| self.gathered.entry(name).is_some_and(|entry| entry.faulty);
        if !settings.iter().any(faulty) {
            self.contradictions.borrow_mut().push(Fault::Contradiction(why.into()));
        }
    }

    fn config(&self) -> Config {
        let data_dir = self.path("data_dir").unwrap_or_default();
        let external_url = self.text("external_url").unwrap_or_default();
        let database = self.database(&data_dir);
        let redis_url = self.text("redis.url").map(Secret::new);
        let replicas = match self.text("replicas").as_deref() {
            Some("1") => Replicas::One,
            _ => Replicas::Many,
        };
        let alone = replicas == Replicas::One || matches!(database, Database::Sqlite(_));
        let mut ca = self.ca(&external_url, alone);
        let profiles = self.profiles();
        let eab_encryption_key = self.text("eab.encryption_key").map(Secret::new);
        if replicas == Replicas::Many && matches!(database, Database::Postgres(_)) {
            self.check_fleet(redis_url.as_ref());
            ca = self.shared_authority(ca, &data_dir);
            if eab_encryption_key.is_none() {
                self.check_bindings(&profiles);
            }
        }
        let (listen, ops_listen) = (self.address("listen"), self.address("ops.listen"));
        self.check_listeners(&[
            ("listen", Some(listen)),
            ("ops.listen", Some(ops_listen)),
            ("ca.listen", ca.listen),
        ]);
        Config {
            listen,
            ops_listen,
            database,
            database_connections: self.count("database.connections"),
            redis_url,
            replicas,
            eab_encryption_key,
            tls: self.tls(),
            ca,
            crl: self.crl(),
            nonce_lifetime: self.span("nonce.lifetime"),
            order_lifetime: self.span("order.lifetime"),
            untouched_after: self.span("order.untouched_after"),
            authorization_lifetime: self.span("authorization.lifetime"),
            validation: self.validation(),
            caa: Caa {
                identities: self.texts("caa.identities").unwrap_or_else(|| host_name(&external_url)),
                check: self.flag("caa.check"),
                stop_at: self.texts("caa.stop_at").unwrap_or_default(),
                max_levels: self.count("caa.max_levels"),
            },
            profiles,
            terms_url: self.text("terms.url"),
            website: self.text("website"),
            pre_authorization: self.flag("pre_authorization"),
            http: self.http(),
            limits: self.limits(&external_url),
            shutdown_delay: self.span("shutdown.delay"),
            shutdown_timeout: self.span("shutdown.timeout"),
            job: self.job(),
            leader_lease: self.span("leader.lease"),
            sweep_interval: Some(self.span("sweep.interval")).filter(|interval| !interval.is_zero()),
            retention: self.retention(),
            log: self.log(),
            effective: reference::effective(&self.gathered.entries),
            data_dir,
            external_url,
        }
    }

    fn database(&self, data_dir: &std::path::Path) -> Database {
        let Some(url) = self.text("database.url") else {
            return Database::Sqlite(data_dir.join(SQLITE_FILE));
        };
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path == ":memory:" || path.contains('?') {
                    self.refuse(
                        &["database.url"],
                        "database.url: after sqlite: comes the path of a file, and nothing else",
                    );
                }
                Database::Sqlite(PathBuf::from(path))
            }
            None => Database::Postgres(Secret::new(url)),
        }
    }

    /// Replicas share nothing but Postgres and Redis, so a fleet needs both (design §1).
    fn check_fleet(&self, redis: Option<&Secret>) {
        if redis.is_none() {
            self.refuse(
                &["database.url", "redis.url", "replicas"],
                "database.url is Postgres and redis.url is not set: replicas on one Postgres share nonces and rate \
                 limits through Redis, and without it a nonce could be used once on each of them. Set redis.url, or \
                 set replicas = 1 if this is the only replica and will stay so",
            );
        }
    }

    fn tls(&self) -> Tls {
        let (cert, key) = (self.path("tls.cert"), self.path("tls.key"));
        let inputs = ["tls.mode", "tls.cert", "tls.key"];
        let given = cert.is_some() || key.is_some();
        match (self.text("tls.mode").as_deref(), cert, key) {
            (Some("files"), Some(cert), Some(key)) => Tls::Files { cert, key },
            (Some("files"), _, _) => {
                self.refuse(&inputs, "tls.mode is files: set both tls.cert and tls.key");
                Tls::Off
            }
            (mode, _, _) => {
                if given {
                    self.refuse(
                        &inputs,
                        "tls.cert and tls.key are used only with tls.mode = \"files\": set it, or leave them out",
                    );
                }
                if mode == Some("off") { Tls::Off } else { Tls::Auto }
            }
        }
    }

    /// Two listeners cannot have one address.
    fn check_listeners(&self, listeners: &[(&str, Option<SocketAddr>)]) {
        for (at, (name, address)) in listeners.iter().enumerate() {
            let Some(address) = address.filter(|address| address.port() != 0) else { continue };
            for (other, _) in listeners[at + 1..].iter().filter(|(_, other)| *other == Some(address)) {
                self.refuse(
                    &[name, other],
                    format!("{name} and {other} are both {address}: give each its own address"),
                );
            }
        }
    }

    fn crl(&self) -> Crl {
        let crl = Crl { interval: self.span("crl.interval"), lifetime: self.span("crl.lifetime") };
        if crl.lifetime <= crl.interval {
            self.refuse(
                &["crl.interval", "crl.lifetime"],
                "crl.lifetime must be longer than crl.interval: otherwise a list ends before the next one is there",
            );
        }
        crl
    }

    fn job(&self) -> Job {
        let job = Job {
            lease: self.span("job.lease"),
            tick: self.span("job.tick"),
            issuances: self.count("job.issuances"),
        };
        if job.lease <= job.tick {
            self.refuse(
                &["job.lease", "job.tick"],
                "job.lease must be longer than job.tick: otherwise a job is lost before it can be renewed",
            );
        }
        job
    }

    fn log(&self) -> Log {
        let format = match self.text("log.format").as_deref() {
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            _ => LogFormat::Auto,
        };
        Log { format, level: self.text("log.level").unwrap_or_default() }
    }

    fn profiles(&self) -> BTreeMap<String, Profile> {
        let named = self.gathered.profiles.iter().map(|name| (name.clone(), format!("profiles.{name}")));
        std::iter::once(("default".to_owned(), "default_profile".to_owned()))
            .chain(named)
            .map(|(name, section)| (name.clone(), self.profile(name, &section)))
            .collect()
    }

    fn profile(&self, name: String, section: &str) -> Profile {
        let key = |key: &str| format!("{section}.{key}");
        let words = |name: &str| self.texts(&key(name));
        let key_types = match words("key_types") {
            None => KeyType::ALL.to_vec(),
            Some(words) => words.iter().filter_map(|word| KeyType::parse(word)).collect(),
        };
        let challenge_types = match words("challenge_types") {
            None => ChallengeType::ALL.to_vec(),
            Some(words) => words.iter().filter_map(|word| ChallengeType::parse(word)).collect(),
        };
        let mode = self.text(&key("authorization")).and_then(|word| AuthorizationMode::parse(&word));
        let profile = Profile {
            name,
            description: self.text(&key("description")).unwrap_or_default(),
            authorization: mode.unwrap_or(AuthorizationMode::Challenge),
            validity: self.span(&key("validity")),
            shortest_lifetime: self.span(&key("shortest_lifetime")),
            backdate: self.span(&key("backdate")),
            key_types,
            client_auth: self.flag(&key("client_auth")),
            policy_oid: self.text(&key("policy_oid")),
            common_name: self.flag(&key("common_name")),
            allowed_names: words("allowed_names").unwrap_or_default(),
            denied_names: words("denied_names").unwrap_or_default(),
            wildcards: self.flag(&key("wildcards")),
            ip_addresses: self.flag(&key("ip_addresses")),
            single_label_names: self.flag(&key("single_label_names")),
            onion_names: self.flag(&key("onion_names")),
            challenge_types,
            reuse_authorizations: self.flag(&key("reuse_authorizations")),
            external_account_required: self.flag(&key("external_account_required")),
        };
        self.check_profile(&profile, section);
        profile
    }
}

/// The host of a URL as a list of one, where it is a DNS name.
fn host_name(url: &str) -> Vec<String> {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default();
    Identifier::parse("dns", host).map(|name| name.value()).into_iter().collect()
}
