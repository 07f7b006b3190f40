//! ARI-04: what a renewal that is due costs of the limit on certificates for the same set of names, which is nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{limited, place_ready, refused};
use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind};
use crate::support::flows::{Issued, Order, identifiers};
use crate::support::keys::Key;
use crate::support::responder;
use crate::support::run::{runtime, unique_name};
use crate::wire_tests;

wire_tests! {
    limited =>
        ari_04_renewals_of_the_same_set_pass_above_the_limit_and_take_nothing_from_it
        ari_04_an_order_that_replaces_what_is_not_due_takes_as_any_other;
}

/// An order under `profile` for `names` that replaces `issued`.
fn renewal(profile: &str, names: &[&str], issued: &Issued) -> Value {
    json!({"identifiers": identifiers(names), "profile": profile, "replaces": issued.chain.renewal_id()})
}

async fn ari_04_renewals_of_the_same_set_pass_above_the_limit_and_take_nothing_from_it(
    server: Arc<Deployment>,
) {
    let client = server.account().await;
    let (a, b) = (unique_name(), unique_name());
    let names = [a.as_str(), &b];
    let renew = async |profile: &str, issued: &Issued| {
        let order = Order::of(&client.new_order(renewal(profile, &names, issued)).await.expect(201));
        client.collect(&order, &names, Key::new()).await
    };
    let mut last = client.collect(&client.order_under("due", &names).await, &names, Key::new()).await;
    // More than the two of the limit, of which one is taken.
    for _ in 0..3 {
        last = renew("due", &last).await;
    }
    client.issue(&names).await;
    refused(&place_ready(&client, &names).await, "duplicate-certificates");
    let last = renew("trusted", &last).await;
    refused(&client.new_order(renewal("trusted", &names, &last)).await, "duplicate-certificates");
}

async fn ari_04_an_order_that_replaces_what_is_not_due_takes_as_any_other(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let first = client.issue(&[&name]).await;
    let place = || client.new_order(renewal("trusted", &[&name], &first));
    let early = Order::of(&place().await.expect(201));
    client.issue(&[&name]).await;
    let csr = csr(&Key::new().to_rcgen(), &[&name]);
    refused(&client.finalize(&early, &csr).await, "duplicate-certificates");
    assert_eq!(client.read(&early.url).await.state(), "ready");
}

#[test]
fn ari_04_a_renewal_that_fails_gives_nothing_back() {
    let server = limited(Kind::Fleet);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let names = [name.as_str()];
        let due = client.collect(&client.order_under("due", &names).await, &names, Key::new()).await;
        client.issue(&names).await;
        refused(&place_ready(&client, &names).await, "duplicate-certificates");
        let order = Order::of(&client.new_order(renewal("default", &names, &due)).await.expect(201));
        client.authorize(&order, "http-01").await;
        // Validated so long ago that CAA is asked again, which forbids by now.
        let id = order.authorizations()[0].rsplit('/').next().expect("an id").to_owned();
        server.sql(&format!("UPDATE authorizations SET validated_at = 1 WHERE id = '{id}'"));
        responder::dns().add_caa(&name, 0, "issue", "other.example");
        client.finalize(&order, &csr(&Key::new().to_rcgen(), &names)).await.expect(200);
        client.wait_for(&order.url, "invalid").await;
        refused(&place_ready(&client, &names).await, "duplicate-certificates");
    });
}
