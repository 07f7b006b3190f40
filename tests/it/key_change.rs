//! KEY: key change.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::keys::{Key, KeyKind};
use crate::support::response::Response;
use crate::support::run::runtime;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        key_01_each_part_of_the_inner_jws_is_checked
        key_02_a_key_in_use_is_409_with_the_account_that_has_it
        key_02_of_many_who_want_one_key_one_gets_it
        key_03_the_old_key_is_dead_on_every_replica_at_once
        key_04_an_unknown_kid_is_exactly_account_does_not_exist;
}

/// The inner JWS, as RFC 8555 §7.3.5 wants it.
fn inner(client: &Client, url: &str, new_key: &Key) -> Value {
    inner_of(client, url, new_key, &json!({"account": client.account(), "oldKey": client.key.jwk()}))
}

fn inner_of(client: &Client, url: &str, new_key: &Key, payload: &Value) -> Value {
    client.post(url).signed_by(new_key).by_jwk().json(payload.clone()).sealed()
}

async fn change(client: &Client, inner: Value) -> Response {
    let url = client.resource("keyChange").await;
    client.send(&url, inner).await
}

/// Asks for `new_key` in the place of the account's.
pub async fn change_key(client: &Client, new_key: &Key) -> Response {
    let url = client.resource("keyChange").await;
    change(client, inner(client, &url, new_key)).await
}

async fn key_01_each_part_of_the_inner_jws_is_checked(server: Arc<Deployment>) {
    let client = server.account().await;
    let other = server.account().await;
    let url = client.resource("keyChange").await;
    let (new, account, old) = (Key::new(), json!(client.account()), client.key.jwk());
    let plain = || client.post(&url).signed_by(&new).by_jwk();
    let right = json!({"account": account, "oldKey": old});
    let tampered = |mut jws: Value| {
        jws["payload"] = json!("e30");
        jws
    };
    let wrong = [
        ("no JWS", json!({})),
        ("no payload", json!({"protected": "e30", "payload": "", "signature": ""})),
        ("inner by kid", client.post(&url).signed_by(&new).json(right.clone()).sealed()),
        ("inner by both", plain().protect("kid", client.account()).json(right.clone()).sealed()),
        ("inner with a nonce", plain().nonce(client.fresh_nonce().await).json(right.clone()).sealed()),
        ("inner without url", plain().unprotect("url").json(right.clone()).sealed()),
        ("inner with another url", plain().protect("url", client.account()).json(right.clone()).sealed()),
        ("no account", inner_of(&client, &url, &new, &json!({"oldKey": old}))),
        (
            "another account",
            inner_of(&client, &url, &new, &json!({"account": other.account(), "oldKey": old})),
        ),
        ("no old key", inner_of(&client, &url, &new, &json!({"account": account}))),
        (
            "another old key",
            inner_of(&client, &url, &new, &json!({"account": account, "oldKey": other.key.jwk()})),
        ),
        (
            "the new key as the old",
            inner_of(&client, &url, &new, &json!({"account": account, "oldKey": new.jwk()})),
        ),
        ("a payload that was not signed", plain().json(right.clone()).outer(tampered).sealed()),
        (
            "a signature by the old key",
            client.post(&url).by_jwk().protect("jwk", new.jwk()).json(right.clone()).sealed(),
        ),
    ];
    for (what, inner) in wrong {
        let answer = change(&client, inner).await;
        assert!(matches!(answer.status, 400 | 403), "{what}: {answer}");
        answer.problem_of(&["malformed", "unauthorized", "badPublicKey"]);
    }
    let outer_by_jwk = client.post(&url).by_jwk().json(inner(&client, &url, &new)).send().await;
    outer_by_jwk.problem(400, "malformed");
    // Nothing of all this has changed the key.
    client.read(client.account()).await.expect(200);
    change(&client, inner(&client, &url, &new)).await.expect(200);
}

async fn key_02_a_key_in_use_is_409_with_the_account_that_has_it(server: Arc<Deployment>) {
    let (client, holder) = (server.account().await, server.account().await);
    let url = client.resource("keyChange").await;
    for _ in 0..server.size() {
        let answer = change(&client, inner(&client, &url, &holder.key)).await;
        answer.clone().expect(409).any_problem();
        assert_eq!(answer.location(), holder.account(), "{answer}");
    }
    let own = change(&client, inner(&client, &url, &client.key)).await.expect(409);
    assert_eq!(own.location(), client.account(), "{own}");
    client.read(client.account()).await.expect(200);
    holder.read(holder.account()).await.expect(200);
}

