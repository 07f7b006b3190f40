//! The `chancery` program: arguments, configuration, telemetry, run, drain.

use std::process::ExitCode;

use chancery::acme::audit::Origin;
use chancery::acme::profile::KeyType;
use chancery::acme::time::FleetClock;
use chancery::cli::{self, CaCommand, CaInit, Cli, Command, Configured, audit, eab};
use chancery::config::{self, Config, Sources};
use chancery::pki::authority::{self, AuthorityKey};
use chancery::server::{self, StartError};
use chancery::storage::audit::on_behalf_of;
use chancery::{status, telemetry};
use clap::Parser;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chancery: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), StartError> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "TLS cannot be set up")?;
    match command {
        Command::Serve(serve) => {
            let config = load(&serve.configured, serve.local)?;
            telemetry::start_log(config.log.format, &config.log.level)?;
            telemetry::log_panics();
            let metrics = telemetry::start_metrics()?;
            runtime()?.block_on(server::serve(config, metrics, serve.local))
        }
        Command::Migrate(configured) => {
            let config = load(&configured, false)?;
            telemetry::start_log(config.log.format, &config.log.level)?;
            runtime()?.block_on(async {
                let store = server::open_store(&config).await?;
                server::migrate(&store).await
            })
        }
        Command::Status(configured) => {
            let config = load(&configured, false)?;
            print!("{}", runtime()?.block_on(status::read(&config))?);
            Ok(())
        }
        Command::Check(check) if check.reference => {
            print!("{}", config::reference_markdown());
            Ok(())
        }
        Command::Check(check) => {
            let config = load(&check.configured, false)?;
            print!("{}", config.effective());
            try_out(&config)
        }
        Command::Ca(CaCommand::Init(init)) => init_authority(&init),
        Command::Limits(command) => {
            let config = load(command.configured(), false)?;
            telemetry::start_log(config.log.format, &config.log.level)?;
            print!("{}", runtime()?.block_on(by_operator(cli::limits::run(&config, &command)))?);
            Ok(())
        }
        Command::Eab(command) => {
            let config = load(command.configured(), false)?;
            telemetry::start_log(config.log.format, &config.log.level)?;
            print!("{}", runtime()?.block_on(by_operator(eab::run(&command, &config)))?);
            Ok(())
        }
        Command::Renew(command) => {
            let config = load(&command.configured, false)?;
            telemetry::start_log(config.log.format, &config.log.level)?;
            print!("{}", runtime()?.block_on(by_operator(cli::renew::run(&command, &config)))?);
            Ok(())
        }
        Command::Audit(command) => {
            let config = load(&command.configured, false)?;
            let out = &mut std::io::stdout().lock();
            if runtime()?.block_on(audit::run(&command, &config, out))? == 0 {
                eprintln!("the trail has nothing of this");
            }
            Ok(())
        }
    }
}

/// What the command changes, the operator does.
fn by_operator<F: Future>(work: F) -> impl Future<Output = F::Output> {
    on_behalf_of(Origin::operator(), work)
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn load(configured: &Configured, local: bool) -> Result<Config, StartError> {
    Ok(Config::load(&sources(configured, local))?)
}

fn sources(configured: &Configured, local: bool) -> Sources {
    let environment = std::env::vars_os().collect();
    Sources { file: configured.config.clone(), data_dir: configured.data_dir.clone(), local, environment }
}

/// Says of each thing that the configuration names whether it works; an error if one does not.
fn try_out(config: &Config) -> Result<(), StartError> {
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    let mut failed = 0;
    for (name, outcome) in runtime()?.block_on(server::try_out(config)) {
        match outcome {
            Ok(()) => eprintln!("{name}: ok"),
            Err(why) => {
                failed += 1;
                eprintln!("{name}: {why}");
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err("the configuration can be read, but not all of it works".into()) }
}

fn init_authority(init: &CaInit) -> Result<(), StartError> {
    let key = match init.key {
        KeyType::P384 => AuthorityKey::P384,
        KeyType::Rsa2048 => AuthorityKey::Rsa2048,
        KeyType::Rsa3072 => AuthorityKey::Rsa3072,
        KeyType::Rsa4096 => AuthorityKey::Rsa4096,
        _ => AuthorityKey::P256,
    };
    let folder = &Config::data_dir(&sources(&init.configured, false))?;
    if folder.join("issuing.pem").exists() {
        return Err(format!("{} has an authority already; nothing was changed", folder.display()).into());
    }
    authority::load_or_create(folder, &init.name, key, FleetClock::machine_now(), false)?;
    println!(
        "{}: root.pem is what clients trust; replicas need issuing.pem and issuing.key; keep root.key offline",
        folder.display()
    );
    Ok(())
}
