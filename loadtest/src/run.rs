//! The closed and the open loop.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::accounting::{self, Memory, Snapshot, Watched};
use crate::arguments::{KeyKind, Mode, RunArguments};
use crate::client::{Account, Fleet, Session};
use crate::csr::CertificateKey;
use crate::failure::Failure;
use crate::flow::{Scenario, register};
use crate::jws::AccountKey;
use crate::recorder::Recorder;
use crate::report::{self, CpuBill};
use crate::responders::{self, Published};
use crate::step::Step;

/// How many accounts are registered at a time.
const REGISTRATIONS: usize = 8;
/// How often memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);
/// What a worker of the closed loop waits after a failed flow, so that an absent server is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// All that the loops share.
struct Load {
    arguments: Box<RunArguments>,
    fleet: Arc<Fleet>,
    recorder: Arc<Recorder>,
    scenario: Scenario,
    /// Number of the next flow.
    next: AtomicU64,
    /// When the measured seconds begin and end.
    from: Instant,
    until: Instant,
}

/// Runs the load and prints the results; `true` when there was no error and every threshold was kept.
pub(crate) async fn run(arguments: Box<RunArguments>) -> Result<bool, Failure> {
    let watched = accounting::watch(&arguments.common.account_for)?;
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let fleet =
        Arc::new(Fleet::discover(&arguments.common.server, arguments.common.root.as_deref(), timeout).await?);
    let published = Published::new();
    responders::start(
        arguments.challenge,
        &published,
        arguments.http01_listen,
        arguments.tlsalpn_listen,
        arguments.dns_listen,
    )
    .await?;
    let recorder = Arc::new(Recorder::new());
    let accounts = register_all(&fleet, &recorder, &arguments).await?;
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::Setup("no random numbers".into()))?;
    let scenario = Scenario {
        accounts,
        certificate_key: CertificateKey::generate()?,
        challenge: arguments.challenge,
        domain: arguments.domain.clone(),
        names_per_order: arguments.names_per_order,
        poll_interval: Duration::from_millis(arguments.poll_interval),
        profile: arguments.profile.clone(),
        published,
        run: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        timeout,
    };
    let from = Instant::now() + Duration::from_secs_f64(arguments.common.warmup);
    let until = from + Duration::from_secs_f64(arguments.common.duration);
    recorder.open_window(from, until);
    let load = Arc::new(Load { arguments, fleet, recorder, scenario, next: AtomicU64::new(0), from, until });
    let meter = tokio::spawn(measure(watched.clone(), from, until));
    match load.arguments.mode {
        Mode::Closed => closed(&load).await,
        Mode::Open => open(&load).await,
    }
    let usage = meter.await.map_err(|error| Failure::Setup(format!("the meter failed: {error}")))?;
    conclude(&load, &watched, &usage)
}

/// What the watched processes used in the window.
struct Usage {
    first: Snapshot,
    last: Snapshot,
    /// The largest memory of each, looked at every second.
    peaks: Vec<Memory>,
}

/// Takes the accounts of the processes at the beginning and at the end of the window.
async fn measure(watched: Vec<Watched>, from: Instant, until: Instant) -> Usage {
    tokio::time::sleep_until(from.into()).await;
    let first = accounting::snapshot(&watched);
    let mut peaks = vec![Memory::default(); watched.len()];
    let mut next = from + MEMORY_INTERVAL;
    while next < until {
        tokio::time::sleep_until(next.into()).await;
        let shared = watched.clone();
        // Reading it takes milliseconds where a process is large.
        if let Ok(now) = tokio::task::spawn_blocking(move || accounting::memory(&shared)).await {
            peaks = peaks.into_iter().zip(now).map(|(peak, now)| peak.max(now)).collect();
        }
        next += MEMORY_INTERVAL;
    }
    tokio::time::sleep_until(until.into()).await;
    Usage { first, last: accounting::snapshot(&watched), peaks }
}

async fn register_all(
    fleet: &Arc<Fleet>,
    recorder: &Arc<Recorder>,
    arguments: &RunArguments,
) -> Result<Vec<Account>, Failure> {
    let (count, kind, attempts) = (arguments.accounts, arguments.key, arguments.registration_attempts);
    let mut tasks = Vec::new();
    for first in 0..REGISTRATIONS.min(count) {
        let mut session = Session::new(Arc::clone(fleet), Arc::clone(recorder), first);
        let recorder = Arc::clone(recorder);
        tasks.push(tokio::spawn(async move {
            let mut accounts = Vec::new();
            for _ in (first..count).step_by(REGISTRATIONS) {
                accounts.extend(register_one(&mut session, &recorder, kind, attempts).await?);
            }
            Ok::<_, Failure>(accounts)
        }));
    }
    let mut accounts = Vec::with_capacity(count);
    for task in tasks {
        accounts
            .extend(task.await.map_err(|error| Failure::Setup(format!("registration failed: {error}")))??);
    }
    if accounts.is_empty() {
        let counts = recorder.snapshot();
        let last = counts.errors.values().next().map(|error| error.example.as_str()).unwrap_or_default();
        return Err(Failure::Setup(format!("no account could be registered: {last}")));
    }
    Ok(accounts)
}

