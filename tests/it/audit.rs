//! The audit trail: each change of state leaves one event that says who, what, which, from where and by which request;
//! what is refused, or changes nothing, leaves none; and the trail agrees with the books, whatever dies when.

use std::collections::BTreeSet;
use std::sync::Arc;

use chancery::acme::audit::Action;
use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::Deployment;
use crate::support::client::Client;
use crate::support::flows::{challenge, identifiers, revocation, text};
use crate::support::keys::{Key, base64url};
use crate::support::responder::Reply;
use crate::support::response::Response;
use crate::support::run::{SOON, unique_name};
use crate::support::trial::Trial;
use crate::{eab, wire_tests};

wire_tests! {
    Deployment::shared =>
        each_change_of_an_account_is_an_event
        each_change_of_an_order_is_an_event
        each_change_of_an_authorization_is_an_event
        each_change_of_a_certificate_is_an_event
        each_change_of_a_limit_is_an_event_and_an_order_that_it_refuses_is_none
        what_is_refused_or_repeated_leaves_no_event
        nothing_secret_is_in_the_trail_or_its_log
        the_command_tells_the_trail_of_each_resource;
    eab::bound =>
        each_change_of_an_external_account_key_is_an_event;
}

mod blocked_keys;
#[cfg(feature = "faults")]
mod deaths;
mod retention;

/// The last part of a URL.
fn id(url: &str) -> &str {
    url.rsplit('/').next().expect("a last part")
}

fn request_id(answer: &Response) -> String {
    answer.header("x-request-id").expect("an id").to_owned()
}

/// The trail as the command tells it.
fn trail(server: &Deployment, option: &str, name: &str) -> Vec<Value> {
    let mut arguments = vec!["audit", option];
    arguments.extend(Some(name).filter(|name| !name.is_empty()));
    arguments.push("--json");
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    server.command(&arguments).lines().map(read).collect()
}

fn of_account(client: &Client) -> Vec<Value> {
    trail(&client.server, "--account", id(client.account()))
}

fn of_order(client: &Client, order: &str) -> Vec<Value> {
    trail(&client.server, "--order", id(order))
}

fn actions(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| text(event, "action")).collect()
}

/// The one event of an action, which the account of `client` brought about by the request that `answer` answers.
fn one<'e>(events: &'e [Value], action: &str, client: &Client, answer: &Response) -> &'e Value {
    let found: Vec<_> = events.iter().filter(|event| event["action"] == action).collect();
    let [event] = found.as_slice() else { panic!("not one {action}: {found:?}") };
    let account = id(client.account());
    assert_eq!(text(event, "actor"), format!("account:{account}"), "{event}");
    assert_eq!(text(event, "account"), account, "{event}");
    assert_eq!(text(event, "request_id"), request_id(answer), "{event}");
    assert_eq!(text(event, "client_address"), "127.0.0.1", "{event}");
    event
}

async fn each_change_of_an_account_is_an_event(server: Arc<Deployment>) {
    let client = server.client();
    let made = client.register().await.expect(201);
    let changed = client.send(client.account(), json!({"contact": ["mailto:a@chancery.test"]})).await;
    let new_key = Key::new();
    let url = client.resource("keyChange").await;
    let inner = json!({"account": client.account(), "oldKey": client.key.jwk()});
    let inner = client.post(&url).signed_by(&new_key).by_jwk().json(inner).sealed();
    let rolled = client.send(&url, inner).await;
    let events = of_account(&client);
    assert_eq!(actions(&events), ["account.created", "account.contacts_changed", "account.key_changed"]);
    let created = one(&events, "account.created", &client, &made);
    assert_eq!(
        created["detail"],
        json!({"key": client.key.thumbprint(), "contacts": 0, "terms_agreed": true})
    );
    let contacts = one(&events, "account.contacts_changed", &client, &changed.expect(200));
    assert_eq!(contacts["detail"], json!({"contacts": 1}), "contacts are no matter of the trail");
    let key = one(&events, "account.key_changed", &client, &rolled.expect(200));
    let keys = json!({"old_key": client.key.thumbprint(), "new_key": new_key.thumbprint()});
    assert_eq!(key["detail"], keys);
}

