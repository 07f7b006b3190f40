//! One challenge from order to verdict.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::flows::{Order, challenge, text};
use crate::support::responder::{self, Reply};
use crate::support::run::unique_name;

pub struct Trial<'a> {
    /// Who is tried.
    pub client: &'a Client,
    /// The order.
    pub order: Order,
    /// The URL of its authorization.
    pub url: String,
    /// The authorization, as it was at first.
    pub authorization: Value,
    /// The challenge, as it was at first.
    pub challenge: Value,
}

impl<'a> Trial<'a> {
    pub async fn new(client: &'a Client, name: &str, kind: &str) -> Self {
        let order = client.order(&[name]).await;
        let url = order.authorizations().remove(0);
        let authorization = client.read(&url).await.expect(200).json();
        let challenge =
            challenge(&authorization, kind).unwrap_or_else(|| panic!("no {kind}: {authorization}"));
        Self { client, order, url, authorization, challenge }
    }

    pub async fn http(client: &'a Client, reply: impl FnOnce(&str) -> Reply) -> Self {
        let trial = Self::new(client, &unique_name(), "http-01").await;
        responder::http().set(&trial.token(), reply(&trial.answer()));
        trial
    }

    pub fn token(&self) -> String {
        text(&self.challenge, "token")
    }

    /// The key authorization.
    pub fn answer(&self) -> String {
        self.client.key_authorization(&self.token())
    }

    pub async fn start(&self) {
        self.client.send(&text(&self.challenge, "url"), json!({})).await.expect(200);
    }

    pub async fn succeeds(&self) {
        self.start().await;
        self.client.wait_for(&self.url, "valid").await;
    }

    /// The error of the challenge, whose type must be one of `kinds`.
    pub async fn fails(&self, kinds: &[&str]) -> Value {
        self.start().await;
        let authorization = self.client.wait_for(&self.url, "invalid").await.json();
        let failed =
            challenge(&authorization, &text(&self.challenge, "type")).expect("the challenge that failed");
        assert_eq!(failed["status"], "invalid", "{authorization}");
        let error = &failed["error"];
        let kind = text(error, "type");
        let kind = kind.trim_start_matches("urn:ietf:params:acme:error:");
        assert!(kinds.contains(&kind), "{kinds:?} expected: {authorization}");
        let detail = text(error, "detail");
        assert!(!detail.is_empty() && detail.len() < 1500, "cut: {detail}");
        assert!(detail.bytes().all(|b| (b' '..=b'~').contains(&b)), "escaped: {detail:?}");
        error.clone()
    }
}
