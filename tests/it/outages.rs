//! A store is away: what needs it is refused with 503, quickly; everything else goes on; and when it is back, so is the
//! service, without a restart (I-11, GEN-16).

mod lost;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::support::certificate::csr;
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{Order, identifiers, text};
use crate::support::keys::Key;
use crate::support::postgres::TableLock;
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::{SOON, runtime, unique_name};
use crate::support::trial::Trial;

/// How long a refusal may take: a connection is waited for, but not for long.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// Waits for something that is to happen soon.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The one answer to what cannot be done now.
fn assert_unavailable(answer: &Response) {
    answer.problem(503, "rateLimited");
    let wait = answer.retry_after().unwrap_or_else(|| panic!("no Retry-After: {answer}"));
    assert!((1..=30).contains(&wait), "{answer}");
}

/// Every kind of signed request is refused, quickly, with a nonce; what needs no store goes on.
async fn assert_signed_requests_are_refused(client: &Client, order: &Order, limit: Duration) {
    let stranger = client.server.client();
    let new_order = json!({"identifiers": identifiers(&[&unique_name()])});
    let csr = csr(&Key::new().to_rcgen(), &["a.test"]);
    tokio::join!(
        refused("new-account", limit, stranger.new_account(json!({"termsOfServiceAgreed": true}))),
        refused("new-order", limit, client.new_order(new_order)),
        refused("order", limit, client.read(&order.url)),
        refused("finalize", limit, client.finalize(order, &csr)),
        refused("account", limit, client.read(client.account())),
        // By a client that could not look its account up: a 4xx would be the end of its order.
        refused("order, by jwk", limit, client.post(&order.url).by_jwk().payload("").send()),
    );
}

async fn refused(what: &str, limit: Duration, request: impl Future<Output = Response>) {
    let start = Instant::now();
    let answer = request.await;
    let taken = start.elapsed();
    println!("{what}: {} after {:.1} s", answer.status, taken.as_secs_f64());
    assert_unavailable(&answer);
    assert!(answer.nonce().is_some(), "{answer}");
    assert!(taken < limit, "{what}: {taken:?}");
}

async fn assert_unsigned_requests_go_on(client: &Client) {
    for replica in 0..client.server.size() {
        let get = |url: &str| client.plain(Method::GET, url).through(replica).send();
        get(&client.server.directory).await.expect(200);
        let nonce = get(&client.resource("newNonce").await).await.expect(204);
        assert!(nonce.nonce().is_some(), "{nonce}");
        let (status, _) = client.server.replica(replica).ops_get("/livez").expect("an answer");
        assert_eq!(status, 200, "a replica whose store is away is alive");
    }
}

/// Every replica says that it is not ready, and for want of what.
async fn assert_not_ready(server: &Deployment, missing: &str) {
    for index in 0..server.size() {
        // A replica says what it saw last, and looks each second.
        let look = || server.replica(index).ops_get("/readyz").expect("an answer");
        until("it has seen that the store is away", || look().0 == 503).await;
        let (_, body) = look();
        let checks: Value = serde_json::from_str(&body).expect("JSON");
        for (what, state) in checks.as_object().expect("an object") {
            // Without Redis each replica counts limits alone, and says so; that by itself is no reason to be left out.
            if what != "limits" {
                assert_eq!(state != "ok", what == missing, "{body}");
            }
        }
    }
}

async fn ready_again(server: &Deployment) {
    let start = Instant::now();
    let is_ready = |index| server.replica(index).ops_get("/readyz").is_some_and(|(status, _)| status == 200);
    until("all are ready", || (0..server.size()).all(is_ready)).await;
    println!("ready again after {:.1} s", start.elapsed().as_secs_f64());
}

#[test]
fn postgres_killed_is_503_and_back_without_a_restart() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().own_postgres());
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        for _ in 0..2 {
            server.postgres().kill();
            assert_signed_requests_are_refused(&client, &order, REFUSED_WITHIN).await;
            assert_unsigned_requests_go_on(&client).await;
            assert_not_ready(&server, "database").await;
            server.postgres().restart();
            ready_again(&server).await;
            assert_eq!(client.read(&order.url).await.expect(200).state(), "ready");
            client.issue_any().await;
        }
        client.collect(&order, &[&name], Key::new()).await;
        server.assert_at_rest();
        assert!(!server.log().contains("internal error"), "{}", server.log());
    });
}

