//! TLS, HTTP/1.1 and HTTP/2, and URLs that clients keep.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::on;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers};
use crate::support::run::unique_name;
use crate::support::transport::Version;

/// acmez keeps a directory for 12 hours, node-acme-client for a day, x/crypto as long as it runs; lego refuses URLs that are
/// not https.
#[test]
fn o24_the_urls_of_the_directory_stay_as_they_are() {
    on(Deployment::with(Kind::Fleet, &Settings::new()), async |server| {
        let client = server.account().await;
        let first = client.get(&server.directory).await.expect(200).json();
        let urls: Vec<(&String, &Value)> =
            first.as_object().expect("an object").iter().filter(|(name, _)| *name != "meta").collect();
        assert!(urls.len() >= 6, "{first}");
        for (name, url) in urls {
            let uri: http::Uri = url.as_str().expect("a URL").parse().expect("a URL");
            assert_eq!(uri.scheme_str(), Some("https"), "{name}: {url}");
            assert!(
                uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none(),
                "{name}: {url}"
            );
        }
        let same = async |client: &Client| {
            for replica in 0..server.size() {
                let ask = client.plain(http::Method::GET, &server.directory).header("host", "somewhere.else");
                assert_eq!(ask.through(replica).send().await.expect(200).json(), first);
            }
        };
        same(&client).await;
        for replica in 0..server.size() {
            server.restart(replica);
        }
        let again = server.client();
        same(&again).await;
        // Who kept the directory from before goes on with it.
        let payload = serde_json::json!({"identifiers": identifiers(&[&unique_name()])});
        let kept = first["newOrder"].as_str().expect("a URL");
        Order::of(&client.send(kept, payload).await.expect(201));
    });
}

/// A fleet that ends TLS by itself, each replica with a certificate of its own.
fn secured() -> std::sync::Arc<Deployment> {
    Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_TLS_MODE", "auto"))
}

/// Caddy, acme4j, instant-acme and all that use curl want HTTP/2; cert-manager, lego, certbot and acme-tiny speak
/// HTTP/1.1 only, and acme-tiny does not even say so.
#[test]
fn o26_both_versions_of_http_are_spoken_and_alpn_chooses() {
    on(secured(), async |server| {
        for replica in 0..server.size() {
            let endpoint = server.replica(replica).endpoint();
            for (offered, chosen) in [
                (&["h2", "http/1.1"] as &[&str], Some("h2")),
                (&["http/1.1", "h2"], Some("h2")),
                (&["http/1.1"], Some("http/1.1")),
                (&["h2"], Some("h2")),
                (&[], None),
            ] {
                let (mut stream, agreed) = endpoint.handshake(offered).await.expect("TLS");
                assert_eq!(agreed.as_deref(), chosen, "{offered:?}");
                if chosen != Some("h2") {
                    let ask = b"GET /directory HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                    stream.write_all(ask).await.expect("sent");
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).await.expect("an answer");
                    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
                }
            }
        }
        for client in [server.client(), server.client().over_http2()] {
            assert!(matches!(client.version, Version::Http1 | Version::Http2));
            client.register().await.expect(201);
            let name = unique_name();
            let order = client.order(&[&name]).await;
            client.authorize(&order, "http-01").await;
            let issued = client.collect(&order, &[&name], crate::support::keys::Key::new()).await;
            assert_eq!(issued.chain.names(), [name]);
        }
    });
}
