//! ORD-01 to ORD-08 and ORD-13, ORD-15 and ORD-16: orders and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chancery::acme::time::{FleetClock, Timestamp};
use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::Deployment;
use crate::support::flows::{Order, identifiers, text};
use crate::support::keys::Key;
use crate::support::run::{unique_address, unique_name};
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        ord_01_a_new_order_has_all_its_members_and_echoes_what_was_asked
        ord_02_one_to_a_hundred_identifiers_of_type_dns_and_ip
        ord_03_every_bad_name_is_malformed_and_all_are_told_at_once
        ord_03_names_are_lower_cased
        ord_03_names_refused_by_policy_are_rejected
        ord_03_identifiers_of_nobody_are_rejected_all_at_once
        ord_04_addresses_are_in_their_canonical_form
        ord_05_a_valid_authorization_is_used_again_by_the_same_account
        ord_05_a_profile_may_forbid_to_use_authorizations_again
        ord_06_dates_outside_policy_are_malformed
        ord_06_the_certificate_carries_the_dates_that_the_order_shows
        ord_06_the_year_1_asks_for_nothing
        ord_06_fractions_of_a_second_come_back_as_asked
        ord_06_no_certificate_is_valid_longer_than_its_profile_says
        ord_07_an_order_only_goes_forward_whichever_replica_is_asked
        ord_13_valid_orders_carry_a_certificate_and_invalid_ones_an_error
        ord_15_an_unknown_profile_is_invalid_profile
        ord_16_identifiers_and_authorizations_come_in_the_order_asked_for;
    Deployment::hasty =>
        ord_08_an_order_past_its_expiry_reads_invalid_at_once;
}

/// This many seconds from now, as RFC 3339.
fn from_now(seconds: i64) -> String {
    Timestamp::from_seconds(FleetClock::machine_now().seconds() + seconds).to_string()
}

const DAY: i64 = 86_400;

async fn ord_01_a_new_order_has_all_its_members_and_echoes_what_was_asked(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let plain = client.new_order(json!({"identifiers": identifiers(&[&name])})).await.expect(201);
    let body = plain.json();
    assert_eq!(body["status"], "pending", "{plain}");
    assert_eq!(body["identifiers"], identifiers(&[&name]), "{plain}");
    let expires = Timestamp::parse_rfc3339(&text(&body, "expires")).expect("RFC 3339");
    assert!(expires > FleetClock::machine_now(), "{plain}");
    let order = Order::of(&plain);
    assert_eq!(order.authorizations().len(), 1);
    for url in order.authorizations().iter().chain([&order.finalize(), &order.url]) {
        assert!(url.starts_with(&format!("{}/", server.base_url)), "{url}");
    }
    for absent in ["certificate", "error", "notBefore", "notAfter", "replaces"] {
        assert!(body.get(absent).is_none(), "{absent}: {plain}");
    }
    for _ in 0..server.size() {
        assert_eq!(client.read(&order.url).await.expect(200).json(), body);
    }
    let until = from_now(5 * DAY);
    let asked = json!({"identifiers": identifiers(&[&name]), "profile": "trusted", "notAfter": until});
    let special = client.new_order(asked).await.expect(201);
    assert_eq!(special.string("profile"), "trusted", "{special}");
    assert_eq!(special.string("notAfter"), until, "{special}");
}

