//! ACC: accounts.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::chancery::{Deployment, TERMS};
use crate::support::client::Client;
use crate::support::flows::{identifiers, text};
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        acc_01_a_new_account_is_201_with_all_its_members
        acc_02_the_same_key_again_is_the_same_account
        acc_02_sixteen_at_once_make_one_account
        acc_03_only_return_existing_makes_nothing
        acc_04_without_agreement_to_the_terms_there_is_no_account
        acc_05_contacts_are_mailto_with_one_address
        acc_06_contacts_can_be_changed_and_nothing_else
        acc_06_another_status_is_malformed
        acc_07_a_deactivated_account_can_do_nothing_on_any_replica
        acc_08_the_key_of_a_deactivated_account_is_refused
        acc_09_orders_are_listed_in_a_stable_order
        acc_10_an_account_reads_itself_and_no_other;
}

async fn acc_01_a_new_account_is_201_with_all_its_members(server: Arc<Deployment>) {
    let client = server.client();
    let contact = json!(["mailto:admin@chancery.test", "mailto:second@chancery.test"]);
    let payload = json!({"termsOfServiceAgreed": true, "contact": contact});
    let account = client.new_account(payload).await.expect(201);
    let body = account.json();
    assert_eq!(body["status"], "valid", "{account}");
    assert_eq!(body["contact"], contact, "{account}");
    assert_eq!(body["termsOfServiceAgreed"], true, "{account}");
    assert!(text(&body, "orders").starts_with(&server.base_url), "{account}");
    client.use_account(&account.location());
    for _ in 0..server.size() {
        assert_eq!(client.read(client.account()).await.expect(200).json(), body);
    }
}

async fn acc_02_the_same_key_again_is_the_same_account(server: Arc<Deployment>) {
    let client = server.account().await;
    for payload in [
        json!({"termsOfServiceAgreed": true}),
        json!({}),
        json!({"onlyReturnExisting": true}),
        json!({"termsOfServiceAgreed": false, "contact": ["mailto:other@chancery.test"]}),
        json!({"contact": ["tel:+4930123456"]}),
        json!({"externalAccountBinding": {"payload": ""}}),
    ] {
        for _ in 0..server.size() {
            let again = client.new_account(payload.clone()).await.expect(200);
            assert_eq!(again.location(), client.account());
            assert_eq!(again.state(), "valid", "{again}");
        }
    }
    let unchanged = client.read(client.account()).await.json();
    assert!(unchanged["contact"].as_array().is_none_or(Vec::is_empty), "{unchanged}");
}

async fn acc_02_sixteen_at_once_make_one_account(server: Arc<Deployment>) {
    for _ in 0..3 {
        let client = server.client();
        let url = client.resource("newAccount").await;
        let mut asks = Vec::new();
        for replica in 0..16 {
            let post = client.post(&url).json(json!({"termsOfServiceAgreed": true}));
            asks.push(post.nonce(client.fresh_nonce().await).through(replica).ready().await.send());
        }
        let answers = join_all(asks).await;
        let locations: HashSet<_> = answers.iter().map(|answer| answer.location()).collect();
        assert_eq!(locations.len(), 1, "{locations:?}");
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 15);
    }
}

async fn assert_no_account(client: &Client) {
    for _ in 0..client.server.size() {
        let answer = client.new_account(json!({"onlyReturnExisting": true})).await;
        answer.problem(400, "accountDoesNotExist");
    }
}

async fn acc_03_only_return_existing_makes_nothing(server: Arc<Deployment>) {
    let client = server.client();
    assert_no_account(&client).await;
    let answer = client.new_account(json!({"onlyReturnExisting": true, "termsOfServiceAgreed": true})).await;
    answer.problem(400, "accountDoesNotExist");
    assert_no_account(&client).await;
    client.register().await.expect(201);
}

async fn acc_04_without_agreement_to_the_terms_there_is_no_account(server: Arc<Deployment>) {
    let client = server.client();
    for payload in [json!({}), json!({"termsOfServiceAgreed": false}), json!({"contact": []})] {
        let answer = client.new_account(payload).await;
        answer.problem(403, "userActionRequired");
        assert_eq!(answer.links("terms-of-service"), [TERMS], "{answer}");
    }
    assert_no_account(&client).await;
}

async fn acc_05_contacts_are_mailto_with_one_address(server: Arc<Deployment>) {
    let client = server.client();
    let with = |contact: Value| json!({"termsOfServiceAgreed": true, "contact": contact});
    for contact in ["tel:+4930123456", "https://chancery.test/", "sip:a@chancery.test"] {
        client.new_account(with(json!([contact]))).await.problem(400, "unsupportedContact");
    }
    for contact in [
        "mailto:",
        "mailto:nobody",
        "mailto:@chancery.test",
        "mailto:a@",
        "mailto:a@b.test,c@d.test",
        "mailto:a@b.test?subject=hello",
        "mailto:a b@c.test",
        "mailto:a@b..test",
        "mailto: ",
        "mailto:\u{a0}a@b.test",
        "mailto:a\0@b.test",
    ] {
        let answer = client.new_account(with(json!(["mailto:good@chancery.test", contact]))).await;
        answer.problem(400, "invalidContact");
    }
    // RFC 3986 §3.1: schemes have no case. A space before the address is getssl's.
    let spelt = with(json!(["MAILTO:Aa@chancery.test", "mailto: b@chancery.test", "Mailto:c@chancery.test"]));
    let read = json!(["mailto:Aa@chancery.test", "mailto:b@chancery.test", "mailto:c@chancery.test"]);
    let other = server.client();
    let made = other.new_account(spelt.clone()).await.expect(201);
    assert_eq!(made.json()["contact"], read, "{made}");
    other.use_account(&made.location());
    let changed = other.send(other.account(), json!({"contact": spelt["contact"]})).await.expect(200);
    assert_eq!(changed.json()["contact"], read, "{changed}");
    assert_eq!(other.read(other.account()).await.json()["contact"], read);
    let many = |count: usize| {
        let one = |index: usize| format!("mailto:a{index}@chancery.test");
        with(json!((0..count).map(one).collect::<Vec<_>>()))
    };
    client.new_account(many(11)).await.problem_of(&["invalidContact", "malformed"]);
    assert_no_account(&client).await;
    let account = client.new_account(many(10)).await.expect(201);
    assert_eq!(account.json()["contact"].as_array().map(Vec::len), Some(10));
    client.use_account(&account.location());
    let answer = client.send(client.account(), json!({"contact": ["tel:1"]})).await;
    answer.problem(400, "unsupportedContact");
}

