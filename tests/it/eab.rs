//! EAB: external account binding.

mod commands;
mod uses;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{identifiers, text};
use crate::support::keys::{Key, KeyKind, base64url};
use crate::support::postgres::Postgres;
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    bound =>
        eab_01_a_profile_that_requires_a_binding_refuses_new_accounts_without_one
        eab_01_an_account_without_a_binding_may_not_order_under_such_a_profile
        eab_01_a_key_of_one_profile_opens_that_one
        eab_01_the_directory_says_where_a_binding_is_required
        eab_02_each_part_of_the_binding_is_checked
        eab_02_an_unknown_key_and_a_wrong_mac_look_alike
        eab_02_each_mac_algorithm_is_taken
        eab_04_the_account_echoes_the_binding
        eab_a_secret_is_neither_in_the_database_nor_in_the_log;
}

const BOUND: &str = r#"
[profiles.bound]
authorization = "trusted"
external_account_required = true

[profiles.other-bound]
authorization = "trusted"
external_account_required = true
"#;

/// What a fleet seals secrets under.
pub const ENCRYPTION_KEY: &str = "mZJyD6o9Ez0q0kq3mPqFh3r2qRkO1G2zv5m0Z8n4s1w=";

/// The default profile is open; `bound` and `other-bound` trust accounts that are bound.
pub fn bound(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    // The embedded server makes a key of its own.
    let (cell, settings) = match kind {
        Kind::Embedded => (&EMBEDDED, Settings::new()),
        Kind::Fleet => (&FLEET, Settings::new().set("CHANCERY_EAB_ENCRYPTION_KEY", ENCRYPTION_KEY)),
    };
    cell.get_or_init(|| Deployment::with(kind, &settings.toml(BOUND))).clone()
}

/// What `chancery eab create` printed.
pub struct Printed {
    pub kid: String,
    pub secret: String,
    text: String,
}

pub fn create(server: &Deployment, arguments: &[&str]) -> Printed {
    let text = server.command(&[&["eab", "create"], arguments].concat());
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {text}")).trim().to_owned()
    };
    Printed { kid: after("kid:"), secret: after("hmac key:"), text }
}

impl Printed {
    fn octets(&self) -> Vec<u8> {
        Base64UrlUnpadded::decode_vec(&self.secret).expect("base64url without padding")
    }

    /// The binding of `key` for a request to `url`.
    fn vouch(&self, url: &str, key: &Key) -> Value {
        self.seal(&json!({"alg": "HS256", "kid": self.kid, "url": url}), key.jwk().to_string().as_bytes())
    }

