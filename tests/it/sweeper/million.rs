//! Sweeping very many rows is none of the clients' business: short here, and whole by `make test-sweep-million`.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::identifiers;
use crate::support::postgres::Postgres;
use crate::support::run::{folder, runtime, unique_name, wait_until, with_log};

fn sql(server: &Deployment, text: &str) -> String {
    Postgres::shared().psql(server.database().expect("a fleet"), text)
}

/// Places so many orders that expired long ago, each with its authorization: both are past their retention.
fn fill(server: &Deployment, orders: u32) {
    let from = format!("FROM generate_series(1, {orders}) n");
    let due = "(extract(epoch FROM now() - interval '40 days') * 1000000)::bigint + n";
    sql(
        server,
        &format!(
            "INSERT INTO orders (id, account_id, profile, identifiers, created_at, expires_at, progress) \
             SELECT md5('o' || n), md5('a' || n % 100), 'default', '[[\"dns\",\"a.test\"]]', 0, {due}, 'open' {from}; \
             INSERT INTO authorizations (id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, \
             created_at, expires_at, token, challenge_types) SELECT md5('z' || n), md5('a' || n % 100), 'default', \
             'dns', 'a.test', 0, 'pending', 0, {due}, 't', 'http-01' {from}; \
             INSERT INTO order_authorizations SELECT md5('o' || n), 0, md5('z' || n) {from}"
        ),
    );
}

/// How many rows are still to be swept.
fn left(server: &Deployment) -> u64 {
    let due = "expires_at < (extract(epoch FROM now() - interval '30 days') * 1000000)::bigint";
    let count = format!(
        "SELECT (SELECT count(*) FROM orders WHERE {due}) + (SELECT count(*) FROM authorizations WHERE {due})"
    );
    sql(server, &count).parse().expect("a number")
}

fn swept(server: &Deployment) -> f64 {
    let kinds = ["expired_orders", "finished_orders", "authorizations"];
    let rows = |index: usize| {
        kinds
            .map(|kind| server.replica(index).metric(&format!("chancery_gc_rows_total{{sweep=\"{kind}\"}}")))
            .iter()
            .sum::<f64>()
    };
    (0..server.size()).map(rows).sum()
}

#[test]
fn i_12_twenty_thousand_expired_orders_go_by_pages_while_clients_are_served() {
    const ORDERS: u32 = 20_000;
    let server = Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_SWEEP_INTERVAL", "500ms"));
    sql(&server, "CREATE EXTENSION pg_stat_statements");
    let client = runtime().block_on(server.account());
    let order = |name: &str| json!({"identifiers": identifiers(&[name]), "profile": "trusted"});
    let kept = runtime().block_on(client.new_order(order(&unique_name()))).expect(201).location();
    sql(&server, "SELECT pg_stat_statements_reset()");
    fill(&server, ORDERS);
    let done = AtomicBool::new(false);
    let mut latencies: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while left(&server) > 0 && start.elapsed() < Duration::from_secs(120) {
                std::thread::sleep(Duration::from_millis(100));
            }
            println!("{ORDERS} orders and authorizations were swept within {:?}", start.elapsed());
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            runtime().block_on(client.new_order(order(&unique_name()))).expect(201);
            latencies.push(start.elapsed());
        }
    });
    assert_eq!(left(&server), 0, "{}", with_log("something is left", &server.log()));
    latencies.sort();
    println!(
        "{} orders were placed meanwhile, half within {:?}",
        latencies.len(),
        latencies[latencies.len() / 2]
    );
    assert_eq!(
        sql(&server, "SELECT count(*) FROM orders WHERE progress = 'open'"),
        (latencies.len() + 1).to_string()
    );
    runtime().block_on(client.read(&kept)).expect(200);
    let told = "SELECT count(*), count(DISTINCT order_id), count(DISTINCT account_id) FROM audit_events \
                WHERE action = 'order.expired'";
    assert_eq!(sql(&server, told), format!("{ORDERS}|{ORDERS}|100"), "each in its own trail");
    let per_call = |statement: &str| -> (u64, f64) {
        let figures = format!(
            "SELECT calls, rows::float / calls FROM pg_stat_statements WHERE query LIKE '-- {statement}\n%' \
             AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        let line = sql(&server, &figures);
        let (calls, rows) = line.split_once('|').unwrap_or_else(|| panic!("one line: {line:?}"));
        (calls.parse().expect("a number"), rows.parse().expect("a number"))
    };
    for statement in ["SWEEP_EXPIRED_ORDERS", "SWEEP_FINISHED_ORDERS", "SWEEP_AUTHORIZATIONS"] {
        let (calls, rows) = per_call(statement);
        assert!(calls >= u64::from(ORDERS) / 50 && rows <= 50.0, "{statement}: {calls} calls of {rows} rows");
    }
}