async fn key_02_of_many_who_want_one_key_one_gets_it(server: Arc<Deployment>) {
    for _ in 0..3 {
        let wanted = Key::new();
        let newcomer = server.client_with(wanted.duplicate());
        let accounts = join_all((0..12).map(|_| server.account())).await;
        let (change_url, new_url) =
            (newcomer.resource("keyChange").await, newcomer.resource("newAccount").await);
        let mut asks = Vec::new();
        for (replica, client) in accounts.iter().enumerate() {
            let post = client.post(&change_url).json(inner(client, &change_url, &wanted)).through(replica);
            asks.push(post.ready().await);
        }
        for replica in 0..4 {
            let post = newcomer.post(&new_url).json(json!({"termsOfServiceAgreed": true})).through(replica);
            asks.push(post.nonce(newcomer.fresh_nonce().await).ready().await);
        }
        let answers = join_all(asks.into_iter().map(|ask| ask.send())).await;
        let (changed, made) = answers.split_at(accounts.len());
        let winners: Vec<_> =
            changed.iter().zip(&accounts).filter(|(answer, _)| answer.status == 200).collect();
        let new = made.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(winners.len() + new, 1, "one account has the key");
        let found = newcomer.new_account(json!({"onlyReturnExisting": true})).await.expect(200).location();
        for (answer, client) in winners {
            assert_eq!(client.account(), found, "{answer}");
        }
        let losers = changed.iter().filter(|answer| answer.status != 200);
        let named: HashSet<_> = losers.chain(made).map(|answer| answer.location()).collect();
        assert_eq!(named, HashSet::from([found]), "all are told of that account");
        for answer in changed.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.status, 409, "{answer}");
        }
    }
}

async fn key_03_the_old_key_is_dead_on_every_replica_at_once(server: Arc<Deployment>) {
    for kind in [KeyKind::Es256, KeyKind::EdDsa, KeyKind::Es384, KeyKind::Rs256] {
        let client = server.account().await;
        // Every replica knows the old key by now.
        for replica in 0..server.size() {
            client.post(client.account()).through(replica).send().await.expect(200);
        }
        let new = Key::of(kind);
        let url = client.resource("keyChange").await;
        change(&client, inner(&client, &url, &new)).await.expect(200);
        for replica in 0..server.size() {
            let dead = client.post(client.account()).through(replica).send().await;
            dead.problem_of(&["malformed", "unauthorized"]);
            client.post(client.account()).signed_by(&new).through(replica).send().await.expect(200);
        }
        let renewed = server.client_with(new);
        let found = renewed.new_account(json!({"onlyReturnExisting": true})).await.expect(200);
        assert_eq!(found.location(), client.account());
        let lost = client.new_account(json!({"onlyReturnExisting": true})).await;
        lost.problem(400, "accountDoesNotExist");
        // The old key is free: it may begin anew.
        let again = client.new_account(json!({"termsOfServiceAgreed": true})).await.expect(201);
        assert_ne!(again.location(), client.account());
    }
}

async fn key_04_an_unknown_kid_is_exactly_account_does_not_exist(server: Arc<Deployment>) {
    let client = server.account().await;
    let account = client.account();
    let unknown = format!(
        "{}{}",
        &account[..account.len() - 4],
        if account.ends_with("0000") { "1111" } else { "0000" }
    );
    for resource in ["newOrder", "newAuthz", "keyChange"] {
        let url = client.resource(resource).await;
        let answer = client.post(&url).by_kid(&unknown).json(json!({})).send().await;
        answer.problem(400, "accountDoesNotExist");
    }
}

fn never_limited(kind: Kind) {
    // One account an hour for this address, and it is used up.
    let server = Deployment::with(kind, &Settings::new().set("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "1"));
    runtime().block_on(async {
        let client = server.account().await;
        for _ in 0..60 {
            let found = client.new_account(json!({"onlyReturnExisting": true})).await.expect(200);
            assert_eq!(found.location(), client.account());
        }
        let another = server.client().new_account(json!({"termsOfServiceAgreed": true})).await;
        another.problem(429, "rateLimited");
    });
}

#[test]
fn key_04_looking_an_account_up_is_never_limited_in_a_fleet() {
    never_limited(Kind::Fleet);
}

#[test]
fn key_04_looking_an_account_up_is_never_limited_on_the_embedded_server() {
    never_limited(Kind::Embedded);
}
