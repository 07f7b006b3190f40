//! GEN: what holds for every response.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::json;

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::{Order, challenge, identifiers, text};
use crate::support::keys::Key;
use crate::support::response::Response;
use crate::support::run::{unique_name, wait_until};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        gen_01_errors_are_problem_documents
        gen_02_every_response_but_the_directory_links_to_it
        gen_03_every_post_is_answered_with_a_fresh_nonce_and_no_get_is
        gen_04_nothing_with_a_nonce_may_be_stored
        gen_12_browsers_may_read_the_directory
        gen_12_only_scripts_are_told_which_headers_they_may_read
        gen_13_every_response_has_an_id_that_finds_its_log_lines
        gen_14_bodies_are_compact_json_in_a_fixed_order_of_the_exact_media_type
        gen_15_there_is_always_a_date
        gen_17_http_2_works_as_http_1_does;
    narrow =>
        gen_16_shed_requests_are_503_and_may_be_sent_again_as_they_are;
}

/// Answers one request at a time and sheds the rest.
fn narrow(kind: Kind) -> Arc<Deployment> {
    Deployment::with(kind, &Settings::new().set("CHANCERY_HTTP_MAX_IN_FLIGHT", "1").replicas(2))
}

/// One answer of every kind that a POST gets: a whole life of a client, and mistakes.
async fn tour(server: &Arc<Deployment>) -> Vec<Response> {
    let client = server.client();
    let name = unique_name();
    let mut answers = vec![client.register().await.expect(201)];
    answers.push(client.read(client.account()).await.expect(200));
    let wanting = client.new_order(json!({"identifiers": identifiers(&[&name])})).await.expect(201);
    let authorization = Order::of(&wanting).authorizations().remove(0);
    answers.push(client.read(&wanting.location()).await.expect(200));
    answers.push(wanting);
    let shown = client.read(&authorization).await.expect(200);
    let url = text(&challenge(&shown.json(), "http-01").expect("http-01"), "url");
    answers.push(shown);
    answers.push(client.read(&url).await.expect(200));
    answers.push(client.send(&authorization, json!({"status": "deactivated"})).await.expect(200));
    let order = client.ready_order(&[&name]).await;
    answers.push(client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await.expect(200));
    let valid = client.wait_for(&order.url, "valid").await;
    answers.push(client.read(&valid.string("certificate")).await.expect(200));
    answers.push(valid);
    let orders = client.read(client.account()).await.string("orders");
    answers.push(client.read(&orders).await.expect(200));
    answers.push(client.finalize(&order, b"").await);
    answers.push(client.new_order(json!({"identifiers": []})).await);
    answers.push(client.post(&order.url).nonce("AAAA").send().await);
    answers.push(client.post(&order.url).unprotect("url").send().await);
    answers.push(client.revoke(b"nothing", None).await);
    answers
}

async fn gen_01_errors_are_problem_documents(server: Arc<Deployment>) {
    let errors: Vec<_> = tour(&server).await.into_iter().filter(|answer| answer.status >= 400).collect();
    assert!(errors.len() >= 5);
    for error in &errors {
        error.any_problem();
    }
    let details: HashSet<_> = errors.iter().map(Response::detail).collect();
    assert_eq!(details.len(), errors.len(), "each detail speaks of its own request: {details:?}");
    let client = server.client();
    for (method, path, status) in [(Method::GET, "/nowhere", 404), (Method::DELETE, "/directory", 405)] {
        let answer = client.plain(method, &format!("{}{path}", server.base_url)).send().await;
        answer.expect(status).any_problem();
    }
}

async fn gen_02_every_response_but_the_directory_links_to_it(server: Arc<Deployment>) {
    let client = server.client();
    assert!(client.get(&server.directory).await.expect(200).links("index").is_empty());
    let mut answers = tour(&server).await;
    let nonce = client.resource("newNonce").await;
    answers.push(client.get(&nonce).await);
    answers.push(client.plain(Method::HEAD, &nonce).send().await);
    answers.push(client.get(&format!("{}/nowhere", server.base_url)).await.expect(404));
    answers.push(client.get(&client.resource("newOrder").await).await.expect(405));
    for answer in &answers {
        assert_eq!(answer.links("index"), std::slice::from_ref(&server.directory), "{answer}");
        if answer.content_type() == "application/pem-certificate-chain" {
            assert!(answer.links("up").is_empty(), "some clients follow it: {answer}");
        }
    }
}

