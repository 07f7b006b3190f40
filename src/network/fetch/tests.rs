//! Against servers that hang, drip, flood, lie and redirect.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::network::NetworkConfig;
use crate::network::fakes::{
    FakeDns, FakeServer, config, corpus_and_mutations, exchange_with, network, response,
};

const PATH: &str = "/.well-known/acme-challenge/tok";

fn at(address: SocketAddr) -> HttpUrl {
    HttpUrl::http(Host::Address(address.ip()), address.port(), PATH)
}

fn ports(address: SocketAddr) -> RedirectPorts {
    RedirectPorts { http: address.port(), https: 443 }
}

async fn fetch(server: &FakeServer) -> Result<Fetched, FetchError> {
    network(&[]).fetch(at(server.address), ports(server.address)).await
}

fn loopback() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

#[tokio::test]
async fn aut_10_a_get_names_host_and_agent_and_brings_the_body() {
    let server = FakeServer::saying(response("200 OK", "", "tok.thumb\n")).await;
    let dns = FakeDns::start().await;
    dns.host("a.test", &[loopback()]);
    let url = HttpUrl::http(Host::Name("a.test".into()), server.address.port(), PATH);
    let fetched = network(&[&dns]).fetch(url, ports(server.address)).await.unwrap();
    assert_eq!((fetched.status, fetched.body.as_slice(), fetched.cut), (200, &b"tok.thumb\n"[..], false));
    assert_eq!(fetched.address, server.address);
    let head = server.requests.lock().unwrap().concat().to_ascii_lowercase();
    assert!(head.starts_with(&format!("get {PATH} http/1.1\r\n")), "{head}");
    assert!(head.contains(&format!("host: a.test:{}\r\n", server.address.port())), "{head}");
    assert!(head.contains("user-agent: chancery\r\n"), "{head}");
    assert_eq!(HttpUrl::http(Host::Name("a.test".into()), 80, PATH).authority(), "a.test");
}

#[tokio::test]
async fn aut_10_a_body_of_gigabytes_is_read_to_4_kib() {
    let server = FakeServer::http("127.0.0.1", 0, |mut stream, _| async move {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 8589934592\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
    })
    .await;
    let start = Instant::now();
    let fetched = fetch(&server).await.unwrap();
    assert_eq!((fetched.body.len(), fetched.cut), (MAX_BODY, true));
    assert!(start.elapsed() < Duration::from_secs(10));
    let exact = FakeServer::saying(response("200 OK", "", &"y".repeat(MAX_BODY))).await;
    let fetched = fetch(&exact).await.unwrap();
    assert_eq!((fetched.body.len(), fetched.cut), (MAX_BODY, false));
}

