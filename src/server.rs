//! The roof: builds the services from the configuration, binds the listeners, serves, and drains.

mod certificate;
mod descriptors;
mod first_steps;
mod secrets;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::acme::id::ReplicaId;
use crate::acme::time::{Clock, FleetClock, Timestamp};
use crate::admission::{
    MemoryBuckets, MemoryNonces, Nonces, RedisBuckets, RedisConfig, RedisNonces, look_at_redis,
};
use crate::config::{Config, Database};
use crate::http::App;
use crate::http::operations::{self, Readiness};
use crate::limits::Limits;
use crate::listener::{self, ListenerLimits, ProxyProtocol};
use crate::network::{Network, NetworkConfig};
use crate::peers::{Bounds, Ledger};
use crate::pki::authority::{self, AuthorityKey};
use crate::pki::issuer::{Issuer, LocalIssuer};
use crate::pki::weak_keys::WeakKeys;
use crate::policy::caa::Climb;
use crate::policy::special::Ours;
use crate::service::{self, JobBounds, Jobs, Services, Settings, Urls, external_accounts};
use crate::storage::{Replica, StorageError, Store};
use crate::telemetry::Metrics;
use crate::validation::ValidationConfig;
use crate::worker::{self, WorkerConfig};

pub use secrets::open_sealing;

/// Why a replica cannot start; the text says what to do.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// How long a replica that starts waits for its database before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a replica that starts waits for Redis before it goes on without, not ready.
const REDIS_PATIENCE: Duration = Duration::from_secs(3);

/// How many may look at the operations listener at once: probes, scrapers, an operator.
const OPERATIONS_CONNECTIONS: usize = 64;

/// Opens the database of the configuration.
pub async fn open_store(config: &Config) -> Result<Store, StartError> {
    Ok(match &config.database {
        Database::Postgres(url) => Store::postgres(url.expose(), config.database_connections).await?,
        Database::Sqlite(path) => {
            make_data_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
            Store::sqlite(path).await?
        }
    })
}

/// Opens the database for a command that runs beside replicas and ends by itself, with the schema up to date.
pub async fn open_store_beside(config: &Config) -> Result<Store, StartError> {
    let Database::Sqlite(path) = &config.database else {
        let store = open_store(config).await?;
        migrate(&store).await?;
        return in_fleet_time(store).await;
    };
    // A replica that has the file has migrated it; otherwise nobody else may use it while it is migrated.
    match open_store(config).await {
        Ok(store) => migrate(&store).await?,
        Err(error) => match error.downcast_ref() {
            Some(StorageError::Setup(_)) => {}
            _ => return Err(error),
        },
    }
    Ok(Store::sqlite_beside(path).await?)
}

/// A command compares its clock with the database's once.
async fn in_fleet_time(store: Store) -> Result<Store, StartError> {
    let clock = FleetClock::default();
    if let Some(reading) = store.read_clock().await? {
        clock.follow(&reading);
    }
    Ok(store.with_clock(Arc::new(clock)))
}

