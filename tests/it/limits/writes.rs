//! LIM: whatever a client can make the server write has a limit, and what changes nothing is not written.

use std::sync::{Arc, OnceLock};

use serde_json::json;

use super::{refused, settings};
use crate::support::chancery::{Deployment, Kind};
use crate::support::client::Client;
use crate::support::flows::{challenge, text};
use crate::support::response::Response;
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    low =>
        lim_07_changes_of_contacts_are_limited_and_none_is_written_twice
        lim_07_deactivations_are_limited_and_none_is_written_twice
        lim_07_refused_accounts_are_counted_by_address_and_by_site
        lim_07_revocations_are_limited_by_account
        lim_07_validations_are_limited_whatever_the_names;
    many_sites => lim_04_new_accounts_of_a_site_are_counted_together;
}

fn low(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    let mut settings = settings().set("CHANCERY_HTTP_TRUSTED_PROXIES", "127.0.0.0/8,::1");
    for limit in ["ACCOUNT_UPDATES", "DEACTIVATIONS", "REVOCATIONS", "REFUSED_ACCOUNTS"] {
        settings = settings.set(&format!("CHANCERY_LIMITS_{limit}_PER_HOUR"), "2");
    }
    let settings = settings.set("CHANCERY_LIMITS_VALIDATIONS_PER_HOUR", "4");
    cell.get_or_init(|| Deployment::with(kind, &settings)).clone()
}

fn many_sites(kind: Kind) -> Arc<Deployment> {
    let settings = settings()
        .set("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "1")
        .set("CHANCERY_HTTP_TRUSTED_PROXIES", "127.0.0.0/8,::1");
    Deployment::with(kind, &settings)
}

/// How many events of this action the account has.
fn events(server: &Deployment, client: &Client, action: &str) -> usize {
    let id = client.account().rsplit('/').next().expect("an id");
    let trail = server.command(&["audit", "--account", id, "--json"]);
    trail.lines().filter(|line| line.contains(&format!("\"{action}\""))).count()
}

async fn lim_07_changes_of_contacts_are_limited_and_none_is_written_twice(server: Arc<Deployment>) {
    let client = server.account().await;
    let change = async |contact: &str| client.send(client.account(), json!({"contact": [contact]})).await;
    for _ in 0..4 {
        change("mailto:a@example.org").await.expect(200);
    }
    change("tel:+1").await.problem(400, "unsupportedContact");
    let racing = (0..6).map(|_| change("mailto:b@example.org"));
    let answers = futures_util::future::join_all(racing).await;
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        refused(answer, "account-updates");
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    let seconds = refused(&change("mailto:c@example.org").await, "account-updates");
    assert!((1700..=1800).contains(&seconds), "{seconds}");
    change("mailto:b@example.org").await.expect(200);
    assert_eq!(events(&server, &client, "account.contacts_changed"), 2);
}

async fn lim_07_deactivations_are_limited_and_none_is_written_twice(server: Arc<Deployment>) {
    let client = server.account().await;
    let names = [unique_name(), unique_name(), unique_name()];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let urls = client.order(&names).await.authorizations();
    let give_up = async |url: &str| client.send(url, json!({"status": "deactivated"})).await;
    let racing = (0..6).map(|_| give_up(&urls[0]));
    let answers = futures_util::future::join_all(racing).await;
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        refused(answer, "deactivations");
    }
    give_up(&urls[1]).await.expect(200);
    for _ in 0..4 {
        assert_eq!(give_up(&urls[0]).await.expect(200).state(), "deactivated");
    }
    refused(&give_up(&urls[2]).await, "deactivations");
    assert_eq!(client.read(&urls[2]).await.state(), "pending");
    assert_eq!(events(&server, &client, "authorization.deactivated"), 2);
}

async fn lim_07_revocations_are_limited_by_account(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut issued = Vec::new();
    for _ in 0..3 {
        issued.push(client.issue_any().await);
    }
    let revoke = async |index: usize| client.revoke(issued[index].chain.leaf_der(), None).await;
    revoke(0).await.expect(200);
    for _ in 0..4 {
        revoke(0).await.problem(400, "alreadyRevoked");
    }
    revoke(1).await.expect(200);
    refused(&revoke(2).await, "revocations");
}

async fn lim_07_validations_are_limited_whatever_the_names(server: Arc<Deployment>) {
    let client = server.account().await;
    let names: Vec<String> = (0..6).map(|_| unique_name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let order = client.order(&names).await;
    let urls = order.authorizations();
    let mut challenges = Vec::new();
    for url in &urls {
        let authorization = client.read(url).await.expect(200).json();
        let offered = challenge(&authorization, "http-01").expect("offered");
        client.prepare(&authorization, &offered);
        challenges.push(text(&offered, "url"));
    }
    // At once, through all replicas.
    let answers = challenges.iter().map(|url| client.send(url, json!({})));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 4);
    let mut first = None;
    for (index, answer) in answers.iter().enumerate() {
        if answer.status == 200 {
            first = first.or(Some(index));
        } else {
            let seconds = refused(answer, "validations");
            assert!((800..=900).contains(&seconds), "{seconds}");
        }
    }
    // A repeat starts none.
    client.send(&challenges[first.expect("four passed")], json!({})).await.expect(200);
}

async fn register(client: &Client, forwarded: &str, terms: bool) -> Response {
    let url = client.resource("newAccount").await;
    let payload = json!({"termsOfServiceAgreed": terms});
    client.post(&url).by_jwk().header("x-forwarded-for", forwarded).json(payload).send().await
}

async fn lim_07_refused_accounts_are_counted_by_address_and_by_site(server: Arc<Deployment>) {
    for address in ["198.51.100.7", "2001:db8:7:1::1"] {
        for _ in 0..2 {
            register(&server.client(), address, false).await.problem(403, "userActionRequired");
        }
        refused(&register(&server.client(), address, false).await, "refused-accounts");
        // What is in order passes.
        register(&server.client(), address, true).await.expect(201);
    }
    // Two of the site's twenty are used.
    for network in 2..=10 {
        for _ in 0..2 {
            let address = format!("2001:db8:7:{network}::1");
            register(&server.client(), &address, false).await.problem(403, "userActionRequired");
        }
    }
    refused(&register(&server.client(), "2001:db8:7:b::1", false).await, "refused-accounts");
    register(&server.client(), "2001:db8:8::1", false).await.problem(403, "userActionRequired");
}

async fn lim_04_new_accounts_of_a_site_are_counted_together(server: Arc<Deployment>) {
    for network in 1..=10 {
        register(&server.client(), &format!("2001:db8:1:{network}::1"), true).await.expect(201);
    }
    refused(&register(&server.client(), "2001:db8:1:ff::1", true).await, "new-accounts");
    register(&server.client(), "2001:db8:2::1", true).await.expect(201);
}
