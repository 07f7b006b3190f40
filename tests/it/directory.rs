//! DIR: the directory.

use std::sync::Arc;

use serde_json::json;

use crate::support::chancery::{CAA_IDENTITY, Deployment, Kind, Settings, TERMS};
use crate::support::flows::identifiers;
use crate::support::run::{runtime, unique_name};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        dir_01_every_resource_is_listed
        dir_02_meta_says_what_is_configured
        dir_03_get_and_post_as_get_give_the_same
        dir_03_each_profile_has_a_directory_of_its_own;
}

async fn dir_01_every_resource_is_listed(server: Arc<Deployment>) {
    let client = server.client();
    for replica in 0..server.size() {
        let ask = client.plain(http::Method::GET, &server.directory).through(replica);
        let directory = ask.send().await.expect(200).json();
        for resource in
            ["newNonce", "newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange", "renewalInfo"]
        {
            let url = directory[resource].as_str().unwrap_or_else(|| panic!("no {resource}: {directory}"));
            assert!(url.starts_with(&format!("{}/", server.base_url)), "{url}");
        }
        assert!(directory["meta"].is_object(), "{directory}");
    }
}

#[test]
fn dir_01_new_authz_is_listed_only_where_pre_authorization_is_on() {
    let server =
        Deployment::with(Kind::Embedded, &Settings::new().set("CHANCERY_PRE_AUTHORIZATION", "false"));
    runtime().block_on(async {
        let directory = server.client().get(&server.directory).await.expect(200).json();
        assert!(directory.get("newAuthz").is_none(), "{directory}");
        assert!(directory["newOrder"].is_string(), "{directory}");
    });
}

async fn dir_02_meta_says_what_is_configured(server: Arc<Deployment>) {
    let meta = server.client().get(&server.directory).await.expect(200).json()["meta"].clone();
    assert_eq!(meta["termsOfService"], TERMS, "{meta}");
    assert_eq!(meta["website"], "https://www.chancery.test/", "{meta}");
    assert_eq!(meta["caaIdentities"], json!([CAA_IDENTITY]), "{meta}");
    assert_ne!(meta["externalAccountRequired"], json!(true), "{meta}");
    assert_eq!(meta["profiles"]["trusted"], "Names are taken on trust.", "{meta}");
    let profiles = meta["profiles"].as_object().expect("profiles");
    let mut names: Vec<_> = profiles.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["default", "forgetful", "plain", "trusted"], "{meta}");
    assert!(profiles.values().all(serde_json::Value::is_string), "{meta}");
}

async fn dir_03_get_and_post_as_get_give_the_same(server: Arc<Deployment>) {
    let client = server.account().await;
    let got = client.get(&server.directory).await.expect(200);
    let posted = client.read(&server.directory).await.expect(200);
    assert_eq!(got.body, posted.body);
}

async fn dir_03_each_profile_has_a_directory_of_its_own(server: Arc<Deployment>) {
    let client = server.account().await;
    let url = format!("{}/profiles/trusted/directory", server.base_url);
    let directory = client.get(&url).await.expect(200).json();
    let new_order = directory["newOrder"].as_str().expect("newOrder");
    let order =
        client.send(new_order, json!({"identifiers": identifiers(&[&unique_name()])})).await.expect(201);
    assert_eq!(order.state(), "ready", "the profile trusts the account: {order}");
    let nowhere = format!("{}/profiles/unheard-of/directory", server.base_url);
    client.get(&nowhere).await.expect(404).any_problem();
}
