//! What answers from memory: CRLs, issuers' certificates and directories are shared, told to be unchanged, and there
//! without the store.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::acme::time::FleetClock;
use http::Method;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificates::{crl_url, issuer_url};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::response::Response;
use crate::support::run::{SOON, free_port, runtime};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        what_has_not_changed_is_not_sent_again
        who_asks_for_the_head_gets_the_head
        files_that_no_issuer_has_are_missing;

    lists_once_an_hour =>
        crt_06_a_revocation_is_in_every_replicas_list_within_five_seconds
        crt_06_lists_are_dated_back_and_so_are_their_entries;
}

/// A list is renewed for want of a revocation alone.
fn lists_once_an_hour(kind: Kind) -> Arc<Deployment> {
    Deployment::with(kind, &Settings::new().set("CHANCERY_CRL_INTERVAL", "1h"))
}

/// The URLs of the three kinds of document.
async fn urls(client: &Client) -> [String; 3] {
    let chain = client.issue_any().await.chain;
    [client.server.directory.clone(), crl_url(&chain), issuer_url(&chain)]
}

fn max_age(answer: &Response) -> u64 {
    let age = answer.cache_control().strip_prefix("public, max-age=").and_then(|age| age.parse().ok());
    age.unwrap_or_else(|| panic!("no age: {answer}"))
}

async fn what_has_not_changed_is_not_sent_again(server: Arc<Deployment>) {
    let client = server.account().await;
    let [directory, crl, issuer] = urls(&client).await;
    for (url, ages) in [(&directory, 60..=60), (&issuer, 86_400..=86_400), (&crl, 0..=60)] {
        // The list is another every other second here: both answers have to be of the same.
        let start = Instant::now();
        loop {
            let first = client.plain(Method::GET, url).through(0).send().await.expect(200);
            assert!(ages.contains(&max_age(&first)), "{first}");
            let tag = first.header("etag").unwrap_or_else(|| panic!("no tag: {first}")).to_owned();
            let again = client.plain(Method::GET, url).through(0).header("if-none-match", &tag).send().await;
            if again.status == 304 {
                assert!(again.body.is_empty(), "{again}");
                assert_eq!(again.header("etag"), Some(tag.as_str()));
                assert!(ages.contains(&max_age(&again)), "{again}");
                break;
            }
            assert!(url == &crl && start.elapsed() < Duration::from_secs(10), "{again}");
        }
        let other = client.plain(Method::GET, url).header("if-none-match", "\"another\"").send().await;
        assert!(!other.expect(200).body.is_empty());
    }
    let list = client.get(&crl).await.expect(200);
    let made = list.header("last-modified").expect("a list says when it was made").to_owned();
    assert!(made.ends_with(" GMT"), "{made}");
    let since = |date: &'static str| client.plain(Method::GET, &crl).header("if-modified-since", date).send();
    since("Thu, 31 Dec 2099 23:59:59 GMT").await.expect(304);
    since("Thu, 01 Jan 2026 00:00:00 GMT").await.expect(200);
}

