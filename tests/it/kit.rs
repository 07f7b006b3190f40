//! The kit itself: what it starts runs, and its client gets certificates from a server by others.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use crate::support::certificate::csr;
use crate::support::client::Client;
use crate::support::haproxy::{Backend, Haproxy};
use crate::support::keys::{Key, KeyKind};
use crate::support::pebble;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::responder::{self, Reply};
use crate::support::run::{folder, free_port, runtime, unique_name};
use crate::support::transport::{Connections, Endpoint, Version};

#[test]
fn postgres_keeps_what_was_committed_when_it_is_killed() {
    let postgres = Postgres::start();
    let database = postgres.database();
    postgres.psql(
        &database,
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)",
    );
    postgres.restart();
    assert_eq!(postgres.psql(&database, "SELECT n FROM t"), "7");
}

#[test]
fn redis_forgets_everything_when_it_is_restarted() {
    let redis = Redis::start();
    let set = |redis: &Redis, command: &mut redis::Cmd| -> Option<String> {
        let mut connection =
            redis::Client::open(redis.url()).expect("a URL").get_connection().expect("a connection");
        command.query(&mut connection).expect("an answer")
    };
    set(&redis, redis::cmd("SET").arg("k").arg("v"));
    assert_eq!(set(&redis, redis::cmd("GET").arg("k")).as_deref(), Some("v"));
    redis.restart_empty();
    assert_eq!(set(&redis, redis::cmd("GET").arg("k")), None);
}

/// Pebble 2.4 knows RS256 and ES256 only.
#[test]
fn the_client_gets_certificates_from_pebble_by_each_challenge() {
    let server = pebble::start();
    runtime().block_on(async {
        let clients = [
            server.account_with(Key::of(KeyKind::Rs256)).await,
            server.account().await,
            server.client().over_http2(),
        ];
        clients[2].register().await;
        for (client, kind) in clients.iter().zip(["http-01", "dns-01", "tls-alpn-01"]) {
            certificate(client, kind).await;
        }
    });
}

async fn certificate(client: &Client, kind: &str) {
    let name = unique_name();
    let order = client.order(&[&name]).await;
    client.authorize(&order, kind).await;
    let issued = client.collect(&order, &[&name], Key::new()).await;
    issued.chain.assert_ordered();
    assert_eq!(issued.chain.names(), std::slice::from_ref(&name));
    let order = client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await;
    assert_eq!(order.json()["type"], "urn:ietf:params:acme:error:orderNotReady", "{order}");
    client.revoke(issued.chain.leaf_der(), Some(1)).await.expect(200);
}

#[test]
fn the_client_can_send_wrong_things() {
    let server = pebble::start();
    runtime().block_on(async {
        let client = server.account().await;
        let url = client.resource("newOrder").await;
        let both = client.post(&url).protect("jwk", client.key.jwk()).json(json!({})).send().await;
        assert_eq!(both.json()["type"], "urn:ietf:params:acme:error:malformed", "{both}");
        let nonce = client.post(&url).nonce("AAAA").json(json!({})).send().await;
        assert_eq!(nonce.json()["type"], "urn:ietf:params:acme:error:badNonce", "{nonce}");
        let signature = client
            .post(&url)
            .signature(|mut s| {
                s[9] ^= 1;
                s
            })
            .json(json!({}))
            .send()
            .await;
        assert_eq!(signature.json()["type"], "urn:ietf:params:acme:error:malformed", "{signature}");
        let media = client.post(&url).header("content-type", "application/json").send().await;
        assert_eq!(media.status, 415, "{media}");
        let stranger = client.post(&url).signed_by(&Key::new()).send().await;
        assert!(stranger.status >= 400, "{stranger}");
    });
}

#[test]
fn haproxy_ends_tls_and_leaves_out_what_is_not_ready() {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|p| p.self_signed(&key));
    let certificate = certificate.expect("a certificate").pem();
    let file = folder("certificate").join("both.pem");
    std::fs::write(&file, format!("{certificate}{}", key.serialize_pem())).expect("written");
    responder::http().set("readyz", Reply::Body("ready".into()));
    responder::http().set("hello", Reply::Body("from behind".into()));
    let alive = SocketAddr::from(([127, 0, 0, 1], responder::http().port()));
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let backends = [Backend { listen: dead, ops: dead }, Backend { listen: alive, ops: alive }];
    let balancer = Haproxy::start(&file, &backends);
    let endpoint = Endpoint::tls(balancer.address(), "localhost", &certificate);
    runtime().block_on(async {
        for version in [Version::Http1, Version::Http2] {
            for _ in 0..4 {
                let request = http::Request::get("https://localhost/hello").body(Full::<Bytes>::default());
                let request = request.expect("a request");
                let answer = Connections::default().exchange(&endpoint, version, request).await;
                assert_eq!(answer.expect("an answer").body(), "from behind");
            }
        }
    });
}
