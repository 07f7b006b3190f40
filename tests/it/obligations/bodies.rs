//! JSON as clients read it, some of them by regular expressions, and as they write it.

use serde_json::{Value, json};

use super::walk::{errors, walk};
use super::{on, on_the_fleet};
use crate::support::chancery::{Deployment, Kind};
use crate::support::client::{Client, Post};
use crate::support::flows::{Order, identifiers, text};
use crate::support::keys::Key;
use crate::support::run::{unique_address, unique_name};

/// What acme.sh takes for a challenge: from the brace before `"type":"KIND"` to the next one that closes.
fn flat<'t>(body: &'t str, kind: &str) -> &'t str {
    let at = body.find(&format!("\"type\":\"{kind}\"")).unwrap_or_else(|| panic!("no {kind}: {body}"));
    let start = body[..at].rfind('{').expect("a brace") + 1;
    let length = body[at..].find('}').expect("a brace");
    &body[start..at + length]
}

/// The first `"NAME":"…"`.
fn quoted<'t>(part: &'t str, name: &str) -> &'t str {
    let mark = format!("\"{name}\":\"");
    let at = part.find(&mark).unwrap_or_else(|| panic!("no {name}: {part}")) + mark.len();
    part[at..].split('"').next().expect("a part")
}

/// White space between the tokens of a JSON text.
fn has_white_space(body: &str) -> bool {
    let (mut inside, mut escaped, mut found) = (false, false, false);
    for c in body.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => found |= !inside && c.is_whitespace(),
        }
    }
    found
}

fn assert_acme_sh_reads(body: &str, parsed: &Value) {
    assert!(!has_white_space(body), "{body}");
    assert_eq!(quoted(body, "status"), parsed["status"], "the first status is the authorization's: {body}");
    for each in parsed["challenges"].as_array().expect("challenges") {
        let entry = flat(body, &text(each, "type"));
        for member in ["status", "url", "token"] {
            assert_eq!(quoted(entry, member), each[member], "{body}");
        }
    }
}

/// acme.sh reads JSON by regular expressions.
#[test]
fn o12_what_acme_sh_finds_by_regular_expressions_is_what_is_meant() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        for (prepared, end) in [(true, "valid"), (false, "invalid")] {
            let placed = client.order(&[&unique_name(), &unique_name()]).await;
            let url = placed.authorizations().remove(0);
            let pending = client.read(&url).await.expect(200);
            assert_acme_sh_reads(&pending.text(), &pending.json());
            assert!(!pending.text().contains("\"error\""), "{pending}");
            if prepared {
                client.answer(&url, "http-01").await;
            } else {
                client.answer_blindly(&url, "http-01").await;
            }
            let over = client.wait_for(&url, end).await;
            assert_acme_sh_reads(&over.text(), &over.json());
            let entry = flat(&over.text(), "http-01").to_owned();
            assert_eq!((quoted(&entry, "status"), entry.contains("\"error\":{")), (end, end == "invalid"));
            for url in [&placed.url, &url] {
                let read = client.read(url).await.expect(200);
                assert_eq!(read.text().contains("\"error\""), end == "invalid", "{read}");
                assert!(!read.text().contains("\"error\":{}") && !read.text().contains(":null"), "{read}");
            }
        }
        for step in walk(&server).await.iter().chain(&errors(&server).await) {
            let answer = &step.answer;
            assert!(!answer.text().starts_with('{') || !has_white_space(&answer.text()), "{answer}");
        }
    });
}

/// lego compares an order's identifiers with those that it asked for, and acmez with those of its CSR, the count included.
#[test]
fn o12_an_order_shows_its_identifiers_as_they_were_asked_for() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let (one, two, address) = (unique_name(), unique_name(), unique_address().to_string());
        let wild = format!("*.{one}");
        let asked = [two.as_str(), "2001:db8::1", wild.as_str(), address.as_str(), one.as_str()];
        let order = client.ready_order(&asked).await;
        assert_eq!(order.body["identifiers"], identifiers(&asked), "{}", order.body);
        let issued = client.collect(&order, &asked, Key::new()).await;
        for _ in 0..server.size() {
            let read = client.read(&issued.order).await.expect(200).json();
            assert_eq!(read["identifiers"], identifiers(&asked), "{read}");
        }
        assert_eq!(order.authorizations().len(), asked.len());
        let twice = [two.as_str(), &one.to_uppercase(), &two, &one];
        let folded = client.ready_order(&twice).await;
        assert_eq!(folded.body["identifiers"], identifiers(&[&two, &one]), "{}", folded.body);
    });
}