/// Brings the schema up to date, waiting a little for a database that is not there yet.
pub async fn migrate(store: &Store) -> Result<(), StartError> {
    let started = tokio::time::Instant::now();
    loop {
        match store.migrate().await {
            Ok(()) => return Ok(()),
            Err(error @ StorageError::Unavailable(_)) if started.elapsed() < PATIENCE => {
                tracing::warn!(%error, "waiting for the database");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The issuer of the configuration: the files that it names, or those of the data folder, made if they are not there.
pub fn open_issuer(config: &Config) -> Result<LocalIssuer, StartError> {
    let Some(files) = &config.ca.issuer else {
        make_data_dir(&config.data_dir)?;
        let (now, root) = (FleetClock::machine_now(), config.ca.include_root);
        return Ok(authority::load_or_create(&config.data_dir, "Chancery", AuthorityKey::P256, now, root)?);
    };
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let (certificate, key) = (read(&files.cert)?, zeroize::Zeroizing::new(read(&files.key)?));
    let chains: Vec<String> = config.ca.chains.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    Ok(LocalIssuer::from_pem(&certificate, &key, &chains, config.ca.include_root)?)
}

/// The authorities that signed before: for each, the folder that has its files.
fn previous_issuers(config: &Config) -> Result<Vec<Arc<dyn Issuer>>, StartError> {
    let open = |folder: &std::path::PathBuf| -> Result<Arc<dyn Issuer>, StartError> {
        if !folder.join("issuing.pem").exists() {
            return Err(format!("ca.previous: there is no issuing.pem in {}", folder.display()).into());
        }
        let (now, root) = (FleetClock::machine_now(), config.ca.include_root);
        Ok(Arc::new(authority::load_or_create(folder, "Chancery", AuthorityKey::P256, now, root)?))
    };
    config.ca.previous.iter().map(open).collect()
}

fn make_data_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn network(config: &Config) -> Result<Network, StartError> {
    let validation = &config.validation;
    let settings = NetworkConfig {
        dns_servers: validation.dns_servers.clone(),
        allow_networks: validation.allow_networks.clone(),
        refuse_networks: validation.refuse_networks.clone(),
        local_names: validation.local_names,
        http_timeout: validation.timeout,
        connections_per_target: validation.per_target,
        ..NetworkConfig::default()
    };
    Ok(Network::new(settings)?)
}

fn settings(config: &Config) -> Settings {
    Settings {
        order_lifetime: config.order_lifetime,
        untouched_after: config.untouched_after,
        exempt_after: config.limits.exempt_after,
        authorization_lifetime: config.authorization_lifetime,
        terms_of_service: config.terms_url.clone(),
        website: config.website.clone(),
        caa_identities: config.caa.identities.clone(),
        check_caa: config.caa.check,
        caa_climb: Climb { stop_at: config.caa.stop_at.clone(), most_levels: config.caa.max_levels },
        ours: Ours {
            local_names: config.validation.local_names,
            networks: config.validation.allow_networks.clone(),
        },
        pre_authorization: config.pre_authorization,
        lease: config.job.lease,
        validation_attempts: config.validation.attempts,
        validation_deadline: config.validation.deadline,
        validation: ValidationConfig {
            http01_port: config.validation.http01_port,
            tls_alpn01_port: config.validation.tlsalpn01_port,
        },
        crl_interval: config.crl.interval,
        crl_lifetime: config.crl.lifetime,
    }
}

fn job_bounds(config: &Config) -> JobBounds {
    let validation = &config.validation;
    JobBounds {
        http01: validation.http01_concurrency,
        dns01: validation.dns01_concurrency,
        tls_alpn01: validation.tlsalpn01_concurrency,
        validations_of_account: validation.per_account,
        issuances: config.job.issuances,
    }
}

fn worker_config(config: &Config, now: Timestamp) -> WorkerConfig {
    WorkerConfig {
        tick: config.job.tick,
        replica: Replica {
            id: ReplicaId::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: config.listen.to_string(),
            ops_listen: config.ops_listen.to_string(),
            started_at: now,
            seen_at: now,
        },
        leader_lease: config.leader_lease,
        sweep_interval: config.sweep_interval,
        retention: config.retention,
    }
}

/// Nonces and limits: of the fleet in Redis, or of this process alone.
async fn admission(
    config: &Config,
    clock: &Arc<FleetClock>,
) -> Result<(Arc<dyn Nonces>, Limits), StartError> {
    let clock: Arc<dyn Clock> = Arc::<FleetClock>::clone(clock);
    let own = MemoryBuckets::new(Arc::clone(&clock));
    let (capacities, help) = (config.limits.capacities, config.limits.help.clone());
    let Some(url) = &config.redis_url else {
        let nonces = Arc::new(MemoryNonces::new(config.nonce_lifetime, clock));
        return Ok((nonces, Limits::new(capacities, help, Arc::new(own), None)));
    };
    let nonces = RedisNonces::connect(RedisConfig::new(url.expose()), config.nonce_lifetime)?;
    if let Err(error) = nonces.wait_until_ready(REDIS_PATIENCE).await {
        // The replica starts all the same: it becomes ready when Redis does.
        tracing::error!(%error, "Redis is not there; requests that need a nonce are refused until it is");
    }
    let alone = config.limits.alone_without_redis.then_some(own);
    let buckets = Arc::new(RedisBuckets::beside(&nonces));
    Ok((nonces, Limits::new(capacities, help, buckets, alone)))
}

/// Tries what the configuration names, without changing anything: the issuer's files, Postgres, Redis. For each, what
/// is wrong with it, if something is.
pub async fn try_out(config: &Config) -> Vec<(&'static str, Result<(), String>)> {
    let mut outcomes = Vec::new();
    if config.ca.issuer.is_some() {
        outcomes.push(("ca", open_issuer(config).map(|_| ()).map_err(|error| error.to_string())));
    }
    if let Database::Postgres(url) = &config.database {
        let reached = async { Store::postgres(url.expose(), 1).await?.ping().await };
        outcomes.push(("database", reached.await.map_err(|error| error.to_string())));
    }
    if let Some(url) = &config.redis_url {
        let reached = look_at_redis(RedisConfig::new(url.expose()), Duration::from_secs(3)).await;
        outcomes.push(("redis", reached.map_err(|error| error.cause().to_owned())));
    }
    outcomes
}

async fn services(
    config: &Config,
    clock: &Arc<FleetClock>,
    issuer: &LocalIssuer,
) -> Result<Services, StartError> {
    let store = open_store(config).await?.with_clock(Arc::clone(clock));
    migrate(&store).await?;
    let sealing = open_sealing(config)?;
    external_accounts::check_sealing(&store, sealing.as_ref()).await?;
    let (nonces, limits) = admission(config, clock).await?;
    Ok(Services {
        nonces,
        limits,
        store,
        network: Arc::new(network(config)?),
        issuer: Arc::new(issuer.clone()),
        previous_issuers: previous_issuers(config)?,
        weak_keys: WeakKeys::from_files(&config.ca.weak_keys)?,
        sealing,
        profiles: config.profiles.clone(),
        clock: Arc::<FleetClock>::clone(clock),
        urls: Urls::new(&config.external_url, &config.ca.public_url),
        crls: service::crls::Lists::default(),
        crl_wanted: tokio::sync::Notify::new(),
        key_blocked: tokio::sync::Notify::new(),
        jobs: Jobs::new(job_bounds(config)),
        settings: settings(config),
    })
}

/// Runs a replica until SIGTERM or SIGINT, then drains it. `local` prints the newcomer's next steps.
pub async fn serve(config: Config, metrics: Metrics, local: bool) -> Result<(), StartError> {
    let clock = Arc::new(FleetClock::default());
    let issuer = open_issuer(&config)?;
    let services = Arc::new(services(&config, &clock, &issuer).await?);
    worker::compare_clocks(&services, &clock).await?;
    service::limits::refresh_overrides(&services).await?;
    service::crls::refresh(&services).await?;

    let tls = certificate::tls(&config, &services).await?;
    let listener = bind(config.listen).await?;
    let operations = bind(config.ops_listen).await?;
    let public = match config.ca.listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let stop = CancellationToken::new();
    let limits = ListenerLimits {
        header_timeout: config.http.header_timeout,
        idle_timeout: config.http.idle_timeout,
        write_timeout: config.http.write_timeout,
        ..ListenerLimits::default()
    };
    let mut bounds = config.http.bounds;
    bounds.connections.most = descriptors::connections_that_fit(bounds.connections.most);
    let ledger = Ledger::new(bounds);
    let http = &config.http;
    let proxies = http.trusted_proxies.clone();
    let app = App::new(Arc::clone(&services), Arc::clone(&ledger), http.request_timeout, proxies.clone());
    let drain = config.shutdown_timeout;
    // The two that strangers reach share what they may hold.
    let open_to_strangers = |tls, router| listener::Service {
        tls,
        proxies: http.proxy_protocol.then(|| ProxyProtocol::new(proxies.clone())),
        trusted: proxies.clone().into(),
        router,
        limits,
        ledger: Arc::clone(&ledger),
    };
    let public = public.map(|public| {
        let service = open_to_strangers(None, app.clone().public_router());
        tokio::spawn(listener::serve(public, service, stop.clone(), drain))
    });
    let served = open_to_strangers(tls.as_ref().map(|(_, tls)| Arc::clone(tls)), app.router());
    let acme = tokio::spawn(listener::serve(listener, served, stop.clone(), drain));
    let working = worker_config(&config, services.now());
    let working = tokio::spawn(worker::run(Arc::clone(&services), clock, working, stop.clone()));
    let stopped = CancellationToken::new();
    let operating = tokio::spawn(operate(operations, &services, metrics.clone(), limits, stopped.clone()));
    tokio::spawn(metrics.upkeep(stopped.clone()));
    if let Some((certificate, _)) = tls {
        tokio::spawn(certificate::renew(config.clone(), Arc::clone(&services), certificate, stopped.clone()));
    }
    tracing::info!(directory = services.urls.directory(None), listen = %config.listen, ca = config.ca.listen.map(|address| address.to_string()), ops = %config.ops_listen, "serving");
    if local {
        first_steps::print(&config, &services.urls);
    }

    wait_for_end(&config, &services.jobs).await?;
    tracing::info!("stopping: no new requests; running ones end, jobs are handed back");
    services.jobs.stop();
    stop.cancel();
    let _ = tokio::join!(acme, working, futures_util::future::OptionFuture::from(public));
    services.jobs.drain(drain).await;
    stopped.cancel();
    let _ = operating.await;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("cannot listen on {address}: {error}").into())
}

/// Serves the operator's endpoints.
fn operate(
    listener: TcpListener,
    services: &Arc<Services>,
    metrics: Metrics,
    limits: ListenerLimits,
    stopped: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let readiness = Arc::new(Readiness::default());
    let (kept, looked_at) = (Arc::clone(&readiness), Arc::clone(services));
    tokio::spawn(stopped.clone().run_until_cancelled_owned(async move { kept.keep(&looked_at).await }));
    let router = operations::router(Arc::clone(services), readiness, Arc::new(move || metrics.render()));
    let ledger = Ledger::new(Bounds::of_connections(OPERATIONS_CONNECTIONS));
    let (tls, proxies, trusted) = (None, None, Vec::new().into());
    let service = listener::Service { tls, proxies, trusted, router, limits, ledger };
    listener::serve(listener, service, stopped, Duration::from_secs(1))
}

/// Waits for SIGTERM or SIGINT. After a SIGTERM a replica of a fleet goes on for `shutdown.delay`, no longer ready: its
/// balancers send requests elsewhere before a connection is refused. A second signal ends that wait.
async fn wait_for_end(config: &Config, jobs: &Jobs) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => return Ok(()),
    }
    jobs.leave();
    if config.is_alone() || config.shutdown_delay.is_zero() {
        return Ok(());
    }
    tracing::info!(delay = ?config.shutdown_delay, "leaving: no longer ready; requests are taken for a while yet");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(config.shutdown_delay) => {}
    }
    Ok(())
}
