//! Sixty-four clients at once on one shared account, as a fleet of machines with one account key has it: no error, and
//! one certificate an order.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::Issued;
use crate::support::keys::Key;
use crate::support::run::{runtime, unique_name};

const CLIENTS: usize = 64;

/// What each client does; any answer but the expected one fails the test, `badNonce` included.
async fn certificate(client: &Client) -> (String, Issued) {
    let name = unique_name();
    let order = client.order(&[&name]).await;
    client.authorize(&order, "http-01").await;
    let issued = client.collect(&order, &[&name], Key::new()).await;
    (name, issued)
}

async fn sixty_four(server: Arc<Deployment>) {
    let key = Key::new();
    // All look the account up, or make it: one of them is told that it did.
    let clients: Vec<Client> = (0..CLIENTS).map(|_| server.client_with(key.duplicate())).collect();
    let registered = join_all(clients.iter().map(Client::register)).await;
    assert_eq!(registered.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(registered.iter().all(|answer| answer.location() == registered[0].location()));

    let start = Instant::now();
    let done = join_all(clients.iter().map(certificate)).await;
    println!("{CLIENTS} certificates in {:.1} s", start.elapsed().as_secs_f64());

    let mut serials: Vec<_> = done.iter().map(|(_, issued)| issued.chain.serial()).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), CLIENTS, "one certificate an order");
    for (name, issued) in &done {
        assert_eq!(issued.chain.names(), std::slice::from_ref(name));
    }
    let counts = server.sql(
        "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM orders WHERE progress = 'valid'), \
         (SELECT count(*) FROM orders), (SELECT count(*) FROM certificates WHERE profile <> 'listener'), \
         (SELECT count(DISTINCT order_id) FROM certificates WHERE der IS NOT NULL AND profile <> 'listener')",
    );
    assert_eq!(counts, "1|64|64|64|64");
    server.assert_at_rest();
    for line in server.log().lines() {
        assert!(!line.contains("\"ERROR\"") && !line.contains(" ERROR "), "{line}");
    }
}

#[test]
fn sixty_four_clients_share_an_account_of_a_fleet() {
    runtime().block_on(sixty_four(Deployment::with(Kind::Fleet, &Settings::new())));
}

#[test]
fn sixty_four_clients_share_an_account_of_the_embedded_server() {
    runtime().block_on(sixty_four(Deployment::with(Kind::Embedded, &Settings::new())));
}
