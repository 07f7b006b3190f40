//! GEN-01 and GEN-08 for any octets: whatever stands in a path, a query or a member, the answer is what was asked for or a
//! problem document, never a 5xx, and nothing is logged as trouble of the server's own. Postgres takes no NUL, and SQLite
//! takes everything: so on both.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::certificate::{csr_of, named, parameters};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::text;
use crate::support::keys::{Key, base64url};
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    alone =>
        gen_01_any_octets_in_a_path_or_a_query_are_answered
        gen_01_any_text_in_a_member_is_answered
        gen_01_any_octets_in_a_body_are_answered;
}

/// A deployment whose log has nothing of other tests.
fn alone(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new();
    let key = "mZJyD6o9Ez0q0kq3mPqFh3r2qRkO1G2zv5m0Z8n4s1w=";
    Deployment::with(
        kind,
        &match kind {
            Kind::Embedded => settings,
            Kind::Fleet => settings.set("CHANCERY_EAB_ENCRYPTION_KEY", key),
        },
    )
}

/// What programs trip over.
const HOSTILE: [&str; 30] = [
    "\0",
    "a\0b",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "\n",
    "\r\n",
    "\t",
    " ",
    "'",
    "\"",
    "\\",
    "\\u0000",
    "%00",
    "%",
    "_",
    ";--",
    "$1",
    "{}",
    "[",
    "<>",
    "..",
    "/",
    "?",
    "#",
    "é",
    "\u{202e}",
    "\u{feff}",
    "\u{ffff}",
    "😀",
];

/// How many texts are put together from those and from any characters.
const COMPOSED: usize = 12;

/// The same texts in every run.
fn texts() -> Vec<String> {
    let piece = prop_oneof![
        proptest::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
        "[a-z0-9.-]{1,20}",
    ];
    let composed = proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    let mut runner = TestRunner::deterministic();
    let composed = (0..COMPOSED).map(|_| composed.new_tree(&mut runner).expect("a text").current());
    let long = ["x".repeat(5000), "\0".repeat(5000)];
    HOSTILE.map(str::to_owned).into_iter().chain(long).chain(composed).collect()
}

/// Octets that are no text, in any reading of them.
const NO_TEXT: [&[u8]; 5] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xf0\x9f", b"\0\xfe\xff"];

fn judge(answer: &Response) {
    assert!(answer.status < 500 && answer.status != 429, "{answer}");
    if answer.status >= 400 {
        answer.any_problem();
    }
}

fn assert_no_trouble(server: &Deployment) {
    let log = server.log();
    let trouble: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(trouble.is_empty(), "{trouble:#?}");
}

fn percent(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "%{octet:02X}");
        text
    })
}

/// Every path with one part that a client may choose, which stands as `{}`.
async fn paths(client: &Client) -> Vec<String> {
    let issued = client.issue_any().await;
    let order = client.ready_order(&[&unique_name()]).await;
    let path = |url: &str| url.strip_prefix(&client.server.base_url).expect("of the server").to_owned();
    let (authorization, account) = (path(&order.authorizations()[0]), path(client.account()));
    let own = [
        format!("{}/{{}}", authorization.replace("/authorization/", "/challenge/")),
        format!("{account}/{{}}"),
        format!("{account}/orders?after={{}}"),
        format!("{account}/orders?{{}}"),
        format!("{}/{{}}", path(&issued.url)),
        format!("{}/{{}}", path(&order.url)),
    ];
    let fixed = [
        "/{}",
        "/directory?{}",
        "/profiles/{}/directory",
        "/profiles/{}/new-account",
        "/profiles/{}/new-order",
        "/profiles/{}/new-authz",
        "/new-nonce?{}",
        "/account/{}",
        "/account/{}/orders",
        "/order/{}",
        "/order/{}/finalize",
        "/authorization/{}",
        "/challenge/{}/http-01",
        "/certificate/{}",
        "/certificate/{}/1",
        "/renewal-info/{}",
        "/renewal-info/AAAA.{}",
        "/crl/{}",
        "/crl/{}.crl",
        "/issuer/{}",
        "/issuer/{}.der",
    ];
    fixed.map(str::to_owned).into_iter().chain(own).collect()
}

async fn gen_01_any_octets_in_a_path_or_a_query_are_answered(server: Arc<Deployment>) {
    let client = server.account().await;
    let octets: Vec<Vec<u8>> = texts().into_iter().map(String::into_bytes).collect();
    // A path is 65,535 octets at most, and a request's head is 32 KiB.
    let octets: Vec<Vec<u8>> =
        octets.into_iter().chain(NO_TEXT.map(<[u8]>::to_vec)).filter(|each| each.len() <= 5000).collect();
    let one = async |path: String| {
        for octets in &octets {
            let url = format!("{}{}", server.base_url, path.replace("{}", &percent(octets)));
            judge(&client.get(&url).await);
            judge(&client.read(&url).await);
            judge(&client.send(&url, json!({"identifiers": []})).await);
            let unsigned = client.plain(Method::POST, &url).header("content-type", "application/jose+json");
            judge(&unsigned.body("{}").send().await);
        }
    };
    join_all(paths(&client).await.into_iter().map(one)).await;
    assert_no_trouble(&server);
}