async fn ord_02_one_to_a_hundred_identifiers_of_type_dns_and_ip(server: Arc<Deployment>) {
    let client = server.account().await;
    let place = async |identifiers: Value| {
        client.new_order(json!({"identifiers": identifiers, "profile": "trusted"})).await
    };
    place(json!([])).await.problem(400, "malformed");
    let email = json!([{"type": "email", "value": "a@chancery.test"}]);
    place(email).await.problem(400, "unsupportedIdentifier");
    client.new_order(json!({"profile": "trusted"})).await.problem(400, "malformed");
    let names: Vec<_> = (0..101).map(|_| unique_name()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    place(identifiers(&names)).await.problem_of(&["malformed", "rejectedIdentifier"]);
    let full = place(identifiers(&names[..100])).await.expect(201);
    assert_eq!(Order::of(&full).authorizations().len(), 100);
    let (address, doubled) = (unique_address().to_string(), names[0].to_uppercase());
    let folded = place(identifiers(&[names[0], &address, &doubled, names[0], &address])).await.expect(201);
    assert_eq!(folded.json()["identifiers"], identifiers(&[names[0], &address]), "{folded}");
    assert_eq!(Order::of(&folded).authorizations().len(), 2, "{folded}");
}

async fn ord_03_every_bad_name_is_malformed_and_all_are_told_at_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = format!("{}test", "abc.".repeat(63));
    let bad = [
        "",
        ".",
        "a.test.",
        "a..test",
        ".a.test",
        "a_b.test",
        "bücher.test",
        "-a.test",
        "a-.test",
        "ab--c.test",
        "xn--a.test",
        "xn--0.test",
        "a.*.test",
        "*a.test",
        "a*.test",
        "*.*.test",
        "a b.test",
        "a.test\n",
        "a.test/",
        "a.test:443",
        "https://a.test",
        "1.2.3.4.5",
        &long_label,
        &long_name,
    ];
    let asked: Vec<_> = bad.iter().map(|name| json!({"type": "dns", "value": name})).collect();
    for one in &asked {
        let answer = client.new_order(json!({"identifiers": [one]})).await;
        assert_eq!(answer.status, 400, "{one}: {answer}");
        answer.problem(400, "malformed");
    }
    // An address is no DNS name.
    for address in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
        let one = json!({"type": "dns", "value": address});
        client.new_order(json!({"identifiers": [one]})).await.problem(400, "malformed");
    }
    let all = client.new_order(json!({"identifiers": asked})).await.problem(400, "malformed");
    assert_eq!(all["subproblems"].as_array().map(Vec::len), Some(bad.len()), "{all}");
}

async fn ord_03_names_are_lower_cased(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let order = client.order(&[&name.to_uppercase(), &format!("XN--BCHER-KVA.{name}")]).await;
    assert_eq!(order.body["identifiers"], identifiers(&[&name, &format!("xn--bcher-kva.{name}")]));
}

async fn ord_03_names_refused_by_policy_are_rejected(server: Arc<Deployment>) {
    let client = server.account().await;
    for name in ["denied.test", "www.denied.test", "*.denied.test", "WWW.DENIED.TEST"] {
        let answer = client.new_order(json!({"identifiers": identifiers(&[name])})).await;
        answer.problem(400, "rejectedIdentifier");
    }
    let single = client.new_order(json!({"identifiers": identifiers(&["intranet"])})).await;
    single.problem_of(&["rejectedIdentifier", "malformed"]);
    for name in [&format!("*.{}", unique_name()), "192.0.2.1"] {
        let payload = json!({"identifiers": identifiers(&[name]), "profile": "plain"});
        client.new_order(payload).await.problem(400, "rejectedIdentifier");
    }
}

async fn ord_03_identifiers_of_nobody_are_rejected_all_at_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let nobodys = [
        ("dns", "a.localhost"),
        ("dns", "*.localhost"),
        ("dns", "4.3.2.1.in-addr.arpa"),
        ("dns", "x.onion"),
        ("ip", "0.0.0.0"),
        ("ip", "224.0.0.1"),
        ("ip", "169.254.1.1"),
        ("ip", "fe80::1"),
        ("ip", "::ffff:10.0.0.1"),
        // Loopback is somebody's in these tests, but not in a second spelling.
        ("ip", "::7f00:1"),
    ];
    let asked = nobodys.map(|(kind, value)| json!({"type": kind, "value": value}));
    for profile in ["trusted", "default"] {
        let payload = json!({"identifiers": asked, "profile": profile});
        let problem = client.new_order(payload).await.problem(400, "rejectedIdentifier");
        let told: Vec<_> = problem["subproblems"].as_array().expect("subproblems").iter().collect();
        assert_eq!(told.len(), nobodys.len(), "{problem}");
        for (identifier, sub) in asked.iter().zip(told) {
            assert_eq!(sub["identifier"], *identifier, "{problem}");
            assert_eq!(sub["type"], "urn:ietf:params:acme:error:rejectedIdentifier", "{problem}");
        }
    }
    let url = client.resource("newAuthz").await;
    for identifier in asked.iter().filter(|asked| asked["value"] != "*.localhost") {
        let answer = client.send(&url, json!({"identifier": identifier})).await;
        answer.problem(400, "rejectedIdentifier");
    }
}

