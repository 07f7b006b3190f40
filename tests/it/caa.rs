//! AUT-14: CAA. (The second look before an issuance hours later is proven where the clock can be set.)

use std::sync::Arc;

use futures_util::future::join_all;

use crate::support::chancery::{CAA_IDENTITY, Deployment};
use crate::support::client::Client;
use crate::support::flows::text;
use crate::support::keys::Key;
use crate::support::responder::{self, Rcode};
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        aut_14_a_record_that_names_us_permits_and_others_forbid
        aut_14_the_tree_is_climbed_to_the_first_records
        aut_14_wildcards_have_records_of_their_own
        aut_14_unknown_critical_tags_forbid
        aut_14_records_may_name_the_account_and_the_method
        aut_14_a_lookup_that_fails_forbids;
}

/// What a CAA case ends in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Permitted,
    Forbidden,
}
use Verdict::{Forbidden, Permitted};

/// Goes from order to certificate, where it can: CAA may be asked at validation or at issuance.
async fn assert_verdict(client: &Client, name: &str, kind: &str, verdict: Verdict, types: &[&str]) {
    let order = client.order(&[name]).await;
    let url = order.authorizations().remove(0);
    client.answer(&url, kind).await;
    if verdict == Permitted {
        client.wait_for(&url, "valid").await;
        client.collect(&order, &[name], Key::new()).await;
        return;
    }
    let invalid = client.wait_for(&url, "invalid").await.json();
    let challenges = invalid["challenges"].as_array().expect("challenges");
    let error = &challenges
        .iter()
        .find(|challenge| challenge["status"] == "invalid")
        .expect("the failed one")["error"];
    let kind = text(error, "type");
    assert!(types.contains(&kind.trim_start_matches("urn:ietf:params:acme:error:")), "{name}: {invalid}");
    let order = client.read(&order.url).await.expect(200).json();
    assert_eq!(order["status"], "invalid", "{order}");
}

async fn aut_14_a_record_that_names_us_permits_and_others_forbid(server: Arc<Deployment>) {
    let client = server.account().await;
    let ours = CAA_IDENTITY;
    let cases: [(&[(&str, &str)], Verdict); 11] = [
        (&[("issue", ours)], Permitted),
        (&[("ISSUE", &ours.to_uppercase())], Permitted),
        (&[("issue", "other.example"), ("issue", ours)], Permitted),
        (&[("issue", &format!(" {ours} ; "))], Permitted),
        (&[("iodef", "mailto:a@chancery.test")], Permitted),
        (&[("issuewild", ";")], Permitted),
        (&[("issue", "other.example")], Forbidden),
        (&[("issue", ";")], Forbidden),
        (&[("issue", "")], Forbidden),
        (&[("issue", &format!("www.{ours}"))], Forbidden),
        (&[("issue", "not a name!")], Forbidden),
    ];
    let trials = cases.into_iter().map(|(records, verdict)| {
        let client = &client;
        async move {
            let name = unique_name();
            for (tag, value) in records {
                responder::dns().add_caa(&name, 0, tag, value);
            }
            assert_verdict(client, &name, "http-01", verdict, &["caa"]).await;
            assert!(responder::dns().caa_questions(&name) > 0);
        }
    });
    join_all(trials).await;
}

async fn aut_14_the_tree_is_climbed_to_the_first_records(server: Arc<Deployment>) {
    let client = server.account().await;
    let parent = unique_name();
    responder::dns().add_caa(&parent, 0, "issue", "other.example");
    let far = format!("a.b.{parent}");
    assert_verdict(&client, &far, "http-01", Forbidden, &["caa"]).await;
    // The nearest set counts, and only that.
    let near = format!("c.{parent}");
    responder::dns().add_caa(&near, 0, "issue", CAA_IDENTITY);
    assert_verdict(&client, &near, "http-01", Permitted, &[]).await;
    assert_verdict(&client, &format!("d.{near}"), "http-01", Permitted, &[]).await;
}

async fn aut_14_wildcards_have_records_of_their_own(server: Arc<Deployment>) {
    let client = server.account().await;
    let cases: [(&[(&str, &str)], Verdict); 4] = [
        (&[("issue", CAA_IDENTITY)], Permitted),
        (&[("issue", "other.example"), ("issuewild", CAA_IDENTITY)], Permitted),
        (&[("issue", CAA_IDENTITY), ("issuewild", "other.example")], Forbidden),
        (&[("issue", "other.example")], Forbidden),
    ];
    for (records, verdict) in cases {
        let name = unique_name();
        for (tag, value) in records {
            responder::dns().add_caa(&name, 0, tag, value);
        }
        assert_verdict(&client, &format!("*.{name}"), "dns-01", verdict, &["caa"]).await;
    }
}

async fn aut_14_unknown_critical_tags_forbid(server: Arc<Deployment>) {
    let client = server.account().await;
    for (flags, verdict) in [(128, Forbidden), (0, Permitted)] {
        let name = unique_name();
        responder::dns().add_caa(&name, 0, "issue", CAA_IDENTITY);
        responder::dns().add_caa(&name, flags, "tomorrow", "x");
        assert_verdict(&client, &name, "http-01", verdict, &["caa"]).await;
    }
}

async fn aut_14_records_may_name_the_account_and_the_method(server: Arc<Deployment>) {
    let client = server.account().await;
    let ours = |parameters: &str| format!("{CAA_IDENTITY}; {parameters}");
    for (value, verdict) in [
        (ours(&format!("accounturi={}", client.account())), Permitted),
        (ours("accounturi=https://evil.example/account/1"), Forbidden),
        (ours("validationmethods=dns-01,http-01"), Permitted),
        (ours("validationmethods=http-01"), Permitted),
        (ours("validationmethods=dns-01"), Forbidden),
        (ours(&format!("accounturi={}; validationmethods=dns-01", client.account())), Forbidden),
    ] {
        let name = unique_name();
        responder::dns().add_caa(&name, 0, "issue", &value);
        assert_verdict(&client, &name, "http-01", verdict, &["caa"]).await;
    }
}

async fn aut_14_a_lookup_that_fails_forbids(server: Arc<Deployment>) {
    let client = server.account().await;
    let (name, parent) = (unique_name(), unique_name());
    responder::dns().fail_caa(&name, Rcode::ServerFailure);
    responder::dns().fail_caa(&parent, Rcode::ServerFailure);
    for name in [name, format!("www.{parent}")] {
        assert_verdict(&client, &name, "http-01", Forbidden, &["caa", "dns"]).await;
    }
    let absent = unique_name();
    responder::dns().fail_caa(&absent, Rcode::NoSuchName);
    assert_verdict(&client, &absent, "http-01", Permitted, &[]).await;
}