async fn each_change_of_an_order_is_an_event(server: Arc<Deployment>) {
    let client = server.account().await;
    let name = unique_name();
    let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
    let placed = client.new_order(payload).await.expect(201);
    let order = placed.location();
    let finalize = placed.string("finalize");
    let key = Key::new();
    let csr = base64url(&csr(&key.to_rcgen(), &[&name]));
    let finalized = client.send(&finalize, json!({"csr": csr})).await.expect(200);
    let serial = id(&client.wait_for(&order, "valid").await.string("certificate")).to_owned();
    let events = of_order(&client, &order);
    assert_eq!(actions(&events), ["order.placed", "order.processing", "certificate.issued"]);
    for event in &events {
        assert_eq!(text(event, "order"), id(&order));
    }
    let authorization = id(placed.json()["authorizations"][0].as_str().expect("a URL")).to_owned();
    let expected = json!({"profile": "trusted", "identifiers": [name], "authorizations": [authorization]});
    assert_eq!(one(&events, "order.placed", &client, &placed)["detail"], expected);
    assert_eq!(text(one(&events, "order.processing", &client, &finalized), "serial"), serial);
    let issued = one(&events, "certificate.issued", &client, &finalized);
    assert_eq!((text(issued, "serial"), &issued["detail"]["identifiers"]), (serial.clone(), &json!([name])));
    assert_eq!(actions(&trail(&server, "--serial", &serial)), ["order.processing", "certificate.issued"]);
    assert_eq!(of_account(&client)[1..], events, "the account's trail has what the order's has");
}

async fn each_change_of_an_authorization_is_an_event(server: Arc<Deployment>) {
    let client = server.account().await;
    let new_authz = client.resource("newAuthz").await;
    let name = unique_name();
    let payload = json!({"identifier": {"type": "dns", "value": name}});
    let created = client.send(&new_authz, payload).await.expect(201);
    let answered = client.answer(&created.location(), "http-01").await;
    client.wait_for(&created.location(), "valid").await;
    let given_up = client.send(&created.location(), json!({"status": "deactivated"})).await.expect(200);
    let events = of_account(&client);
    let expected = [
        ("authorization.created", &created, json!({"profile": "default", "identifier": name})),
        ("authorization.accepted", &answered, json!({"type": "http-01"})),
        // By the job that the response began.
        ("authorization.validated", &answered, json!({"identifier": name, "type": "http-01"})),
        ("authorization.deactivated", &given_up, json!({})),
    ];
    assert_eq!(actions(&events)[1..], expected.each_ref().map(|(action, ..)| (*action).to_owned()));
    for (action, answer, detail) in &expected {
        let event = one(&events, action, &client, answer);
        assert_eq!(text(event, "authorization"), id(&created.location()));
        assert_eq!(event["detail"], *detail, "{action}");
    }
    let other = server.account().await;
    let trial = Trial::http(&other, |_| Reply::Body("wrong".into())).await;
    trial.fails(&["incorrectResponse", "unauthorized"]).await;
    let events = of_order(&other, &trial.order.url);
    assert_eq!(actions(&events), ["order.placed", "authorization.accepted", "authorization.failed"]);
    let detail = &events[2]["detail"];
    assert_eq!(detail["identifier"], trial.authorization["identifier"]["value"]);
    assert!(detail["problem"].is_string() && events[2]["request_id"].is_string(), "{}", events[2]);
}

async fn each_change_of_a_certificate_is_an_event(server: Arc<Deployment>) {
    let client = server.account().await;
    let (first, second) = (client.issue_any().await, client.issue_any().await);
    let revoked = client.revoke(first.chain.leaf_der(), Some(4)).await.expect(200);
    let events = trail(&server, "--serial", id(&first.url));
    assert_eq!(actions(&events), ["order.processing", "certificate.issued", "certificate.revoked"]);
    let event = one(&events, "certificate.revoked", &client, &revoked);
    assert_eq!(event["detail"], json!({"reason": 4}));
    assert_eq!(
        (text(event, "serial"), text(event, "order")),
        (id(&first.url).to_owned(), id(&first.order).to_owned())
    );

    let url = client.resource("revokeCert").await;
    let payload = revocation(second.chain.leaf_der(), None);
    let answer = client.post(&url).signed_by(&second.key).by_jwk().json(payload).send().await.expect(200);
    let events = trail(&server, "--serial", id(&second.url));
    let event = events.last().expect("events");
    assert_eq!(
        (text(event, "action"), text(event, "actor")),
        ("certificate.revoked".into(), "certificate-key".into())
    );
    assert_eq!(text(event, "account"), id(client.account()), "whose certificate it was");
    assert_eq!(text(event, "request_id"), request_id(&answer));
    let detail = &event["detail"];
    assert_eq!((&detail["reason"], &detail["key_blocked"]), (&json!(1), &json!(true)), "{event}");
}