async fn acc_06_contacts_can_be_changed_and_nothing_else(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = client.account().to_owned();
    let before = client.read(&url).await.json();
    for contact in [json!(["mailto:new@chancery.test"]), json!([])] {
        let update = json!({
            "contact": contact, "termsOfServiceAgreed": false, "orders": "https://evil.example/", "tomorrow": 1,
            "createdAt": "2000-01-01T00:00:00Z",
        });
        let answer = client.send(&url, update).await.expect(200);
        for _ in 0..server.size() {
            let now = client.read(&url).await.expect(200).json();
            assert_eq!(now, answer.json());
            let shown = now["contact"].as_array().cloned().unwrap_or_default();
            assert_eq!(json!(shown), contact, "{now}");
            for member in ["status", "orders", "termsOfServiceAgreed"] {
                assert_eq!(now[member], before[member], "{now}");
            }
        }
    }
    client.send(&url, json!({})).await.expect(200);
}

async fn acc_06_another_status_is_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    for status in ["revoked", "suspended", "", "Deactivated"] {
        client.send(client.account(), json!({"status": status})).await.problem(400, "malformed");
    }
    assert_eq!(client.read(client.account()).await.state(), "valid");
}

async fn acc_07_a_deactivated_account_can_do_nothing_on_any_replica(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = client.account().to_owned();
    let order = client.order(&[&unique_name()]).await;
    let new_order = client.resource("newOrder").await;
    // Every replica has seen the account as valid just before.
    for _ in 0..server.size() {
        client.read(&url).await.expect(200);
    }
    let gone = client.send(&url, json!({"status": "deactivated"})).await.expect(200);
    assert_eq!(gone.state(), "deactivated", "{gone}");
    for _ in 0..server.size() {
        client.read(&url).await.problem(403, "unauthorized");
        client.read(&order.url).await.problem(403, "unauthorized");
        let payload = json!({"identifiers": identifiers(&[&unique_name()])});
        client.send(&new_order, payload).await.problem(403, "unauthorized");
        client.send(&url, json!({"status": "valid"})).await.problem(403, "unauthorized");
        client.send(&url, json!({"status": "deactivated"})).await.problem(403, "unauthorized");
    }
}

async fn acc_08_the_key_of_a_deactivated_account_is_refused(server: Arc<Deployment>) {
    let client = server.account().await;
    client.send(client.account(), json!({"status": "deactivated"})).await.expect(200);
    for payload in [json!({"termsOfServiceAgreed": true}), json!({"onlyReturnExisting": true})] {
        for _ in 0..server.size() {
            client.new_account(payload.clone()).await.problem(403, "unauthorized");
        }
    }
}

/// All pages of the list of orders.
async fn listed(client: &Client) -> Vec<String> {
    let mut page = Some(client.read(client.account()).await.string("orders"));
    let mut found = Vec::new();
    while let Some(url) = page {
        let answer = client.read(&url).await.expect(200);
        let body = answer.json();
        let urls = body["orders"].as_array().unwrap_or_else(|| panic!("no orders: {answer}"));
        found.extend(urls.iter().map(|url| url.as_str().expect("a URL").to_owned()));
        let mut next = answer.links("next");
        assert!(next.len() <= 1 && found.len() < 1000, "{answer}");
        page = next.pop();
    }
    found
}

async fn acc_09_orders_are_listed_in_a_stable_order(server: Arc<Deployment>) {
    let client = server.account().await;
    assert!(listed(&client).await.is_empty());
    let mut placed = Vec::new();
    for _ in 0..10 {
        let asks: Vec<_> = (0..11).map(|_| unique_name()).collect();
        let orders = asks.iter().map(|name| async { client.ready_order(&[name.as_str()]).await.url });
        placed.extend(join_all(orders).await);
    }
    let first = client.read(&client.read(client.account()).await.string("orders")).await.expect(200);
    assert_eq!(first.links("next").len(), 1, "more than one page: {first}");
    let found = listed(&client).await;
    assert_eq!(found.len(), placed.len(), "each order once");
    assert_eq!(found.iter().collect::<HashSet<_>>(), placed.iter().collect());
    for _ in 1..server.size() {
        assert_eq!(listed(&client).await, found);
    }
}

async fn acc_10_an_account_reads_itself_and_no_other(server: Arc<Deployment>) {
    let (one, other) = (server.account().await, server.account().await);
    assert_eq!(one.read(one.account()).await.expect(200).state(), "valid");
    for payload in ["", "{}", "{\"contact\":[]}", "{\"status\":\"deactivated\"}"] {
        one.post(other.account()).payload(payload).send().await.problem(403, "unauthorized");
    }
    let orders = other.read(other.account()).await.string("orders");
    one.read(&orders).await.problem(403, "unauthorized");
    assert_eq!(other.read(other.account()).await.expect(200).state(), "valid");
}
