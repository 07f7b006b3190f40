//! What is turned off stops what is under way: at finalize, at the reuse of authorizations, and when an issuance is taken
//! over, everything is asked again of the configuration as it is then (ORD-05, ORD-09).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers};
use crate::support::keys::Key;
use crate::support::response::Response;
use crate::support::run::{unique_address, unique_name};
use crate::{eab, wire_tests};

wire_tests! {
    own =>
        ord_09_an_order_ends_with_its_profile_and_gets_no_other_ones_content
        ord_09_names_that_are_denied_by_now_are_rejected_at_finalize
        ord_09_addresses_that_are_nobodys_by_now_are_rejected_at_finalize
        ord_09_what_was_trusted_is_no_proof_once_the_profile_asks_for_challenges
        ord_09_an_account_that_may_not_use_the_profile_any_more_gets_nothing
        ord_05_a_challenge_that_is_not_offered_any_more_proves_nothing;
}

fn own(kind: Kind) -> Arc<Deployment> {
    Deployment::with(kind, &Settings::new().set("CHANCERY_EAB_ENCRYPTION_KEY", eab::ENCRYPTION_KEY))
}

/// A profile that replicas have only where these are in their environment.
const PASSING: [(&str, &str); 3] = [
    ("CHANCERY_PROFILES_PASSING_AUTHORIZATION", "trusted"),
    ("CHANCERY_PROFILES_PASSING_ACCEPT_ANYONE", "true"),
    ("CHANCERY_PROFILES_PASSING_VALIDITY", "7d"),
];

/// Starts every replica anew with more in its environment.
fn reconfigure(server: &Deployment, environment: &[(&str, &str)]) {
    for replica in 0..server.size() {
        server.restart_with(replica, environment);
    }
}

async fn finalize(client: &Client, order: &Order, names: &[&str]) -> Response {
    client.forget_nonces();
    client.finalize(order, &csr(&Key::new().to_rcgen(), names)).await
}

/// How many rows a condition on an order's certificate or events finds.
fn count(server: &Deployment, table: &str, order: &Order, condition: &str) -> String {
    let id = order.url.rsplit('/').next().expect("an id");
    server.sql(&format!("SELECT count(*) FROM {table} WHERE order_id = '{id}' AND {condition}"))
}

/// The identifiers that a problem's subproblems are about.
fn about(problem: &Value) -> Vec<&str> {
    let subproblems = problem["subproblems"].as_array().expect("subproblems");
    subproblems.iter().filter_map(|each| each["identifier"]["value"].as_str()).collect()
}

async fn ord_09_an_order_ends_with_its_profile_and_gets_no_other_ones_content(server: Arc<Deployment>) {
    reconfigure(&server, &PASSING);
    let client = server.account().await;
    let name = unique_name();
    let order = client.order_under("passing", &[&name]).await;
    assert_eq!(order.body["status"], "ready");
    reconfigure(&server, &[]);
    let answer = finalize(&client, &order, &[&name]).await.expect(200);
    for seen in [answer, client.read(&order.url).await.expect(200)] {
        let body = seen.json();
        assert_eq!(body["status"], "invalid", "{seen}");
        assert_eq!(body["error"]["type"], "urn:ietf:params:acme:error:invalidProfile", "{seen}");
        assert!(body["error"]["detail"].as_str().is_some_and(|why| why.contains("passing")), "{seen}");
    }
    finalize(&client, &order, &[&name]).await.problem(403, "orderNotReady");
    assert_eq!(count(&server, "audit_events", &order, "action = 'order.failed'"), "1");
    assert_eq!(count(&server, "certificates", &order, "1 = 1"), "0");
    // That the profile comes back is nothing to an order that is over.
    reconfigure(&server, &PASSING);
    finalize(&client, &order, &[&name]).await.problem(403, "orderNotReady");
}

async fn ord_09_names_that_are_denied_by_now_are_rejected_at_finalize(server: Arc<Deployment>) {
    let client = server.account().await;
    let names = [unique_name(), unique_name(), unique_name()];
    let names = names.each_ref().map(String::as_str);
    let order = client.ready_order(&names).await;
    let denied = format!("{},{}", names[0], names[2]);
    reconfigure(&server, &[("CHANCERY_PROFILES_TRUSTED_DENIED_NAMES", &denied)]);
    let problem = finalize(&client, &order, &names).await.problem(400, "rejectedIdentifier");
    assert_eq!(about(&problem), [names[0], names[2]], "{problem}");
    // The order is as it was, should the operator think better of it.
    assert_eq!(client.read(&order.url).await.state(), "ready");
    assert_eq!(count(&server, "certificates", &order, "1 = 1"), "0");
    reconfigure(&server, &[]);
    assert_ne!(finalize(&client, &order, &names).await.expect(200).state(), "invalid");
}

