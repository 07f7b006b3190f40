//! A fleet of three behind its balancer, on Postgres and Redis, under load while each fault of design §7 is injected; then
//! the books are checked. `make test-faults` runs all of it and prints the table of docs/reliability.md; the ordinary tests
//! run a short form. `CHANCERY_TEST_FAULT_SEED` repeats a schedule.

mod books;
mod greed;
mod inject;
pub mod walker;

pub use books::Books;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use books::INVARIANTS;
use futures_util::future::join_all;
use greed::{Greed, MOST_ORDERS};
use inject::{Fault, Scene};
use walker::{Patience, Site, Walker};

use crate::support::chancery::Settings;
use crate::support::run::{SplitMix, runtime};

/// How many replicas there are.
const REPLICAS: usize = 3;

/// How many clients there are at a time.
const CLIENTS: u64 = 6;

/// How soon service is normal again after the worst of faults.
const RECOVERY: Duration = Duration::from_secs(20);

/// What came of one fault.
struct Row {
    name: &'static str,
    certificates: usize,
    met: String,
    wrong: Vec<(&'static str, String)>,
    recovery: Duration,
    rest: Duration,
}

/// One client after another, each with an account of its own, until it is `over`.
pub async fn load(site: &Arc<Site>, books: &Arc<Books>, over: &AtomicBool, seed: u64) {
    let mut random = SplitMix::new(seed);
    while !over.load(Ordering::Relaxed) {
        let walker = Arc::new(Walker::new(site, books, Patience::Client));
        if let Err(why) = walker.register().await {
            books.wrong("finished", why);
            continue;
        }
        books.account(&walker);
        for _ in 0..4 {
            let trusted = random.below(2) == 0;
            let done = match random.below(8) {
                // A client that goes away: its order can be finished later.
                0 => walker.order(trusted).await.map(drop),
                _ => walker.issue(trusted).await,
            };
            if let Err(why) = done {
                books.wrong("finished", why);
            }
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// How long from now until a whole issuance, with a challenge and without, goes through without one hitch.
async fn time_to_normal(site: &Arc<Site>) -> Duration {
    let start = Instant::now();
    loop {
        let walker = Walker::new(site, &Arc::default(), Patience::None);
        let attempt = async {
            walker.register().await?;
            walker.issue(true).await?;
            walker.issue(false).await
        };
        match attempt.await {
            Ok(()) => return start.elapsed(),
            Err(why) if start.elapsed() > RECOVERY * 2 => panic!("service does not become normal: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn run(site: &Arc<Site>, fault: &Fault, seed: u64, lease: Duration, granted: usize) -> Row {
    println!("--- {}", fault.name);
    let (books, over) = (Arc::<Books>::default(), AtomicBool::new(false));
    let greed = Greed::begin(site, &books).await.expect("an account before the fault");
    let loads = join_all((0..CLIENTS).map(|client| load(site, &books, &over, seed.wrapping_add(client))));
    let work = async {
        let scene = Scene { site, books: &books, seed, lease };
        (fault.inject)(&scene).await;
        let end = Instant::now();
        let recovery = time_to_normal(site).await;
        over.store(true, Ordering::Relaxed);
        (end, recovery)
    };
    let (_, (end, recovery), ()) = tokio::join!(loads, work, greed.grab(&over));
    let placed = if fault.empties_redis() { 0 } else { greed.check(site, &books, granted) };
    let rest = books.check(site, seed, end).await;
    let met = books.seen_so_far().iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>();
    let met = if met.is_empty() { "nothing".to_owned() } else { met.join(", ") };
    let (certificates, wrong) = (books.certificates(), books.broken());
    println!(
        "    {certificates} certificates; {recovery:.1?} to normal, {rest:.1?} to rest; met {met}; {placed} of {granted} orders"
    );
    Row { name: fault.name, certificates, met, wrong, recovery, rest }
}

fn print(rows: &[Row], seed: u64) {
    println!(
        "\nSeed {seed}.\n\n| fault | certificates | clients met | normal after | at rest after | {} |",
        INVARIANTS.join(" | ")
    );
    println!("|---|--:|---|--:|--:|{}", "---|".repeat(INVARIANTS.len()));
    for row in rows {
        let marks =
            INVARIANTS.map(|invariant| match row.wrong.iter().filter(|(i, _)| *i == invariant).count() {
                0 => "kept".to_owned(),
                broken => format!("**broken ×{broken}**"),
            });
        println!(
            "| {} | {} | {} | {:.1} s | {:.1} s | {} |",
            row.name,
            row.certificates,
            row.met,
            row.recovery.as_secs_f64(),
            row.rest.as_secs_f64(),
            marks.join(" | ")
        );
    }
    println!();
}

/// What is let through while Redis is away: `refuse` nothing, or `local` what each replica counts by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Refuse,
    Local,
}

impl Without {
    /// How many orders an account may get whatever happens. A replica's own bucket lasts as long as the replica.
    const fn granted(self) -> usize {
        match self {
            Self::Refuse => MOST_ORDERS,
            Self::Local => MOST_ORDERS * (1 + REPLICAS),
        }
    }
}

fn suite(faults: &[Fault], lease: Duration, without: Without) {
    let seed = std::env::var("CHANCERY_TEST_FAULT_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHANCERY_TEST_FAULT_SEED={seed}");
    let settings = Settings::new()
        .own_postgres()
        .through_proxy()
        .redis_through_proxy()
        .set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", MOST_ORDERS.to_string())
        .set("CHANCERY_LIMITS_WITHOUT_REDIS", if without == Without::Refuse { "refuse" } else { "local" })
        .replicas(REPLICAS)
        .set("CHANCERY_JOB_LEASE", format!("{}ms", lease.as_millis()));
    let site = Site::start(&settings);
    runtime().block_on(async {
        let mut rows = Vec::new();
        for fault in faults {
            rows.push(run(&site, fault, seed, lease, without.granted()).await);
        }
        print(&rows, seed);
        let log = site.server.log();
        for bad in ["panicked", "internal error", "corrupt row"] {
            let line = log.lines().find(|line| line.contains(bad));
            assert!(line.is_none(), "seed {seed}: {line:?}");
        }
        for row in &rows {
            assert!(row.wrong.is_empty(), "seed {seed}: {}: {:#?}", row.name, row.wrong);
            assert!(row.certificates > 0, "seed {seed}: {}: nothing was issued", row.name);
            assert!(row.recovery < RECOVERY, "seed {seed}: {}: {:?}", row.name, row.recovery);
        }
    });
}

#[test]
fn the_short_run() {
    let faults: Vec<_> = inject::all().into_iter().filter(|fault| fault.short).collect();
    suite(&faults, Duration::from_secs(2), Without::Refuse);
}

/// As configured by default, replicas count by themselves while Redis is away: never more than each once its capacity.
#[test]
fn the_short_run_with_replicas_that_count_alone() {
    suite(&inject::of_limits(), Duration::from_secs(2), Without::Local);
}

/// Minutes: `make test-faults`. `CHANCERY_TEST_FAULT_ONLY=Redis` runs those with that word in their name.
#[test]
#[ignore = "takes minutes: make test-faults"]
fn the_whole_run() {
    let words = std::env::var("CHANCERY_TEST_FAULT_ONLY").unwrap_or_default();
    let faults: Vec<_> = inject::all().into_iter().filter(|fault| fault.name.contains(&words)).collect();
    suite(&faults, Duration::from_secs(6), Without::Refuse);
}