async fn gen_03_every_post_is_answered_with_a_fresh_nonce_and_no_get_is(server: Arc<Deployment>) {
    let mut seen = HashSet::new();
    for answer in tour(&server).await {
        let nonce = answer.nonce().unwrap_or_else(|| panic!("no nonce: {answer}"));
        assert!(seen.insert(nonce), "a nonce twice: {answer}");
    }
    let client = server.client();
    for url in [server.directory.clone(), format!("{}/nowhere", server.base_url)] {
        assert_eq!(client.get(&url).await.nonce(), None, "{url}");
    }
    // The nonce of an error is as good as any.
    let account = server.account().await;
    let error = account.post(account.account()).no_nonce().send().await;
    let nonce = error.nonce().expect("a nonce");
    account.post(account.account()).nonce(nonce).send().await.expect(200);
}

async fn gen_04_nothing_with_a_nonce_may_be_stored(server: Arc<Deployment>) {
    let mut answers = tour(&server).await;
    let client = server.client();
    let nonce = client.resource("newNonce").await;
    answers.push(client.get(&nonce).await);
    answers.push(client.plain(Method::HEAD, &nonce).send().await);
    for answer in answers {
        assert!(answer.cache_control().contains("no-store"), "{answer}");
    }
}

async fn gen_12_browsers_may_read_the_directory(server: Arc<Deployment>) {
    let client = server.client();
    let directory = client.plain(Method::GET, &server.directory).header("origin", "https://x.test");
    let directory = directory.send().await.expect(200);
    assert_eq!(directory.header("access-control-allow-origin"), Some("*"), "{directory}");
    let exposed = directory.header("access-control-expose-headers").unwrap_or("").to_ascii_lowercase();
    for header in ["link", "location", "replay-nonce", "retry-after"] {
        assert!(exposed.split(',').any(|one| one.trim() == header), "{header}: {directory}");
    }
    assert_eq!(directory.header("vary"), Some("Origin"), "{directory}");
}

async fn gen_12_only_scripts_are_told_which_headers_they_may_read(server: Arc<Deployment>) {
    let client = server.account().await;
    let order = client.ready_order(&[&unique_name()]).await;
    for answer in [client.get(&server.directory).await, client.read(&order.url).await] {
        for header in ["access-control-allow-origin", "access-control-expose-headers"] {
            assert_eq!(answer.header(header), None, "{answer}");
        }
        assert_eq!(answer.header("vary"), Some("Origin"), "{answer}");
    }
}

async fn gen_13_every_response_has_an_id_that_finds_its_log_lines(server: Arc<Deployment>) {
    let mut ids = HashSet::new();
    for answer in tour(&server).await {
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("no id: {answer}")).to_owned();
        assert!(id.len() >= 8 && ids.insert(id.clone()), "{answer}");
        wait_until("the request is logged under its id", || server.log().contains(&id));
    }
    let client = server.client();
    let nowhere = client.get(&format!("{}/nowhere", server.base_url)).await;
    assert!(nowhere.header("x-request-id").is_some_and(|id| ids.insert(id.to_owned())), "{nowhere}");
}

