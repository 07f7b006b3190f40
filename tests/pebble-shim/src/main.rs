//! Pebble's command line, configuration and management interface in front of Chancery: test suites that start Pebble
//! run against Chancery without a change. For tests only; README.md says what is honoured, and what is not.

mod acme;
mod arguments;
mod authority;
mod chancery;
mod configuration;
mod dns;
mod environment;
mod management;
mod settings;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ::chancery::listener::{self, ListenerLimits, ReloadingCertificate};
use ::chancery::peers::{Bounds, Ledger};
use arguments::{Arguments, Wanted};
use configuration::Configuration;
use environment::Environment;
use settings::Plan;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why the shim does not start; the text says what to do.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let wanted = match arguments::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(fault) => {
            eprintln!("{fault}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let arguments = match wanted {
        Wanted::Help => {
            println!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Wanted::Version => {
            println!("Pebble version: Chancery {} in Pebble's shape", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Wanted::Serve(arguments) => arguments,
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pebble (Chancery): {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "TLS cannot be set up")?;
    let configuration = Configuration::read(&arguments.config)?;
    let environment = Environment::read(std::env::vars())?;
    let plan = Plan::make(arguments, &configuration, &environment)?;
    for remark in &plan.remarks {
        println!("Pebble (Chancery): {remark}");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(&plan))
}

/// Serves until it is killed, or Chancery ends.
async fn serve(plan: &Plan) -> Result<(), Failure> {
    // Bound first: who comes early waits for Chancery instead of being refused.
    let acme = bind(&plan.listen).await?;
    let management = match &plan.management {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let certificate = ReloadingCertificate::from_pem(&read(&plan.certificate)?, &read(&plan.private_key)?)?;
    let tls = listener::tls_config(certificate)?;
    let authority = authority::Authority::make(plan.keys, plan.alternates, plan.chain_length)?;
    let home = chancery::Home::make()?;
    let resolver = match plan.resolvers.is_empty() {
        true => None,
        false => Some(dns::forward(home.address().ip(), plan.resolvers.clone()).await?),
    };
    let (ready, readiness) = tokio::sync::watch::channel(false);
    let front = acme::router(home.address(), plan.spoiled, readiness.clone());
    serve_on(acme, &tls, front);
    if let Some(management) = management {
        let router = management::router(authority.clone(), home.database(), readiness);
        serve_on(management, &tls, router);
        println!(
            "Pebble (Chancery): management interface at https://{}",
            plan.management.as_deref().unwrap_or("")
        );
    }
    println!("Pebble (Chancery): ACME directory at https://{}/dir", plan.host);
    chancery::run(plan, &home, &authority, resolver, ready).await
}

async fn bind(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

fn serve_on(listener: TcpListener, tls: &std::sync::Arc<rustls::ServerConfig>, router: axum::Router) {
    let service = listener::Service {
        tls: Some(std::sync::Arc::clone(tls)),
        proxies: None,
        trusted: Vec::new().into(),
        router,
        limits: ListenerLimits::default(),
        ledger: Ledger::new(Bounds::of_connections(10_000)),
    };
    tokio::spawn(listener::serve(listener, service, CancellationToken::new(), Duration::ZERO));
}

/// An address as `HOST:PORT`, where an empty host is this machine.
fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    use std::net::ToSocketAddrs;
    let text = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    let found = text.to_socket_addrs().map_err(|error| format!("{text} is no address: {error}"))?;
    Ok(found.collect())
}
