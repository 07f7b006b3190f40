//! A fleet whose places are all taken, and a client at its limit: what clients may try again, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::on;
use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::{Ask, Client};
use crate::support::flows::{identifiers, text};
use crate::support::keys::{Key, base64url};
use crate::support::postgres::TableLock;
use crate::support::responder::Reply;
use crate::support::response::Response;
use crate::support::run::{SOON, unique_name};
use crate::support::trial::Trial;

fn order() -> Value {
    json!({"identifiers": identifiers(&[&unique_name()]), "profile": "trusted"})
}

/// A fleet whose replicas have five places each, one of them kept for what is shed last.
fn small() -> Arc<Deployment> {
    Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_HTTP_MAX_IN_FLIGHT", "5"))
}

/// Runs `work` while four new orders wait in each replica, until it is done.
async fn while_all_places_are_taken(client: &Client, work: impl AsyncFnOnce()) {
    let server = &client.server;
    let url = client.resource("newOrder").await;
    let mut held = Vec::new();
    for place in 0..4 * server.size() {
        let nonce = client.fresh_nonce().await;
        held.push(client.post(&url).json(order()).nonce(nonce).through(place).ready().await);
    }
    let lock = TableLock::take(server.database().expect("a fleet"), "orders", "ACCESS EXCLUSIVE").await;
    let inside = async {
        let start = Instant::now();
        let waiting = || {
            server.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO orders%'",
            )
        };
        while waiting() != (4 * server.size()).to_string() {
            assert!(start.elapsed() < SOON, "twelve orders are to wait; it is {}", waiting());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        work().await;
        drop(lock);
    };
    let (answers, ()) = tokio::join!(join_all(held.into_iter().map(Ask::send)), inside);
    answers.into_iter().for_each(|answer| drop(answer.expect(201)));
}

/// A signed request to be sent as often as one likes, as lego and node-acme-client do.
struct Letter {
    url: String,
    body: String,
    /// What it is answered with when it is taken.
    status: u16,
}

impl Letter {
    async fn new(client: &Client, url: &str, payload: Value, status: u16) -> Self {
        let nonce = client.fresh_nonce().await;
        let body = client.post(url).json(payload).nonce(nonce).sealed().to_string();
        Self { url: url.to_owned(), body, status }
    }

    async fn send(&self, client: &Client, replica: usize) -> Response {
        let ask = client.plain(Method::POST, &self.url).header("content-type", "application/jose+json");
        ask.body(self.body.clone()).through(replica).send().await
    }
}

/// lego and node-acme-client send the same octets again after a 503; uacme waits only if its type is `rateLimited`;
/// cert-manager would take any 4xx for the end of the order.
#[test]
fn o21_what_is_shed_is_503_and_the_same_octets_are_taken_later() {
    on(small(), async |server| {
        let client = server.account().await;
        let name = unique_name();
        let ready = client.ready_order(&[&name]).await;
        let csr = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let letters = [
            Letter::new(&client, &client.resource("newOrder").await, order(), 201).await,
            Letter::new(&client, &ready.finalize(), csr, 200).await,
            Letter::new(&client, client.account(), json!({"contact": []}), 200).await,
        ];
        while_all_places_are_taken(&client, async || {
            for replica in 0..server.size() {
                for letter in &letters {
                    let shed = letter.send(&client, replica).await;
                    shed.problem(503, "rateLimited");
                    let wait = shed.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {shed}"));
                    assert!(wait.parse().is_ok_and(|wait: u32| (1..=30).contains(&wait)), "{shed}");
                    assert!(shed.nonce().is_some(), "{shed}");
                }
            }
        })
        .await;
        for (index, letter) in letters.iter().enumerate() {
            letter.send(&client, index).await.expect(letter.status);
            // So the nonce had been good all the time; now it is spent.
            letter.send(&client, index + 1).await.problem(400, "badNonce");
        }
    });
}

/// What cert-manager begins with is answered as long as anything is: a client that is refused here is lost for an hour.
#[test]
fn o18_the_account_of_a_key_is_found_while_orders_are_shed() {
    on(small(), async |server| {
        let client = server.account().await;
        while_all_places_are_taken(&client, async || {
            for _ in 0..2 * server.size() {
                let found = client.new_account(json!({"onlyReturnExisting": true})).await.expect(200);
                assert_eq!(found.location(), client.account(), "{found}");
            }
        })
        .await;
    });
}

/// uacme and dehydrated poll the challenge, not the authorization, and acme.sh gives up if its response is not taken.
#[test]
fn o16_a_challenge_is_responded_to_and_polled_while_orders_are_shed() {
    on(small(), async |server| {
        let client = server.account().await;
        let trial = Trial::http(&client, |answer| Reply::Body(answer.to_owned())).await;
        let url = text(&trial.challenge, "url");
        while_all_places_are_taken(&client, async || {
            for _ in 0..2 * server.size() {
                let polled = client.read(&url).await.expect(200);
                assert_eq!(polled.state(), "pending", "{polled}");
            }
            client.send(&url, json!({})).await.expect(200);
            client.wait_for(&url, "valid").await;
        })
        .await;
    });
}

/// A limit is no overload: 429, for clients that ought to stop, and only for new orders and the like.
#[test]
fn o21_a_limit_is_429_and_what_was_begun_goes_on() {
    let settings = Settings::new().set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "2");
    on(Deployment::with(Kind::Fleet, &settings), async |server| {
        let client = server.account().await;
        let name = unique_name();
        let begun = client.ready_order(&[&name]).await;
        client.ready_order(&[&unique_name()]).await;
        for _ in 0..server.size() {
            let refused = client.new_order(order()).await;
            refused.problem(429, "rateLimited");
            assert!(refused.retry_after().is_some(), "{refused}");
        }
        client.collect(&begun, &[&name], Key::new()).await;
    });
}