/// Loads the fleet for so many seconds by the generator: what it measured.
fn load(server: &Deployment, seconds: u32) -> Value {
    let generator = std::env::var("CHANCERY_LOADTEST").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/chancery-loadtest").to_owned()
    });
    let rate = std::env::var("RATE").unwrap_or_else(|_| "50".to_owned());
    let file = folder("load").join("results.json");
    let directory = |index: usize| format!("http://{}/directory", server.replica(index).listen);
    let servers: Vec<_> = (0..server.size()).map(directory).collect();
    let done = Command::new(&generator)
        .args(["run", "--challenge", "none", "--profile", "trusted", "--mode", "open", "--rate", &rate])
        .args(["--warmup", "3", "--duration", &seconds.to_string(), "--server", &servers.join(",")])
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("{generator}: {error}"));
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&std::fs::read(file).expect("results")).expect("JSON")
}

/// The latency of new-order in milliseconds: the median and the 99th percentile.
fn new_order(results: &Value) -> (f64, f64) {
    fn find(value: &Value) -> Option<&Value> {
        value
            .as_object()?
            .iter()
            .find_map(|(name, inner)| if name == "new-order" { Some(inner) } else { find(inner) })
    }
    let latency = find(results).unwrap_or_else(|| panic!("no new-order: {results}"));
    let at = |quantile: &str| latency[quantile].as_f64().expect("a number") / 1000.0;
    (at("p50"), at("p99"))
}

/// Lets nobody lead: the leader's next statement changes nothing, and it steps down when it wants to renew.
fn rest(server: &Deployment) {
    sql(
        server,
        "UPDATE leader SET holder = md5('nobody'), epoch = epoch + 1, lease_until = 9000000000000000000",
    );
    wait_until("nobody leads", || {
        (0..server.size()).all(|index| server.replica(index).metric("chancery_leader") == 0.0)
    });
}

/// Lets somebody lead, who then sweeps at once.
fn begin(server: &Deployment) {
    let before = swept(server);
    sql(server, "UPDATE leader SET holder = NULL, lease_until = 0");
    wait_until("somebody sweeps", || swept(server) > before);
}

#[test]
#[ignore = "takes minutes and wants an optimised build: make test-sweep-million"]
fn i_12_a_million_expired_orders_raise_the_p99_of_new_order_by_less_than_half() {
    const ORDERS: u32 = 1_000_000;
    const ROUNDS: u32 = 4;
    const SECONDS: u32 = 30;
    let server = Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_SWEEP_INTERVAL", "1s"));
    rest(&server);
    let filling = Instant::now();
    fill(&server, ORDERS);
    sql(&server, "VACUUM ANALYZE");
    sql(&server, "CHECKPOINT");
    println!("{ORDERS} expired orders with their authorizations were placed in {:.0?}", filling.elapsed());
    let measure = |what: &str| {
        let before = swept(&server);
        let (p50, p99) = new_order(&load(&server, SECONDS));
        let rows = swept(&server) - before;
        println!("new-order {what:<16} p50 {p50:6.2} ms  p99 {p99:6.2} ms  {rows:>8.0} rows swept meanwhile");
        (p50, p99, rows)
    };
    measure("(warming up)");
    // Turn by turn, so that whatever else this machine does weighs on both.
    let (mut still, mut during) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        still.push(measure("without a sweep"));
        begin(&server);
        during.push(measure("during the sweep"));
        rest(&server);
    }
    assert!(
        still.iter().all(|(_, _, rows)| *rows == 0.0) && during.iter().all(|(_, _, rows)| *rows > 10_000.0)
    );
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let columns = |all: &[(f64, f64, f64)]| {
        let (p50, p99): (Vec<f64>, Vec<f64>) = all.iter().map(|(p50, p99, _)| (*p50, *p99)).unzip();
        (mean(&p50), mean(&p99))
    };
    let (still, during) = (columns(&still), columns(&during));
    for (what, still, during) in [("p50", still.0, during.0), ("p99", still.1, during.1)] {
        let rise = (during / still - 1.0) * 100.0;
        println!("{what} of new-order: {still:.2} ms without, {during:.2} ms during: {rise:+.0} %");
    }
    assert!(during.1 <= still.1 * 1.5, "new-order suffers from the sweep");
}
