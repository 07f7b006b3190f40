//! The folder that a run fills: `run.json`, `servers/NAME.json`, `windows/N.NAME.rROUND.cCONCURRENCY.json` as
//! the generator writes them (or `.failed` with what it said), and `pairs/NAME.…` likewise for two instances, and
//! `limits/NAME.…` for two that let an account place few orders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// All that a run left.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Results {
    pub(crate) run: Run,
    pub(crate) servers: BTreeMap<String, Server>,
    pub(crate) windows: Vec<Window>,
    pub(crate) pairs: BTreeMap<String, Pair>,
    /// Two instances that limit the orders of an account.
    pub(crate) limits: BTreeMap<String, Outcome>,
}

/// What the whole run had in common.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    pub(crate) date: String,
    pub(crate) machine: String,
    /// Cores of the machine, which everything shared.
    pub(crate) cores: f64,
    pub(crate) rounds: u32,
    /// Measured seconds of a window.
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    pub(crate) accounts: u32,
    /// The orders that an account may place where limits are tried.
    pub(crate) order_limit: u32,
    /// The server that the others are set in relation to.
    pub(crate) reference: String,
    /// The servers in the order of the tables.
    pub(crate) order: Vec<String>,
}

/// A server under comparison.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) title: String,
    pub(crate) version: String,
    pub(crate) processes: String,
    pub(crate) settings: String,
    /// How two instances were started.
    pub(crate) two: String,
    /// Why it was not measured.
    pub(crate) absent: Option<String>,
}

/// One measurement of one server.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Window {
    /// Which of the whole run it was.
    pub(crate) number: u32,
    pub(crate) server: String,
    pub(crate) round: u32,
    pub(crate) concurrency: u32,
    pub(crate) outcome: Outcome,
}

/// Two instances behind one balancer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Pair {
    /// What else was seen.
    pub(crate) note: Option<String>,
    pub(crate) outcome: Option<Outcome>,
}

/// What the generator wrote, or why it wrote nothing.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Measured(Box<Measured>),
    Failed { failure: String },
}

/// The members of the generator's JSON that the tables use.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Measured {
    pub(crate) issuances_per_second: f64,
    pub(crate) issuances: u64,
    pub(crate) latency_us: BTreeMap<String, Latency>,
    pub(crate) errors: BTreeMap<String, Errors>,
    pub(crate) bad_nonce_retries: u64,
    pub(crate) longest_retry_after: Option<u64>,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Vec<Memory>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    pub(crate) first: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Cpu {
    pub(crate) servers: Vec<CpuOf>,
    pub(crate) generator_cpu_ms: f64,
    pub(crate) machine_cpu_ms: f64,
    pub(crate) seconds: f64,
}

/// CPU time of a process tree; its name begins with `server:`, `store:` or `proxy:`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CpuOf {
    pub(crate) name: String,
    pub(crate) cpu_ms: Option<f64>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) name: String,
    pub(crate) peak_pss_kib: u64,
    pub(crate) peak_rss_kib: u64,
}

/// Reads what a run left in `folder`.
pub(crate) fn read(folder: &Path) -> Result<Results, Failure> {
    let mut servers = BTreeMap::new();
    for path in files(&folder.join("servers"))? {
        if let Some(name) = stem(&path, ".json") {
            servers.insert(name, json(&path)?);
        }
    }
    let mut windows = Vec::new();
    for path in files(&folder.join("windows"))? {
        windows.extend(window(&path)?);
    }
    windows.sort_by_key(|window| window.number);
    let mut pairs = BTreeMap::new();
    for path in files(&folder.join("pairs"))? {
        let name = file_name(&path).split('.').next().unwrap_or_default().to_owned();
        let pair = pairs.entry(name).or_insert(Pair { note: None, outcome: None });
        if stem(&path, ".note").is_some() {
            pair.note = Some(text(&path)?.trim().to_owned());
        } else if let Some(outcome) = outcome(&path)? {
            pair.outcome = Some(outcome);
        }
    }
    let mut limits = BTreeMap::new();
    for path in files(&folder.join("limits"))? {
        if let Some(outcome) = outcome(&path)? {
            limits.insert(file_name(&path).split('.').next().unwrap_or_default().to_owned(), outcome);
        }
    }
    Ok(Results { run: json(&folder.join("run.json"))?, servers, windows, pairs, limits })
}

/// A window from a file called `N.NAME.rROUND.cCONCURRENCY.json` (or `.failed`).
fn window(path: &Path) -> Result<Option<Window>, Failure> {
    let name = file_name(path);
    let Some(outcome) = outcome(path)? else { return Ok(None) };
    let parts: Vec<&str> = name.split('.').collect();
    let parsed = match parts.as_slice() {
        [number, server, round, concurrency, _] => (|| {
            Some(Window {
                number: number.parse().ok()?,
                server: (*server).to_owned(),
                round: round.strip_prefix('r')?.parse().ok()?,
                concurrency: concurrency.strip_prefix('c')?.parse().ok()?,
                outcome,
            })
        })(),
        _ => None,
    };
    parsed.map(Some).ok_or_else(|| Failure::Setup(format!("{}: the name tells no window", path.display())))
}

/// What a file says of a run of the generator; nothing where it is neither `.json` nor `.failed`.
fn outcome(path: &Path) -> Result<Option<Outcome>, Failure> {
    if stem(path, ".json").is_some() {
        return Ok(Some(Outcome::Measured(Box::new(json(path)?))));
    }
    if stem(path, ".failed").is_some() {
        return Ok(Some(Outcome::Failed { failure: text(path)?.trim().to_owned() }));
    }
    Ok(None)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| refused(folder, &error))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn stem(path: &Path, ending: &str) -> Option<String> {
    file_name(path).strip_suffix(ending).map(str::to_owned)
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| refused(path, &error))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    serde_json::from_str(&text(path)?).map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Setup(format!("{}: {error}", path.display()))
}
