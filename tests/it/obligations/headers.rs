//! `Link`, `Retry-After`, `Date`; and the chain, which hangs together by them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use chancery::acme::time::{Clock, FleetClock};
use http::Method;
use serde_json::json;
use time::macros::format_description;
use time::{Date, Time};

use super::walk::{errors, walk};
use super::{on, on_the_fleet};
use crate::certificates::two_chains;
use crate::support::certificate::Chain;
use crate::support::chancery::{Deployment, Kind};
use crate::support::flows::{challenge, text};
use crate::support::keys::Key;
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::unique_name;

/// A fleet whose certificates have two chains. It ends with the last test that has it.
fn chained() -> Arc<Deployment> {
    static FLEET: Mutex<Weak<Deployment>> = Mutex::new(Weak::new());
    let mut fleet = FLEET.lock().unwrap_or_else(PoisonError::into_inner);
    fleet.upgrade().unwrap_or_else(|| {
        let started = Deployment::with(Kind::Fleet, &two_chains());
        *fleet = Arc::downgrade(&started);
        started
    })
}

/// acmez follows `up` on a certificate, and appends what it finds there to the chain.
#[test]
fn o04_a_certificate_has_no_link_up() {
    on(chained(), async |server| {
        let client = server.account().await;
        let issued = client.issue_any().await;
        let first = client.read(&issued.url).await.expect(200);
        for url in [vec![issued.url], first.links("alternate")].concat() {
            for _ in 0..server.size() {
                let answer = client.read(&url).await.expect(200);
                let lines = answer.headers.get_all("link").iter();
                let up = |line: &http::HeaderValue| line.to_str().is_ok_and(|line| line.contains("\"up\""));
                assert_eq!(lines.filter(|line| up(line)).count(), 0, "{answer}");
            }
        }
    });
}

/// What acmez reads of one header line, and x/crypto too: the URL, and the relation right after it.
fn only_link(line: &str) -> Option<(&str, &str)> {
    let (url, rest) = line.strip_prefix('<')?.split_once('>')?;
    let relation = rest.strip_prefix(";rel=\"")?.strip_suffix('"')?;
    let plain = !relation.contains(['"', ',', ';', '<']) && !relation.is_empty();
    (plain && url.starts_with("https://")).then_some((url, relation))
}

/// x/crypto takes one link of each header line, and acmez only what stands right behind the URL.
#[test]
fn o05_each_link_has_a_line_of_its_own_and_its_relation_first() {
    on(chained(), async |server| {
        let mut relations = Vec::new();
        let mut steps = walk(&server).await;
        steps.extend(errors(&server).await);
        for step in &steps {
            for line in step.answer.headers.get_all("link") {
                let line = line.to_str().expect("text");
                let (_, relation) = only_link(line).unwrap_or_else(|| panic!("{}: Link: {line}", step.what));
                relations.push(relation.to_owned());
            }
        }
        for wanted in ["index", "up", "alternate", "terms-of-service"] {
            assert!(relations.iter().any(|relation| relation == wanted), "no {wanted}: {relations:?}");
        }
    });
}

/// When an answer says that it was made, as RFC 1123 has it.
fn date(answer: &Response) -> i64 {
    let text = answer.header("date").unwrap_or_else(|| panic!("no Date: {answer}"));
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let parsed = time::PrimitiveDateTime::parse(text, form).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (date, time): (Date, Time) = (parsed.date(), parsed.time());
    time::PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()
}

/// acme.sh reads digits only and gives up above 600; acme4j adds them to `Date` and sleeps until then, and cannot sleep
/// for less than nothing; instant-acme gives up beyond 30 s; lego takes 0 for "not said".
#[test]
fn o20_who_has_to_wait_is_told_a_few_whole_seconds() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let order = client.order(&[&unique_name()]).await;
        let url = order.authorizations().remove(0);
        let body = client.read(&url).await.expect(200).json();
        let http = challenge(&body, "http-01").expect("http-01");
        responder::http().set(&text(&http, "token"), Reply::Silence);
        let http = text(&http, "url");
        let mut waiting = Vec::new();
        for each in [&order.url, &url, &http] {
            waiting.push(client.read(each).await.expect(200));
        }
        waiting.push(client.send(&http, json!({})).await.expect(200));
        for each in [&url, &http] {
            let read = client.read(each).await.expect(200);
            waiting.extend(matches!(read.state().as_str(), "pending" | "processing").then_some(read));
        }
        for answer in &waiting {
            let digits = answer.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {answer}"));
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{answer}");
            assert!((1..=30).contains(&digits.parse::<u64>().expect("digits")), "{answer}");
        }
        let mut steps = walk(&server).await;
        steps.extend(errors(&server).await);
        let now = FleetClock::default().now().seconds();
        for answer in waiting.iter().chain(steps.iter().map(|step| &step.answer)) {
            assert!(answer.retry_after().is_none_or(|seconds| (1..=30).contains(&seconds)), "{answer}");
            assert!((now - 300..=now + 300).contains(&date(answer)), "{answer}");
        }
        let nonce = client.plain(Method::HEAD, &client.resource("newNonce").await).send().await.expect(200);
        date(&nonce);
    });
}

/// x/crypto reads at most five certificates and 5 MiB, and nothing in PEM but certificates.
#[test]
fn o30_a_chain_is_short_and_has_nothing_but_certificates() {
    on(chained(), async |server| {
        let client = server.account().await;
        let many: Vec<String> = (0..100).map(|index| format!("h{index}.{}", unique_name())).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let order = client.ready_order(&many).await;
        let issued = client.collect(&order, &many, Key::new()).await;
        let first = client.read(&issued.url).await.expect(200);
        for url in [vec![issued.url], first.links("alternate")].concat() {
            let answer = client.read(&url).await.expect(200);
            let pem = answer.text();
            assert!(pem.len() < 5 << 20, "{} octets", pem.len());
            let blocks: Vec<&str> = pem.lines().filter(|line| line.starts_with("-----BEGIN ")).collect();
            assert!((1..=5).contains(&blocks.len()), "{blocks:?}");
            assert!(blocks.iter().all(|line| *line == "-----BEGIN CERTIFICATE-----"), "{blocks:?}");
            let chain = Chain::parse(&pem);
            chain.assert_ordered();
            assert_eq!((chain.len(), chain.names().len()), (blocks.len(), 100));
        }
    });
}