async fn ord_04_addresses_are_in_their_canonical_form(server: Arc<Deployment>) {
    let client = server.account().await;
    let place = async |value: &str| {
        let identifier = json!([{"type": "ip", "value": value}]);
        client.new_order(json!({"identifiers": identifier, "profile": "trusted"})).await
    };
    for wrong in [
        "192.0.2.01",
        "192.0.2",
        "192.0.2.1.",
        "3221225985",
        "0xc0.0.2.1",
        "2001:DB8::1",
        "2001:db8:0:0:0:0:0:1",
        "[2001:db8::1]",
        "fe80::1%eth0",
        "192.0.2.0/24",
        "*.0.2.1",
        "a.test",
        "",
    ] {
        let answer = place(wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer}");
        answer.problem(400, "malformed");
    }
    for right in ["192.0.2.1", "2001:db8::1"] {
        let order = place(right).await.expect(201);
        assert_eq!(order.json()["identifiers"][0], json!({"type": "ip", "value": right}), "{order}");
    }
}

async fn ord_05_a_valid_authorization_is_used_again_by_the_same_account(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    let (name, fresh) = (unique_name(), unique_name());
    let first = client.order(&[&name]).await;
    client.authorize(&first, "http-01").await;
    for _ in 0..server.size() {
        let again = client.order(&[&name]).await;
        assert_eq!(again.body["status"], "ready", "{}", again.body);
        assert_eq!(again.authorizations(), first.authorizations());
    }
    let wider = client.order(&[&fresh, &name]).await;
    assert_eq!(wider.body["status"], "pending", "{}", wider.body);
    assert!(wider.authorizations().contains(&first.authorizations()[0]));
    let wildcard = client.order(&[&format!("*.{name}")]).await;
    assert_eq!(wildcard.body["status"], "pending", "{}", wildcard.body);
    let foreign = other.order(&[&name]).await;
    assert_eq!(foreign.body["status"], "pending", "{}", foreign.body);
    assert_ne!(foreign.authorizations(), first.authorizations());
    let again = client.order(&[&name]).await;
    let issued = client.collect(&again, &[&name], Key::new()).await;
    assert_eq!(issued.chain.names(), [name]);
}

async fn ord_05_a_profile_may_forbid_to_use_authorizations_again(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let first = client.order_under("forgetful", &[&name]).await;
    client.authorize(&first, "http-01").await;
    client.wait_for(&first.authorizations()[0], "valid").await;
    let second = client.order_under("forgetful", &[&name]).await;
    assert_eq!(second.body["status"], "pending", "{}", second.body);
    assert_ne!(first.authorizations(), second.authorizations());
}

async fn ord_06_dates_outside_policy_are_malformed(server: Arc<Deployment>) {
    let client = server.account().await;
    for (from, until) in [
        (None, Some(-DAY)),
        (None, Some(3650 * DAY)),
        (Some(2 * DAY), Some(DAY)),
        (Some(3650 * DAY), Some(3651 * DAY)),
        (Some(-365 * DAY), None),
    ] {
        let mut payload = json!({"identifiers": identifiers(&[&unique_name()]), "profile": "trusted"});
        if let Some(from) = from {
            payload["notBefore"] = json!(from_now(from));
        }
        if let Some(until) = until {
            payload["notAfter"] = json!(from_now(until));
        }
        let answer = client.new_order(payload.clone()).await;
        assert_eq!(answer.status, 400, "{payload}: {answer}");
        answer.problem(400, "malformed");
    }
    // A lifetime of less than default_profile.shortest_lifetime.
    let payload = json!({"identifiers": identifiers(&[&unique_name()]), "notAfter": from_now(240)});
    client.new_order(payload).await.problem(400, "malformed");
    for wrong in ["soon", "2030-01-01", "2030-13-01T00:00:00Z", ""] {
        let payload = json!({"identifiers": identifiers(&[&unique_name()]), "notAfter": wrong});
        client.new_order(payload).await.problem(400, "malformed");
    }
}

