//! New accounts, by the client's address.

use std::sync::Arc;

use serde_json::json;

use super::{refused, settings};
use crate::support::chancery::{Deployment, Kind};
use crate::support::client::Client;
use crate::support::response::Response;
use crate::wire_tests;

wire_tests! {
    behind_proxy => lim_04_new_accounts_are_counted_by_the_address_that_a_trusted_proxy_tells;
    in_front => lim_04_a_stranger_s_word_about_its_address_is_nothing;
}

fn behind_proxy(kind: Kind) -> Arc<Deployment> {
    let settings = settings()
        .set("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "3")
        .set("CHANCERY_HTTP_TRUSTED_PROXIES", "127.0.0.0/8,::1");
    Deployment::with(kind, &settings)
}

fn in_front(kind: Kind) -> Arc<Deployment> {
    let settings = settings()
        .set("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "3")
        .set("CHANCERY_HTTP_TRUSTED_PROXIES", "192.0.2.0/24");
    Deployment::with(kind, &settings)
}

async fn register(client: &Client, forwarded: &str, terms: bool) -> Response {
    let url = client.resource("newAccount").await;
    let payload = json!({"termsOfServiceAgreed": terms});
    client.post(&url).by_jwk().header("x-forwarded-for", forwarded).json(payload).send().await
}

async fn lim_04_new_accounts_are_counted_by_the_address_that_a_trusted_proxy_tells(server: Arc<Deployment>) {
    // What is refused is not counted (LIM-02).
    for _ in 0..5 {
        register(&server.client(), "198.51.100.1", false).await.problem(403, "userActionRequired");
    }
    let mut first = None;
    for _ in 0..3 {
        let client = server.client();
        register(&client, "203.0.113.9, 198.51.100.1", true).await.expect(201);
        first = Some(client);
    }
    let client = server.client();
    let seconds = refused(&register(&client, "198.51.100.1", true).await, "new-accounts");
    assert!((1_100..=1_200).contains(&seconds), "{seconds}");
    // It left no account behind, and finding one is free (KEY-04).
    let url = client.resource("newAccount").await;
    let look_up = client.post(&url).by_jwk().json(json!({"onlyReturnExisting": true})).send().await;
    look_up.problem(400, "accountDoesNotExist");
    for _ in 0..8 {
        register(first.as_ref().expect("made"), "198.51.100.1", true).await.expect(200);
    }
    // Others have buckets of their own; an IPv6 site has one.
    register(&client, "198.51.100.2", true).await.expect(201);
    for last in 1..=3 {
        register(&server.client(), &format!("2001:db8:1:1:{last}::{last}"), true).await.expect(201);
    }
    refused(&register(&server.client(), "2001:db8:1:1:ffff::1", true).await, "new-accounts");
    register(&server.client(), "2001:db8:1:2::1", true).await.expect(201);
}

async fn lim_04_a_stranger_s_word_about_its_address_is_nothing(server: Arc<Deployment>) {
    for index in 0..3 {
        register(&server.client(), &format!("198.51.100.{index}"), true).await.expect(201);
    }
    refused(&register(&server.client(), "198.51.100.9", true).await, "new-accounts");
}
