//! JWS: the form of every signed POST.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::chancery::Deployment;
use crate::support::client::{Client, Post};
use crate::support::flows::identifiers;
use crate::support::keys::{Key, KeyKind, base64url};
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        jws_01_only_the_flattened_serialization_is_read
        jws_02_five_algorithms_work
        jws_02_any_other_algorithm_is_told_the_allowed_ones
        jws_04_kid_and_jwk_together_is_malformed
        jws_04_null_is_absent
        jws_04_neither_kid_nor_jwk_is_malformed
        jws_05_jwk_is_for_new_accounts_and_kid_for_all_else
        jws_06_a_missing_url_is_malformed
        jws_06_another_url_is_unauthorized
        jws_07_a_missing_or_unreadable_nonce_is_bad_nonce
        jws_08_crit_is_malformed_and_unknown_members_are_ignored
        jws_09_base64url_is_strict
        jws_09_duplicate_members_are_malformed
        jws_09_white_space_in_json_and_any_order_of_members_is_fine
        jws_10_a_wrong_signature_is_malformed_and_costs_no_nonce
        jws_11_an_unknown_kid_is_no_account_and_a_deactivated_one_is_unauthorized
        jws_12_a_der_signature_is_rejected
        jws_13_a_read_has_the_empty_payload;
}

/// A signed request that any account may send: reading its own account.
fn probe(client: &Client) -> Post<'_> {
    client.post(client.account())
}

async fn jws_01_only_the_flattened_serialization_is_read(server: Arc<Deployment>) {
    let client = server.account().await;
    type Change = fn(Value) -> Value;
    let part = |jws: &Value, member: &str| jws[member].as_str().unwrap_or("").to_owned();
    let changes: [(&str, Change); 10] = [
        ("compact", |jws| {
            let part = |member: &str| jws[member].as_str().unwrap_or("").to_owned();
            Value::String(format!("{}.{}.{}", part("protected"), part("payload"), part("signature")))
        }),
        ("general", |jws| {
            let signature = json!({"protected": jws["protected"], "signature": jws["signature"]});
            json!({"payload": jws["payload"], "signatures": [signature]})
        }),
        ("unprotected header", |mut jws| {
            jws["header"] = json!({"kid": "x"});
            jws
        }),
        ("empty unprotected header", |mut jws| {
            jws["header"] = json!({});
            jws
        }),
        ("no signature", |jws| json!({"protected": jws["protected"], "payload": jws["payload"]})),
        ("no payload", |jws| json!({"protected": jws["protected"], "signature": jws["signature"]})),
        ("no protected", |jws| json!({"payload": jws["payload"], "signature": jws["signature"]})),
        ("a number", |mut jws| {
            jws["payload"] = json!(1);
            jws
        }),
        ("an array", |jws| json!([jws])),
        ("nothing", |_| Value::String(String::new())),
    ];
    for (what, change) in changes {
        let answer = probe(&client).outer(change).send().await;
        assert_eq!(answer.status, 400, "{what}: {answer}");
        answer.problem(400, "malformed");
    }
    let jws = probe(&client).sealed();
    assert!(!part(&jws, "signature").is_empty());
    probe(&client).send().await.expect(200);
}

async fn jws_02_five_algorithms_work(server: Arc<Deployment>) {
    for kind in KeyKind::ALL {
        let client = server.account_with(Key::of(kind)).await;
        for _ in 0..server.size() {
            client.read(client.account()).await.expect(200);
        }
        client.new_order(json!({"identifiers": identifiers(&[&unique_name()])})).await.expect(201);
        probe(&client).signature(flip_last).send().await.problem(400, "malformed");
    }
}

fn flip_last(mut signature: Vec<u8>) -> Vec<u8> {
    let last = signature.len() - 1;
    signature[last] ^= 1;
    signature
}

