//! All that a server answers to a client on its way from account to certificate, and when the client is wrong. Each request
//! goes through the next replica.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::support::certificate::{Chain, csr};
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{Order, challenge, identifiers, text};
use crate::support::keys::Key;
use crate::support::response::Response;
use crate::support::run::unique_name;

/// One answer.
pub struct Step {
    /// What was asked.
    pub what: &'static str,
    /// The status that clients want.
    pub wanted: u16,
    /// The answer.
    pub answer: Response,
}

impl Step {
    /// The client uses no nonce of an answer on its way, so that each is left to be tried.
    fn of(client: &Client, what: &'static str, wanted: u16, answer: Response) -> Self {
        client.forget_nonces();
        Self { what, wanted, answer }
    }
}

/// The answers to one client that does everything right, in order.
pub async fn walk(server: &Arc<Deployment>) -> Vec<Step> {
    let client = server.client();
    let mut steps = Vec::new();
    let mut add = |what, wanted, answer| steps.push(Step::of(&client, what, wanted, answer));
    let member = json!({"termsOfServiceAgreed": true, "contact": ["mailto:admin@example.org"]});
    let made = client.new_account(member.clone()).await;
    client.use_account(&made.location());
    add("newAccount", 201, made);
    add("newAccount again", 200, client.new_account(member).await);
    add("account look-up", 200, client.new_account(json!({"onlyReturnExisting": true})).await);
    let account = client.read(client.account()).await;
    let orders = account.string("orders");
    add("account", 200, account);
    add("account update", 200, client.send(client.account(), json!({"contact": []})).await);
    add("directory", 200, client.get(&server.directory).await);
    add("directory by POST", 200, client.read(&server.directory).await);
    steps.extend(issue(&client).await);
    let mut add = |what, wanted, answer| steps.push(Step::of(&client, what, wanted, answer));
    add("orders", 200, client.read(&orders).await);
    let url = client.resource("newAuthz").await;
    let new_authz = client.send(&url, json!({"identifier": {"type": "dns", "value": unique_name()}})).await;
    let authorization = new_authz.location();
    add("newAuthz", 201, new_authz);
    add("authorization given up", 200, client.send(&authorization, json!({"status": "deactivated"})).await);
    let (key, url) = (Key::new(), client.resource("keyChange").await);
    let inner = json!({"account": client.account(), "oldKey": client.key.jwk()});
    let inner = client.post(&url).signed_by(&key).by_jwk().json(inner).sealed();
    add("keyChange", 200, client.send(&url, inner).await);
    let end = client.post(client.account()).signed_by(&key).json(json!({"status": "deactivated"}));
    add("account given up", 200, end.send().await);
    steps
}

/// From newOrder to revocation, by http-01.
async fn issue(client: &Client) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |what, wanted, answer| steps.push(Step::of(client, what, wanted, answer));
    let name = unique_name();
    let placed = client.new_order(json!({"identifiers": identifiers(&[&name])})).await;
    let order = Order::of(&placed);
    add("newOrder", 201, placed);
    add("order, pending", 200, client.read(&order.url).await);
    let authorization = order.authorizations().remove(0);
    let shown = client.read(&authorization).await;
    let offered = challenge(&shown.json(), "http-01").expect("http-01");
    client.prepare(&shown.json(), &offered);
    let url = text(&offered, "url");
    add("authorization, pending", 200, shown);
    add("challenge, pending", 200, client.read(&url).await);
    add("challenge answered", 200, client.send(&url, json!({})).await);
    add("authorization, valid", 200, client.wait_for(&authorization, "valid").await);
    add("challenge, valid", 200, client.read(&url).await);
    add("challenge answered again", 200, client.send(&url, json!({})).await);
    add("order, ready", 200, client.read(&order.url).await);
    add("finalize", 200, client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await);
    let valid = client.wait_for(&order.url, "valid").await;
    let certificate = valid.string("certificate");
    add("order, valid", 200, valid);
    let chain = client.read(&certificate).await;
    let leaf = Chain::parse(&chain.text()).leaf_der().to_vec();
    add("certificate", 200, chain);
    add("revokeCert", 200, client.revoke(&leaf, Some(4)).await);
    steps
}

/// The answers to a client that does everything wrong.
pub async fn errors(server: &Arc<Deployment>) -> Vec<Step> {
    let (client, other) = (server.account().await, server.account().await);
    let (pending, ready) =
        (client.order(&[&unique_name()]).await, client.ready_order(&[&unique_name()]).await);
    let new_order = client.resource("newOrder").await;
    let renewal = format!("{}/AA.AA", client.resource("renewalInfo").await);
    let raw = |body: String| {
        let ask = client.plain(Method::POST, &new_order).header("content-type", "application/jose+json");
        ask.body(body).send()
    };
    let mut steps = wrong_nonces(&client, &pending.url).await;
    let mut add = |what, wanted, answer| steps.push(Step::of(&client, what, wanted, answer));
    add("no JWS", 400, raw("hello".to_owned()).await);
    add("a body too large", 413, raw("x".repeat(70_000)).await);
    let media = client.post(&pending.url).header("content-type", "application/json");
    add("another media type", 415, media.send().await);
    add("no such URL", 404, client.read(&format!("{}/nowhere", server.base_url)).await);
    add("no such method", 405, client.read(&renewal).await);
    let spoilt = client.post(&pending.url).signature(|mut signature| {
        signature[9] ^= 1;
        signature
    });
    add("a wrong signature", 400, spoilt.send().await);
    let stranger = format!("{}0", client.account());
    add("an unknown account", 400, client.post(&pending.url).by_kid(&stranger).send().await);
    add("another's order", 403, other.read(&pending.url).await);
    add("an order that is not ready", 403, client.finalize(&pending, b"").await);
    add("no CSR", 400, client.finalize(&ready, b"nothing").await);
    add("no certificate", 400, client.revoke(b"nothing", None).await);
    add("no identifiers", 400, client.send(&new_order, json!({"identifiers": []})).await);
    add("no such profile", 400, client.new_order(order_for(json!({"profile": "unheard-of"}))).await);
    add("no such account", 400, server.client().new_account(json!({"onlyReturnExisting": true})).await);
    add("terms not agreed to", 403, server.client().new_account(json!({})).await);
    let issued = client.issue_any().await;
    let name = issued.chain.names().remove(0);
    let replacing = json!({"identifiers": identifiers(&[&name]), "profile": "trusted",
        "replaces": issued.chain.renewal_id()});
    client.new_order(replacing.clone()).await.expect(201);
    add("a certificate replaced twice", 409, client.new_order(replacing).await);
    steps
}

fn order_for(mut with: Value) -> Value {
    with["identifiers"] = identifiers(&[&unique_name()]);
    with
}

async fn wrong_nonces(client: &Client, url: &str) -> Vec<Step> {
    let used = client.fresh_nonce().await;
    client.post(url).nonce(used.clone()).send().await.expect(200);
    let asks = [
        ("a nonce of nobody", client.post(url).nonce("AAAA")),
        ("a nonce used before", client.post(url).nonce(used)),
        ("no nonce", client.post(url).no_nonce()),
    ];
    let mut steps = Vec::new();
    for (what, ask) in asks {
        steps.push(Step::of(client, what, 400, ask.send().await));
    }
    steps
}