async fn ord_06_the_certificate_carries_the_dates_that_the_order_shows(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    for (member, asked) in [("notAfter", from_now(5 * DAY)), ("notBefore", from_now(60))] {
        let mut payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
        payload[member] = json!(asked);
        let order = Order::of(&client.new_order(payload).await.expect(201));
        let issued = client.collect(&order, &[&name], Key::new()).await;
        let shown = client.read(&order.url).await.string(member);
        assert_eq!(shown, asked);
        let leaf = issued.chain.leaf();
        let validity = leaf.validity();
        let carried = if member == "notAfter" { validity.not_after } else { validity.not_before };
        assert_eq!(Timestamp::from_seconds(carried.timestamp()).to_string(), shown, "{member}");
    }
}

async fn ord_06_the_year_1_asks_for_nothing(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    for year_1 in ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"] {
        let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted",
                             "notBefore": year_1, "notAfter": year_1});
        let order = Order::of(&client.new_order(payload).await.expect(201));
        client.collect(&order, &[&name], Key::new()).await;
        let shown = client.read(&order.url).await.expect(200).json();
        assert!(shown.get("notBefore").is_none() && shown.get("notAfter").is_none(), "{shown}");
    }
}

async fn ord_06_fractions_of_a_second_come_back_as_asked(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let (from, until) = (from_now(60), from_now(5 * DAY));
    for fraction in [".5", ".123", ".000001", ".999999"] {
        let with = |whole: &str| whole.replace('Z', &format!("{fraction}Z"));
        let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted",
                             "notBefore": with(&from), "notAfter": with(&until)});
        let answer = client.new_order(payload).await.expect(201);
        let order = Order::of(&answer);
        let issued = client.collect(&order, &[&name], Key::new()).await;
        for shown in [answer.json(), client.read(&order.url).await.expect(200).json()] {
            let dates = (text(&shown, "notBefore"), text(&shown, "notAfter"));
            assert_eq!(dates, (with(&from), with(&until)));
        }
        // The certificate carries the same seconds.
        let leaf = issued.chain.leaf();
        let carried = |at: x509_parser::time::ASN1Time| Timestamp::from_seconds(at.timestamp()).to_string();
        let validity = leaf.validity();
        assert_eq!(
            (carried(validity.not_before), carried(validity.not_after)),
            (from.clone(), until.clone())
        );
    }
    // Within one second nothing begins and ends.
    let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted",
                         "notBefore": from.replace('Z', ".1Z"), "notAfter": from.replace('Z', ".9Z")});
    client.new_order(payload).await.problem(400, "malformed");
}

async fn ord_06_no_certificate_is_valid_longer_than_its_profile_says(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let length = async |order: &Order| {
        let issued = client.collect(order, &[&name], Key::new()).await;
        let leaf = issued.chain.leaf();
        leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()
    };
    // Without dates it is as long as may be; its last second is valid too (RFC 5280 §4.1.2.5).
    let longest = length(&client.ready_order(&[&name]).await).await + 1;
    let mut payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
    payload["notAfter"] = json!(from_now(longest + 60));
    client.new_order(payload.clone()).await.problem(400, "malformed");
    payload["notAfter"] = json!(from_now(longest));
    let order = Order::of(&client.new_order(payload.clone()).await.expect(201));
    let got = length(&order).await;
    assert!((longest - 1..=longest).contains(&got), "{got} of {longest}: the backdate is not added");
    payload["notBefore"] = json!(from_now(30));
    payload["notAfter"] = json!(from_now(30 + longest + 2));
    client.new_order(payload).await.problem(400, "malformed");
}

