//! Validations in fair shares: what one account, one target or one challenge type makes wait is in nobody else's way, and a
//! validation ends, whatever its target does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{challenge, text};
use crate::support::keys::{Key, base64url};
use crate::support::responder::{self, Reply};
use crate::support::run::{runtime, unique, unique_address, unique_name};
use crate::support::trial::Trial;
use crate::wire_tests;

wire_tests! {
    scarce => val_fair_silent_targets_of_others_make_nobody_wait;
    single => val_fair_targets_that_hang_by_http_01_are_not_in_the_way_of_dns_01;
    patient =>
        val_over_validations_end_with_their_order
        val_deadline_a_silent_target_is_reported_within_15_s
        val_deadline_caa_counts
        val_deadline_a_name_of_122_labels_costs_no_question;
}

/// Attempts as by default, and few places.
fn with_places(kind: Kind, count: usize) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_VALIDATION_TIMEOUT", "10s")
        .set("CHANCERY_VALIDATION_ATTEMPTS", "4")
        .set("CHANCERY_VALIDATION_CONCURRENCY", count.to_string());
    Deployment::with(kind, &settings)
}

fn scarce(kind: Kind) -> Arc<Deployment> {
    with_places(kind, 32)
}

fn single(kind: Kind) -> Arc<Deployment> {
    with_places(kind, 1)
}

fn patient(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: std::sync::OnceLock<Arc<Deployment>> = std::sync::OnceLock::new();
    static FLEET: std::sync::OnceLock<Arc<Deployment>> = std::sync::OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    cell.get_or_init(|| with_places(kind, 256)).clone()
}

