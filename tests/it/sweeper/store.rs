//! The statements: who leads, what a sweep takes, and by which index.

use std::time::Duration;

use chancery::acme::id::ReplicaId;
use chancery::acme::time::Timestamp;
use chancery::storage::{Cursor, Dialect, Store, Sweep, Term, all_statements};

use super::{NOW, Tables};
use crate::support::postgres::Postgres;
use crate::support::run::runtime;

const LEASE: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_micros(1);

/// Runs a test on both databases.
fn on_both<F: Future<Output = ()>>(test: impl Fn(Tables, Dialect) -> F) {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        runtime().block_on(async { test(Tables::new(dialect).await, dialect).await });
    }
}

async fn lead(store: &Store, now: Timestamp) -> Term {
    let term = store.take_leadership(&ReplicaId::new(), now, now.plus(LEASE)).await.unwrap();
    term.expect("nobody leads")
}

/// Sweeps one page of everything due, and says how many rows that were.
async fn sweep(store: &Store, sweep: Sweep, term: &Term, now: Timestamp, due: Timestamp) -> usize {
    let swept = store.sweep(sweep, term, now, due, &Cursor::start(), 500).await.unwrap();
    assert_eq!(swept.next, None);
    swept.rows
}

#[test]
fn i_12_of_many_that_stand_at_once_one_leads_and_each_new_one_raises_the_epoch() {
    on_both(async |tables, _| {
        let store = &tables.store;
        let take = |now: Timestamp| async move {
            let id = ReplicaId::new();
            store.take_leadership(&id, now, now.plus(LEASE)).await.unwrap()
        };
        let taken = futures_util::future::join_all((0..16).map(|_| take(NOW))).await;
        let terms: Vec<Term> = taken.into_iter().flatten().collect();
        let [first] = terms.as_slice() else { panic!("not one leader: {terms:?}") };
        assert_eq!(first.epoch, 1);
        let leader = store.leader().await.unwrap();
        assert_eq!((leader.at(NOW), leader.epoch), (Some(&first.holder), 1));

        // A lease that is renewed in time goes on; it ends at its very end, and then cannot be renewed.
        let renewed = NOW.plus(LEASE).minus(TICK);
        assert!(store.renew_leadership(first, renewed, renewed.plus(LEASE)).await.unwrap());
        let end = renewed.plus(LEASE);
        assert_eq!(take(end.minus(TICK)).await, None);
        assert!(!store.renew_leadership(first, end, end.plus(LEASE)).await.unwrap());
        let second = take(end).await.expect("the lease is over");
        assert_eq!(second.epoch, 2);
        assert!(!store.renew_leadership(first, end, end.plus(LEASE)).await.unwrap());
        assert!(
            !store.release_leadership(first).await.unwrap(),
            "an old leader gives back what is not its own"
        );
        assert_eq!(store.leader().await.unwrap().at(end), Some(&second.holder));

        // What is given back can be taken at once; the last leader needs a new term too.
        assert!(store.release_leadership(&second).await.unwrap());
        assert!(!store.renew_leadership(&second, end, end.plus(LEASE)).await.unwrap());
        assert_eq!(take(end).await.expect("given back").epoch, 3);
    });
}

#[test]
fn i_12_a_leader_whose_answer_was_lost_takes_its_lease_again_under_a_new_epoch() {
    on_both(async |tables, _| {
        let first = lead(&tables.store, NOW).await;
        let again = tables.store.take_leadership(&first.holder, NOW, NOW.plus(LEASE)).await.unwrap();
        assert_eq!(again.expect("its own").epoch, first.epoch + 1);
    });
}

/// One row of each kind that is due at [`NOW`].
async fn one_of_each(tables: &Tables) {
    let past = NOW.minus(LEASE);
    tables.order("o1", "open", past, Some("z1")).await;
    tables.order("o2", "processing", past, None).await;
    tables.order("o3", "valid", past, Some("z2")).await;
    tables.authorization("z1", "pending", past, Some(past)).await;
    tables.authorization("z2", "valid", NOW.plus(LEASE), None).await;
    tables.authorization("z3", "valid", past, None).await;
    tables.certificate("c1", "gone", past).await;
    tables.replica("r1", past).await;
}