async fn ord_09_addresses_that_are_nobodys_by_now_are_rejected_at_finalize(server: Arc<Deployment>) {
    let client = server.account().await;
    let address = unique_address().to_string();
    let order = client.ready_order(&[&address]).await;
    reconfigure(&server, &[("CHANCERY_VALIDATION_ALLOW_NETWORKS", "10.0.0.0/8")]);
    let problem = finalize(&client, &order, &[&address]).await.problem(400, "rejectedIdentifier");
    assert_eq!(about(&problem), [address.as_str()], "{problem}");
}

async fn ord_09_what_was_trusted_is_no_proof_once_the_profile_asks_for_challenges(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    reconfigure(&server, &[("CHANCERY_PROFILES_TRUSTED_AUTHORIZATION", "challenge")]);
    let problem = finalize(&client, &order, &[&name]).await.problem(403, "unauthorized");
    assert_eq!(about(&problem), [name.as_str()], "{problem}");
    let again = client.order_under("trusted", &[&name]).await;
    assert_eq!(again.body["status"], "pending", "{}", again.body);
}

async fn ord_09_an_account_that_may_not_use_the_profile_any_more_gets_nothing(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.ready_order(&[&name]).await;
    reconfigure(&server, &[("CHANCERY_PROFILES_TRUSTED_EXTERNAL_ACCOUNT_REQUIRED", "true")]);
    finalize(&client, &order, &[&name]).await.problem(403, "externalAccountRequired");
    assert_eq!(count(&server, "certificates", &order, "1 = 1"), "0");
}

async fn ord_05_a_challenge_that_is_not_offered_any_more_proves_nothing(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, other) = (unique_name(), unique_name());
    let order = client.order(&[&name, &other]).await;
    client.authorize(&order, "http-01").await;
    client.wait_for(&order.url, "ready").await;
    reconfigure(&server, &[("CHANCERY_DEFAULT_PROFILE_CHALLENGE_TYPES", "dns-01,tls-alpn-01")]);
    let problem = finalize(&client, &order, &[&name, &other]).await.problem(403, "unauthorized");
    assert_eq!(about(&problem), [name.as_str(), &other], "{problem}");
    let again = client.order(&[&name]).await;
    assert_eq!(again.body["status"], "pending", "{}", again.body);
    assert!(!order.authorizations().contains(&again.authorizations()[0]));
    // What a type that is still offered has proven goes on to count.
    client.authorize(&again, "dns-01").await;
    client.wait_for(&again.url, "ready").await;
    let third = client.new_order(json!({"identifiers": identifiers(&[&name])})).await.expect(201);
    assert_eq!(third.state(), "ready", "{third}");
    assert_ne!(finalize(&client, &again, &[&name]).await.expect(200).state(), "invalid");
}

#[cfg(feature = "faults")]
mod taken_over {
    use super::*;
    use crate::support::keys::base64url;
    use crate::support::run::runtime;

    /// Replica 0 dies of an issuance that it has begun, and the others, which are configured otherwise, take it over.
    fn under_another_configuration(settings: Settings, profile: &str, wanted: &str) {
        let server = Deployment::with(Kind::Fleet, &settings.killed_at("issuance-begun"));
        runtime().block_on(async {
            let client = server.account().await;
            let name = unique_name();
            let order = json!({"identifiers": identifiers(&[&name]), "profile": profile});
            let url = client.resource("newOrder").await;
            let order = Order::of(&client.post(&url).json(order).through(0).send().await.expect(201));
            let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
            let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
            ask.try_send().await.expect_err("the answer is lost");
            server.replica(0).wait_for_fault().await;
            let over = client.wait_for(&order.url, "invalid").await;
            let kind = format!("urn:ietf:params:acme:error:{wanted}");
            assert_eq!(over.json()["error"]["type"], kind.as_str(), "{over}");
            assert_eq!(count(&server, "certificates", &order, "der IS NOT NULL"), "0");
            assert_eq!(count(&server, "audit_events", &order, "action = 'order.failed'"), "1");
        });
    }

    #[test]
    fn ord_09_an_issuance_that_had_begun_ends_with_its_profile() {
        let settings =
            PASSING.iter().fold(Settings::new(), |all, (name, value)| all.set_for(0, name, *value));
        under_another_configuration(settings, "passing", "invalidProfile");
    }

    #[test]
    fn ord_09_an_issuance_that_had_begun_ends_where_its_name_is_denied() {
        let denied = |all: Settings, replica| {
            all.set_for(replica, "CHANCERY_PROFILES_TRUSTED_DENIED_NAMES", ".chancery.test")
        };
        let settings = [1, 2].into_iter().fold(Settings::new(), denied);
        under_another_configuration(settings, "trusted", "rejectedIdentifier");
    }
}