#[tokio::test]
async fn aut_10_hanging_and_dripping_servers_are_left_in_time_and_told_by_address() {
    let hanging = FakeServer::http("127.0.0.1", 0, |mut stream, _| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    let dripping = FakeServer::http("127.0.0.1", 0, |mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Informational responses without end are no way around the bound either.
    let informing = FakeServer::http("127.0.0.1", 0, |mut stream, _| async move {
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let limit = Duration::from_millis(400);
    let network = Network::new(NetworkConfig { http_timeout: limit, ..config(&[]) }).unwrap();
    for server in [&hanging, &dripping, &informing] {
        let start = Instant::now();
        let error = network.fetch(at(server.address), ports(server.address)).await.unwrap_err();
        assert_eq!(error.failure, FetchFailure::TimedOut { phase: "waiting for the answer", limit });
        assert_eq!(error.address, Some(server.address));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn aut_10_what_is_not_http_is_told() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(5000));
    for (answer, word) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "not HTTP"),
        (String::new(), "clos"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned(), "broke off"),
        (huge, "too large"),
        (many, "too large"),
    ] {
        let server = FakeServer::saying(answer).await;
        let error = fetch(&server).await.unwrap_err();
        assert!(matches!(error.failure, FetchFailure::Http(_)), "{error}");
        let told = error.to_string();
        assert!(told.contains(word) || word == "broke off" && told.contains("closed before"), "{told}");
        assert!(told.contains(&format!("from {}", server.address)), "{told}");
    }
}

#[tokio::test]
async fn aut_10_redirects_are_followed_ten_times_and_resolved_anew() {
    let server = FakeServer::http("127.0.0.1", 0, |mut stream, head| async move {
        let count: usize = head.split("hop=").nth(1).map_or(0, |rest| rest[..2].parse().unwrap());
        let answer = match count {
            10 => response("200 OK", "", "end"),
            _ => {
                let status = ["301 A", "302 B", "303 C", "307 D", "308 E"][count % 5];
                response(status, &format!("Location: ?hop={:02}\r\n", count + 1), "")
            }
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let fetched = fetch(&server).await.unwrap();
    assert_eq!(fetched.body, b"end");
    assert!(fetched.url.ends_with("?hop=10"), "{}", fetched.url);
    assert_eq!(server.requests.lock().unwrap().len(), 11);

    let circle = FakeServer::saying(response("302 Found", &format!("Location: {PATH}\r\n"), "")).await;
    assert_eq!(fetch(&circle).await.unwrap_err().failure, FetchFailure::TooManyRedirects);
    assert_eq!(circle.requests.lock().unwrap().len(), 11);
}

#[tokio::test]
async fn aut_13_redirects_to_other_ports_schemes_and_refused_addresses_are_not_followed() {
    let dns = FakeDns::start().await;
    dns.host("inside.test", &[IpAddr::from([10, 9, 9, 9])])
        .host("meta.test", &[IpAddr::from([169, 254, 169, 254])]);
    let refuse_networks = vec!["10.0.0.0/8".parse().unwrap()];
    let network = Network::new(NetworkConfig { refuse_networks, ..config(&[&dns]) }).unwrap();
    for (location, word) in [
        ("http://169.254.169.254/latest/meta-data/", "metadata"),
        ("https://169.254.169.254/", "metadata"),
        ("http://[::ffff:169.254.169.254]/", "metadata"),
        ("http://meta.test/", "metadata"),
        ("http://inside.test/", "operator refuses"),
        ("http://0.0.0.0/", "unspecified"),
        ("http://127.0.0.1:22/", "port is 22"),
        ("https://127.0.0.1:8443/", "port is 8443"),
        ("ftp://127.0.0.1/", "scheme"),
        ("http://b.test/\u{1}", "not HTTP"),
    ] {
        let headers = format!("Location: {location}\r\n");
        let server = FakeServer::saying(response("302 Found", &headers, "")).await;
        let error = network.fetch(at(server.address), ports(server.address)).await.unwrap_err();
        assert!(error.to_string().contains(word), "{location}: {error}");
    }
    let nowhere = FakeServer::saying(response("302 Found", "", "")).await;
    let error = network.fetch(at(nowhere.address), ports(nowhere.address)).await.unwrap_err();
    assert!(error.to_string().contains("no Location"), "{error}");
}

#[tokio::test]
async fn aut_13_a_name_that_resolves_to_a_refused_address_is_not_connected_to() {
    let server = FakeServer::saying(response("200 OK", "", "x")).await;
    let port = server.address.port();
    let dns = FakeDns::start().await;
    dns.host("a.test", &[loopback()]);
    let strict = NetworkConfig { allow_networks: Vec::new(), ..config(&[&dns]) };
    let network = Network::new(strict.clone()).unwrap();
    for host in [Host::Name("a.test".into()), Host::Address(loopback()), Host::Name("a.localhost".into())] {
        let error = network.fetch(HttpUrl::http(host, port, PATH), ports(server.address)).await.unwrap_err();
        assert!(matches!(error.failure, FetchFailure::Connect(ConnectError::NotPermitted(_))), "{error}");
    }
    assert!(server.requests.lock().unwrap().is_empty());
    let local = Network::new(NetworkConfig { local_names: true, ..strict }).unwrap();
    let url = HttpUrl::http(Host::Name("a.localhost".into()), port, PATH);
    assert_eq!(local.fetch(url, ports(server.address)).await.unwrap().status, 200);
}

#[tokio::test]
async fn aut_10_ipv6_comes_first_and_ipv4_when_it_fails() {
    let four = FakeServer::saying(response("200 OK", "", "four")).await;
    let port = four.address.port();
    let dns = FakeDns::start().await;
    dns.host("a.test", &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);
    let network = network(&[&dns]);
    let url = || HttpUrl::http(Host::Name("a.test".into()), port, PATH);
    // Nothing listens on [::1] yet.
    assert_eq!(network.fetch(url(), ports(four.address)).await.unwrap().body, b"four");
    let six = FakeServer::http("::1", port, |mut stream, _| async move {
        let _ = stream.write_all(response("200 OK", "", "six").as_bytes()).await;
    })
    .await;
    let fetched = network.fetch(url(), ports(four.address)).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.address), (&b"six"[..], six.address));
    drop((four, six));
    tokio::task::yield_now().await;
    let dead =
        network.fetch(HttpUrl::http(Host::Name("a.test".into()), 9, PATH), ports(fetched.address)).await;
    let told = dead.unwrap_err().to_string();
    assert!(told.contains("[::1]:9 (connection refused), 127.0.0.1:9 (connection refused)"), "{told}");
}

#[tokio::test]
async fn aut_10_https_targets_are_followed_whatever_their_certificate() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["other.test".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.unwrap();
        stream.write_all(response("200 OK", "", "secured").as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let headers = format!("Location: https://{secure}/x\r\n");
    let server = FakeServer::saying(response("301 Moved", &headers, "")).await;
    let ports = RedirectPorts { http: server.address.port(), https: secure.port() };
    let fetched = network(&[]).fetch(at(server.address), ports).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.address), (&b"secured"[..], secure));

    let plain = FakeServer::saying("HTTP/1.1 200 OK\r\n\r\n".into()).await;
    let headers = format!("Location: https://{}/\r\n", plain.address);
    let server = FakeServer::saying(response("301 Moved", &headers, "")).await;
    let ports = RedirectPorts { http: server.address.port(), https: plain.address.port() };
    let limit = Duration::from_millis(500);
    let network = Network::new(NetworkConfig { http_timeout: limit, ..config(&[]) }).unwrap();
    let error = network.fetch(at(server.address), ports).await.unwrap_err();
    let timed_out = FetchFailure::TimedOut { phase: "during the TLS handshake", limit };
    assert!(matches!(error.failure, FetchFailure::Tls(_)) || error.failure == timed_out, "{error}");
    assert_eq!(error.address, Some(plain.address));
}

#[tokio::test]
async fn aut_10_no_bytes_from_the_peer_break_the_bounds() {
    let url = HttpUrl::http(Host::Name("a.test".into()), 80, PATH);
    let ports = RedirectPorts { http: 80, https: 443 };
    let mut answered = 0;
    for input in corpus_and_mutations("http01_body", 3000) {
        let Ok(response) = exchange_with(&input, &url).await else { continue };
        answered += 1;
        assert!(response.body.len() <= MAX_BODY);
        if let Some(Ok(target)) = response.location.map(|location| url.redirect(&location, ports)) {
            assert_eq!(target.port, if target.https { 443 } else { 80 });
            assert!(target.path.starts_with('/'));
        }
    }
    assert!(answered > 100, "{answered}");
}

#[tokio::test]
async fn a_peer_that_closes_before_it_has_the_request_is_not_waited_for() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.shutdown().await.unwrap();
    let url = HttpUrl::http(Host::Name("a.test".into()), 80, PATH);
    let outcome = tokio::time::timeout(Duration::from_secs(5), exchange(ours, &url)).await;
    assert!(matches!(outcome, Ok(Err(FetchFailure::Http(_)))), "{outcome:?}");
}