    /// A binding of the test's own making.
    fn seal(&self, header: &Value, payload: &[u8]) -> Value {
        let algorithm = match header["alg"].as_str() {
            Some("HS384") => hmac::HMAC_SHA384,
            Some("HS512") => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let (protected, payload) = (base64url(header.to_string().as_bytes()), base64url(payload));
        let key = hmac::Key::new(algorithm, &self.octets());
        let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        json!({"protected": protected, "payload": payload, "signature": base64url(mac.as_ref())})
    }
}

fn with(binding: &Value) -> Value {
    json!({"termsOfServiceAgreed": true, "externalAccountBinding": binding})
}

/// The newAccount URL of a profile's own directory.
async fn new_account_of(client: &Client, profile: &str) -> String {
    let directory = format!("{}/profiles/{profile}/directory", client.server.base_url);
    let directory = client.get(&directory).await.expect(200).json();
    assert_eq!(directory["meta"]["externalAccountRequired"], true, "{directory}");
    text(&directory, "newAccount")
}

async fn post(client: &Client, url: &str, payload: Value) -> Response {
    client.post(url).by_jwk().json(payload).send().await
}

/// A client whose account is bound by `key`, through the common directory.
pub async fn bind(server: &Arc<Deployment>, key: &Printed) -> (Client, Response) {
    let client = server.client();
    let url = client.resource("newAccount").await;
    let answer = post(&client, &url, with(&key.vouch(&url, &client.key))).await;
    if answer.status == 201 {
        client.use_account(&answer.location());
    }
    (client, answer)
}

async fn assert_no_account(client: &Client) {
    for _ in 0..client.server.size() {
        client.new_account(json!({"onlyReturnExisting": true})).await.problem(400, "accountDoesNotExist");
    }
}

async fn order(client: &Client, profile: &str) -> Response {
    client.new_order(json!({"identifiers": identifiers(&[&unique_name()]), "profile": profile})).await
}

/// The columns of a key's line in `chancery eab list`.
fn listed(server: &Deployment, kid: &str) -> Vec<String> {
    let list = server.command(&["eab", "list"]);
    let line = list.lines().find(|line| line.starts_with(kid));
    line.unwrap_or_else(|| panic!("no {kid}: {list}")).split_whitespace().map(str::to_owned).collect()
}

async fn eab_01_a_profile_that_requires_a_binding_refuses_new_accounts_without_one(server: Arc<Deployment>) {
    let client = server.client();
    let url = new_account_of(&client, "bound").await;
    for payload in [json!({"termsOfServiceAgreed": true}), with(&Value::Null)] {
        let answer = post(&client, &url, payload).await;
        answer.problem(403, "externalAccountRequired");
        assert!(answer.detail().contains("\"bound\""), "{answer}");
    }
    assert_no_account(&client).await;
    let key = create(&server, &["--profile", "bound"]);
    let answer = post(&client, &url, with(&key.vouch(&url, &client.key))).await.expect(201);
    client.use_account(&answer.location());
    assert_eq!(order(&client, "bound").await.expect(201).state(), "ready");
}

async fn eab_01_an_account_without_a_binding_may_not_order_under_such_a_profile(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..server.size() {
        let answer = order(&client, "bound").await;
        answer.problem(403, "externalAccountRequired");
        assert!(answer.detail().contains("not: register a new account key"), "{answer}");
    }
    let new_authz = format!("{}/profiles/bound/new-authz", server.base_url);
    let payload = json!({"identifier": {"type": "dns", "value": unique_name()}});
    client.send(&new_authz, payload).await.problem(403, "externalAccountRequired");
    let new_order = format!("{}/profiles/bound/new-order", server.base_url);
    let payload = json!({"identifiers": identifiers(&[&unique_name()])});
    client.send(&new_order, payload).await.problem(403, "externalAccountRequired");
    // Its account stays what it is, whatever it offers later: accounts are bound when they are made.
    let (key, url) = (create(&server, &[]), new_account_of(&client, "bound").await);
    let again = post(&client, &url, with(&key.vouch(&url, &client.key))).await.expect(200);
    assert_eq!(again.location(), client.account());
    assert!(again.json().get("externalAccountBinding").is_none(), "{again}");
    order(&client, "bound").await.problem(403, "externalAccountRequired");
    order(&client, "trusted").await.expect(201);
}

async fn eab_01_a_key_of_one_profile_opens_that_one(server: Arc<Deployment>) {
    let (client, made) = bind(&server, &create(&server, &["--profile", "bound"])).await;
    made.expect(201);
    order(&client, "bound").await.expect(201);
    order(&client, "trusted").await.expect(201);
    let refused = order(&client, "other-bound").await;
    refused.problem(403, "unauthorized");
    assert!(
        refused.detail().contains("\"bound\"") && refused.detail().contains("\"other-bound\""),
        "{refused}"
    );

    let (client, made) = bind(&server, &create(&server, &[])).await;
    made.expect(201);
    for profile in ["bound", "other-bound", "default"] {
        order(&client, profile).await.expect(201);
    }
    // Through a profile's own directory a key of another one is refused at once.
    let (client, key) = (server.client(), create(&server, &["--profile", "bound"]));
    let url = new_account_of(&client, "other-bound").await;
    post(&client, &url, with(&key.vouch(&url, &client.key))).await.problem(403, "unauthorized");
    assert_no_account(&client).await;
    assert_eq!(bind(&server, &key).await.1.status, 201, "that did not use the key");
}

async fn eab_01_the_directory_says_where_a_binding_is_required(server: Arc<Deployment>) {
    let client = server.client();
    let common = client.get(&server.directory).await.expect(200).json();
    assert_eq!(common["meta"]["externalAccountRequired"], false, "{common}");
    new_account_of(&client, "bound").await;
    let unheard_of = format!("{}/profiles/unheard-of/new-account", server.base_url);
    post(&client, &unheard_of, json!({"termsOfServiceAgreed": true})).await.problem(400, "invalidProfile");
    assert_no_account(&client).await;
}

async fn eab_02_each_part_of_the_binding_is_checked(server: Arc<Deployment>) {
    let key = create(&server, &[]);
    let client = server.client();
    let url = client.resource("newAccount").await;
    let jwk = client.key.jwk().to_string();
    let header = json!({"alg": "HS256", "kid": key.kid, "url": url});
    let but = |member: &str, value: Value| {
        let mut header = header.clone();
        header[member] = value;
        key.seal(&header, jwk.as_bytes())
    };
    let without = |member: &str| {
        let mut header = header.clone();
        header.as_object_mut().expect("an object").remove(member);
        key.seal(&header, jwk.as_bytes())
    };
    let mut more = key.seal(&header, jwk.as_bytes());
    more["header"] = json!({"kid": key.kid});
    let mut padded = key.seal(&header, jwk.as_bytes());
    padded["payload"] = format!("{}=", text(&padded, "payload")).into();
    let cases = [
        ("text", json!("binding")),
        ("an empty object", json!({})),
        ("an unprotected header", more),
        ("padding", padded),
        ("the outer algorithm", but("alg", "ES256".into())),
        ("no algorithm", but("alg", "none".into())),
        ("a nonce", but("nonce", client.fresh_nonce().await.into())),
        ("another url", but("url", client.resource("newOrder").await.into())),
        ("no url", without("url")),
        ("no kid", without("kid")),
        ("a jwk", but("jwk", client.key.jwk())),
        ("crit", but("crit", json!(["exp"]))),
        ("another key", key.seal(&header, Key::new().jwk().to_string().as_bytes())),
        ("no key", key.seal(&header, b"{}")),
    ];
    let mut details = HashSet::new();
    for (what, binding) in &cases {
        let answer = post(&client, &url, with(binding)).await;
        answer.problem(400, "malformed");
        assert!(answer.detail().contains("externalAccountBinding"), "{answer}");
        assert!(details.insert(answer.detail()), "{what} has the detail of another case: {answer}");
    }
    assert_no_account(&client).await;
    // None of this used the key.
    post(&client, &url, with(&key.vouch(&url, &client.key))).await.expect(201);
}

async fn eab_02_an_unknown_key_and_a_wrong_mac_look_alike(server: Arc<Deployment>) {
    let (key, client) = (create(&server, &[]), server.client());
    let url = client.resource("newAccount").await;
    let right = key.vouch(&url, &client.key);
    let mut wrong = right.clone();
    wrong["signature"] = base64url(&[7; 32]).into();
    let named = |kid: &str| {
        let header = json!({"alg": "HS256", "kid": kid, "url": url});
        key.seal(&header, client.key.jwk().to_string().as_bytes())
    };
    let other = create(&server, &[]);
    let revoked = create(&server, &[]);
    server.command(&["eab", "revoke", &revoked.kid]);
    let mut seen = HashSet::new();
    for binding in [
        wrong,
        named(&other.kid),
        named(&"0".repeat(32)),
        named("x"),
        named(""),
        named("null\0"),
        named(&revoked.kid),
        named(&"k".repeat(4000)),
    ] {
        let answer = post(&client, &url, with(&binding)).await;
        answer.problem(403, "unauthorized");
        seen.insert(answer.text());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_no_account(&client).await;
    // A binding that is offered though none is required is checked all the same, and recorded.
    post(&client, &url, with(&right)).await.expect(201);
}

async fn eab_02_each_mac_algorithm_is_taken(server: Arc<Deployment>) {
    for (algorithm, kind) in [("HS256", KeyKind::Rs256), ("HS384", KeyKind::EdDsa), ("HS512", KeyKind::Es384)]
    {
        let (key, client) = (create(&server, &[]), server.client_with(Key::of(kind)));
        let url = client.resource("newAccount").await;
        let header = json!({"alg": algorithm, "kid": key.kid, "url": url});
        let binding = key.seal(&header, client.key.jwk().to_string().as_bytes());
        post(&client, &url, with(&binding)).await.expect(201);
    }
}

async fn eab_04_the_account_echoes_the_binding(server: Arc<Deployment>) {
    let (key, client) = (create(&server, &[]), server.client());
    let url = client.resource("newAccount").await;
    let binding = key.vouch(&url, &client.key);
    let made = post(&client, &url, with(&binding)).await.expect(201);
    client.use_account(&made.location());
    assert_eq!(made.json()["externalAccountBinding"], binding, "{made}");
    for _ in 0..server.size() {
        assert_eq!(client.read(client.account()).await.expect(200).json(), made.json());
    }
    let update = json!({"contact": ["mailto:a@chancery.test"], "externalAccountBinding": {"payload": "e30"}});
    let updated = client.send(client.account(), update).await.expect(200);
    assert_eq!(updated.json()["externalAccountBinding"], binding, "{updated}");
    let plain = server.account().await;
    assert!(plain.read(plain.account()).await.json().get("externalAccountBinding").is_none());
}

async fn eab_a_secret_is_neither_in_the_database_nor_in_the_log(server: Arc<Deployment>) {
    let key = create(&server, &["--uses", "2"]);
    let (_, made) = bind(&server, &key).await;
    made.expect(201);
    let dump = match server.database() {
        Some(url) => Postgres::shared().psql(url, "SELECT k::text FROM external_account_keys k").into_bytes(),
        None => ["chancery.sqlite", "chancery.sqlite-wal"]
            .iter()
            .flat_map(|file| std::fs::read(server.replica(0).data_dir.join(file)).unwrap_or_default())
            .collect(),
    };
    let holds = |needle: &[u8]| dump.windows(needle.len()).any(|part| part == needle);
    assert!(holds(key.kid.as_bytes()), "the key is in what was searched");
    let hex: String = key.octets().iter().map(|octet| format!("{octet:02x}")).collect();
    for needle in [&key.octets()[..], key.secret.as_bytes(), hex.as_bytes()] {
        assert!(!holds(needle));
    }
    let log = server.log();
    assert!(!log.contains(&key.secret) && !log.contains(ENCRYPTION_KEY));
    assert!(!server.command(&["eab", "list"]).contains(&key.secret));
    let counted =
        (0..server.size()).map(|replica| server.replica(replica).ops_get("/metrics").expect("metrics").1);
    let bound = "chancery_external_account_bindings_total{result=\"bound\"}";
    assert!(counted.into_iter().any(|text| text.contains(bound)), "{bound}");
}
