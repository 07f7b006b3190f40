//! Challenges as their clients poll them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::on_the_fleet;
use crate::support::client::Client;
use crate::support::flows::{challenge, text};
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::unique_name;

/// The authorization of a new order, read through one replica: its URL and itself.
async fn authorization(client: &Client, name: &str) -> (String, Value) {
    let url = client.order(&[name]).await.authorizations().remove(0);
    let body = client.read(&url).await.expect(200).json();
    (url, body)
}

fn offered(authorization: &Value) -> Vec<Value> {
    authorization["challenges"].as_array().expect("challenges").clone()
}

/// certbot refuses an answer to a challenge without a link to its authorization; lego polls what it leads to.
#[test]
fn o03_every_answer_to_a_challenge_links_up_to_its_authorization() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let up = |answer: &Response, url: &str| assert_eq!(answer.links("up"), [url], "{answer}");
        for (prepared, end) in [(true, "valid"), (false, "invalid")] {
            let (url, body) = authorization(&client, &unique_name()).await;
            for each in offered(&body) {
                up(&client.read(&text(&each, "url")).await.expect(200), &url);
            }
            let http = challenge(&body, "http-01").expect("http-01");
            if prepared {
                client.prepare(&body, &http);
            }
            let http = text(&http, "url");
            up(&client.send(&http, json!({})).await.expect(200), &url);
            up(&client.read(&http).await.expect(200), &url);
            client.wait_for(&url, end).await;
            for _ in 0..server.size() {
                let read = client.read(&http).await.expect(200);
                assert_eq!(read.state(), end, "{read}");
                up(&read, &url);
                up(&client.send(&http, json!({})).await.expect(200), &url);
            }
        }
    });
}

/// certbot compares a challenge's URL, octet by octet, with the one it was given; cert-manager looks for it in the
/// authorization.
#[test]
fn o13_a_challenge_keeps_its_url_and_an_authorization_its_identifier() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let base = unique_name();
        for (name, kind) in [(base.clone(), "http-01"), (format!("*.{base}"), "dns-01")] {
            let (url, first) = authorization(&client, &name).await;
            let given = challenge(&first, kind).expect("offered");
            client.prepare(&first, &given);
            let challenge_url = text(&given, "url");
            let same = |answer: &Response| {
                let body = answer.json();
                for member in ["url", "token", "type"] {
                    assert_eq!(body[member], given[member], "{answer}");
                }
            };
            for _ in 0..server.size() {
                same(&client.read(&challenge_url).await.expect(200));
            }
            same(&client.send(&challenge_url, json!({})).await.expect(200));
            client.wait_for(&url, "valid").await;
            for _ in 0..server.size() {
                same(&client.read(&challenge_url).await.expect(200));
                let read = client.read(&url).await.expect(200).json();
                assert_eq!(read["identifier"], first["identifier"], "{read}");
                let listed = challenge(&read, kind).unwrap_or_else(|| panic!("not present: {read}"));
                assert_eq!((&listed["url"], &listed["token"]), (&given["url"], &given["token"]), "{read}");
            }
        }
    });
}

/// certbot wants at least 16 octets; uacme looks at each character.
#[test]
fn o14_tokens_have_128_bits_in_the_alphabet_of_base64url() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let mut seen = HashSet::new();
        for _ in 0..4 * server.size() {
            let (_, body) = authorization(&client, &unique_name()).await;
            for each in offered(&body) {
                let token = text(&each, "token");
                // 22 characters hold 128 bits.
                assert!(token.len() >= 22, "{token}");
                let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                assert!(token.chars().all(known), "{token}");
                seen.insert(token);
            }
        }
        assert!(seen.len() >= 4 * server.size(), "every authorization has a token of its own: {seen:?}");
    });
}

/// uacme and dehydrated poll the challenge, not the authorization, and they begin before they respond.
#[test]
fn o16_a_challenge_can_be_polled_and_that_starts_nothing() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let (url, body) = authorization(&client, &unique_name()).await;
        let http = challenge(&body, "http-01").expect("http-01");
        client.prepare(&body, &http);
        let (challenge_url, token) = (text(&http, "url"), text(&http, "token"));
        for _ in 0..2 * server.size() {
            let read = client.read(&challenge_url).await.expect(200);
            assert_eq!(read.json(), http, "{read}");
        }
        assert_eq!(client.read(&url).await.expect(200).state(), "pending");
        assert!(responder::http().requests(&token).is_empty(), "nothing was started");
        client.send(&challenge_url, json!({})).await.expect(200);
        let valid = client.wait_for(&challenge_url, "valid").await;
        assert_eq!(valid.string("token"), token, "{valid}");
        assert_eq!(responder::http().requests(&token).len(), 1, "one response, one validation");
    });
}

/// cert-manager responds again after a restart, and lego after a lost answer.
#[test]
fn o17_to_respond_again_is_no_error_and_starts_nothing_again() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let (url, body) = authorization(&client, &unique_name()).await;
        let http = challenge(&body, "http-01").expect("http-01");
        let (challenge_url, token) = (text(&http, "url"), text(&http, "token"));
        // The target is silent once, for as long as a validation waits for it: that long the challenge is processing.
        let (answer, asked) = (client.key_authorization(&token), AtomicBool::new(false));
        let reply = move |_: &responder::HttpRequest| match asked.swap(true, Ordering::SeqCst) {
            false => Reply::Silence,
            true => Reply::Body(answer.clone()),
        };
        responder::http().set(&token, Reply::By(Arc::new(reply)));
        assert_eq!(client.send(&challenge_url, json!({})).await.expect(200).state(), "processing");
        for replica in 0..server.size() {
            let again = client.post(&challenge_url).json(json!({})).through(replica).send().await.expect(200);
            assert!(matches!(again.state().as_str(), "processing" | "valid"), "{again}");
        }
        client.wait_for(&url, "valid").await;
        for replica in 0..server.size() {
            let again = client.post(&challenge_url).json(json!({})).through(replica).send().await.expect(200);
            assert_eq!(again.state(), "valid", "{again}");
        }
        assert_eq!(responder::http().requests(&token).len(), 2, "the silent one and its repetition");
    });
}
