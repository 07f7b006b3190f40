//! Accounts as clients find, lose and bind them.

use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use super::{on, on_the_fleet};
use crate::eab;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers};
use crate::support::keys::{Key, KeyKind, base64url};
use crate::support::run::unique_name;

/// cert-manager (x/crypto) begins by asking for the account of its key. If that fails it signs new orders by `jwk`, and the
/// refusal of those ends them for good. So asking costs nothing of any limit.
#[test]
fn o18_the_account_of_a_key_is_found_however_many_were_made() {
    let settings = Settings::new().set("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "2");
    on(Deployment::with(Kind::Fleet, &settings), async |server| {
        let clients = [server.account().await, server.account().await];
        let stranger = server.client();
        let terms = json!({"termsOfServiceAgreed": true});
        stranger.new_account(terms.clone()).await.problem(429, "rateLimited");
        for _ in 0..10 {
            for client in &clients {
                for payload in [json!({"onlyReturnExisting": true}), terms.clone()] {
                    let found = client.new_account(payload).await.expect(200);
                    assert_eq!(found.location(), client.account(), "{found}");
                    assert_eq!(found.state(), "valid", "{found}");
                }
            }
            let unknown = stranger.new_account(json!({"onlyReturnExisting": true})).await;
            unknown.problem(400, "accountDoesNotExist");
        }
    });
}

/// certmagic drops the account that it has on disk, and registers anew, on this type and on no other.
#[test]
fn o19_an_account_that_is_not_ours_is_told_to_exist_nowhere() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let known = client.account();
        let (folder, id) = known.rsplit_once('/').expect("a URL");
        let turned: String = id.chars().rev().collect();
        let url = client.resource("newOrder").await;
        let payload = json!({"identifiers": identifiers(&[&unique_name()]), "profile": "trusted"});
        for kid in [
            format!("{folder}/{turned}"),
            // Those of other servers, or of the one that was here before.
            format!("{folder}/12345"),
            format!("{}/acme/acct/1", server.base_url),
            "https://acme.example/acme/acct/1234567890".to_owned(),
        ] {
            for replica in 0..server.size() {
                let ask = client.post(&url).by_kid(&kid).json(payload.clone()).through(replica);
                ask.send().await.problem(400, "accountDoesNotExist");
            }
        }
        let anew = server.account().await;
        anew.new_order(payload).await.expect(201);
    });
}

/// cert-manager has RSA keys only, as acme-tiny; acme.sh and uacme have EC, certbot and dehydrated either.
#[test]
fn o28_rsa_and_ec_keys_open_accounts_and_hs256_binds_them() {
    on(eab::bound(Kind::Fleet), async |server| {
        for kind in [KeyKind::Rs256, KeyKind::Es256, KeyKind::Es384, KeyKind::Es512] {
            let client = server.client_with(Key::of(kind));
            let printed = eab::create(&server, &[]);
            let url = client.resource("newAccount").await;
            let binding = bind(&printed.kid, &printed.secret, &url, &client.key);
            let payload = json!({"termsOfServiceAgreed": true, "externalAccountBinding": binding});
            let made = client.new_account(payload).await.expect(201);
            client.use_account(&made.location());
            let name = unique_name();
            let placed =
                client.new_order(json!({"identifiers": identifiers(&[&name]), "profile": "bound"})).await;
            let order = Order::of(&placed.expect(201));
            let issued = client.collect(&order, &[&name], Key::new()).await;
            assert_eq!(issued.chain.names(), [name], "{kind:?}");
        }
    });
}

/// The binding that cert-manager makes of `keyID` and `keySecretRef` (RFC 8555 §7.3.4).
fn bind(kid: &str, secret: &str, url: &str, key: &Key) -> Value {
    let secret = Base64UrlUnpadded::decode_vec(secret).expect("base64url without padding");
    let protected = base64url(json!({"alg": "HS256", "kid": kid, "url": url}).to_string().as_bytes());
    let payload = base64url(key.jwk().to_string().as_bytes());
    let mac =
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), format!("{protected}.{payload}").as_bytes());
    json!({"protected": protected, "payload": payload, "signature": base64url(mac.as_ref())})
}

/// node-acme-client's own suite asks for it.
#[test]
fn o29_an_account_says_where_its_orders_are() {
    on_the_fleet(async |server| {
        let client: Client = server.client();
        let made = client.register().await.expect(201);
        let url = made.string("orders");
        assert!(url.starts_with(&format!("{}/", server.base_url)), "{made}");
        let order = client.ready_order(&[&unique_name()]).await;
        for _ in 0..server.size() {
            let again = client.new_account(json!({"termsOfServiceAgreed": true})).await.expect(200);
            let update = client.send(client.account(), json!({"contact": []})).await.expect(200);
            for shown in [again, update, client.read(client.account()).await.expect(200)] {
                assert_eq!(shown.string("orders"), url, "{shown}");
            }
            let list = client.read(&url).await.expect(200).json();
            assert_eq!(list["orders"], json!([order.url]), "{list}");
        }
    });
}
