//! GEN-05 to GEN-11: requests that miss, and requests that are wrong in ways that have nothing to do with ACME.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certificate::csr;
use crate::support::chancery::Deployment;
use crate::support::flows::{Order, challenge, identifiers, text};
use crate::support::keys::{Key, base64url};
use crate::support::run::{SOON, unique_name};
use crate::support::transport::Version;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        gen_05_wrong_methods_and_unknown_paths_are_told_and_cost_no_nonce
        gen_06_a_body_over_64_kib_is_413
        gen_06_an_announced_or_chunked_body_is_read_no_further_than_the_limit
        gen_07_a_post_of_another_media_type_is_415
        gen_08_unknown_members_are_ignored_and_wrong_types_are_named
        gen_09_urls_are_under_the_external_base_whatever_host_says
        gen_10_bad_identifiers_are_told_in_subproblems
        gen_11_others_resources_are_403_and_missing_ones_404;
}

async fn gen_05_wrong_methods_and_unknown_paths_are_told_and_cost_no_nonce(server: Arc<Deployment>) {
    let client = server.account().await;
    let order = client.order(&[&unique_name()]).await;
    let mut signed = vec![order.url.clone(), order.finalize(), client.account().to_owned()];
    signed.extend(order.authorizations());
    for resource in ["newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange"] {
        signed.push(client.resource(resource).await);
    }
    for url in &signed {
        let answer = client.get(url).await.expect(405);
        assert_eq!(answer.header("allow"), Some("POST"), "{answer}");
    }
    let nonce_url = client.resource("newNonce").await;
    for url in [&server.directory, &nonce_url] {
        let answer = client.plain(Method::DELETE, url).send().await.expect(405);
        let allowed = answer.header("allow").unwrap_or("");
        assert!(allowed.contains("GET") && allowed.contains("HEAD"), "{answer}");
    }
    let nonce = client.fresh_nonce().await;
    let nowhere = format!("{}/nowhere", server.base_url);
    client.post(&nowhere).nonce(nonce.clone()).send().await.expect(404).any_problem();
    let put = client.plain(Method::PUT, &order.url).header("content-type", "application/jose+json");
    let body = client.post(&order.url).nonce(nonce.clone()).sealed().to_string();
    put.body(body).send().await.expect(405);
    client.post(&order.url).nonce(nonce).send().await.expect(200);
}

async fn gen_06_a_body_over_64_kib_is_413(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = client.account().to_owned();
    let padded = |length: usize| json!({"unknown": "x".repeat(length)});
    client.send(&url, padded(40 * 1024)).await.expect(200);
    client.send(&url, padded(50 * 1024)).await.expect(413).any_problem();
    client.read(&url).await.expect(200);
}

async fn gen_06_an_announced_or_chunked_body_is_read_no_further_than_the_limit(server: Arc<Deployment>) {
    let client = server.client();
    let url = client.resource("newAccount").await;
    let (authority, path) =
        url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("an absolute URL");
    for (framing, chunk) in [("Content-Length: 1073741824", ""), ("Transfer-Encoding: chunked", "11800\r\n")]
    {
        let mut stream = server.replica(0).endpoint().connect(Version::Http1).await.expect("a connection");
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/jose+json\r\n{framing}\r\n\r\n{chunk}"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // 70 KiB of a body whose end never comes. The server may hang up before it has it all.
        let _ = stream.write_all(&vec![b' '; 70 * 1024]).await;
        let _ = stream.flush().await;
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await;
        read.expect("an answer before the end of the body").expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413", "{framing}");
    }
}

async fn gen_07_a_post_of_another_media_type_is_415(server: Arc<Deployment>) {
    let client = server.account().await;
    for media in ["application/json", "text/plain", "application/jose", "application/x-www-form-urlencoded"] {
        let answer = client.post(client.account()).header("content-type", media).send().await;
        answer.expect(415).any_problem();
    }
    client.post(client.account()).without_header("content-type").send().await.expect(415).any_problem();
}

async fn gen_08_unknown_members_are_ignored_and_wrong_types_are_named(server: Arc<Deployment>) {
    let client = server.client();
    let agreed = json!({"termsOfServiceAgreed": true, "tomorrow": {"x": [1]}});
    let account = client.new_account(agreed).await.expect(201).location();
    client.use_account(&account);
    let name = unique_name();
    let order = json!({"identifiers": [{"type": "dns", "value": &name, "x": 1}], "tomorrow": 1});
    let order = Order::of(&client.new_order(order).await.expect(201));
    let (new_order, revoke) = (client.resource("newOrder").await, client.resource("revokeCert").await);
    for (url, payload, member) in [
        (&account, json!({"contact": "mailto:a@b.test"}), "contact"),
        (&account, json!({"contact": [1]}), "contact"),
        (&account, json!({"status": 5}), "status"),
        (&new_order, json!({"identifiers": {}}), "identifiers"),
        (&new_order, json!({"identifiers": [&name]}), "identifiers"),
        (&new_order, json!({"identifiers": identifiers(&[&name]), "notAfter": 5}), "notAfter"),
        (&new_order, json!({"identifiers": identifiers(&[&name]), "profile": []}), "profile"),
        (&order.authorizations()[0], json!({"status": true}), "status"),
        (&revoke, json!({"certificate": "AAAA", "reason": "1"}), "reason"),
        (&revoke, json!({"certificate": 1}), "certificate"),
    ] {
        let answer = client.send(url, payload).await;
        answer.problem(400, "malformed");
        assert!(answer.detail().contains(member), "{answer}");
    }
    let ready = client.ready_order(&[&name]).await;
    let answer = client.send(&ready.finalize(), json!({"csr": 7})).await;
    answer.problem(400, "malformed");
    assert!(answer.detail().contains("csr"), "{answer}");
    for payload in ["[]", "7", "\"text\"", "not JSON", "{\"a\":1"] {
        client.post(&new_order).payload(payload).send().await.problem(400, "malformed");
    }
}

