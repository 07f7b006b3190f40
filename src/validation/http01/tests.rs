//! Against web servers on loopback.

use std::net::IpAddr;

use tokio::io::AsyncReadExt;

use super::*;
use crate::acme::challenge::ChallengeType;
use crate::acme::identifier::Identifier;
use crate::network::NetworkConfig;
use crate::network::fakes::{
    FakeDns, FakeServer, config, corpus_and_mutations, exchange_with, network, response,
};
use crate::network::fetch::Response;
use crate::validation::{ValidationConfig, validate as validate_any};

async fn verdict(network: &Network, identifier: Identifier, port: u16) -> Verdict {
    let attempt = Attempt {
        kind: ChallengeType::Http01,
        identifier: &identifier,
        token: "tok",
        key_thumbprint: "thumb",
    };
    validate_any(&attempt, network, &ValidationConfig { http01_port: port, tls_alpn01_port: 443 }).await
}

fn loopback() -> Identifier {
    Identifier::Ip(IpAddr::from([127, 0, 0, 1]))
}

async fn of(answer: String) -> Verdict {
    let server = FakeServer::saying(answer).await;
    verdict(&network(&[]), loopback(), server.address.port()).await
}

#[tokio::test]
async fn aut_10_the_key_authorization_and_white_space_after_it_prove() {
    for body in ["tok.thumb", "tok.thumb\n", "tok.thumb \r\n\t\n"] {
        assert_eq!(of(response("200 OK", "", body)).await, Verdict::Valid, "{body:?}");
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntok.\r\n5\r\nthumb\r\n0\r\n\r\n";
    assert_eq!(of(chunked.to_owned()).await, Verdict::Valid);
    assert_eq!(of("HTTP/1.0 200 OK\r\n\r\ntok.thumb".to_owned()).await, Verdict::Valid);
}

#[tokio::test]
async fn aut_10_a_wrong_body_is_final_and_shown_cut_and_escaped() {
    let flood = format!("tok.thumb{}", "\n".repeat(10_000));
    for body in ["", " tok.thumb", "tok.thumb2", "TOK.thumb", "tok", "tok.thumb\u{b}", "<b>\u{0}", &flood] {
        let Verdict::Invalid(problem) = of(response("200 OK", "", body)).await else { panic!("{body:?}") };
        assert_eq!(problem.kind, ProblemType::IncorrectResponse, "{body:?}");
        assert!(problem.detail.contains("/.well-known/acme-challenge/tok (at 127.0.0.1:"), "{problem}");
        assert!(problem.detail.len() < 1000 && !problem.detail.contains(['\0', '\n']), "{problem}");
    }
}

#[tokio::test]
async fn aut_10_a_status_of_4xx_is_final_and_one_of_5xx_is_not() {
    for status in ["404 Not Found", "403 Forbidden", "204 No Content", "304 Not Modified", "418 Teapot"] {
        let Verdict::Invalid(problem) = of(response(status, "", "")).await else { panic!("{status}") };
        assert_eq!(problem.kind, ProblemType::Unauthorized);
        assert!(problem.detail.contains(&format!("status {}", &status[..3])), "{problem}");
    }
    for status in ["500 Oops", "502 Bad Gateway", "503 Busy"] {
        let Verdict::Retry(problem) = of(response(status, "", "tok.thumb")).await else { panic!("{status}") };
        assert_eq!(problem.kind, ProblemType::Unauthorized);
    }
}

#[tokio::test]
async fn aut_09_each_failure_has_its_type_and_address() {
    let dns = FakeDns::start().await;
    dns.host("dead.test", &[IpAddr::from([127, 0, 0, 1])]);
    let strict = Network::new(NetworkConfig { allow_networks: Vec::new(), ..config(&[&dns]) }).unwrap();
    let open = network(&[&dns]);
    let name = |text: &str| Identifier::Dns(text.into());

    let Verdict::Retry(problem) = verdict(&open, name("dead.test"), 9).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Connection);
    assert!(problem.detail.contains("127.0.0.1:9"), "{problem}");

    let Verdict::Retry(problem) = verdict(&open, name("missing.test"), 9).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Dns);

    let Verdict::Invalid(problem) = verdict(&strict, name("dead.test"), 9).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Connection);
    assert!(problem.detail.contains("127.0.0.1 is a loopback address"), "{problem}");

    let Verdict::Invalid(problem) =
        of(response("302 Found", "Location: http://169.254.169.254/\r\n", "")).await
    else {
        panic!()
    };
    assert_eq!(problem.kind, ProblemType::Connection);
    let Verdict::Invalid(problem) =
        of(response("302 Found", "Location: /.well-known/acme-challenge/tok\r\n", "")).await
    else {
        panic!()
    };
    assert!(problem.detail.contains("redirects"), "{problem}");

    let Verdict::Retry(problem) = of("nonsense\r\n\r\n".to_owned()).await else { panic!() };
    assert_eq!(problem.kind, ProblemType::Connection);

    let silent = FakeServer::http("127.0.0.1", 0, |mut stream, _| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    let http_timeout = std::time::Duration::from_millis(200);
    let hasty = Network::new(NetworkConfig { http_timeout, ..config(&[]) }).unwrap();
    let Verdict::Retry(problem) = verdict(&hasty, loopback(), silent.address.port()).await else { panic!() };
    assert!(problem.detail.contains("timed out waiting for the answer"), "{problem}");
}

#[tokio::test]
async fn aut_10_only_the_very_text_proves() {
    let url = HttpUrl::http(Host::Name("a.test".into()), 80, "/");
    let mut valid = 0;
    for input in corpus_and_mutations("http01_body", 2000) {
        let Ok(Response { status, body, cut, .. }) = exchange_with(&input, &url).await else { continue };
        let fetched =
            Fetched { status, body, cut, address: ([127, 0, 0, 1], 80).into(), url: url.to_string() };
        if judge("tok.thumb", &fetched) == Verdict::Valid {
            valid += 1;
            assert_eq!((fetched.status, fetched.body.trim_ascii_end()), (200, &b"tok.thumb"[..]));
        }
    }
    assert!(valid > 10, "{valid}");
}