#[test]
fn i_12_under_an_old_epoch_no_sweep_changes_anything() {
    on_both(async |tables, _| {
        one_of_each(&tables).await;
        let (store, before) = (&tables.store, tables.dump().await);
        let old = lead(store, NOW.minus(LEASE)).await;
        let new = lead(store, NOW).await;
        let impostor = Term { holder: ReplicaId::new(), epoch: new.epoch };
        for kind in Sweep::ALL {
            // The old leader's clock may stand where it fell asleep, or be right.
            assert_eq!(sweep(store, kind, &old, NOW, NOW).await, 0, "{kind:?}");
            assert_eq!(sweep(store, kind, &old, NOW.minus(TICK), NOW).await, 0, "{kind:?}");
            assert_eq!(sweep(store, kind, &impostor, NOW, NOW).await, 0, "{kind:?}");
            // Nor does the newest epoch count once its lease is over.
            assert_eq!(sweep(store, kind, &new, NOW.plus(LEASE), NOW).await, 0, "{kind:?}");
        }
        assert_eq!(tables.dump().await, before);
        for kind in Sweep::ALL {
            assert!(sweep(store, kind, &new, NOW, NOW).await > 0, "{kind:?} had something to do");
        }
    });
}

#[test]
fn i_12_each_sweep_takes_what_is_due_and_nothing_else() {
    on_both(async |tables, dialect| {
        let (before, after) = (NOW.minus(TICK), NOW.plus(TICK));
        for (name, at) in [("a", before), ("b", NOW), ("c", after)] {
            for progress in ["open", "processing", "valid", "invalid"] {
                tables.order(&format!("{progress}-{name}"), progress, at, None).await;
            }
            tables.authorization(&format!("free-{name}"), "valid", at, None).await;
            tables.authorization(&format!("job-{name}"), "pending", at, Some(before)).await;
            tables.certificate(&format!("cert-{name}"), &format!("gone-{name}"), at).await;
            tables.replica(&format!("replica-{name}"), at).await;
        }
        // Being validated at this moment; linked to an order that is over and to one that is not; ordered by one that is kept.
        tables.authorization("running", "pending", before, Some(after)).await;
        tables.authorization("linked", "valid", before, None).await;
        tables.order("keeps", "valid", after, Some("linked")).await;
        tables.authorization("unlinked", "invalid", before, None).await;
        tables.order("ends", "invalid", before, Some("unlinked")).await;
        tables.certificate("kept", "keeps", before).await;
        let (store, term) = (&tables.store, lead(&tables.store, NOW).await);
        let ids = async |sql: &str| tables.column(sql).await.join(" ");

        assert_eq!(sweep(store, Sweep::ExpiredOrders, &term, NOW, NOW).await, 4, "{dialect:?}");
        let open = "SELECT id FROM orders WHERE progress IN ('open', 'processing') ORDER BY id";
        assert_eq!(ids(open).await, "open-c processing-c");
        let marked = "SELECT id FROM orders WHERE progress = 'invalid' AND error IS NULL AND lease_token IS NULL AND \
                      lease_until IS NULL ORDER BY id";
        assert_eq!(ids(marked).await, "open-a open-b processing-a processing-b");

        assert_eq!(sweep(store, Sweep::Jobs, &term, NOW, NOW).await, 2, "{dialect:?}");
        let leased = "SELECT id FROM authorizations WHERE lease_until IS NOT NULL ORDER BY id";
        assert_eq!(ids(leased).await, "job-c running");

        assert_eq!(sweep(store, Sweep::Authorizations, &term, NOW, NOW).await, 5, "{dialect:?}");
        assert_eq!(ids("SELECT id FROM authorizations ORDER BY id").await, "free-c job-c linked unlinked");

        assert_eq!(sweep(store, Sweep::FinishedOrders, &term, NOW, NOW).await, 9, "{dialect:?}");
        let left = "invalid-c keeps open-c processing-c valid-c";
        assert_eq!(ids("SELECT id FROM orders ORDER BY id").await, left);
        assert_eq!(ids("SELECT order_id FROM order_authorizations").await, "keeps");

        assert_eq!(sweep(store, Sweep::Authorizations, &term, NOW, NOW).await, 1, "{dialect:?}");
        assert_eq!(ids("SELECT id FROM authorizations ORDER BY id").await, "free-c job-c linked");

        assert_eq!(sweep(store, Sweep::Certificates, &term, NOW, NOW).await, 2, "{dialect:?}");
        assert_eq!(ids("SELECT serial FROM certificates ORDER BY serial").await, "cert-c kept");

        assert_eq!(sweep(store, Sweep::Replicas, &term, NOW, NOW).await, 2, "{dialect:?}");
        assert_eq!(ids("SELECT id FROM replicas").await, "replica-c");
    });
}

