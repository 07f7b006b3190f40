//! HEAD new-nonce as fast as it is answered: bytes over a socket, as anything more would measure the
//! generator.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accounting;
use crate::arguments::NonceArguments;
use crate::client::{Fleet, split_url};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::report::{self, CpuBill};
use crate::step::Step;

/// Largest response head that is read.
const HEAD_LIMIT: usize = 16 * 1024;
/// Of how many requests of a connection one nonce is kept, to see that none comes twice.
const SAMPLE: u64 = 64;

/// What one connection has seen.
#[derive(Default)]
struct Tally {
    latencies: Option<Histogram>,
    nonces: Vec<Vec<u8>>,
    error: Option<String>,
}

/// Runs the load and prints the results; `true` when there was no error and the required rate was kept.
pub(crate) async fn run(arguments: NonceArguments) -> Result<bool, Failure> {
    let watched = accounting::watch(&arguments.common.account_for)?;
    let timeout = Duration::from_secs(30);
    let fleet =
        Arc::new(Fleet::discover(&arguments.common.server, arguments.common.root.as_deref(), timeout).await?);
    if fleet.replicas.iter().any(|replica| replica.encrypted) {
        return Err(Failure::Setup("nonces are measured over http only".into()));
    }
    let url = &fleet.directory.new_nonce;
    let (_, authority, path) =
        split_url(url).ok_or_else(|| Failure::Setup(format!("new-nonce is no URL: `{url}`")))?;
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let from = Instant::now() + Duration::from_secs_f64(arguments.common.warmup);
    let until = from + Duration::from_secs_f64(arguments.common.duration);
    let mut tasks = Vec::with_capacity(arguments.connections);
    for connection in 0..arguments.connections {
        let stream = fleet.connect_plain(connection % fleet.replicas.len()).await.map_err(Failure::Setup)?;
        let request = request.clone().into_bytes();
        tasks.push(tokio::spawn(ask(stream, request, from, until)));
    }
    tokio::time::sleep_until(from.into()).await;
    let first = accounting::snapshot(&watched);
    tokio::time::sleep_until(until.into()).await;
    let last = accounting::snapshot(&watched);
    let (mut latencies, mut errors, mut seen, mut repeated) =
        (Histogram::new(), Vec::new(), HashSet::new(), 0);
    for task in tasks {
        let Ok(ended) = tokio::time::timeout_at((until + timeout).into(), task).await else {
            errors.push("a request was not answered".to_owned());
            continue;
        };
        let tally = ended.map_err(|error| Failure::Setup(format!("a connection failed: {error}")))?;
        if let Some(histogram) = &tally.latencies {
            latencies.merge(histogram);
        }
        errors.extend(tally.error);
        repeated += tally.nonces.into_iter().filter(|nonce| !seen.insert(nonce.clone())).count();
    }
    let rate = latencies.count() as f64 / arguments.common.duration;
    let bill = CpuBill::new(&watched, &first, &last, arguments.common.duration, latencies.count());
    println!("{rate:.0} requests/s over {} connections", arguments.connections);
    report::print_latencies([(Step::NewNonce.name(), &latencies)]);
    println!("{} nonces kept for comparison, {repeated} of them repeated", seen.len() + repeated);
    for error in &errors {
        println!("error: {error}");
    }
    bill.print(1000.0, "µs/request");
    let kept = report::require("requests/s", Some(rate), arguments.common.require_rate, true)
        && errors.is_empty()
        && repeated == 0
        && bill.servers.iter().all(|(_, used)| used.is_some())
        && latencies.count() > 0;
    if let Some(path) = &arguments.common.json {
        let results = serde_json::json!({
            "requests_per_second": rate, "latency_us": report::latency_json(&latencies), "errors": errors,
            "repeated_nonces": repeated, "cpu": bill.json(), "passed": kept,
        });
        report::write(path, &results)?;
    }
    Ok(kept)
}

/// Sends the request again and again over one connection, each time after the answer to the last.
async fn ask(mut stream: TcpStream, request: Vec<u8>, from: Instant, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut latencies = Histogram::new();
    let mut head = Vec::with_capacity(HEAD_LIMIT);
    let mut since = Instant::now();
    let mut asked = 0_u64;
    while since < until {
        let nonce = match once(&mut stream, &request, &mut head).await {
            Ok(nonce) => nonce,
            Err(error) => {
                tally.error = Some(error);
                break;
            }
        };
        if asked.is_multiple_of(SAMPLE) {
            tally.nonces.push(nonce.to_vec());
        }
        asked += 1;
        let now = Instant::now();
        if from <= since && now < until {
            latencies.record(now.duration_since(since).as_micros() as u64);
        }
        since = now;
    }
    tally.latencies = Some(latencies);
    tally
}

async fn once<'a>(stream: &mut TcpStream, request: &[u8], head: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    head.clear();
    loop {
        let read = stream.read_buf(head).await.map_err(|error| error.to_string())?;
        if read == 0 || head.len() >= HEAD_LIMIT {
            return Err("the server closed the connection".to_owned());
        }
        // A HEAD has no body, and nothing is asked ahead, so the head ends what is read.
        if head.ends_with(b"\r\n\r\n") {
            return nonce_of(head)
                .ok_or_else(|| String::from_utf8_lossy(head).lines().next().unwrap_or("").to_owned());
        }
    }
}

/// The `Replay-Nonce` of a response head with status 200.
fn nonce_of(head: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"replay-nonce:";
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return None;
    }
    let line = head.split(|byte| *byte == b'\n').find(|line| {
        line.split_at_checked(NAME.len()).is_some_and(|(name, _)| name.eq_ignore_ascii_case(NAME))
    })?;
    let value = line[NAME.len()..].trim_ascii();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_found_whatever_the_case_of_its_header() {
        let head = |name: &str| format!("HTTP/1.1 200 OK\r\nDate: x\r\n{name}: abc_-1\r\nA: b\r\n\r\n");
        for name in ["replay-nonce", "Replay-Nonce", "REPLAY-NONCE"] {
            assert_eq!(nonce_of(head(name).as_bytes()), Some(&b"abc_-1"[..]));
        }
        assert_eq!(nonce_of(head("x-replay-nonce").as_bytes()), None);
        assert_eq!(nonce_of(b"HTTP/1.1 200 OK\r\nReplay-Nonce: \r\n\r\n"), None);
        assert_eq!(nonce_of(b"HTTP/1.1 503 Busy\r\nReplay-Nonce: abc\r\n\r\n"), None);
    }
}
