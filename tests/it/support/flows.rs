//! What an honest client does, in whole steps: account, order, authorization, certificate.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::certificate::{Chain, csr};
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::keys::{Key, base64url};
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::{SOON, unique_name};

/// An order that was placed.
pub struct Order {
    /// Its URL.
    pub url: String,
    /// What new-order answered.
    pub body: Value,
}

/// A certificate that was issued.
pub struct Issued {
    /// The order's URL.
    pub order: String,
    /// The certificate's URL.
    pub url: String,
    /// The chain.
    pub chain: Chain,
    /// The key in it.
    pub key: Key,
}

impl Order {
    /// What an answer to new-order says.
    pub fn of(response: &Response) -> Self {
        Self { url: response.location(), body: response.json() }
    }

    /// Its `finalize` URL.
    pub fn finalize(&self) -> String {
        text(&self.body, "finalize")
    }

    /// The URLs of its authorizations.
    pub fn authorizations(&self) -> Vec<String> {
        let urls = self.body["authorizations"].as_array().expect("an array");
        urls.iter().map(|url| url.as_str().expect("a URL").to_owned()).collect()
    }
}

/// A string member of a JSON object.
pub fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_else(|| panic!("no string {member}: {object}")).to_owned()
}

/// `identifiers` for DNS names and addresses.
pub fn identifiers(names: &[&str]) -> Value {
    let one = |name: &&str| {
        let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
        json!({"type": kind, "value": name})
    };
    names.iter().map(one).collect()
}

/// The challenge of one type in an authorization, if it is offered.
pub fn challenge(authorization: &Value, kind: &str) -> Option<Value> {
    let challenges = authorization["challenges"].as_array().expect("challenges");
    challenges.iter().find(|challenge| challenge["type"] == kind).cloned()
}

impl Deployment {
    /// A client with an account and a new P-256 key.
    pub async fn account(self: &Arc<Self>) -> Client {
        self.account_with(Key::new()).await
    }

    /// A client with an account for this key.
    pub async fn account_with(self: &Arc<Self>, key: Key) -> Client {
        let client = self.client_with(key);
        client.register().await;
        client
    }
}

impl Client {
    /// Makes the account, and takes it for its own.
    pub async fn register(&self) -> Response {
        let response = self.new_account(json!({"termsOfServiceAgreed": true})).await;
        assert!(matches!(response.status, 200 | 201), "{response}");
        self.use_account(&response.location());
        response
    }

    /// POSTs to new-account by `jwk`.
    pub async fn new_account(&self, payload: Value) -> Response {
        let url = self.resource("newAccount").await;
        self.post(&url).by_jwk().json(payload).send().await
    }

    /// POSTs to new-order.
    pub async fn new_order(&self, payload: Value) -> Response {
        let url = self.resource("newOrder").await;
        self.send(&url, payload).await
    }

    /// An order for `names` whose authorizations want challenges.
    pub async fn order(&self, names: &[&str]) -> Order {
        Order::of(&self.new_order(json!({"identifiers": identifiers(names)})).await.expect(201))
    }

    /// An order for `names` under a profile.
    pub async fn order_under(&self, profile: &str, names: &[&str]) -> Order {
        let payload = json!({"identifiers": identifiers(names), "profile": profile});
        Order::of(&self.new_order(payload).await.expect(201))
    }

    /// An order for `names` that is ready at once.
    pub async fn ready_order(&self, names: &[&str]) -> Order {
        let order = self.order_under("trusted", names).await;
        assert_eq!(order.body["status"], "ready", "{}", order.body);
        order
    }

    /// Puts the right answer to a challenge where the server will look for it.
    pub fn prepare(&self, authorization: &Value, challenge: &Value) {
        let name = text(&authorization["identifier"], "value");
        let token = text(challenge, "token");
        let answer = self.key_authorization(&token);
        match text(challenge, "type").as_str() {
            "http-01" => responder::http().set(&token, Reply::Body(answer)),
            "dns-01" => responder::dns().set_txt(&name, &answer),
            "tls-alpn-01" => responder::tls().set(&name, &answer),
            other => panic!("no responder for {other}"),
        }
    }

    /// Answers the challenge of this type of an authorization, truthfully, and returns what the challenge says then.
    pub async fn answer(&self, authorization_url: &str, kind: &str) -> Response {
        let authorization = self.read(authorization_url).await.expect(200).json();
        let challenge =
            challenge(&authorization, kind).unwrap_or_else(|| panic!("no {kind}: {authorization}"));
        self.prepare(&authorization, &challenge);
        self.send(&text(&challenge, "url"), json!({})).await.expect(200)
    }

    /// Answers the challenge of this type without having prepared anything.
    pub async fn answer_blindly(&self, authorization_url: &str, kind: &str) -> Response {
        let authorization = self.read(authorization_url).await.expect(200).json();
        let challenge =
            challenge(&authorization, kind).unwrap_or_else(|| panic!("no {kind}: {authorization}"));
        self.send(&text(&challenge, "url"), json!({})).await.expect(200)
    }

    /// Proves an order's authorizations by this type of challenge, and waits until each is valid.
    pub async fn authorize(&self, order: &Order, kind: &str) {
        for url in order.authorizations() {
            if self.read(&url).await.expect(200).state() == "pending" {
                self.answer(&url, kind).await;
            }
            self.wait_for(&url, "valid").await;
        }
    }

    /// Reads a resource until its status is `wanted`; fails at once when it has become another final one.
    pub async fn wait_for(&self, url: &str, wanted: &str) -> Response {
        let start = Instant::now();
        loop {
            let response = self.read(url).await.expect(200);
            let state = response.state();
            if state == wanted {
                return response;
            }
            let open = matches!(state.as_str(), "pending" | "processing" | "ready")
                || (state == "valid" && wanted != "invalid");
            assert!(open && start.elapsed() < SOON, "{wanted} expected: {response}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// POSTs a CSR to an order's `finalize`.
    pub async fn finalize(&self, order: &Order, csr: &[u8]) -> Response {
        self.send(&order.finalize(), json!({"csr": base64url(csr)})).await
    }

    /// Finalizes a ready order for `names`, waits, and downloads the chain.
    pub async fn collect(&self, order: &Order, names: &[&str], key: Key) -> Issued {
        self.finalize(order, &csr(&key.to_rcgen(), names)).await.expect(200);
        let url = self.wait_for(&order.url, "valid").await.string("certificate");
        let chain = Chain::parse(&self.read(&url).await.expect(200).text());
        Issued { order: order.url.clone(), url, chain, key }
    }

    /// A certificate for `names`, by the profile that trusts the account.
    pub async fn issue(&self, names: &[&str]) -> Issued {
        let order = self.ready_order(names).await;
        self.collect(&order, names, Key::new()).await
    }

    /// A certificate for a name of its own.
    pub async fn issue_any(&self) -> Issued {
        self.issue(&[&unique_name()]).await
    }

    /// POSTs to revoke-cert by the account.
    pub async fn revoke(&self, certificate: &[u8], reason: Option<i64>) -> Response {
        let url = self.resource("revokeCert").await;
        self.send(&url, revocation(certificate, reason)).await
    }
}

/// The payload of revoke-cert.
pub fn revocation(certificate: &[u8], reason: Option<i64>) -> Value {
    match reason {
        Some(reason) => json!({"certificate": base64url(certificate), "reason": reason}),
        None => json!({"certificate": base64url(certificate)}),
    }
}