#[test]
fn i_12_a_statement_looks_at_one_page_and_what_must_stay_does_not_block_what_must_go() {
    on_both(async |tables, _| {
        let past = |micros: u64| NOW.minus(Duration::from_micros(micros));
        // The oldest seven stay, for an order rests on them; the five after them go.
        for n in 0..7 {
            let id = format!("stays{n}");
            tables.authorization(&id, "valid", past(100), None).await;
            tables.order(&format!("o{n}"), "valid", NOW.plus(LEASE), Some(&id)).await;
        }
        for n in 0..5 {
            tables.authorization(&format!("goes{n}"), "valid", past(50), None).await;
        }
        let (store, term) = (&tables.store, lead(&tables.store, NOW).await);
        assert_eq!(store.oldest_due(Sweep::Authorizations, NOW).await.unwrap(), Some(past(50)));
        let (mut from, mut pages) = (Some(Cursor::start()), Vec::new());
        while let Some(cursor) = from {
            let swept = store.sweep(Sweep::Authorizations, &term, NOW, NOW, &cursor, 3).await.unwrap();
            pages.push(swept.rows);
            from = swept.next;
        }
        assert_eq!(pages, [0, 0, 2, 3, 0]);
        assert_eq!(store.oldest_due(Sweep::Authorizations, NOW).await.unwrap(), None);
        assert_eq!(tables.column("SELECT id FROM authorizations").await.len(), 7);

        for n in 0..7 {
            tables.order(&format!("e{n}"), "open", past(n), Some("stays0")).await;
        }
        assert_eq!(store.oldest_due(Sweep::ExpiredOrders, NOW).await.unwrap(), Some(past(6)));
        for kind in [Sweep::ExpiredOrders, Sweep::FinishedOrders] {
            let swept = store.sweep(kind, &term, NOW, NOW, &Cursor::start(), 3).await.unwrap();
            assert_eq!(swept.rows, 3, "{kind:?}: no more than the page");
            let swept = store.sweep(kind, &term, NOW, NOW, &Cursor::start(), 100).await.unwrap();
            assert!(swept.rows <= 4 && swept.next.is_none(), "{kind:?}: {swept:?}");
        }
    });
}

/// The statements of this file's subject; all others are looked at elsewhere.
fn is_ours((_, text): &(&str, String)) -> bool {
    ["SWEEP_", "LEADER", "REPLICA"].iter().any(|part| text.lines().next().is_some_and(|l| l.contains(part)))
}

#[test]
fn i_12_every_statement_finds_its_rows_by_an_index() {
    let url = Postgres::shared().database();
    runtime().block_on(async { Store::postgres(&url, 1).await.unwrap().migrate().await.unwrap() });
    let statements: Vec<_> = all_statements(Dialect::Postgres).into_iter().filter(is_ours).collect();
    assert!(statements.len() >= 6 * 3 + 7, "{statements:?}");
    for (name, text) in statements {
        let highest = (1..=30).rev().find(|n| text.contains(&format!("${n}"))).unwrap_or(0);
        let nothing =
            if highest == 0 { String::new() } else { format!("({})", vec!["NULL"; highest].join(",")) };
        let plan = Postgres::shared().psql(
            &url,
            &format!(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET plan_cache_mode = force_generic_plan; PREPARE s AS {text}; EXPLAIN EXECUTE s{nothing}"
            ),
        );
        assert!(!plan.contains("Seq Scan"), "{name}:\n{text}\n{plan}");
        // What is below the limit is in the index's order already: the limit bounds what is read.
        let below = plan.split_once("Limit").map_or("", |(_, below)| below);
        assert!(text.contains("OLDEST") || !below.contains("Sort Key"), "{name}:\n{text}\n{plan}");
    }
}

#[test]
fn i_12_every_statement_finds_its_rows_by_an_index_on_sqlite_too() {
    runtime().block_on(async {
        let tables = Tables::new(Dialect::Sqlite).await;
        for (name, text) in all_statements(Dialect::Sqlite).into_iter().filter(is_ours) {
            let text = text.lines().skip(1).collect::<Vec<_>>().join(" ");
            let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
            let rows = sqlx::query(sql).fetch_all(&tables.pool).await.unwrap();
            for row in rows {
                let step: String = sqlx::Row::get(&row, 3);
                let scan = step.starts_with("SCAN") && !step.contains("USING") && step != "SCAN x";
                assert!(!scan && !step.contains("TEMP B-TREE FOR ORDER BY"), "{name}: {step}\n{text}");
            }
        }
    });
}