async fn gen_14_bodies_are_compact_json_in_a_fixed_order_of_the_exact_media_type(server: Arc<Deployment>) {
    let mut answers = tour(&server).await;
    answers.push(server.client().get(&server.directory).await);
    for answer in &answers {
        let text = answer.text();
        let (media_type, first_members) = if answer.status >= 400 {
            ("application/problem+json", &["type", "detail", "status"][..])
        } else if text.starts_with("{\"newNonce\"") {
            ("application/json", &["newNonce", "newAccount", "newOrder"][..])
        } else if text.contains("\"finalize\"") {
            ("application/json", &["status", "expires", "identifiers"][..])
        } else if text.contains("\"challenges\"") {
            ("application/json", &["identifier", "status", "expires", "challenges"][..])
        } else if text.contains("\"contact\"") {
            ("application/json", &["status", "contact", "termsOfServiceAgreed"][..])
        } else if text.starts_with('{') {
            ("application/json", &[][..])
        } else {
            assert_eq!(answer.content_type(), "application/pem-certificate-chain", "{answer}");
            continue;
        };
        assert_eq!(answer.content_type(), media_type, "{answer}");
        assert!(is_compact(&text), "{answer}");
        assert!(
            members(&text).starts_with(&first_members.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{answer}"
        );
    }
    let again = tour(&server).await;
    for (one, other) in answers.iter().zip(&again).filter(|(one, _)| one.text().starts_with('{')) {
        assert_eq!(members(&one.text()), members(&other.text()), "{one}\n{other}");
    }
}

/// Whether JSON text has no white space but within its strings.
fn is_compact(text: &str) -> bool {
    let (mut within, mut escaped) = (false, false);
    text.chars().all(|each| {
        match each {
            _ if escaped => escaped = false,
            '\\' => escaped = within,
            '"' => within = !within,
            _ => {}
        }
        within || !each.is_whitespace()
    })
}

/// The names of a JSON object's members in the order in which they are written.
fn members(text: &str) -> Vec<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Vec<String>, M::Error> {
            let mut names = Vec::new();
            while let Some((name, _)) = members.next_entry::<String, IgnoredAny>()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Names).expect("an object")
}

async fn gen_15_there_is_always_a_date(server: Arc<Deployment>) {
    let mut answers = tour(&server).await;
    let client = server.client();
    answers.push(client.get(&server.directory).await);
    answers.push(client.get(&client.resource("newNonce").await).await);
    answers.push(client.get(&format!("{}/nowhere", server.base_url)).await);
    for answer in answers {
        let date = answer.header("date").unwrap_or_else(|| panic!("no Date: {answer}"));
        assert!(date.len() == 29 && date.ends_with(" GMT"), "RFC 9110 §5.6.7: {date}");
        answer.retry_after();
    }
}

async fn gen_16_shed_requests_are_503_and_may_be_sent_again_as_they_are(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = client.resource("newOrder").await;
    let mut shed = 0;
    for _ in 0..20 {
        let mut bodies = Vec::new();
        for _ in 0..16 {
            let payload = json!({"identifiers": identifiers(&[&unique_name()]), "profile": "trusted"});
            let nonce = client.fresh_nonce().await;
            bodies.push(client.post(&url).nonce(nonce).json(payload).sealed().to_string());
        }
        let ask = |body: &String| {
            let ask = client.plain(Method::POST, &url).header("content-type", "application/jose+json");
            ask.body(body.clone()).send()
        };
        let answers = join_all(bodies.iter().map(ask)).await;
        for (answer, body) in answers.into_iter().zip(&bodies) {
            let mut answer = answer;
            while answer.status == 503 {
                shed += 1;
                answer.problem(503, "rateLimited");
                assert!(answer.retry_after().is_some_and(|s| (1..=30).contains(&s)), "{answer}");
                // Nothing else is under way now, so there is no need to wait that long.
                answer = ask(body).await;
            }
            answer.expect(201);
        }
        if shed > 0 {
            return;
        }
    }
    panic!("320 requests, sixteen at once, and none was shed");
}

async fn gen_17_http_2_works_as_http_1_does(server: Arc<Deployment>) {
    let (one, two) = (server.client(), server.client().over_http2());
    assert_eq!(one.get(&server.directory).await.body, two.get(&server.directory).await.body);
    for client in [one, two] {
        client.register().await.expect(201);
        let name = unique_name();
        let order = client.order(&[&name]).await;
        client.authorize(&order, "http-01").await;
        let issued = client.collect(&order, &[&name], Key::new()).await;
        assert_eq!(issued.chain.names(), [name]);
        client.post(&order.url).nonce("AAAA").send().await.problem(400, "badNonce");
    }
}