/// Registers an account. Where it may be tried more than once, each failure counts as an error of the run, and
/// after the last there is no account; otherwise the failure ends the run.
async fn register_one(
    session: &mut Session,
    recorder: &Recorder,
    kind: KeyKind,
    attempts: usize,
) -> Result<Option<Account>, Failure> {
    for _ in 0..attempts {
        match register(session, AccountKey::generate(kind)?).await {
            Ok(account) => return Ok(Some(account)),
            Err(failure) if attempts > 1 => recorder.error(&failure),
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

impl Load {
    fn session(&self, first: usize) -> Session {
        Session::new(Arc::clone(&self.fleet), Arc::clone(&self.recorder), first)
    }

    /// One flow, counted; `due` is when it should have begun. Tells whether it went through.
    async fn flow(&self, session: &mut Session, due: Instant) -> bool {
        session.measured = self.recorder.measures(due);
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        match self.scenario.issue(session, sequence).await {
            Ok(()) => {
                session.time(Step::Issuance, due);
                self.recorder.completed();
                true
            }
            Err(failure) => {
                self.recorder.error(&failure);
                false
            }
        }
    }
}

/// Each worker begins its next flow when the last one has ended, until the window closes.
async fn closed(load: &Arc<Load>) {
    let workers = (0..load.arguments.concurrency).map(|worker| {
        let load = Arc::clone(load);
        tokio::spawn(async move {
            let mut session = load.session(worker);
            while Instant::now() < load.until {
                if !load.flow(&mut session, Instant::now()).await {
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        })
    });
    join(load, workers.collect()).await;
}

/// Flows begin by the clock. Their latency counts from when they were due, whatever held them up.
async fn open(load: &Arc<Load>) {
    let interval = Duration::from_secs_f64(1.0 / load.arguments.rate);
    let idle: Arc<Mutex<Vec<Session>>> = Arc::default();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut due = Instant::now();
    let mut opened = 0;
    while due < load.until {
        tokio::time::sleep_until(due.into()).await;
        if in_flight.load(Ordering::Relaxed) >= load.arguments.max_in_flight {
            load.recorder.shed();
        } else {
            in_flight.fetch_add(1, Ordering::Relaxed);
            // The session that rested least is the one whose connections and nonce are freshest.
            let session = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut session = session.unwrap_or_else(|| {
                opened += 1;
                load.session(opened)
            });
            let (load, idle, in_flight) = (Arc::clone(load), Arc::clone(&idle), Arc::clone(&in_flight));
            tokio::spawn(async move {
                load.flow(&mut session, due).await;
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
                in_flight.fetch_sub(1, Ordering::Relaxed);
            });
        }
        due += interval;
    }
    // Late flows count as much as the others: wait for every one.
    let give_up = deadline(load);
    while in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..in_flight.load(Ordering::Relaxed) {
        load.recorder.error(&Failure::Late(Step::Issuance));
    }
}

async fn join(load: &Load, workers: Vec<tokio::task::JoinHandle<()>>) {
    let give_up = deadline(load);
    for worker in workers {
        match tokio::time::timeout_at(give_up.into(), worker).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                load.recorder.error(&Failure::Setup(format!("a worker failed: {error}")));
            }
            Err(_) => load.recorder.error(&Failure::Late(Step::Issuance)),
        }
    }
}

/// When flows that were begun inside the window are given up.
fn deadline(load: &Load) -> Instant {
    load.until.max(Instant::now()) + 2 * load.scenario.timeout
}

fn conclude(load: &Load, watched: &[Watched], usage: &Usage) -> Result<bool, Failure> {
    let (arguments, counts) = (&load.arguments, load.recorder.snapshot());
    let seconds = load.until.duration_since(load.from).as_secs_f64();
    let bill = CpuBill::new(watched, &usage.first, &usage.last, seconds, counts.completed());
    println!(
        "{} {:?} accounts, {}, {} name(s) an order, {}, {} replica(s)",
        arguments.accounts,
        arguments.key,
        arguments.challenge.as_str(),
        arguments.names_per_order,
        match arguments.mode {
            Mode::Closed => format!("closed loop of {}", arguments.concurrency),
            Mode::Open => format!("open loop at {}/s", arguments.rate),
        },
        load.fleet.replicas.len()
    );
    report::print_counts(&counts, seconds);
    bill.print(1.0, "ms/certificate");
    report::print_memory(watched, &usage.peaks);
    let finalize = counts.step(Step::Finalize).quantile(0.99).max(counts.step(Step::Issue).quantile(0.99));
    let kept = [
        report::require(
            "issuances/s",
            Some(bill.units as f64 / seconds),
            arguments.common.require_rate,
            true,
        ),
        report::require(
            "finalize p99, ms",
            (counts.step(Step::Issue).count() > 0).then_some(finalize as f64 / 1000.0),
            arguments.require_p99_finalize,
            false,
        ),
        report::require("server CPU-ms per certificate", bill.per_unit(), arguments.require_cpu_ms, false),
        counts.errors_in_all() == 0,
        counts.shed == 0,
        bill.units > 0,
        bill.servers.iter().all(|(_, used)| used.is_some()),
    ]
    .into_iter()
    .all(|kept| kept);
    if let Some(path) = &arguments.common.json {
        let mut results = report::counts_json(&counts, seconds);
        results["cpu"] = bill.json();
        results["memory"] = report::memory_json(watched, &usage.peaks);
        results["passed"] = kept.into();
        report::write(path, &results)?;
    }
    Ok(kept)
}
