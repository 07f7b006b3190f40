//! AUT-09, AUT-11 and AUT-12: what is told when a challenge fails; dns-01 and tls-alpn-01.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::certificate::parameters;
use crate::support::chancery::Deployment;
use crate::support::flows::text;
use crate::support::keys::{Key, base64url, sha256};
use crate::support::responder::{self, Handshake, Rcode, Reply};
use crate::support::run::{unique_address, unique_name};
use crate::support::trial::Trial;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        aut_09_a_failure_ends_authorization_and_order_and_says_why
        aut_09_what_came_back_is_told_cut_and_escaped
        aut_11_one_of_many_txt_values_is_enough
        aut_11_aliases_are_followed
        aut_11_a_wildcard_is_proven_under_its_base
        aut_11_wrong_values_are_not_enough
        aut_12_names_and_addresses_are_proven_by_a_handshake
        aut_12_any_deviation_from_rfc_8737_fails;
}

/// An order for one name, with its authorization and one challenge of it.
async fn aut_09_a_failure_ends_authorization_and_order_and_says_why(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let trial = |kind| Trial::new(&client, &name, kind);
    // Nothing listens at this address.
    let silent = unique_name();
    responder::dns().add_address(&silent, unique_address().into());
    let connection = async {
        let error = Trial::new(&client, &silent, "http-01").await.fails(&["connection"]).await;
        assert!(text(&error, "detail").contains("127."), "the address that was tried: {error}");
    };
    let (missing, broken) = (unique_name(), unique_name());
    responder::dns().fail(&missing, Rcode::NoSuchName);
    responder::dns().fail(&broken, Rcode::ServerFailure);
    let lookups = async {
        Trial::new(&client, &missing, "http-01").await.fails(&["dns"]).await;
        Trial::new(&client, &broken, "http-01").await.fails(&["dns"]).await;
    };
    // The tls-alpn-01 server hangs up on names that it does not know.
    let tls = async {
        Trial::new(&client, &unique_name(), "tls-alpn-01").await.fails(&["tls", "connection"]).await;
    };
    let dns = async {
        trial("dns-01").await.fails(&["dns", "unauthorized", "incorrectResponse"]).await;
    };
    let wrong = async {
        let trial = Trial::http(&client, |_| Reply::Body("wrong".into())).await;
        let error = trial.fails(&["incorrectResponse", "unauthorized"]).await;
        for _ in 0..server.size() {
            let order = client.read(&trial.order.url).await.expect(200).json();
            assert_eq!(order["status"], "invalid", "{order}");
            assert_eq!(order["error"]["type"], error["type"], "{order}");
            let challenge = client.read(&text(&trial.challenge, "url")).await.expect(200).json();
            assert_eq!(challenge["error"], error, "{challenge}");
            // A repeat changes nothing.
            let again = client.send(&text(&trial.challenge, "url"), json!({})).await;
            assert!(again.status < 500, "{again}");
        }
        assert_eq!(client.read(&trial.url).await.state(), "invalid");
    };
    let absent = async {
        let trial = Trial::new(&client, &unique_name(), "http-01").await;
        let error = trial.fails(&["unauthorized", "incorrectResponse"]).await;
        let detail = text(&error, "detail");
        assert!(detail.contains("404") && detail.contains("127.0.0.1"), "{error}");
    };
    tokio::join!(connection, lookups, tls, dns, wrong, absent);
}

async fn aut_09_what_came_back_is_told_cut_and_escaped(server: Arc<Deployment>) {
    let client = server.account().await;
    let nasty = format!("<script>\u{1b}[31m\u{0}\r\n\"quoted\" {}", "x".repeat(3000));
    let trial = Trial::http(&client, |_| Reply::Body(nasty)).await;
    let error = trial.fails(&["incorrectResponse", "unauthorized"]).await;
    assert!(!text(&error, "detail").contains("<script>"), "{error}");
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\xff\xfe\x00\x01\x7f\x80".to_vec();
    Trial::http(&client, |_| Reply::Raw(head)).await.fails(&["incorrectResponse", "unauthorized"]).await;
    let garbage = b"SSH-2.0-OpenSSH\x1b[2J\r\n".to_vec();
    let kinds = ["connection", "unauthorized", "incorrectResponse"];
    Trial::http(&client, |_| Reply::Raw(garbage)).await.fails(&kinds).await;
}

