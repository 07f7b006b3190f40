//! The lead goes from hand to hand, whatever becomes of the one who holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::postgres::Postgres;
use crate::support::run::{SOON, unique, wait_until, with_log};

/// How long it may take beyond what the rules allow on a machine that does much else.
const MARGIN: Duration = Duration::from_secs(3);

/// How often followers look.
const LOOK: Duration = Duration::from_secs(1);

fn fleet(lease: &str, interval: &str) -> Arc<Deployment> {
    let settings =
        Settings::new().set("CHANCERY_LEADER_LEASE", lease).set("CHANCERY_SWEEP_INTERVAL", interval);
    let server = Deployment::with(Kind::Fleet, &settings);
    wait_until("somebody leads", || !leaders(&server, &[]).is_empty());
    server
}

/// Who says that it leads, of those that are not left out.
fn leaders(server: &Deployment, without: &[usize]) -> Vec<usize> {
    let others = (0..server.size()).filter(|index| !without.contains(index));
    others.filter(|index| server.replica(*index).metric("chancery_leader") == 1.0).collect()
}

fn the_leader(server: &Deployment) -> usize {
    let all = leaders(server, &[]);
    let [one] = all.as_slice() else { panic!("not one leader: {all:?}; the logs:\n{}", server.log()) };
    *one
}

/// Waits until another than `old` leads: who, and after how long.
fn successor(server: &Deployment, old: usize) -> (usize, Duration) {
    let start = Instant::now();
    loop {
        if let [one] = leaders(server, &[old]).as_slice() {
            return (*one, start.elapsed());
        }
        assert!(start.elapsed() < SOON, "{}", with_log("nobody followed", &server.log()));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn epoch(server: &Deployment) -> i64 {
    sql(server, "SELECT epoch FROM leader").parse().expect("a number")
}

fn sql(server: &Deployment, text: &str) -> String {
    Postgres::shared().psql(server.database().expect("a fleet"), text)
}

#[test]
fn i_12_exactly_one_of_three_leads_and_it_alone_sweeps() {
    let server = fleet("15s", "100ms");
    let leader = the_leader(&server);
    let runs = |index: usize| server.replica(index).metric("chancery_gc_runs_total");
    let before = runs(leader);
    wait_until("ten runs", || runs(leader) >= before + 10.0);
    for index in 0..server.size() {
        assert_eq!(runs(index) > 0.0, index == leader, "{index}");
        // A follower learns the epoch when it looks next.
        wait_until("every replica knows the epoch", || {
            server.replica(index).metric("chancery_leader_epoch") == 1.0
        });
    }
    assert_eq!(the_leader(&server), leader, "nobody took it away");
    assert_eq!(epoch(&server), 1);
}

#[test]
fn i_12_after_sigkill_another_leads_within_one_lease() {
    let server = fleet("3s", "1s");
    let leader = the_leader(&server);
    let before = epoch(&server);
    server.kill(leader);
    let (next, took) = successor(&server, leader);
    assert!(took <= Duration::from_secs(3) + LOOK + MARGIN, "{took:?}");
    println!("SIGKILL of the leader: another led after {took:?} (lease 3 s)");
    assert_eq!(epoch(&server), before + 1);
    wait_until("the new one sweeps", || server.replica(next).metric("chancery_gc_runs_total") >= 1.0);
}

#[test]
fn i_12_after_sigterm_another_leads_at_once() {
    // No lease ends within this test.
    let server = fleet("1h", "1s");
    let leader = the_leader(&server);
    server.replica(leader).signal("TERM");
    let (_, took) = successor(&server, leader);
    assert!(took < Duration::from_secs(2), "{took:?}");
    println!("SIGTERM of the leader: another led after {took:?} (lease 1 h)");
    assert_eq!(epoch(&server), 2);
    wait_until("the old one ended", || !server.replica(leader).is_running());
    let rows = sql(&server, "SELECT count(*) FROM replicas");
    assert_eq!(rows, "2", "who stops is no longer listed");
}

#[test]
fn i_12_a_leader_that_slept_through_its_lease_changes_nothing_when_it_wakes_up() {
    let server = fleet("1s", "100ms");
    let old = the_leader(&server);
    let swept = |index: usize| server.replica(index).metric("chancery_gc_orders_invalidated_total");
    expire(&server, 10);
    wait_until("the first leader sweeps", || swept(old) == 10.0);
    let before = epoch(&server);
    server.replica(old).signal("STOP");
    let (new, took) = successor(&server, old);
    assert!(took <= Duration::from_secs(1) + LOOK + MARGIN, "{took:?}");
    println!("SIGSTOP of the leader: another led after {took:?} (lease 1 s)");
    // Something is due at every instant while the old one wakes up, so that it would sweep if it could.
    let mut due = 0.0;
    for round in 0..40 {
        if round == 5 {
            server.replica(old).signal("CONT");
        }
        expire(&server, 25);
        due += 25.0;
    }
    wait_until("everything is swept", || {
        sql(&server, "SELECT count(*) FROM orders WHERE progress = 'open'") == "0"
    });
    wait_until("the old one knows", || server.replica(old).metric("chancery_leader") == 0.0);
    assert_eq!(swept(old), 10.0, "nothing by the old one");
    wait_until("all by the new one", || swept(new) == due);
    assert_eq!((the_leader(&server), epoch(&server)), (new, before + 1));
}

/// Places orders that are long past their expiry.
fn expire(server: &Deployment, count: u32) {
    let batch = unique();
    sql(
        server,
        &format!(
            "INSERT INTO orders (id, account_id, profile, identifiers, created_at, expires_at, progress) \
             SELECT md5('{batch}-' || n), 'a', 'default', '[]', 0, \
             (extract(epoch FROM now()) * 1000000)::bigint - 60000000, 'open' FROM generate_series(1, {count}) n"
        ),
    );
}

#[test]
fn i_12_a_sweep_that_fails_is_counted_and_stops_no_other() {
    let server = fleet("15s", "100ms");
    let leader = server.replica(the_leader(&server));
    let failures =
        |sweep: &str| leader.metric(&format!("chancery_gc_run_failures_total{{sweep=\"{sweep}\"}}"));
    let rows = |sweep: &str| leader.metric(&format!("chancery_gc_rows_total{{sweep=\"{sweep}\"}}"));
    // The links are gone: orders cannot be deleted with them, nor authorizations without asking for them.
    sql(&server, "ALTER TABLE order_authorizations RENAME TO elsewhere");
    sql(&server, "INSERT INTO replicas VALUES ('dead', '0', 'l', 'o', 0, 0)");
    expire(&server, 3);
    wait_until("what can be swept is", || rows("expired_orders") == 3.0 && rows("replicas") == 1.0);
    wait_until("what cannot fails", || failures("finished_orders") > 1.0 && failures("authorizations") > 1.0);
    for fine in ["expired_orders", "jobs", "certificates", "replicas"] {
        assert_eq!(failures(fine), 0.0, "{fine}");
    }
    assert!(server.log().contains("a sweep failed"));
    sql(&server, "ALTER TABLE elsewhere RENAME TO order_authorizations");
    let (failed, runs) = (failures("finished_orders"), leader.metric("chancery_gc_runs_total"));
    wait_until("runs go on", || leader.metric("chancery_gc_runs_total") > runs + 5.0);
    assert!(failures("finished_orders") <= failed + 1.0, "and no longer fail");
}
