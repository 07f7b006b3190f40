//! Shares, and that all of them come back.

use super::*;

fn ledger(most: usize, share: usize) -> Arc<Ledger> {
    let bound = Bound { most, share };
    Ledger::new(Bounds { connections: bound, open_requests: bound, running_requests: bound, octets: bound })
}

fn client(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

const WHAT: Resource = Resource::OpenRequests;

#[test]
fn nobody_takes_more_than_a_share_and_all_no_more_than_there_is() {
    let ledger = ledger(10, 4);
    let take = |who: &str, amount| ledger.take(client(who), WHAT, amount, 0);
    let first = take("192.0.2.1", 3).unwrap();
    assert_eq!(take("192.0.2.1", 2).err(), Some(Over::Client));
    let rest = take("192.0.2.1", 1).unwrap();
    // The same address, however it is written.
    assert_eq!(take("::ffff:192.0.2.1", 1).err(), Some(Over::Client));
    let others: Vec<_> = ["192.0.2.2", "192.0.2.3"].map(|who| take(who, 3).unwrap()).into();
    assert_eq!(take("192.0.2.4", 1).err(), Some(Over::All));
    drop(rest);
    drop(take("192.0.2.4", 1).unwrap());
    drop((first, others));
    assert!(ledger.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nothing is kept of clients");
    drop(ledger.take(None, WHAT, 10, 0).unwrap());
}

#[test]
fn ipv6_counts_by_64_and_by_48() {
    let ledger = ledger(100, 2);
    let take = |who: &str| ledger.take(client(who), WHAT, 2, 0);
    let mut held = vec![take("2001:db8:1:1::1").unwrap()];
    assert_eq!(take("2001:db8:1:1:ffff::").err(), Some(Over::Client), "the same /64");
    held.extend((2..5).map(|net| take(&format!("2001:db8:1:{net}::1")).unwrap()));
    assert_eq!(take("2001:db8:1:5::1").err(), Some(Over::Client), "the /48 has four shares");
    held.push(take("2001:db8:2:5::1").unwrap());
    drop(held.remove(0));
    drop(take("2001:db8:1:5::1").unwrap());
}

#[test]
fn a_balancer_pays_for_nobody_and_its_clients_pay_when_they_are_known() {
    let ledger = ledger(10, 1);
    let mut all: Vec<_> = (0..9).map(|_| ledger.take(None, WHAT, 1, 0).unwrap()).collect();
    assert!(ledger.take(None, WHAT, 1, 1).is_err(), "one is spared");
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    all[0].assign(address).unwrap();
    assert_eq!(all[1].assign(address), Err(Over::Client));
    drop(all);
    drop(ledger.take(Some(address), WHAT, 1, 0).unwrap());
}

#[test]
fn what_is_there_already_is_charged_over_the_bound() {
    let ledger = ledger(10, 5);
    let held = ledger.charge(client("192.0.2.1"), WHAT, 7);
    assert_eq!(ledger.take(client("192.0.2.1"), WHAT, 1, 0).err(), Some(Over::Client));
    drop(held);
    drop(ledger.take(client("192.0.2.1"), WHAT, 5, 0).unwrap());
}

#[tokio::test]
async fn a_connection_that_ends_makes_room() {
    let ledger = ledger(1, 1);
    let held = ledger.take(None, Resource::Connections, 1, 0).unwrap();
    let waiting = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.room_for_a_connection().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(held);
    waiting.await.unwrap();
}