async fn who_asks_for_the_head_gets_the_head(server: Arc<Deployment>) {
    let client = server.account().await;
    for url in urls(&client).await {
        let ask = async |method| client.plain(method, &url).through(0).send().await.expect(200);
        // Others revoke, and the list may become another between the two: then both are asked for again.
        let start = Instant::now();
        let (whole, head) = loop {
            let (whole, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
            if whole.header("etag") == head.header("etag") {
                break (whole, head);
            }
            assert!(start.elapsed() < SOON, "{head}");
        };
        assert!(head.body.is_empty(), "{head}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.header(name), whole.header(name), "{name} of {url}");
        }
        assert!(head.header("etag").is_some() && whole.header("content-length").is_some(), "{head}");
    }
}

async fn files_that_no_issuer_has_are_missing(server: Arc<Deployment>) {
    let client = server.account().await;
    let chain = client.issue_any().await.chain;
    let issuer = crl_url(&chain).rsplit_once('/').expect("a path").1.trim_end_matches(".crl").to_owned();
    for file in [
        "%00.crl".to_owned(),
        format!("{issuer}%00.crl"),
        format!("{issuer}.crl%00"),
        format!("{issuer}.der"),
        issuer.clone(),
        issuer.to_uppercase() + "X.crl",
        "'; --.crl".replace(' ', "%20"),
        ".crl".to_owned(),
        format!("{}.crl", "a".repeat(5000)),
    ] {
        for replica in 0..server.size() {
            let url = format!("{}/crl/{file}", server.base_url);
            client.plain(Method::GET, &url).through(replica).send().await.expect(404).any_problem();
            let url = format!("{}/issuer/{}", server.base_url, file.replace(".crl", ".der"));
            let answer = client.plain(Method::GET, &url).through(replica).send().await;
            let is_there = url.ends_with(&format!("/{issuer}.der"));
            answer.expect(if is_there { 200 } else { 404 });
        }
    }
}

/// The list of one replica.
async fn list_of(client: &Client, replica: usize, url: &str) -> Vec<u8> {
    client.plain(Method::GET, url).through(replica).send().await.expect(200).body.to_vec()
}

fn has(list: &[u8], serial: &[u8]) -> bool {
    let (_, list) = CertificateRevocationList::from_der(list).expect("a CRL");
    list.iter_revoked_certificates().any(|one| one.raw_serial() == serial)
}

async fn crt_06_a_revocation_is_in_every_replicas_list_within_five_seconds(server: Arc<Deployment>) {
    let client = server.account().await;
    for _ in 0..3 {
        let issued = client.issue_any().await;
        let (url, serial) = (crl_url(&issued.chain), issued.chain.serial());
        client.revoke(issued.chain.leaf_der(), None).await.expect(200);
        let revoked = Instant::now();
        for replica in 0..server.size() {
            while !has(&list_of(&client, replica, &url).await, &serial) {
                assert!(revoked.elapsed() < Duration::from_secs(5), "replica {replica} does not have it");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        println!("in all lists after {:.1} s", revoked.elapsed().as_secs_f64());
    }
}

async fn crt_06_lists_are_dated_back_and_so_are_their_entries(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let (url, serial) = (crl_url(&issued.chain), issued.chain.serial());
    client.revoke(issued.chain.leaf_der(), None).await.expect(200);
    let start = Instant::now();
    let list = loop {
        let list = list_of(&client, 0, &url).await;
        if has(&list, &serial) {
            break list;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it is not listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (_, list) = CertificateRevocationList::from_der(&list).expect("a CRL");
    let dated = list.last_update().timestamp();
    let now = FleetClock::machine_now().seconds();
    assert!((50..120).contains(&(now - dated)), "a minute back, as leaves are: {}", now - dated);
    for entry in list.iter_revoked_certificates() {
        assert!(entry.revocation_date.timestamp() <= dated, "revoked after the list was made");
    }
}

/// What a plain listener answers to the bytes of a request.
fn said(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_plain_listener_has_what_certificates_name_and_nothing_else() {
    let fleet = Settings::new().replicas(1).set("CHANCERY_CA_LISTEN", format!("127.0.0.1:{}", free_port()));
    for (kind, settings) in [(Kind::Embedded, Settings::new()), (Kind::Fleet, fleet)] {
        let server = Deployment::with(kind, &settings);
        let chain = runtime().block_on(async { server.account().await.issue_any().await.chain });
        let (crl, issuer) = (crl_url(&chain), issuer_url(&chain));
        let environment = server.replica(0).environment();
        let listen = environment.iter().rev().find(|(name, _)| name == "CHANCERY_CA_LISTEN");
        let listen = listen.expect("it is set").1.as_str();
        let port = listen.rsplit_once(':').expect("a port").1;
        let host = if kind == Kind::Embedded { "localhost" } else { "acme.chancery.test" };
        let base = format!("http://{host}:{port}");
        for (url, media_type) in [(&crl, "application/pkix-crl"), (&issuer, "application/pkix-cert")] {
            let path = url.strip_prefix(&base).unwrap_or_else(|| panic!("{url} is not under {base}"));
            for method in ["GET", "HEAD"] {
                let answer = said(listen, &format!("{method} {path}"));
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(media_type), "{answer}");
                assert!(answer.contains("etag: ") && !answer.contains("replay-nonce"), "{answer}");
            }
            for method in ["POST", "PUT", "OPTIONS", "DELETE"] {
                let answer = said(listen, &format!("{method} {path}"));
                assert!(
                    answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"),
                    "{answer}"
                );
                assert!(!answer.contains("replay-nonce"), "{answer}");
            }
        }
        for path in
            ["/directory", "/new-nonce", "/", "/readyz", "/metrics", "/renewal-info/a.b", "/crl/%00.crl"]
        {
            let answer = said(listen, &format!("GET {path}"));
            assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("replay-nonce"), "{answer}");
        }
    }
}

#[test]
fn without_the_database_all_that_is_in_memory_is_answered() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().own_postgres());
    runtime().block_on(async {
        let client = server.account().await;
        let urls = urls(&client).await;
        server.postgres().kill();
        for replica in 0..server.size() {
            for url in &urls {
                client.plain(Method::GET, url).through(replica).send().await.expect(200);
            }
            let missing = format!("{}/crl/%00.crl", server.base_url);
            client.plain(Method::GET, &missing).through(replica).send().await.expect(404);
        }
    });
}
