//! JWS-03 and JWS-14: the keys that a request may be signed with.

use std::sync::Arc;

use num_bigint::BigUint;
use serde_json::{Value, json};

use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::keys::{Key, KeyKind, base64url};
use crate::support::response::Response;
use crate::support::weak_keys::{NeutralKey, WeakRsa};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        jws_03_weak_rsa_keys_are_bad_public_keys
        jws_03_points_off_their_curve_are_refused
        jws_03_the_key_type_agrees_with_the_algorithm
        jws_03_an_ed25519_key_of_small_order_is_a_bad_public_key
        jws_03_keys_of_unknown_type_or_shape_are_refused
        jws_14_private_members_are_malformed_and_never_logged;
}

async fn with_jwk(client: &Client, jwk: Value) -> Response {
    let url = client.resource("newAccount").await;
    client.post(&url).protect("jwk", jwk).json(json!({"termsOfServiceAgreed": true})).send().await
}

async fn jws_03_weak_rsa_keys_are_bad_public_keys(server: Arc<Deployment>) {
    for key in [WeakRsa::short(), WeakRsa::small_exponent()] {
        let client = server.client_with(Key::weak(key));
        let answer = client.new_account(json!({"termsOfServiceAgreed": true})).await;
        answer.problem(400, "badPublicKey");
    }
    // These are judged before their signature, which nobody could make.
    let client = server.client_with(Key::of(KeyKind::Rs256));
    let jwk = client.key.jwk();
    let huge = BigUint::from(1u8) << 8200u32 | BigUint::from(1u8);
    for (member, value) in
        [("e", vec![1, 0, 0]), ("e", vec![1]), ("e", vec![0]), ("n", huge.to_bytes_be()), ("n", vec![0])]
    {
        let mut jwk = jwk.clone();
        jwk[member] = json!(base64url(&value));
        with_jwk(&client, jwk).await.problem_of(&["badPublicKey", "malformed"]);
    }
    client.register().await.expect(201);
}

async fn jws_03_points_off_their_curve_are_refused(server: Arc<Deployment>) {
    for kind in [KeyKind::Es256, KeyKind::Es384, KeyKind::Es512] {
        let client = server.client_with(Key::of(kind));
        let mut jwk = client.key.jwk();
        let x = jwk["x"].clone();
        jwk["y"] = x;
        let answer = with_jwk(&client, jwk).await;
        answer.problem_of(&["badPublicKey", "malformed"]);
        assert_eq!(answer.status, 400, "{answer}");
    }
    let client = server.client();
    for (member, value) in [("x", ""), ("x", "AAAA"), ("y", "AAAA")] {
        let mut jwk = client.key.jwk();
        jwk[member] = json!(value);
        with_jwk(&client, jwk).await.problem_of(&["badPublicKey", "malformed"]);
    }
}

async fn jws_03_the_key_type_agrees_with_the_algorithm(server: Arc<Deployment>) {
    let keys = [KeyKind::Es256, KeyKind::Es384, KeyKind::EdDsa, KeyKind::Rs256];
    for kind in keys {
        let client = server.client_with(Key::of(kind));
        let url = client.resource("newAccount").await;
        for other in keys.into_iter().filter(|other| *other != kind) {
            let post = client.post(&url).protect("alg", other.algorithm());
            let answer = post.json(json!({"termsOfServiceAgreed": true})).send().await;
            assert_eq!(answer.status, 400, "{answer}");
            answer.problem_of(&["badPublicKey", "malformed"]);
        }
    }
    let client = server.account().await;
    for other in ["ES384", "RS256", "EdDSA"] {
        client.post(client.account()).protect("alg", other).send().await.problem(400, "malformed");
    }
    let mut jwk = client.key.jwk();
    jwk["crv"] = json!("P-384");
    with_jwk(&server.client(), jwk).await.problem_of(&["badPublicKey", "malformed"]);
}

/// An account that everyone could use: by new-account, and by a change of key (KEY-01).
async fn jws_03_an_ed25519_key_of_small_order_is_a_bad_public_key(server: Arc<Deployment>) {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&NeutralKey::OCTETS)});
    let newcomer = server.client();
    let url = newcomer.resource("newAccount").await;
    let forged = newcomer.post(&url).protect("alg", "EdDSA").protect("jwk", jwk.clone());
    let forged = forged.signature(|_| NeutralKey::signature());
    forged.json(json!({"termsOfServiceAgreed": true})).send().await.problem(400, "badPublicKey");

    let client = server.account().await;
    let url = client.resource("keyChange").await;
    let inner = client.post(&url).by_jwk().protect("alg", "EdDSA").protect("jwk", jwk);
    let inner = inner.signature(|_| NeutralKey::signature());
    let payload = json!({"account": client.account(), "oldKey": client.key.jwk()});
    let answer = client.send(&url, inner.json(payload).sealed()).await;
    answer.problem(400, "badPublicKey");
    client.read(client.account()).await.expect(200);
}

async fn jws_03_keys_of_unknown_type_or_shape_are_refused(server: Arc<Deployment>) {
    let client = server.client();
    let good = client.key.jwk();
    let changed = |member: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[member] = value;
        jwk
    };
    for jwk in [
        json!({}),
        json!("text"),
        json!({"kty": "oct", "k": "AAAA"}),
        changed("kty", json!("ec")),
        changed("crv", json!("secp256k1")),
        changed("x", json!(7)),
        json!({"kty": "OKP", "crv": "X25519", "x": base64url(&[9; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&[9; 31])}),
        json!({"kty": "RSA", "n": "AQAB"}),
    ] {
        let answer = with_jwk(&client, jwk).await;
        assert_eq!(answer.status, 400, "{answer}");
        answer.problem_of(&["badPublicKey", "malformed"]);
    }
    with_jwk(&client, changed("use", json!("sig"))).await.expect(201);
}

async fn jws_14_private_members_are_malformed_and_never_logged(server: Arc<Deployment>) {
    let secret = base64url(format!("never to be seen {}", crate::support::run::unique_name()).as_bytes());
    for kind in [KeyKind::Es256, KeyKind::EdDsa, KeyKind::Rs256] {
        let client = server.client_with(Key::of(kind));
        let members: &[&str] =
            if kind == KeyKind::Rs256 { &["d", "p", "q", "dp", "dq", "qi"] } else { &["d"] };
        for member in members {
            let mut jwk = client.key.jwk();
            jwk[*member] = json!(secret);
            let answer = with_jwk(&client, jwk).await;
            answer.problem(400, "malformed");
            assert!(!answer.text().contains(&secret), "{answer}");
        }
        let unknown = client.new_account(json!({"onlyReturnExisting": true})).await;
        unknown.problem(400, "accountDoesNotExist");
    }
    assert!(!server.log().contains(&secret), "a private key was logged");
}