/// Responds to http-01 for so many names whose target takes the connection and says nothing.
async fn begin_silent(client: &Client, count: usize) -> Vec<String> {
    let names: Vec<String> = std::iter::repeat_with(unique_name).take(count).collect();
    let order = client.order(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let urls = order.authorizations();
    let respond = async |url: &String| {
        let authorization = client.read(url).await.expect(200).json();
        let offered = challenge(&authorization, "http-01").expect("http-01");
        responder::http().set(&text(&offered, "token"), Reply::Silence);
        client.send(&text(&offered, "url"), json!({})).await.expect(200);
    };
    join_all(urls.iter().map(respond)).await;
    urls
}

/// An honest validation, from the response to `valid`, of an address: nobody else's target, and no name server is asked.
async fn honest(client: &Client) -> Duration {
    let address = unique_address();
    let listener = responder::http().listen_on(address.into());
    let trial = Trial::new(client, &address.to_string(), "http-01").await;
    responder::http().set(&trial.token(), Reply::Body(trial.answer()));
    let start = Instant::now();
    trial.succeeds().await;
    listener.abort();
    start.elapsed()
}

/// 300 names of one account, then of six: more than there are places, each for as long as it may.
async fn val_fair_silent_targets_of_others_make_nobody_wait(server: Arc<Deployment>) {
    let client = server.account().await;
    for accounts in [1, 5] {
        let others = join_all((0..accounts).map(|_| server.account())).await;
        join_all(others.iter().map(async |other| {
            for _ in 0..300 / accounts / 60 {
                begin_silent(other, 60).await;
            }
        }))
        .await;
        // Some honest ones, one after the other, while the silent ones are at work and wait.
        for _ in 0..5 {
            let taken = honest(&client).await;
            println!("beside {accounts} accounts: {taken:?}");
            assert!(taken <= Duration::from_secs(3), "beside {accounts} accounts: {taken:?}");
        }
    }
}

/// Each replica has one place a type, and that of http-01 is taken.
async fn val_fair_targets_that_hang_by_http_01_are_not_in_the_way_of_dns_01(server: Arc<Deployment>) {
    let other = server.account().await;
    begin_silent(&other, 4 * server.size()).await;
    let client = server.account().await;
    for _ in 0..server.size() {
        let trial = Trial::new(&client, &unique_name(), "dns-01").await;
        let name = text(&trial.authorization["identifier"], "value");
        responder::dns().set_txt(&name, &trial.answer());
        let start = Instant::now();
        trial.succeeds().await;
        assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

/// By what the target did, though the last try was cut short.
async fn val_deadline_a_silent_target_is_reported_within_15_s(server: Arc<Deployment>) {
    let client = server.account().await;
    let trial = Trial::http(&client, |_| Reply::Silence).await;
    let start = Instant::now();
    let error = trial.fails(&["connection"]).await;
    assert!(start.elapsed() <= Duration::from_secs(16), "{:?}", start.elapsed());
    assert!(text(&error, "detail").contains("waiting for the answer"), "{error}");
}

/// The challenge is answered; nobody answers for CAA.
async fn val_deadline_caa_counts(server: Arc<Deployment>) {
    let client = server.account().await;
    let zone = unique_name();
    responder::dns().silence_caa(&zone);
    let trial = Trial::new(&client, &format!("a.b.c.d.e.f.{zone}"), "http-01").await;
    responder::http().set(&trial.token(), Reply::Body(trial.answer()));
    let start = Instant::now();
    let error = trial.fails(&["dns", "connection"]).await;
    assert!(start.elapsed() <= Duration::from_secs(16), "{:?}", start.elapsed());
    assert!(text(&error, "detail").contains("caa.stop_at"), "what to do: {error}");
}

async fn val_deadline_a_name_of_122_labels_costs_no_question(server: Arc<Deployment>) {
    let client = server.account().await;
    let zone = format!("n{}.test", unique());
    responder::dns().silence_caa(&zone);
    let name = format!("{}{zone}", "a.".repeat(120));
    let trial = Trial::new(&client, &name, "http-01").await;
    responder::http().set(&trial.token(), Reply::Body(trial.answer()));
    let start = Instant::now();
    trial.fails(&["caa"]).await;
    assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(responder::dns().caa_questions(&zone), 0);
    assert_eq!(responder::dns().caa_questions(&name), 0);
}

/// One authorization is deactivated, or fails: the others, whose targets are silent, are not validated to the end.
async fn val_over_validations_end_with_their_order(server: Arc<Deployment>) {
    let client = server.account().await;
    let urls = begin_silent(&client, 6).await;
    let start = Instant::now();
    client.send(&urls[0], json!({"status": "deactivated"})).await.expect(200);
    let others = urls[1..].iter().map(|url| client.wait_for(url, "invalid"));
    let ended = join_all(others).await;
    assert!(start.elapsed() <= Duration::from_secs(8), "{:?}", start.elapsed());
    for answer in ended {
        assert!(answer.text().contains("the order that it was for has ended"), "{answer}");
    }
    let order = client.order(&[&unique_name(), &unique_name()]).await;
    let [silent, wrong] = &order.authorizations()[..] else { panic!("two") };
    let authorization = client.read(silent).await.expect(200).json();
    let offered = challenge(&authorization, "http-01").expect("http-01");
    responder::http().set(&text(&offered, "token"), Reply::Silence);
    client.send(&text(&offered, "url"), json!({})).await.expect(200);
    client.answer_blindly(wrong, "http-01").await;
    let start = Instant::now();
    let answer = client.wait_for(silent, "invalid").await;
    assert!(start.elapsed() <= Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(answer.text().contains("the order that it was for has ended"), "{answer}");
}

/// Each replica has one place for issuances, and it is taken by one whose CAA is asked again and not answered.
#[test]
fn ord_12_an_issuance_without_a_place_is_processing_and_comes_later() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_JOB_ISSUANCES", "1"));
    runtime().block_on(without_a_place(server));
}

async fn without_a_place(server: Arc<Deployment>) {
    let client = server.account().await;
    let names: Vec<_> = std::iter::repeat_with(unique_name).take(server.size()).collect();
    let slow = join_all(names.iter().map(async |name| {
        let order = client.order(&[name]).await;
        client.authorize(&order, "http-01").await;
        (order, name)
    }))
    .await;
    server.sql("UPDATE authorizations SET validated_at = validated_at - 36000000000");
    for (replica, (order, name)) in slow.iter().enumerate() {
        responder::dns().silence_caa(name);
        let csr = csr(&Key::new().to_rcgen(), &[name]);
        let post = client.post(&order.finalize()).json(json!({"csr": base64url(&csr)})).through(replica);
        assert_eq!(post.send().await.expect(200).state(), "processing");
    }
    let (other, name) = (server.account().await, unique_name());
    let order = other.ready_order(&[&name]).await;
    let answer = other.finalize(&order, &csr(&Key::new().to_rcgen(), &[&name])).await.expect(200);
    assert_eq!(answer.state(), "processing", "{answer}");
    assert!(answer.retry_after().is_some(), "{answer}");
    // The slow ones have a deadline; this one has its turn then.
    other.wait_for(&order.url, "valid").await;
    for (order, _) in &slow {
        client.wait_for(&order.url, "invalid").await;
    }
}