async fn what_is_refused_or_repeated_leaves_no_event(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    client.revoke(issued.chain.leaf_der(), None).await.expect(200);
    let name = unique_name();
    let order = client.order(&[&name]).await;
    client.authorize(&order, "http-01").await;
    let url = order.authorizations().remove(0);
    let before = of_account(&client);

    client.new_account(json!({"termsOfServiceAgreed": true})).await.expect(200);
    client.revoke(issued.chain.leaf_der(), None).await.problem(400, "alreadyRevoked");
    client.new_order(json!({"identifiers": identifiers(&["denied.test"])})).await.any_problem();
    client.send(client.account(), json!({"contact": ["tel:1"]})).await.any_problem();
    client.send(client.account(), json!({})).await.expect(200);
    client.finalize(&order, &csr(&Key::new().to_rcgen(), &[&unique_name()])).await.problem(400, "badCSR");
    client.finalize(&order, b"").await.any_problem();
    let authorization = client.read(&url).await.expect(200).json();
    let answered = challenge(&authorization, "http-01").expect("the challenge that was answered");
    client.send(&text(&answered, "url"), json!({})).await.expect(200);
    let payload = json!({"identifiers": identifiers(&[&name])});
    let new_order = client.resource("newOrder").await;
    client.post(&new_order).json(payload.clone()).nonce("AAAA").send().await.any_problem();
    client
        .post(&new_order)
        .json(payload)
        .signature(|s| s.iter().map(|b| b ^ 1).collect())
        .send()
        .await
        .any_problem();
    let stranger = server.account().await;
    stranger.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await.any_problem();
    stranger.send(&url, json!({"status": "deactivated"})).await.any_problem();
    assert_eq!(of_account(&client), before);
    assert_eq!(actions(&of_account(&stranger)), ["account.created"]);

    client.send(&url, json!({"status": "deactivated"})).await.expect(200);
    client.send(&url, json!({"status": "deactivated"})).await.expect(200);
    client.send(client.account(), json!({"status": "deactivated"})).await.expect(200);
    client.send(client.account(), json!({"status": "deactivated"})).await.any_problem();
    let found = actions(&of_account(&client));
    let count = |action: &str| found.iter().filter(|found| *found == action).count();
    // The authorization of the certificate is over with the account; the sweeper may not have said so yet.
    let given_up = count("authorization.deactivated");
    assert!(matches!(given_up, 1 | 2) && count("account.deactivated") == 1, "{found:?}");
}

async fn each_change_of_an_external_account_key_is_an_event(server: Arc<Deployment>) {
    let key = eab::create(&server, &["--uses", "2", "--expires", "1h"]);
    let (client, answer) = eab::bind(&server, &key).await;
    server.command(&["eab", "revoke", &key.kid]);
    server.command(&["eab", "revoke", &key.kid]);
    let (_, refused) = eab::bind(&server, &key).await;
    refused.any_problem();
    let all = trail(&server, "--all", "");
    let of_key = |event: &&Value| event["detail"]["kid"] == key.kid.as_str();
    let events: Vec<_> = all.iter().filter(of_key).cloned().collect();
    let words = ["external_account_key.created", "external_account_key.used", "external_account_key.revoked"];
    assert_eq!(actions(&events), words);
    one(&events, words[1], &client, &answer.expect(201));
    for event in [&events[0], &events[2]] {
        assert_eq!(
            (text(event, "actor"), &event["request_id"]),
            ("operator".to_owned(), &Value::Null),
            "{event}"
        );
    }
    assert_eq!(events[0]["detail"]["uses"], 2);
    let created = &of_account(&client)[0];
    assert_eq!(
        (text(created, "action"), &created["detail"]["external_account_key"]),
        ("account.created".to_owned(), &json!(key.kid))
    );
    assert!(!Value::from(all).to_string().contains(&key.secret), "no secret is in the trail");
}