/// The URLs that an account sends objects to.
struct Places {
    new_order: String,
    new_authz: String,
    key_change: String,
    revoke: String,
    finalize: String,
    authorization: String,
    challenge: String,
}

impl Places {
    async fn of(client: &Client) -> Self {
        let order = client.ready_order(&[&unique_name()]).await;
        let authorization = order.authorizations()[0].clone();
        let shown = client.read(&authorization).await.expect(200).json();
        Self {
            new_order: client.resource("newOrder").await,
            new_authz: client.resource("newAuthz").await,
            key_change: client.resource("keyChange").await,
            revoke: client.resource("revokeCert").await,
            finalize: order.finalize(),
            challenge: text(&shown["challenges"][0], "url"),
            authorization,
        }
    }
}

/// Everything that an account may send with `value` in one of its members.
fn objects<'p>(client: &'p Client, places: &'p Places, value: &str) -> Vec<(&'p str, Value)> {
    let Places { new_order, new_authz, key_change, revoke, finalize, authorization, challenge } = places;
    let order = |member: &str, value: Value| {
        let mut order = json!({"identifiers": [{"type": "dns", "value": "a.chancery.test"}]});
        order[member] = value;
        (new_order.as_str(), order)
    };
    let identifier = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let encoded = base64url(value.as_bytes());
    let request = csr_of(&Key::new().to_rcgen(), &named(parameters(&["a.chancery.test"]), value));
    let inner = |payload: Value, member: &str, key: &Key| {
        let post = client.post(key_change).signed_by(key).json(payload);
        let post = if member.is_empty() { post } else { post.protect(member, value) };
        post.unprotect("kid").protect("jwk", key.jwk()).sealed()
    };
    let (account, new) = (client.account(), Key::new());
    let change = json!({"account": value, "oldKey": client.key.jwk()});
    let old = json!({"account": account, "oldKey": {"kty": value, "crv": value, "x": value, "y": value}});
    vec![
        order("identifiers", json!(value)),
        order("identifiers", json!([value])),
        order("identifiers", json!([identifier(value, "a.chancery.test")])),
        order("identifiers", json!([identifier("dns", value)])),
        order("identifiers", json!([identifier("dns", &format!("{value}.chancery.test"))])),
        order("identifiers", json!([identifier("ip", value)])),
        order("profile", json!(value)),
        order("replaces", json!(value)),
        order("replaces", json!(format!("{encoded}.{encoded}"))),
        order("notBefore", json!(value)),
        order("notAfter", json!(value)),
        order(value, json!(value)),
        (new_authz, json!({"identifier": value})),
        (new_authz, json!({"identifier": identifier(value, value)})),
        (new_authz, json!({"identifier": identifier("dns", value)})),
        (account, json!({"contact": value})),
        (account, json!({"contact": [value]})),
        (account, json!({"contact": [format!("mailto:{value}@chancery.test")]})),
        (account, json!({"contact": [format!("mailto:a@{value}")]})),
        (account, json!({"status": value})),
        (finalize, json!({"csr": value})),
        (finalize, json!({"csr": encoded})),
        (finalize, json!({"csr": base64url(&request)})),
        (authorization, json!({"status": value})),
        (challenge, json!(value)),
        (challenge, json!({value: value})),
        (revoke, json!({"certificate": value})),
        (revoke, json!({"certificate": encoded})),
        (revoke, json!({"certificate": encoded, "reason": value})),
        (key_change, json!(value)),
        (key_change, json!({"protected": value, "payload": value, "signature": value})),
        (key_change, json!({"protected": encoded, "payload": encoded, "signature": encoded})),
        (key_change, inner(change, "", &new)),
        (key_change, inner(old, "", &new)),
        (key_change, inner(json!({}), "url", &new)),
    ]
}