/// Redirects `hops` times over the challenge server's own port, then answers.
async fn aut_11_one_of_many_txt_values_is_enough(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let record = format!("_acme-challenge.{name}");
    // So many that the answer comes over TCP.
    for other in 0..30 {
        responder::dns().add_txt(&record, &base64url(&sha256(&[other])));
    }
    let trial = Trial::new(&client, &name, "dns-01").await;
    responder::dns().set_txt(&name, &trial.answer());
    responder::dns().add_txt(&record, &"long ".repeat(100));
    trial.succeeds().await;
}

async fn aut_11_aliases_are_followed(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, middle, end) = (unique_name(), unique_name(), unique_name());
    responder::dns().alias(&format!("_acme-challenge.{name}"), &middle);
    responder::dns().alias(&middle, &end);
    let trial = Trial::new(&client, &name, "dns-01").await;
    responder::dns().add_txt(&end, &base64url(&sha256(trial.answer().as_bytes())));
    trial.succeeds().await;
}

async fn aut_11_a_wildcard_is_proven_under_its_base(server: Arc<Deployment>) {
    let client = server.account().await;
    let base = unique_name();
    let wildcard = format!("*.{base}");
    let trial = Trial::new(&client, &wildcard, "dns-01").await;
    responder::dns().set_txt(&base, &trial.answer());
    trial.succeeds().await;
    let issued = client.collect(&trial.order, &[&wildcard], Key::new()).await;
    assert_eq!(issued.chain.names(), [wildcard]);
}

async fn aut_11_wrong_values_are_not_enough(server: Arc<Deployment>) {
    let client = server.account().await;
    type Spoil = fn(&str) -> String;
    let spoils: [Spoil; 5] = [
        |answer| answer.to_owned(),
        |answer| format!("{}=", base64url(&sha256(answer.as_bytes()))),
        |answer| base64url(&sha256(answer.as_bytes())).to_lowercase(),
        |answer| format!("{} ", base64url(&sha256(answer.as_bytes()))),
        |answer| base64url(&sha256(answer.split('.').next().unwrap_or("").as_bytes())),
    ];
    let trials = spoils.into_iter().map(|spoil| {
        let client = &client;
        async move {
            let name = unique_name();
            let trial = Trial::new(client, &name, "dns-01").await;
            responder::dns().add_txt(&format!("_acme-challenge.{name}"), &spoil(&trial.answer()));
            let error = trial.fails(&["incorrectResponse", "unauthorized"]).await;
            assert!(text(&error, "detail").len() > 10, "{error}");
        }
    });
    join_all(trials).await;
}

async fn aut_12_names_and_addresses_are_proven_by_a_handshake(server: Arc<Deployment>) {
    let client = server.account().await;
    let address = unique_address();
    let listener = responder::tls().listen_on(address.into());
    for name in [unique_name(), address.to_string()] {
        let trial = Trial::new(&client, &name, "tls-alpn-01").await;
        responder::tls().set(&name, &trial.answer());
        trial.succeeds().await;
    }
    listener.abort();
}

async fn aut_12_any_deviation_from_rfc_8737_fails(server: Arc<Deployment>) {
    let client = server.account().await;
    type Spoil = fn(Handshake) -> Handshake;
    let spoils: [(&str, Spoil); 9] = [
        ("no protocol", |right| right.protocols(&[])),
        ("another protocol", |right| right.protocols(&["http/1.1"])),
        ("no extension", |right| right.certificate(|c| c.custom_extensions.clear())),
        ("not critical", |right| right.certificate(|c| c.custom_extensions[0].set_criticality(false))),
        ("another digest", |right| {
            right.certificate(|c| {
                let other = rcgen::CustomExtension::new_acme_identifier(&sha256(b"other"));
                c.custom_extensions = vec![other];
            })
        }),
        ("a short digest", |right| {
            right.certificate(|c| {
                let mut short =
                    rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 31], vec![4, 0]);
                short.set_criticality(true);
                c.custom_extensions = vec![short];
            })
        }),
        ("another name", |right| {
            right.certificate(|c| c.subject_alt_names = parameters(&["other.test"]).subject_alt_names)
        }),
        ("a name too many", |right| {
            right.certificate(|c| c.subject_alt_names.extend(parameters(&["other.test"]).subject_alt_names))
        }),
        ("no name", |right| right.certificate(|c| c.subject_alt_names.clear())),
    ];
    let trials = spoils.into_iter().map(|(what, spoil)| {
        let client = &client;
        async move {
            let name = unique_name();
            let trial = Trial::new(client, &name, "tls-alpn-01").await;
            responder::tls().script(&name, &spoil(Handshake::right(&name, &trial.answer())));
            let error = trial.fails(&["unauthorized", "tls", "incorrectResponse"]).await;
            assert!(text(&error, "detail").len() > 10, "{what}: {error}");
        }
    });
    join_all(trials).await;
}
