//! GEN-01 and GEN-09 once more: URLs that nobody can read, and an external URL with a path.

use std::sync::Arc;

use http::Method;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::keys::Key;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        gen_01_a_url_that_cannot_be_read_is_told_in_a_problem_document;
    below_a_path =>
        gen_09_the_external_url_may_have_a_path;
}

/// Serves under a path, which the balancer leaves on the requests.
fn below_a_path(kind: Kind) -> Arc<Deployment> {
    Deployment::with(kind, &Settings::new().set("CHANCERY_EXTERNAL_URL", "https://localhost/pki/acme"))
}

async fn gen_01_a_url_that_cannot_be_read_is_told_in_a_problem_document(server: Arc<Deployment>) {
    let client = server.account().await;
    let orders = client.read(client.account()).await.string("orders");
    for path in ["/order/%ff", "/authorization/%c3%28", "/challenge/%ff/http-01", "/certificate/%ff/1"] {
        client.post(&format!("{}{path}", server.base_url)).send().await.expect(400).any_problem();
    }
    client.post(&format!("{orders}?after=1&after=2")).send().await.expect(400).any_problem();
    for path in ["/renewal-info/%ff", "/crl/%ff", "/profiles/%ff/directory"] {
        client.get(&format!("{}{path}", server.base_url)).await.expect(400).any_problem();
    }
}

async fn gen_09_the_external_url_may_have_a_path(server: Arc<Deployment>) {
    assert!(server.directory.ends_with("/pki/acme/directory"));
    let client = server.account().await;
    let nonce = client.resource("newNonce").await;
    for method in [Method::GET, Method::HEAD] {
        let answer = client.plain(method, &nonce).send().await;
        assert!(answer.nonce().is_some() && answer.cache_control().contains("no-store"), "{answer}");
    }
    assert!(client.get(&server.directory).await.expect(200).links("index").is_empty());
    let name = unique_name();
    let order = client.order(&[&name]).await;
    client.authorize(&order, "http-01").await;
    let issued = client.collect(&order, &[&name], Key::new()).await;
    client.revoke(issued.chain.leaf_der(), None).await.expect(200);
    client.get(&format!("{}/nowhere", server.base_url)).await.expect(404).any_problem();
    client.get(&order.url).await.expect(405).any_problem();
}