async fn each_change_of_a_limit_is_an_event_and_an_order_that_it_refuses_is_none(server: Arc<Deployment>) {
    let client = server.account().await;
    let account = id(client.account()).to_owned();
    server.command(&["limits", "override", "set", "active-orders", &account, "1"]);
    let mut placed = 0;
    let start = std::time::Instant::now();
    // Replicas look for changed limits every other second.
    loop {
        let answer = client.new_order(json!({"identifiers": identifiers(&[&unique_name()])})).await;
        if answer.status == 429 {
            break;
        }
        assert!(start.elapsed() < SOON, "{answer}");
        placed += usize::from(answer.expect(201).status == 201);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    server.command(&["limits", "override", "remove", "active-orders", &account]);
    server.refused_command(&["limits", "override", "remove", "active-orders", &account]);
    let events = of_account(&client);
    let ends = ["limit_override.set", "limit_override.removed"].map(str::to_owned);
    let expected = [&["account.created", &ends[0]][..], &vec!["order.placed"; placed], &[&ends[1]]].concat();
    assert_eq!(actions(&events), expected);
    for event in events.iter().filter(|event| ends.contains(&text(event, "action"))) {
        assert_eq!((text(event, "actor"), &event["request_id"]), ("operator".to_owned(), &Value::Null));
        assert_eq!(
            (&event["detail"]["limit"], &event["detail"]["key"]),
            (&json!("active-orders"), &json!(account))
        );
    }
    assert_eq!(events[1]["detail"]["capacity"], 1);
}

async fn nothing_secret_is_in_the_trail_or_its_log(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut secrets = Vec::new();
    for kind in ["http-01", "dns-01", "tls-alpn-01"] {
        let order = client.order(&[&unique_name()]).await;
        let url = order.authorizations().remove(0);
        let authorization = client.read(&url).await.expect(200).json();
        for offered in authorization["challenges"].as_array().expect("challenges") {
            let token = text(offered, "token");
            secrets.extend([client.key_authorization(&token), token]);
        }
        secrets.push(client.fresh_nonce().await);
        client.authorize(&order, kind).await;
    }
    let trial = Trial::http(&client, |answer| Reply::Body(format!("{answer}x"))).await;
    trial.fails(&["incorrectResponse", "unauthorized"]).await;
    secrets.extend([trial.token(), trial.answer()]);
    let contact = format!("mailto:{}@chancery.test", unique_name());
    client.send(client.account(), json!({"contact": [contact]})).await.expect(200);
    secrets.push(contact);
    let events = of_account(&client);
    let log = server.log();
    let logged: Vec<_> = log.lines().filter(|line| line.contains("chancery::audit")).collect();
    for event in &events {
        let line =
            logged.iter().find(|line| line.contains(&text(event, "id"))).expect("each event is logged");
        let line: Value = serde_json::from_str(line).expect("a JSON line");
        for member in ["actor", "action", "account", "order", "authorization", "request_id", "client_address"]
        {
            assert_eq!(line.get(member).unwrap_or(&Value::Null), &event[member], "{member} of {line}");
        }
        assert_eq!(text(&line, "detail"), event["detail"].to_string());
        let told = format!("{event} {line}");
        assert!(secrets.iter().all(|secret| !told.contains(secret.as_str())), "{told}");
    }
    assert_eq!(events.len(), 1 + 3 * 3 + 3 + 1);
}

async fn the_command_tells_the_trail_of_each_resource(server: Arc<Deployment>) {
    let client = server.account().await;
    let issued = client.issue_any().await;
    let (account, serial) = (id(client.account()), id(&issued.url));
    let lines = server.command(&["audit", "--serial", &issued.url]);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let parts = [
        " certificate.issued by account:",
        account,
        serial,
        id(&issued.order),
        " request=",
        " from=127.0.0.1 {",
    ];
    for part in parts {
        assert!(lines[1].contains(part), "{part} not in {}", lines[1]);
    }
    let of_url = server.command(&["audit", "--account", client.account()]);
    assert_eq!(of_url, server.command(&["audit", "--account", account]));
    assert_eq!(of_url, server.command(&["audit", "--account", account, "--since", "1h"]));
    assert_eq!(server.command(&["audit", "--account", account, "--since", "1ms"]), "");
    assert_eq!(of_url.lines().count(), 4);
    let colons: Vec<_> = serial.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    assert_eq!(server.command(&["audit", "--serial", &colons.join(":").to_uppercase()]).lines().count(), 2);
    assert!(server.refused_command(&["audit", "--order", "x"]).contains("32 hexadecimal digits"));
    server.refused_command(&["audit", "--since", "1h"]);
}

#[test]
fn each_action_is_documented() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.md")).expect("readable");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<_> = rows.map(|(word, _)| word).filter(|word| word.contains('.')).collect();
    assert_eq!(documented, Action::ALL.iter().map(|action| action.as_str()).collect());
}