async fn jws_02_any_other_algorithm_is_told_the_allowed_ones(server: Arc<Deployment>) {
    let client = server.account().await;
    let stranger = server.client_with(Key::of(KeyKind::Rs256));
    let new_account = stranger.resource("newAccount").await;
    let secret = Key::secret(b"the public key, as some libraries would take it");
    for name in ["none", "HS256", "HS512", "PS256", "PS512", "RS384", "RS512", "ES256K", "es256", "Ed448", ""]
    {
        let agreed = json!({"termsOfServiceAgreed": true});
        let known = probe(&client).protect("alg", name).send().await;
        let new = stranger.post(&new_account).protect("alg", name).json(agreed).send().await;
        for answer in [known, new] {
            let document = answer.problem(400, "badSignatureAlgorithm");
            let mut allowed: Vec<_> = document["algorithms"].as_array().expect("algorithms").iter().collect();
            allowed.sort_by_key(|one| one.to_string());
            let names: Vec<_> = allowed.iter().map(|one| one.as_str().unwrap_or("")).collect();
            assert_eq!(names, ["ES256", "ES384", "ES512", "EdDSA", "RS256"], "{answer}");
        }
    }
    let answer = probe(&client).signed_by(&secret).send().await;
    answer.problem(400, "badSignatureAlgorithm");
    let answer = probe(&client).protect("alg", "none").signature(|_| Vec::new()).send().await;
    answer.problem(400, "badSignatureAlgorithm");
}

async fn jws_04_null_is_absent(server: Arc<Deployment>) {
    let client = server.account().await;
    probe(&client).protect("jwk", Value::Null).send().await.expect(200);
    let url = client.resource("newAccount").await;
    client.post(&url).by_jwk().protect("kid", Value::Null).json(json!({})).send().await.expect(200);
    probe(&client).protect("kid", Value::Null).send().await.problem(400, "malformed");
}

async fn jws_04_kid_and_jwk_together_is_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    probe(&client).protect("jwk", client.key.jwk()).send().await.problem(400, "malformed");
    let url = client.resource("newAccount").await;
    let answer = client.post(&url).by_jwk().protect("kid", client.account()).json(json!({})).send().await;
    answer.problem(400, "malformed");
}

async fn jws_04_neither_kid_nor_jwk_is_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    probe(&client).unprotect("kid").send().await.problem(400, "malformed");
    let url = client.resource("newAccount").await;
    client.post(&url).unprotect("kid").json(json!({})).send().await.problem(400, "malformed");
}

async fn jws_05_jwk_is_for_new_accounts_and_kid_for_all_else(server: Arc<Deployment>) {
    let client = server.account().await;
    let order = client.order(&[&unique_name()]).await;
    let mut urls = vec![client.account().to_owned(), order.url.clone(), order.finalize()];
    urls.extend(order.authorizations());
    urls.push(client.resource("newOrder").await);
    urls.push(client.resource("keyChange").await);
    for url in &urls {
        client.post(url).by_jwk().json(json!({})).send().await.problem(400, "malformed");
    }
    let new_account = client.resource("newAccount").await;
    client.post(&new_account).json(json!({})).send().await.problem(400, "malformed");
}

async fn jws_06_a_missing_url_is_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    probe(&client).unprotect("url").send().await.problem(400, "malformed");
    probe(&client).protect("url", json!([client.account()])).send().await.problem(400, "malformed");
}

async fn jws_06_another_url_is_unauthorized(server: Arc<Deployment>) {
    let client = server.account().await;
    let account = client.account().to_owned();
    let (scheme, rest) = account.split_once("://").expect("absolute");
    let path = rest.split_once('/').expect("a path").1;
    let listen = server.replica(0).listen;
    for other in [
        client.resource("newOrder").await,
        format!("{account}/"),
        format!("{account}?x=1"),
        format!("{account}#x"),
        format!("{}://{rest}", if scheme == "https" { "http" } else { "https" }),
        format!("https://evil.example/{path}"),
        format!("http://{listen}/{path}"),
        format!("{scheme}://{}", rest.to_uppercase()),
        format!("/{path}"),
        String::new(),
    ] {
        let answer = probe(&client).protect("url", other).send().await;
        answer.problem(403, "unauthorized");
    }
    let queried = client.post(&format!("{account}?x=1")).protect("url", account).send().await;
    assert!(queried.status >= 400, "the query is part of the URL: {queried}");
}