/// What a new account's payload may have `value` in.
fn accounts(client: &Client, url: &str, value: &str) -> Vec<Value> {
    let encoded = base64url(value.as_bytes());
    let agreed = |member: &str, value: Value| {
        let mut object = json!({"termsOfServiceAgreed": true});
        object[member] = value;
        object
    };
    let binding = |header: Value, payload: &[u8]| {
        let protected = base64url(header.to_string().as_bytes());
        json!({"protected": protected, "payload": base64url(payload), "signature": encoded})
    };
    let key = client.key.jwk().to_string().into_bytes();
    let mut all: Vec<_> = [
        json!({"protected": value, "payload": value, "signature": value}),
        binding(json!({"alg": "HS256", "kid": value, "url": url}), &key),
        binding(json!({"alg": value, "kid": "kid-1", "url": url}), &key),
        binding(json!({"alg": "HS256", "kid": "kid-1", "url": value}), &key),
        binding(json!({"alg": "HS256", "kid": "kid-1", "url": url}), value.as_bytes()),
        json!(value),
    ]
    .map(|binding| agreed("externalAccountBinding", binding))
    .into();
    all.extend([
        agreed("contact", json!([value])),
        agreed("contact", json!([format!("mailto:{value}@chancery.test")])),
        agreed("onlyReturnExisting", json!(value)),
        json!({"termsOfServiceAgreed": value}),
        agreed(value, json!(value)),
    ]);
    all
}

async fn gen_01_any_text_in_a_member_is_answered(server: Arc<Deployment>) {
    let client = server.account().await;
    let places = Places::of(&client).await;
    let (client, places, server) = (&client, &places, &server);
    let one = async |value: String| {
        for (url, object) in objects(client, places, &value) {
            judge(&client.send(url, object).await);
        }
        let url = &client.resource("newAccount").await;
        let stranger = server.client();
        for payload in accounts(&stranger, url, &value) {
            judge(&server.client().post(url).by_jwk().json(payload.clone()).send().await);
            judge(&stranger.post(url).by_jwk().json(payload).send().await);
        }
        // The protected header, by an account and by a key.
        for member in ["alg", "kid", "nonce", "url", "typ", "crit", "jwk", value.as_str()] {
            judge(&client.post(&places.new_order).protect(member, value.as_str()).send().await);
            judge(&stranger.post(url).by_jwk().protect(member, value.as_str()).json(json!({})).send().await);
        }
        let kid = format!("{}/account/{value}", server.base_url);
        judge(&client.post(&places.new_order).by_kid(&kid).send().await);
        for member in ["kty", "crv", "x", "y", "n", "e", "d", value.as_str()] {
            let mut jwk = stranger.key.jwk();
            jwk[member] = json!(value);
            judge(&stranger.post(url).protect("jwk", jwk).json(json!({})).send().await);
        }
        for member in ["protected", "payload", "signature", value.as_str()] {
            let (member, value) = (member.to_owned(), value.clone());
            let spoilt = move |mut jws: Value| {
                jws[member] = json!(value);
                jws
            };
            judge(&client.post(&places.new_order).outer(spoilt).send().await);
        }
    };
    join_all(texts().into_iter().map(one)).await;
    client.read(client.account()).await.expect(200);
    assert_no_trouble(server);
}

async fn gen_01_any_octets_in_a_body_are_answered(server: Arc<Deployment>) {
    let client = server.account().await;
    let places = Places::of(&client).await;
    let url = client.resource("newAccount").await;
    // As they stand between the quotes of a JSON string: escapes among them that serde_json's writer never makes.
    let escapes: [&[u8]; 6] =
        [br"\u0000", br"\ud800", br"\udc00\ud800", br"\x00", br"\u00", b"\",\"contact\":[\""];
    for octets in NO_TEXT.iter().chain(&escapes).chain(&[&b"\0"[..], b"\"", b"\\", b""]) {
        let around = |before: &str, after: &str| [before.as_bytes(), octets, after.as_bytes()].concat();
        let order = around("{\"identifiers\":[{\"type\":\"dns\",\"value\":\"", "\"}]}");
        let contact = around("{\"termsOfServiceAgreed\":true,\"contact\":[\"mailto:", "@chancery.test\"]}");
        let profile =
            around("{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],\"profile\":\"", "\"}");
        for (place, payload) in [
            (&places.new_order, order),
            (&places.new_order, profile),
            (&places.new_order, octets.to_vec()),
            (&places.finalize, around("{\"csr\":\"", "\"}")),
            (&places.authorization, around("{\"status\":\"", "\"}")),
            (&places.challenge, around("{\"", "\":1}")),
            (&places.revoke, around("{\"certificate\":\"", "\"}")),
            (&places.key_change, around("{\"protected\":\"", "\"}")),
            (&client.account().to_owned(), contact.clone()),
        ] {
            judge(&client.post(place).payload(payload).send().await);
        }
        judge(&server.client().post(&url).by_jwk().payload(contact).send().await);
        // Bodies that are no JWS.
        let member = around("{\"protected\":\"", "\",\"payload\":\"\",\"signature\":\"\"}");
        for body in [octets.to_vec(), member, around("{\"", "\":1}")] {
            let unsigned = client.plain(Method::POST, &places.new_order);
            judge(&unsigned.header("content-type", "application/jose+json").body(body).send().await);
        }
    }
    client.read(client.account()).await.expect(200);
    assert_no_trouble(&server);
}
