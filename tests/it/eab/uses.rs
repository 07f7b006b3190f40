//! EAB-03: how often a key binds, and when it ends.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::{Printed, assert_no_account, bind, bound, create, listed, order, post, with};
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::response::Response;
use crate::wire_tests;

wire_tests! {
    bound =>
        eab_03_a_key_binds_as_often_as_it_was_made_for
        eab_03_revoked_and_expired_keys_bind_nothing
        eab_03_of_many_who_race_for_a_key_as_many_win_as_it_has_uses
        eab_03_a_client_that_asks_twice_at_once_has_one_account_and_used_the_key_once
        eab_03_the_same_key_again_consumes_nothing;
}

async fn eab_03_a_key_binds_as_often_as_it_was_made_for(server: Arc<Deployment>) {
    for (uses, arguments) in [(1, &[][..]), (3, &["--uses", "3"]), (5, &["--uses", "unlimited"])] {
        let key = create(&server, arguments);
        for _ in 0..uses {
            bind(&server, &key).await.1.expect(201);
        }
        if uses < 5 {
            for _ in 0..server.size() {
                let (client, refused) = bind(&server, &key).await;
                refused.problem(403, "unauthorized");
                assert!(refused.detail().contains("as often as it may be"), "{refused}");
                assert_no_account(&client).await;
            }
        }
    }
}

async fn eab_03_revoked_and_expired_keys_bind_nothing(server: Arc<Deployment>) {
    let key = create(&server, &["--uses", "2"]);
    let (client, made) = bind(&server, &key).await;
    made.expect(201);
    server.command(&["eab", "revoke", &key.kid]);
    for _ in 0..server.size() {
        let refused = bind(&server, &key).await.1;
        refused.problem(403, "unauthorized");
        assert!(refused.detail().contains("was revoked"), "{refused}");
    }
    // What it has bound stays bound.
    order(&client, "bound").await.expect(201);
    let brief = create(&server, &["--expires", "1ms"]);
    let refused = bind(&server, &brief).await.1;
    refused.problem(403, "unauthorized");
    assert!(refused.detail().contains("has expired"), "{refused}");
    assert_eq!(bind(&server, &create(&server, &["--expires", "1h"])).await.1.status, 201);
}

async fn eab_03_of_many_who_race_for_a_key_as_many_win_as_it_has_uses(server: Arc<Deployment>) {
    for uses in [1, 1, 4] {
        let key = create(&server, &["--uses", &uses.to_string()]);
        let clients: Vec<Client> = (0..16).map(|_| server.client()).collect();
        let mut asks = Vec::new();
        for (replica, client) in clients.iter().enumerate() {
            let url = client.resource("newAccount").await;
            let payload = with(&key.vouch(&url, &client.key));
            let post = client.post(&url).by_jwk().json(payload).nonce(client.fresh_nonce().await);
            asks.push(post.through(replica).ready().await.send());
        }
        let answers = join_all(asks).await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
        assert_eq!(made.len(), uses, "{answers:?}");
        for answer in refused {
            answer.problem(403, "unauthorized");
        }
        // Who lost has no account.
        for (client, answer) in clients.iter().zip(&answers) {
            if answer.status != 201 {
                assert_no_account(client).await;
            }
        }
        let line = listed(&server, &key.kid);
        assert_eq!(line[1..4], ["used", &uses.to_string(), "0"], "{line:?}");
    }
}

/// What twelve requests of one client at once, through all replicas, are answered.
async fn twelve_at_once(client: &Client, key: &Printed) -> Vec<Response> {
    let url = client.resource("newAccount").await;
    let mut asks = Vec::new();
    for replica in 0..12 {
        let post = client.post(&url).by_jwk().json(with(&key.vouch(&url, &client.key)));
        asks.push(post.nonce(client.fresh_nonce().await).through(replica).ready().await.send());
    }
    let answers = join_all(asks).await;
    let locations: HashSet<_> = answers.iter().map(Response::location).collect();
    assert_eq!(locations.len(), 1, "{answers:?}");
    answers
}

async fn eab_03_a_client_that_asks_twice_at_once_has_one_account_and_used_the_key_once(
    server: Arc<Deployment>,
) {
    let made = |answers: &[Response]| answers.iter().filter(|answer| answer.status == 201).count();
    for (uses, left) in [("1", ["used", "1", "0"]), ("3", ["live", "1", "2"]), ("1", ["used", "1", "0"])] {
        let (key, client) = (create(&server, &["--uses", uses]), server.client());
        assert_eq!(made(&twelve_at_once(&client, &key).await), 1);
        assert_eq!(listed(&server, &key.kid)[1..4], left);
        // With another key it is the same account, and that key is as it was.
        let other = create(&server, &[]);
        assert_eq!(made(&twelve_at_once(&client, &other).await), 0);
        assert_eq!(listed(&server, &other.kid)[1..4], ["live", "0", "1"]);
    }
}

async fn eab_03_the_same_key_again_consumes_nothing(server: Arc<Deployment>) {
    let key = create(&server, &["--uses", "2"]);
    let (client, made) = bind(&server, &key).await;
    made.clone().expect(201);
    let url = client.resource("newAccount").await;
    let offers = [
        with(&key.vouch(&url, &client.key)),
        with(&json!({"payload": ""})),
        json!({"termsOfServiceAgreed": true}),
        json!({"onlyReturnExisting": true}),
    ];
    for payload in offers {
        for _ in 0..server.size() {
            let again = post(&client, &url, payload.clone()).await.expect(200);
            assert_eq!((again.location(), again.json()), (made.location(), made.json()));
        }
    }
    assert_eq!(listed(&server, &key.kid)[1..4], ["live", "1", "1"]);
}