async fn jws_07_a_missing_or_unreadable_nonce_is_bad_nonce(server: Arc<Deployment>) {
    let client = server.account().await;
    probe(&client).no_nonce().send().await.problem(400, "badNonce");
    let good = client.fresh_nonce().await;
    for nonce in ["", "?", "not base64url", &format!("{good}="), &format!("{good}\n"), "a+b/", "Ünïcode"] {
        probe(&client).nonce(nonce).send().await.problem(400, "badNonce");
    }
    let number = probe(&client).nonce(5).send().await;
    number.problem(400, "malformed");
    probe(&client).nonce(good).send().await.expect(200);
}

async fn jws_08_crit_is_malformed_and_unknown_members_are_ignored(server: Arc<Deployment>) {
    let client = server.account().await;
    for crit in [json!(["exp"]), json!(["nonce"]), json!([])] {
        probe(&client).protect("crit", crit).protect("exp", 1).send().await.problem(400, "malformed");
    }
    let strange = probe(&client).protect("x5c", json!(["MIIB"])).protect("typ", "JOSE").protect("zzz", 1);
    strange.send().await.expect(200);
}

async fn jws_09_base64url_is_strict(server: Arc<Deployment>) {
    let client = server.account().await;
    type Spoil = fn(&str) -> String;
    let spoils: [(&str, Spoil); 6] = [
        ("padding", |text| format!("{text}=")),
        ("white space at the end", |text| format!("{text}\n")),
        ("white space within", |text| format!("{} {}", &text[..4], &text[4..])),
        ("the other alphabet", |text| format!("{}+/{}", &text[..4], &text[6..])),
        ("garbage", |text| format!("{text}!")),
        ("a stray dot", |text| format!("{text}.")),
    ];
    for member in ["protected", "payload", "signature"] {
        for (what, spoil) in spoils {
            let change = move |mut jws: Value| {
                let text = jws[member].as_str().expect("text").to_owned();
                jws[member] = json!(spoil(&text));
                jws
            };
            let post = client.post(client.account()).json(json!({"contact": []})).outer(change);
            let answer = post.send().await;
            assert_eq!(answer.status, 400, "{member}, {what}: {answer}");
            answer.problem(400, "malformed");
        }
    }
    // 64 octets take 86 characters, of which the last has four bits that say nothing and must be zero.
    let stray_bits = |mut jws: Value| {
        let mut text = jws["signature"].as_str().expect("text").to_owned();
        let last = text.pop().expect("a character");
        text.push(char::from_u32(u32::from(last) + 1).expect("A, Q, g and w have successors"));
        jws["signature"] = json!(text);
        jws
    };
    probe(&client).outer(stray_bits).send().await.problem(400, "malformed");
    let trailing = |jws: Value| Value::String(format!("{jws} {{}}"));
    probe(&client).outer(trailing).send().await.problem(400, "malformed");
}

async fn jws_09_duplicate_members_are_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    for member in
        ["\"alg\":\"none\"", "\"nonce\":\"AAAA\"", "\"url\":\"https://evil.example\"", "\"kid\":\"x\""]
    {
        let doubled = probe(&client).protected_text(move |text| format!("{{{member},{}", &text[1..]));
        doubled.send().await.problem(400, "malformed");
        let doubled =
            probe(&client).protected_text(move |text| format!("{},{member}}}", &text[..text.len() - 1]));
        doubled.send().await.problem(400, "malformed");
    }
}

/// certbot sends JSON with indents, acme.sh with spaces.
async fn jws_09_white_space_in_json_and_any_order_of_members_is_fine(server: Arc<Deployment>) {
    let client = server.account().await;
    let spaced = |text: String| {
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let mut members: Vec<_> = value.as_object().expect("an object").iter().collect();
        members.reverse();
        let lines: Vec<_> = members.iter().map(|(name, value)| format!("  \"{name}\" :\t{value}")).collect();
        format!("{{\r\n{}\n}}\n", lines.join(",\n"))
    };
    let outer = |jws: Value| {
        let member = |name: &str| jws[name].as_str().unwrap_or("").to_owned();
        let (protected, payload) = (member("protected"), member("payload"));
        let text = format!(
            " {{\n \"signature\": \"{}\",\n \"payload\": \"{payload}\" ,\r\n\t\"protected\":\"{protected}\"\n}}\n",
            member("signature")
        );
        Value::String(text)
    };
    probe(&client).protected_text(spaced).outer(outer).send().await.expect(200);
}