async fn ord_07_an_order_only_goes_forward_whichever_replica_is_asked(server: Arc<Deployment>) {
    let client = server.account().await;
    let names = [unique_name(), unique_name(), unique_name()];
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let order = client.order(&names).await;
    let done = AtomicBool::new(false);
    let watch = async {
        let mut seen: Vec<String> = Vec::new();
        while !done.load(Ordering::SeqCst) {
            let state = client.read(&order.url).await.expect(200).state();
            if seen.last() != Some(&state) {
                seen.push(state);
            }
        }
        seen
    };
    let work = async {
        let authorizations = order.authorizations();
        let answers = authorizations.iter().map(|url| async {
            client.answer(url, "http-01").await;
            client.wait_for(url, "valid").await;
        });
        // All three at once: whoever comes last makes the order ready, and no one writes that down.
        futures_util::future::join_all(answers).await;
        client.wait_for(&order.url, "ready").await;
        let issued = client.collect(&order, &names, Key::new()).await;
        done.store(true, Ordering::SeqCst);
        issued
    };
    let (seen, issued) = tokio::join!(watch, work);
    let ranks = ["pending", "ready", "processing", "valid"];
    let rank = |state: &String| ranks.iter().position(|one| one == state).expect("a state on the way");
    assert!(seen.windows(2).all(|pair| rank(&pair[0]) < rank(&pair[1])), "{seen:?}");
    assert_eq!(issued.chain.names().len(), 3);
}

async fn ord_08_an_order_past_its_expiry_reads_invalid_at_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let (pending, ready) = (client.order(&[&name]).await, client.ready_order(&[&name]).await);
    let expires = Timestamp::parse_rfc3339(&text(&ready.body, "expires")).expect("RFC 3339");
    // `expires` is shown at whole seconds; a replica's clock may differ from ours by little.
    while FleetClock::machine_now() < expires.plus(Duration::from_millis(1100)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..server.size() {
        for order in [&pending, &ready] {
            let now = client.read(&order.url).await.expect(200);
            assert_eq!(now.state(), "invalid", "{now}");
            assert!(now.json()["error"]["type"].is_string(), "{now}");
        }
        let late = client.finalize(&ready, &csr(&Key::new().to_rcgen(), &[&name])).await;
        late.problem(403, "orderNotReady");
    }
}

async fn ord_13_valid_orders_carry_a_certificate_and_invalid_ones_an_error(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let valid = client.read(&issued.order).await.expect(200).json();
    assert_eq!(text(&valid, "certificate"), issued.url);
    assert!(valid.get("error").is_none(), "{valid}");
    let failing = client.order(&[&unique_name()]).await;
    client.answer_blindly(&failing.authorizations()[0], "http-01").await;
    let invalid = client.wait_for(&failing.url, "invalid").await.json();
    assert!(invalid.get("certificate").is_none(), "{invalid}");
    let error = &invalid["error"];
    assert!(text(error, "type").starts_with("urn:ietf:params:acme:error:"), "{invalid}");
    assert!(!text(error, "detail").is_empty(), "{invalid}");
}

async fn ord_15_an_unknown_profile_is_invalid_profile(server: Arc<Deployment>) {
    let client = server.account().await;
    for profile in ["unheard-of", "", "Trusted", "../default"] {
        let payload = json!({"identifiers": identifiers(&[&unique_name()]), "profile": profile});
        client.new_order(payload).await.problem(400, "invalidProfile");
    }
    client.order_under("default", &[&unique_name()]).await;
}

async fn ord_16_identifiers_and_authorizations_come_in_the_order_asked_for(server: Arc<Deployment>) {
    let client = server.account().await;
    let base = unique_name();
    let address = unique_address().to_string();
    let names = [format!("z.{base}"), format!("*.{base}"), address, format!("a.{base}"), base.clone()];
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let order = client.order(&names).await;
    assert_eq!(order.body["identifiers"], identifiers(&names));
    for (url, name) in order.authorizations().iter().zip(&names) {
        let authorization = client.read(url).await.expect(200).json();
        assert_eq!(authorization["identifier"]["value"], name.trim_start_matches("*."), "{authorization}");
    }
    assert_eq!(client.read(&order.url).await.json()["identifiers"], identifiers(&names));
}
