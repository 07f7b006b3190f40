//! The command line: what can be asked for, and the help that teaches it. Nothing is done in this file; commands that are
//! more than a call have one of their own.

pub mod audit;
pub mod eab;
pub mod limits;
pub mod renew;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::acme::profile::KeyType;
use audit::AuditCommand;
use eab::EabCommand;

pub use limits::LimitsCommand;

const ABOUT: &str = "\
Chancery hands out certificates by ACME (RFC 8555) from your own certificate authority.

One binary, one command: every replica answers clients, validates, issues and cleans up. Without any configuration it
keeps a SQLite file and its own authority in ./chancery-data; with Postgres and Redis any number of replicas work as one.";

const EXAMPLES: &str = "\
First run, with challenges on ports that need no privileges:
  chancery serve --local

A certificate from it, by lego 5, for a name that is this machine:
  LEGO_CA_CERTIFICATES=chancery-data/root.pem lego run --server https://localhost:14000/directory --accept-tos \\
    --email me@example.com --domains first.localhost --http --http.address :5002
The same by lego 4 (Debian's):
  LEGO_CA_CERTIFICATES=chancery-data/root.pem lego --server https://localhost:14000/directory --accept-tos \\
    --email me@example.com --domains first.localhost --http --http.port :5002 run

A fleet: one authority for all, then as many replicas as you like, each behind the same load balancer:
  chancery ca init --data-dir /etc/chancery --name 'Example Inc.'
  export CHANCERY_EXTERNAL_URL=https://acme.example.com CHANCERY_TLS_MODE=off CHANCERY_LISTEN=0.0.0.0:14000
  export CHANCERY_DATABASE_URL_FILE=/run/secrets/database CHANCERY_REDIS_URL_FILE=/run/secrets/redis
  export CHANCERY_CA_CERT=/etc/chancery/issuing.pem CHANCERY_CA_KEY=/etc/chancery/issuing.key
  export CHANCERY_CA_CHAIN=/etc/chancery/root.pem
  chancery check && chancery migrate && chancery serve

Every setting is a line in a TOML file or an environment variable; `chancery check --reference` explains them all.";

/// `chancery`.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "chancery", version, about = "An ACME server (RFC 8555) for fleets", long_about = ABOUT)]
#[command(after_help = "`chancery --help` shows examples.", after_long_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `chancery` can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run a replica until a signal ends it.
    ///
    /// SIGTERM and SIGINT let running requests and jobs finish, for shutdown.timeout at most.
    Serve(Serve),
    /// Bring the database's schema up to this version, and end.
    ///
    /// `serve` does so by itself when it starts; a fleet may do it once, before the new replicas start.
    Migrate(Configured),
    /// Check the configuration and show the settings in force with their sources.
    ///
    /// Then the issuer's files, Postgres and Redis are tried, without changing anything. Secrets are not shown. Ends with status 1, and everything that is wrong, if it cannot be used.
    Check(Check),
    /// Show the fleet: its replicas, the leader, what waits and what is due.
    ///
    /// Asks the database, and Redis where there is one, by the configuration of the replicas.
    Status(Configured),
    /// Make a certificate authority.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Keys for external account binding: who may have an account.
    #[command(subcommand)]
    Eab(EabCommand),
    /// Read the audit trail: who changed what, when, from where, and by which request.
    ///
    /// It works while replicas run, and changes nothing. Events are kept for retention.audit.
    Audit(AuditCommand),
    /// Ask the holders of certificates to renew them at once, by their renewal information (RFC 9773)
    ///
    /// Clients that ask for it, such as certbot, lego 5, Caddy and cert-manager, then come within hours.
    Renew(renew::RenewCommand),
    /// Show and reset what clients have used of the limits, and give single ones other limits.
    #[command(subcommand)]
    Limits(LimitsCommand),
}