/// All strings that are called `status`, wherever they stand.
fn statuses(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("status").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| statuses(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| statuses(item, found)),
        _ => {}
    }
}

/// The words that certbot knows.
const CERTBOT: [&str; 7] = ["pending", "processing", "valid", "invalid", "revoked", "ready", "deactivated"];

/// certbot and instant-acme stop at a status that is on no list of theirs.
#[test]
fn o15_no_status_is_told_that_a_closed_list_lacks() {
    on_the_fleet(async |server| {
        let mut found = Vec::new();
        for step in walk(&server).await.iter().filter(|step| step.answer.text().starts_with('{')) {
            statuses(&step.answer.json(), &mut found);
        }
        let client = server.account().await;
        let failing = client.order(&[&unique_name()]).await;
        client.answer_blindly(&failing.authorizations()[0], "http-01").await;
        client.wait_for(&failing.authorizations()[0], "invalid").await;
        for url in [failing.url.clone(), failing.authorizations().remove(0)] {
            statuses(&client.read(&url).await.expect(200).json(), &mut found);
        }
        for wanted in ["pending", "processing", "valid", "invalid", "ready", "deactivated"] {
            assert!(found.iter().any(|status| status == wanted), "{wanted} was not seen: {found:?}");
        }
        assert!(found.iter().all(|status| CERTBOT.contains(&status.as_str())), "{found:?}");
    });
}

/// RFC 8555 §7.1.6 has `expired`, which certbot does not know: it is told of an authorization only when its order is over
/// too, so that nobody polls it any more, and no new order rests on one.
#[test]
fn o15_an_authorization_is_expired_only_when_its_order_is_over() {
    on(Deployment::hasty(Kind::Fleet), async |server| {
        let client = server.account().await;
        let name = unique_name();
        let order = client.order(&[&name]).await;
        let url = order.authorizations().remove(0);
        let shown = client.read(&url).await.expect(200);
        assert!(
            order.body["expires"].is_string() && order.body["expires"] == shown.json()["expires"],
            "{shown}"
        );
        client.wait_for(&url, "expired").await;
        // The clocks of replicas agree to within milliseconds.
        for _ in 0..server.size() {
            client.wait_for(&order.url, "invalid").await;
        }
        let next = client.order(&[&name]).await;
        assert_ne!(next.authorizations(), order.authorizations());
    });
}

/// How a client writes its JSON.
type Dialect = fn(Value) -> String;

/// certbot: two spaces, one line a member.
fn certbot(value: Value) -> String {
    serde_json::to_string_pretty(&value).expect("JSON")
}

/// acme.sh: a space after each colon and comma.
fn acme_sh(value: Value) -> String {
    let members = value.as_object().expect("an object").iter();
    let members: Vec<String> = members.map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

/// dehydrated: the members turned round, white space wherever there may be some.
fn spread(value: Value) -> String {
    let members = value.as_object().expect("an object").iter().rev();
    let members: Vec<String> = members.map(|(name, value)| format!("\t\"{name}\" :  {value} ")).collect();
    format!(" {{\r\n{}\n }}\r\n", members.join(",\n"))
}

fn written<'c>(post: Post<'c>, dialect: Dialect, payload: Option<Value>) -> Post<'c> {
    let post = match payload {
        Some(payload) => post.payload(dialect(payload)),
        None => post,
    };
    let header = move |text: String| dialect(serde_json::from_str(&text).expect("JSON"));
    post.protected_text(header).outer(move |jws| Value::String(dialect(jws)))
}

/// certbot, acme.sh and dehydrated, each in its own hand.
#[test]
fn o27_white_space_and_order_of_members_are_the_clients_own() {
    on_the_fleet(async |server| {
        for dialect in [certbot as Dialect, acme_sh, spread] {
            let client: Client = server.client();
            let url = client.resource("newAccount").await;
            let terms = json!({"termsOfServiceAgreed": true, "contact": ["mailto:a@example.org"]});
            let made = written(client.post(&url).by_jwk(), dialect, Some(terms)).send().await.expect(201);
            client.use_account(&made.location());
            let url = client.resource("newOrder").await;
            let payload = json!({"profile": "trusted", "identifiers": identifiers(&[&unique_name()])});
            let placed = written(client.post(&url), dialect, Some(payload)).send().await.expect(201);
            let order = Order::of(&placed);
            for _ in 0..server.size() {
                let read = written(client.post(&order.url), dialect, None).send().await.expect(200);
                assert_eq!(read.state(), "ready", "{read}");
            }
        }
    });
}