async fn gen_09_urls_are_under_the_external_base_whatever_host_says(server: Arc<Deployment>) {
    let client = server.client();
    let evil = client.plain(Method::GET, &server.directory).header("host", "evil.example");
    let directory = evil.header("x-forwarded-host", "evil.example").send().await.expect(200);
    assert!(!directory.text().contains("evil"), "{directory}");
    for (resource, url) in directory.json().as_object().expect("an object") {
        if let Some(url) = url.as_str() {
            assert!(url.starts_with(&format!("{}/", server.base_url)), "{resource}: {url}");
        }
    }
    let url = client.resource("newAccount").await;
    let post = client.post(&url).header("host", "evil.example").header("x-forwarded-proto", "gopher");
    let account = post.json(json!({"termsOfServiceAgreed": true})).send().await.expect(201);
    assert!(account.location().starts_with(&server.base_url), "{account}");
    assert!(account.string("orders").starts_with(&server.base_url), "{account}");
    let shown = format!("{account}");
    assert!(!shown.contains("evil") && !shown.contains("gopher"), "{shown}");
}

async fn gen_10_bad_identifiers_are_told_in_subproblems(server: Arc<Deployment>) {
    let client = server.account().await;
    let names = ["a_b.chancery.test", &unique_name(), "x..test"];
    let document = client.new_order(json!({"identifiers": identifiers(&names)})).await;
    let document = document.problem(400, "malformed");
    let told: Vec<_> = document["subproblems"].as_array().expect("subproblems").iter().collect();
    let values: Vec<_> = told.iter().map(|sub| sub["identifier"]["value"].as_str().unwrap_or("")).collect();
    assert_eq!(values, [names[0], names[2]]);
    for sub in told {
        assert_eq!(sub["identifier"]["type"], "dns");
        assert_eq!(sub["type"], "urn:ietf:params:acme:error:malformed");
        assert!(sub["detail"].as_str().is_some_and(|detail| detail.len() > 5));
    }
    let denied = client.new_order(json!({"identifiers": identifiers(&["www.denied.test"])})).await;
    let denied = denied.problem(400, "rejectedIdentifier");
    assert_eq!(denied["subproblems"][0]["identifier"]["value"], "www.denied.test", "{denied}");
}

fn elsewhere(url: &str) -> String {
    let is_id = |part: &&str| part.len() >= 20 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let id = url.split('/').find(is_id).unwrap_or_else(|| panic!("no id in {url}"));
    let last = if id.ends_with('0') { "1" } else { "0" };
    url.replace(id, &format!("{}{last}", &id[..id.len() - 1]))
}

async fn gen_11_others_resources_are_403_and_missing_ones_404(server: Arc<Deployment>) {
    let (owner, stranger) = (server.account().await, server.account().await);
    let name = unique_name();
    let order = owner.order(&[&name]).await;
    let authorization = order.authorizations().remove(0);
    let shown = owner.read(&authorization).await.expect(200).json();
    let challenge = text(&challenge(&shown, "http-01").expect("http-01"), "url");
    let ready = owner.ready_order(&[&name]).await;
    let request = csr(&Key::new().to_rcgen(), &[&name]);
    let certificate = owner.issue_any().await.url;
    let payload = json!({"csr": base64url(&request)});
    let cases: [(&str, Option<Value>); 6] = [
        (&order.url, None),
        (&authorization, None),
        (&challenge, None),
        (&challenge, Some(json!({}))),
        (&ready.finalize(), Some(payload)),
        (&certificate, None),
    ];
    for (url, payload) in cases {
        let ask = |url: &str| match &payload {
            Some(payload) => stranger.post(url).json(payload.clone()),
            None => stranger.post(url),
        };
        let foreign = ask(url).send().await;
        foreign.problem(403, "unauthorized");
        assert!(!foreign.text().contains(&name) && !foreign.text().contains(owner.account()), "{foreign}");
        ask(&elsewhere(url)).send().await.expect(404).any_problem();
    }
    assert_eq!(owner.read(&ready.url).await.state(), "ready", "the stranger changed nothing");
    assert_eq!(owner.read(&authorization).await.state(), "pending", "the stranger started nothing");
}