async fn jws_10_a_wrong_signature_is_malformed_and_costs_no_nonce(server: Arc<Deployment>) {
    let client = server.account().await;
    let nonce = client.fresh_nonce().await;
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let spoils: [Spoil; 5] = [
        flip_last,
        |signature| signature[..63].to_vec(),
        |_| Vec::new(),
        |_| vec![0; 64],
        |mut signature| {
            signature.rotate_left(32);
            signature
        },
    ];
    for spoil in spoils {
        let answer = probe(&client).nonce(nonce.clone()).signature(spoil).send().await;
        answer.problem(400, "malformed");
        assert!(answer.detail().to_lowercase().contains("signature"), "{answer}");
    }
    let swapped = |mut jws: Value| {
        jws["payload"] = json!(base64url(br#"{"status":"deactivated"}"#));
        jws
    };
    probe(&client).nonce(nonce.clone()).outer(swapped).send().await.problem(400, "malformed");
    let other = Key::new();
    let answer = probe(&client).nonce(nonce.clone()).signed_by(&other).send().await;
    answer.problem(400, "malformed");
    probe(&client).nonce(nonce).send().await.expect(200);
}

async fn jws_11_an_unknown_kid_is_no_account_and_a_deactivated_one_is_unauthorized(server: Arc<Deployment>) {
    let client = server.account().await;
    let account = client.account().to_owned();
    let last = if account.ends_with('0') { "1" } else { "0" };
    let unknown = format!("{}{last}", &account[..account.len() - 1]);
    let url = client.resource("newOrder").await;
    let payload = json!({"identifiers": identifiers(&[&unique_name()])});
    let answer = client.post(&url).by_kid(&unknown).json(payload.clone()).send().await;
    answer.problem(400, "accountDoesNotExist");
    for foreign in ["https://evil.example/account/1", "", "1", &url] {
        let answer = client.post(&url).by_kid(foreign).json(payload.clone()).send().await;
        answer.problem(400, "accountDoesNotExist");
    }
    client.send(&account, json!({"status": "deactivated"})).await.expect(200);
    client.send(&url, payload).await.problem(403, "unauthorized");
}

async fn jws_12_a_der_signature_is_rejected(server: Arc<Deployment>) {
    let client = server.account().await;
    let der = |fixed: Vec<u8>| {
        let integer = |octets: &[u8]| {
            let mut octets = octets.to_vec();
            while octets.len() > 1 && octets[0] == 0 && octets[1] < 0x80 {
                octets.remove(0);
            }
            if octets[0] > 0x7f {
                octets.insert(0, 0);
            }
            [vec![2, u8::try_from(octets.len()).expect("short")], octets].concat()
        };
        let both = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
        [vec![0x30, u8::try_from(both.len()).expect("short")], both].concat()
    };
    probe(&client).signature(der).send().await.problem(400, "malformed");
    let wider = |fixed: Vec<u8>| [&[0], &fixed[..32], &[0], &fixed[32..]].concat();
    probe(&client).signature(wider).send().await.problem(400, "malformed");
}

async fn jws_13_a_read_has_the_empty_payload(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let orders = client.read(client.account()).await.string("orders");
    let mut refused: Vec<Response> = Vec::new();
    for url in [&issued.order, &issued.url, &orders] {
        for payload in ["{}", "null", "\"\"", " ", "{\"status\":\"deactivated\"}"] {
            refused.push(client.post(url).payload(payload).send().await);
        }
        client.read(url).await.expect(200);
    }
    for answer in refused {
        answer.problem(400, "malformed");
    }
}