/// The host of the database is gone: nothing answers and nothing is closed. Then another has its place.
#[test]
fn postgres_silent_is_503_and_back_without_a_restart() {
    // The validation that waits for its target meanwhile has no verdict before its lease is lost.
    let settings = Settings::new().own_postgres().through_proxy().set("CHANCERY_VALIDATION_TIMEOUT", "60s");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let trial = Trial::http(&client, |_| Reply::Silence).await;
        trial.start().await;
        server.proxy().fall_silent();
        // The first to notice waits longest.
        assert_signed_requests_are_refused(&client, &order, Duration::from_secs(12)).await;
        assert_signed_requests_are_refused(&client, &order, REFUSED_WITHIN).await;
        assert_unsigned_requests_go_on(&client).await;
        assert_not_ready(&server, "database").await;
        responder::http().set(&trial.token(), Reply::Body(trial.answer()));
        server.proxy().serve_new_connections();
        let back = Instant::now();
        ready_again(&server).await;
        client.issue_any().await;
        client.collect(&order, &[&name], Key::new()).await;
        assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
        client.wait_for(&trial.url, "valid").await;
        server.assert_at_rest();
    });
}

/// Repeats a request while it is answered 503, as clients do; how often that was.
async fn persist<F: Future<Output = Response>>(busy: &AtomicUsize, request: impl Fn() -> F) -> Response {
    let start = Instant::now();
    loop {
        let answer = request().await;
        if answer.status != 503 {
            return answer;
        }
        assert_unavailable(&answer);
        assert!(start.elapsed() < SOON, "{answer}");
        busy.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Issues one certificate whatever comes between.
async fn issue_persistently(client: &Client, busy: &AtomicUsize) {
    let name = unique_name();
    let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
    let order = Order::of(&persist(busy, || client.new_order(payload.clone())).await.expect(201));
    let key = Key::new();
    let request = csr(&key.to_rcgen(), &[&name]);
    let answer = persist(busy, || client.finalize(&order, &request)).await;
    if answer.status != 200 {
        // An earlier attempt was accepted, and its answer lost.
        answer.problem(403, "orderNotReady");
    }
    let start = Instant::now();
    let valid = loop {
        let order = persist(busy, || client.read(&order.url)).await.expect(200);
        if order.state() == "valid" {
            break order;
        }
        assert_eq!(order.state(), "processing", "{order}");
        assert!(start.elapsed() < SOON, "{order}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    persist(busy, || async { client.read(&valid.string("certificate")).await }).await.expect(200);
}

#[test]
fn postgres_connections_cut_in_flight_are_503_and_no_more() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().own_postgres());
    runtime().block_on(async {
        let clients = join_all((0..16).map(|_| server.account())).await;
        let (busy, issued, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let load = join_all(clients.iter().map(async |client| {
            while !over.load(Ordering::Relaxed) {
                issue_persistently(client, &busy).await;
                issued.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let mut cuts = 0;
        let cutting = async {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let cut = server.sql(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
                cuts += cut.parse::<usize>().expect("a number");
            }
            let last = Instant::now();
            let before = issued.load(Ordering::Relaxed);
            while issued.load(Ordering::Relaxed) < before + 16 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(last.elapsed() < Duration::from_secs(5), "not by leases that end: {:?}", last.elapsed());
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, cutting);
        let (busy, issued) = (busy.into_inner(), issued.into_inner());
        println!("{cuts} connections cut, {issued} certificates, {busy} answers were 503");
        assert!(cuts > 60 && issued > 32, "{cuts} {issued}");
        server.assert_at_rest();
        assert!(!server.log().contains("internal error"), "{}", server.log());
    });
}

#[test]
fn a_verdict_found_while_postgres_is_away_is_recorded_when_it_is_back() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().own_postgres());
    runtime().block_on(async {
        let client = server.account().await;
        let trial = Trial::http(&client, |_| Reply::Silence).await;
        trial.start().await;
        let asked = || responder::http().requests(&trial.token()).len();
        until("the target is asked", || asked() > 0).await;
        server.postgres().kill();
        // The second attempt finds the answer.
        responder::http().set(&trial.token(), Reply::Body(trial.answer()));
        until("the verdict waits", || server.log().contains("a result waits for the database")).await;
        assert!(asked() > 1);
        server.postgres().restart();
        let back = Instant::now();
        ready_again(&server).await;
        client.wait_for(&trial.url, "valid").await;
        assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
        until("the lease is over", || server.sql("SELECT count(lease_token) FROM authorizations") == "0")
            .await;
        server.assert_at_rest();
    });
}

/// Redis has this to do with a request, and no more.
async fn assert_goes_on_without_redis(client: &Client, renewal: &str) {
    assert_unsigned_requests_go_on(client).await;
    for _ in 0..client.server.size() {
        client.get(renewal).await.expect(200);
    }
}

#[test]
fn i_11_redis_killed_is_503_and_back_without_a_restart() {
    let server = Deployment::with(Kind::Fleet, &Settings::new());
    runtime().block_on(async {
        let client = server.account().await;
        let issued = client.issue_any().await;
        let renewal = format!("{}/{}", client.resource("renewalInfo").await, issued.chain.renewal_id());
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        for round in 0..3 {
            let old = client.fresh_nonce().await;
            server.redis().expect("a fleet has Redis").kill();
            assert_signed_requests_are_refused(&client, &order, Duration::from_secs(3)).await;
            assert_goes_on_without_redis(&client, &renewal).await;
            assert_not_ready(&server, "redis").await;
            server.redis().expect("a fleet has Redis").restart_empty();
            ready_again(&server).await;
            // Nonces from before are gone for good; each refusal brings one that works at once, on any replica.
            let refused = client.post(&order.url).nonce(old).through(round).send().await;
            refused.problem(400, "badNonce");
            let fresh = refused.nonce().expect("a nonce");
            let read = client.post(&order.url).nonce(fresh).through(round + 1).send().await.expect(200);
            assert_eq!(read.state(), "ready");
            client.forget_nonces();
            client.issue_any().await;
        }
        client.collect(&order, &[&name], Key::new()).await;
        server.assert_at_rest();
    });
}

#[test]
fn i_11_redis_stalled_is_503_in_time_and_goes_on() {
    let server = Deployment::with(Kind::Fleet, &Settings::new());
    runtime().block_on(async {
        let client = server.account().await;
        let issued = client.issue_any().await;
        let renewal = format!("{}/{}", client.resource("renewalInfo").await, issued.chain.renewal_id());
        let order = client.ready_order(&[&unique_name()]).await;
        let redis = server.redis().expect("a fleet has Redis");
        redis.signal("STOP");
        assert_signed_requests_are_refused(&client, &order, Duration::from_millis(2500)).await;
        assert_signed_requests_are_refused(&client, &order, Duration::from_millis(2500)).await;
        assert_goes_on_without_redis(&client, &renewal).await;
        assert_not_ready(&server, "redis").await;
        redis.signal("CONT");
        ready_again(&server).await;
        client.forget_nonces();
        assert_eq!(client.read(&order.url).await.expect(200).state(), "ready");
        client.issue_any().await;
        server.assert_at_rest();
    });
}

#[test]
fn gen_16_what_is_shed_may_be_sent_again_as_it_is() {
    let settings = Settings::new().set("CHANCERY_HTTP_MAX_IN_FLIGHT", "5").replicas(1);
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let order = client.ready_order(&[&unique_name()]).await;
        let url = client.resource("newOrder").await;
        let payload = || json!({"identifiers": identifiers(&[&unique_name()])});
        let mut signed = Vec::new();
        for _ in 0..3 {
            let nonce = client.fresh_nonce().await;
            signed.push(client.post(&url).json(payload()).nonce(nonce).sealed().to_string());
        }
        let repeat = |body: &str| {
            let ask = client.plain(Method::POST, &url).header("content-type", "application/jose+json");
            ask.body(body.to_owned()).send()
        };
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(client.post(&url).json(payload()).nonce(client.fresh_nonce().await).ready().await);
        }
        let poll = client.post(&order.url).nonce(client.fresh_nonce().await).ready().await;
        // Four requests fill the places that new orders may have, and wait for the database.
        let lock = TableLock::take(server.database().expect("a fleet"), "accounts", "ACCESS EXCLUSIVE").await;
        let waiting = || server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted").parse().unwrap_or(0);
        let shed = async {
            until("all wait for the database", || waiting() >= 4).await;
            for body in &signed {
                let start = Instant::now();
                assert_unavailable(&repeat(body).await);
                assert!(start.elapsed() < Duration::from_secs(5), "shedding waits for nothing");
            }
            // A poll still finds a place.
            let last = async {
                until("the poll waits too", || waiting() >= 5).await;
                drop(lock);
            };
            let (poll, ()) = tokio::join!(poll.send(), last);
            poll.expect(200);
        };
        let (answers, ()) = tokio::join!(join_all(held.into_iter().map(|ask| ask.send())), shed);
        for answer in answers {
            answer.expect(201);
        }
        for body in &signed {
            repeat(body).await.expect(201);
            repeat(body).await.problem(400, "badNonce");
        }
    });
}

/// What waits for the database holds up no more than the places there are, and leaves when the wait is over.
#[test]
fn gen_16_an_overload_passes() {
    let settings = Settings::new().set("CHANCERY_HTTP_MAX_IN_FLIGHT", "5").own_postgres().replicas(1);
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client: Arc<Client> = Arc::new(server.account().await);
        server.postgres().kill();
        let order = json!({"identifiers": identifiers(&[&unique_name()])});
        let nonces: Vec<String> = join_all((0..40).map(|_| client.fresh_nonce())).await;
        let url = client.resource("newOrder").await;
        let asks = nonces.into_iter().map(|nonce| {
            let (client, url, order) = (&client, &url, order.clone());
            async move { client.post(url).json(order).nonce(nonce).send().await }
        });
        let answers = join_all(asks).await;
        let waited = |answer: &&Response| text(&answer.json(), "detail").contains("database");
        assert!(answers.iter().filter(waited).count() < 40, "some are shed at once");
        answers.iter().for_each(assert_unavailable);
        server.postgres().restart();
        ready_again(&server).await;
        client.issue_any().await;
        server.assert_at_rest();
    });
}
