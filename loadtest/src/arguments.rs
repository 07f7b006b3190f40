//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A signed-flow load generator for ACME servers (RFC 8555).
///
/// Exit code 0: no error and every required threshold kept; 1: errors, or a threshold missed; 2: could not
/// start.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whole issuances: order, challenge, finalize, certificate.
    Run(Box<RunArguments>),
    /// HEAD new-nonce as fast as it is answered, without pipelining.
    Nonces(NonceArguments),
    /// Turn the windows of a run of `peers/run` into tables, and write them into a page.
    Compare(CompareArguments),
}

/// What both kinds of load need to know.
#[derive(Args, Debug)]
pub(crate) struct CommonArguments {
    /// Directory URLs, one a replica; requests go round robin over all of them.
    #[arg(long, required = true, value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// PEM file with the root that the replicas' own TLS certificates chain to (https only).
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
    /// Server processes, `PID` or `NAME=PID`; the CPU time of their descendants counts too.
    #[arg(long, value_delimiter = ',')]
    pub(crate) account_for: Vec<String>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    pub(crate) duration: f64,
    /// Seconds of load before measuring starts.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) warmup: f64,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(crate) threads: usize,
    /// Write the results here as JSON too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Fail below so many issuances (`nonces`: requests) a second.
    #[arg(long)]
    pub(crate) require_rate: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) common: CommonArguments,
    /// Accounts to register before the load starts; flows use them in turn.
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub(crate) accounts: usize,
    /// How often a registration is tried. 1: its failure ends the run. More: failures count as errors, and the run
    /// goes on with the accounts that there are.
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(crate) registration_attempts: usize,
    /// Algorithm of the accounts' keys.
    #[arg(long, value_enum, default_value_t = KeyKind::Es256)]
    pub(crate) key: KeyKind,
    /// Challenge to answer; `none` expects orders that are ready at once.
    #[arg(long, value_enum, default_value_t = ChallengeKind::Http01)]
    pub(crate) challenge: ChallengeKind,
    /// Closed: `--concurrency` flows at any time. Open: `--rate` flows a second, whatever becomes of them.
    #[arg(long, value_enum, default_value_t = Mode::Closed)]
    pub(crate) mode: Mode,
    /// Flows at a time (closed loop).
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub(crate) concurrency: usize,
    /// Flows started a second (open loop).
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Flows that may be under way at once in the open loop; what is due above that is shed, and counted.
    #[arg(long, default_value_t = 1000, value_parser = count)]
    pub(crate) max_in_flight: usize,
    /// DNS names in each order.
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(crate) names_per_order: usize,
    /// Domain under which names are invented.
    #[arg(long, default_value = "load.test")]
    pub(crate) domain: String,
    /// Profile to name in new-order.
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Milliseconds before each poll.
    #[arg(long, default_value_t = 20)]
    pub(crate) poll_interval: u64,
    /// Seconds after which a request, or a wait for a state, is given up.
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    pub(crate) timeout: f64,
    /// Where the http-01 responder listens.
    #[arg(long, default_value = "127.0.0.1:5002")]
    pub(crate) http01_listen: SocketAddr,
    /// Where the tls-alpn-01 responder listens.
    #[arg(long, default_value = "127.0.0.1:5001")]
    pub(crate) tlsalpn_listen: SocketAddr,
    /// Where the DNS responder listens, UDP and TCP.
    #[arg(long, default_value = "127.0.0.1:8053")]
    pub(crate) dns_listen: SocketAddr,
    /// Fail when the 99th percentile of finalize exceeds so many milliseconds.
    #[arg(long)]
    pub(crate) require_p99_finalize: Option<f64>,
    /// Fail when a certificate costs the accounted processes more CPU milliseconds.
    #[arg(long)]
    pub(crate) require_cpu_ms: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct NonceArguments {
    #[command(flatten)]
    pub(crate) common: CommonArguments,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub(crate) connections: usize,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    /// The folder that the run filled.
    pub(crate) folder: PathBuf,
    /// The page whose tables, between marker comments, are replaced.
    #[arg(long)]
    pub(crate) page: Option<PathBuf>,
    /// Write everything that the tables are made from here, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// Algorithm of an account's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with 2048 bits and SHA-256.
    Rs256,
}

/// Which challenge the generator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChallengeKind {
    #[value(name = "http-01")]
    Http01,
    #[value(name = "dns-01")]
    Dns01,
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
    /// No challenge: a profile that trusts its accounts.
    #[value(name = "none")]
    None,
}

impl ChallengeKind {
    /// The `type` of the challenge object, RFC 8555 §8 and RFC 8737 §3.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::None => "none",
        }
    }
}

/// How flows are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The next one when one ends.
    Closed,
    /// At a fixed rate.
    Open,
}

/// A number of seconds, from 0 up to eleven days.
fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1e6).contains(&value) { Ok(value) } else { Err("must lie between 0 and a million".to_owned()) }
}

/// A number above 0 and below a million.
fn positive(text: &str) -> Result<f64, String> {
    let value = seconds(text)?;
    if value > 0.0 { Ok(value) } else { Err("must be above 0".to_owned()) }
}

/// A whole number from 1 up to a hundred thousand.
fn count(text: &str) -> Result<usize, String> {
    let value: usize = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if (1..=100_000).contains(&value) { Ok(value) } else { Err("must lie between 1 and 100000".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn lists_are_split_at_commas_and_the_rest_has_defaults() {
        let line =
            "chancery-loadtest run --server http://a/directory,http://b/directory --account-for 1,pg=2";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("another command") };
        assert_eq!(run.common.server, ["http://a/directory", "http://b/directory"]);
        assert_eq!(run.common.account_for, ["1", "pg=2"]);
        assert_eq!((run.mode, run.key, run.challenge), (Mode::Closed, KeyKind::Es256, ChallengeKind::Http01));
        assert_eq!(run.poll_interval, 20);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let with = |rest: &str| parse(&format!("chancery-loadtest run --server http://a/directory {rest}"));
        assert!(with("--duration 0.5 --warmup 0").is_ok());
        for rest in
            ["--duration 0", "--duration inf", "--warmup=-1", "--rate nan", "--accounts 0", "--threads 0"]
        {
            assert!(with(rest).is_err(), "{rest}");
        }
    }
}