/// Where the configuration is.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The TOML file of settings [default: CHANCERY_CONFIG, or none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded database and authority live [default: CHANCERY_DATA_DIR, or ./chancery-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `chancery serve`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// Validate on this machine: http-01 on port 5002, tls-alpn-01 on 5001, names below `localhost`
    ///
    /// Settings that are set explicitly win.
    #[arg(long)]
    pub local: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery check`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Explain all settings instead (the text of docs/configuration.md)
    #[arg(long)]
    pub reference: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery ca`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CaCommand {
    /// Make a root and an issuing certificate: root.pem, root.key, issuing.pem, issuing.key
    ///
    /// They are written into the data folder; nothing that exists is overwritten. Replicas need issuing.pem, issuing.key and root.pem; keep root.key offline.
    Init(CaInit),
}

/// `chancery ca init`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CaInit {
    /// The files are written into the data folder.
    #[command(flatten)]
    pub configured: Configured,
    /// What the certificates' names begin with
    #[arg(long, value_name = "NAME", default_value = "Chancery", value_parser = authority_name)]
    pub name: String,
    /// The kind of both keys
    #[arg(long, value_name = "KIND", default_value = "p256", value_parser = authority_key())]
    pub key: KeyType,
}

/// A common name holds 64 characters (RFC 5280, ub-common-name), and ours goes on after this text.
fn authority_name(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= 40 && !text.chars().any(char::is_control);
    if fits { Ok(text.trim().to_owned()) } else { Err("a name has 1 to 40 printable characters".to_owned()) }
}

fn authority_key() -> impl TypedValueParser<Value = KeyType> {
    PossibleValuesParser::new(["p256", "p384", "rsa2048", "rsa3072", "rsa4096"])
        .try_map(|word| KeyType::parse(&word).ok_or("not a kind of key"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Command {
        Cli::try_parse_from(line.split_whitespace()).unwrap().command
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_flags_are_understood() {
        let configured = Configured { config: Some("c.toml".into()), data_dir: Some("d".into()) };
        assert_eq!(
            parsed("chancery serve --local --config c.toml --data-dir d"),
            Command::Serve(Serve { local: true, configured: configured.clone() })
        );
        assert_eq!(parsed("chancery migrate"), Command::Migrate(Configured::default()));
        assert_eq!(
            parsed("chancery status --config c.toml --data-dir d"),
            Command::Status(configured.clone())
        );
        assert_eq!(
            parsed("chancery check --reference"),
            Command::Check(Check { reference: true, configured: Configured::default() })
        );
        let Command::Audit(audit) = parsed("chancery audit --all --json") else { panic!("not audit") };
        assert!(audit.json && audit.about.all);
        let Command::Ca(CaCommand::Init(init)) = parsed("chancery ca init --name Example --key rsa3072")
        else {
            panic!("not ca init");
        };
        assert_eq!((init.name.as_str(), init.key), ("Example", KeyType::Rsa3072));
        assert_eq!(init.configured, Configured::default());
        let init = parsed("chancery ca init --config c.toml --data-dir d");
        assert!(matches!(init, Command::Ca(CaCommand::Init(init)) if init.configured == configured));
        let Command::Eab(EabCommand::Create(create)) = parsed("chancery eab create --uses 5 --expires 30d")
        else {
            panic!("not eab create");
        };
        assert_eq!((create.profile, create.uses), (None, eab::Uses::Times(5)));
        let list = parsed("chancery eab list --config c.toml --data-dir d");
        assert_eq!(list, Command::Eab(EabCommand::List(eab::EabList { configured })));
        for line in [
            "chancery",
            "chancery audit --since 1h",
            "chancery ca init --key ed25519",
            "chancery migrate --local",
            "chancery serve x",
            "chancery eab",
            "chancery eab revoke",
            "chancery eab revoke é",
            "chancery eab create --kid a",
            "chancery eab create --secret-file f",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
        assert!(authority_name(&"x".repeat(41)).is_err() && authority_name(" ").is_err());
    }

    #[test]
    fn the_help_shows_how_to_begin() {
        let help = Cli::command().render_long_help().to_string();
        let directory = "--server https://localhost:14000/directory";
        let legos = [format!("lego run {directory}"), format!("lego {directory}")];
        for part in ["chancery serve --local", &legos[0], &legos[1], "ca init"] {
            assert!(help.contains(part), "{part}");
        }
        assert!(Cli::command().render_version().contains(env!("CARGO_PKG_VERSION")));
    }
}
