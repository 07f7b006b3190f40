//! NON: nonces, over the wire.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::run::{runtime, wait_until};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        non_01_head_is_200_and_get_is_204_each_with_a_fresh_nonce
        non_02_of_sixteen_uses_of_a_nonce_one_passes
        non_03_unknown_forged_and_reused_nonces_are_told_in_words_that_clients_know
        non_04_nonces_are_unpredictable;
    Deployment::hasty =>
        non_03_an_expired_nonce_is_refused;
}

async fn non_01_head_is_200_and_get_is_204_each_with_a_fresh_nonce(server: Arc<Deployment>) {
    let client = server.client();
    let url = client.resource("newNonce").await;
    let mut seen = HashSet::new();
    for replica in 0..2 * server.size() {
        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
            let answer = client.plain(method, &url).through(replica).send().await.expect(status);
            assert!(answer.body.is_empty() && answer.cache_control().contains("no-store"), "{answer}");
            assert!(seen.insert(answer.nonce().expect("a nonce")), "{answer}");
        }
    }
    // RFC 8555 §6.3: by POST-as-GET too, from who has an account.
    let client = server.account().await;
    let answer = client.read(&url).await.expect(204);
    assert!(answer.body.is_empty() && seen.insert(answer.nonce().expect("a nonce")), "{answer}");
    client.send(&url, json!({})).await.problem(400, "malformed");
}

async fn non_02_of_sixteen_uses_of_a_nonce_one_passes(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..8 {
        let nonce = client.fresh_nonce().await;
        let mut asks = Vec::new();
        for replica in 0..16 {
            asks.push(
                client.post(client.account()).nonce(nonce.clone()).through(replica).ready().await.send(),
            );
        }
        let answers = join_all(asks).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        answers.iter().filter(|answer| answer.status != 200).for_each(|answer| {
            answer.problem(400, "badNonce");
        });
    }
}

async fn assert_refused(client: &Client, nonce: &str) {
    let answer = client.post(client.account()).nonce(nonce).send().await;
    answer.problem(400, "badNonce");
    assert!(
        answer.detail().starts_with("JWS has an invalid anti-replay nonce"),
        "acme.sh knows it so: {answer}"
    );
    // The nonce of the refusal works at once, on whichever replica comes next.
    let fresh = answer.nonce().expect("a fresh nonce");
    client.post(client.account()).nonce(fresh).send().await.expect(200);
}

async fn non_03_unknown_forged_and_reused_nonces_are_told_in_words_that_clients_know(
    server: Arc<Deployment>,
) {
    let client = server.account().await;
    for _ in 0..server.size() {
        let used = client.fresh_nonce().await;
        client.post(client.account()).nonce(used.clone()).send().await.expect(200);
        for _ in 0..server.size() {
            assert_refused(&client, &used).await;
        }
    }
    let good = client.fresh_nonce().await;
    let octets = Base64UrlUnpadded::decode_vec(&good).expect("base64url");
    for index in 0..octets.len() {
        let mut forged = octets.clone();
        forged[index] ^= 1;
        assert_refused(&client, &Base64UrlUnpadded::encode_string(&forged)).await;
    }
    for unknown in ["AAAA", &good[..good.len() - 4], &format!("{good}AAAA"), &"A".repeat(good.len())] {
        assert_refused(&client, unknown).await;
    }
    assert_refused(&client, &"A".repeat(8000)).await;
    client.post(client.account()).nonce(good).send().await.expect(200);
}

async fn non_04_nonces_are_unpredictable(server: Arc<Deployment>) {
    let client = server.client();
    let url = client.resource("newNonce").await;
    let mut nonces = Vec::new();
    for _ in 0..128 {
        let answer = client.plain(Method::HEAD, &url).through(0).send().await.expect(200);
        nonces.push(Base64UrlUnpadded::decode_vec(&answer.nonce().expect("a nonce")).expect("base64url"));
    }
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), nonces.len());
    let bits = nonces.iter().map(Vec::len).min().unwrap_or(0) * 8;
    // A random bit is set in about half of 128 nonces: in 20 to 108 of them but for one case in 10^15.
    let random = (0..bits).filter(|bit| {
        let set = nonces.iter().filter(|nonce| nonce[bit / 8] >> (bit % 8) & 1 == 1).count();
        (20..=108).contains(&set)
    });
    assert!(random.count() >= 128, "128 bits that nobody can predict");
}

async fn non_03_an_expired_nonce_is_refused(server: Arc<Deployment>) {
    let client = server.account().await;
    let nonce = client.fresh_nonce().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_refused(&client, &nonce).await;
}

fn keys(redis: &Redis) -> BTreeSet<String> {
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys")
}

/// All that Redis holds of nonces that were spent goes by itself, and of nonces that were only fetched it holds nothing.
#[test]
fn non_05_non_06_redis_keeps_spent_nonces_for_their_lifetime_and_unspent_ones_not_at_all() {
    let settings = Settings::new().set("CHANCERY_NONCE_LIFETIME", "3s").replicas(2);
    let server = Deployment::with(Kind::Fleet, &settings);
    let redis = server.redis().expect("a fleet has Redis");
    runtime().block_on(async {
        let client = server.account().await;
        client.read(client.account()).await.expect(200);
        wait_until("what was spent so far is forgotten", || keys(redis).len() <= 2);
        let before = keys(redis);
        for _ in 0..300 {
            client.fresh_nonce().await;
        }
        assert!(keys(redis).len() <= before.len().max(2), "{:?}", keys(redis));
        for _ in 0..20 {
            client.read(client.account()).await.expect(200);
        }
        assert!(keys(redis).len() > before.len(), "spent nonces are on record: {:?}", keys(redis));
        wait_until("what was spent is forgotten", || keys(redis).len() <= before.len().max(2));
    });
}
