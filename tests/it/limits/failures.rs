//! Failed validations: the use is taken when a response is accepted and given back unless the validation fails, so that of
//! any number of responses at once no more fail than may (I-9, LIM-03).

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{place, refused, settings};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::text;
use crate::support::keys::Key;
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::{SOON, runtime, unique_name};
use crate::support::trial::Trial;
use crate::wire_tests;

wire_tests! {
    five_may_fail =>
        lim_02_a_response_that_is_refused_is_charged_nowhere
        lim_03_of_forty_responses_at_once_exactly_the_capacity_begin
        lim_03_validations_that_succeed_cost_nothing;
}

/// How many validations of a name may fail.
const CAPACITY: usize = 5;

/// A deployment in which all else is not limited, but for responses to a challenge.
fn five_may_fail(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    let settings = may_fail(CAPACITY).set("CHANCERY_LIMITS_CHALLENGE_RESPONSES_PER_HOUR", "3");
    cell.get_or_init(|| Deployment::with(kind, &settings)).clone()
}

/// So many may fail; jobs of the dead are taken on soon, and silent targets are asked for a while.
fn may_fail(capacity: usize) -> Settings {
    let settings = settings().set("CHANCERY_LIMITS_FAILED_VALIDATIONS_PER_HOUR", capacity.to_string());
    let settings = settings.set("CHANCERY_JOB_LEASE", "1s").set("CHANCERY_JOB_TICK", "100ms");
    settings.set("CHANCERY_VALIDATION_ATTEMPTS", "5")
}

/// Authorizations for one name, each of an order of its own, whose target answers wrongly.
async fn wrong<'a>(client: &'a Client, name: &str, count: usize) -> Vec<Trial<'a>> {
    let trials = join_all((0..count).map(|_| Trial::new(client, name, "http-01"))).await;
    for trial in &trials {
        responder::http().set(&trial.token(), Reply::Body("wrong".to_owned()));
    }
    trials
}

impl Trial<'_> {
    /// From here on its target answers rightly.
    fn set_right(&self) {
        responder::http().set(&self.token(), Reply::Body(self.answer()));
    }

    async fn respond(&self) -> Response {
        self.client.send(&text(&self.challenge, "url"), json!({})).await
    }
}

/// Responds to all at once: those whose validation began, and those that were refused.
async fn respond<'t, 'a>(trials: Vec<&'t Trial<'a>>) -> (Vec<&'t Trial<'a>>, Vec<&'t Trial<'a>>) {
    let answers = join_all(trials.iter().map(|trial| trial.respond())).await;
    let (begun, left): (Vec<_>, Vec<_>) =
        trials.into_iter().zip(&answers).partition(|(_, answer)| answer.status == 200);
    for (_, answer) in &left {
        // One use in an hour ÷ capacity, at most.
        assert!((1..=3600).contains(&refused(answer, "failed-validations")), "{answer}");
    }
    let trials = |of: Vec<(&'t Trial<'a>, _)>| of.into_iter().map(|(trial, _)| trial).collect();
    (trials(begun), trials(left))
}

/// No validation is under way in any replica, nor what follows one.
async fn quiet(server: &Deployment) {
    let running =
        |replica| server.replica(replica).metric("chancery_jobs_running{kind=\"validation\"}") > 0.0;
    let start = Instant::now();
    while (0..server.size()).any(running) {
        assert!(start.elapsed() < SOON, "validations are still under way");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Of these exactly `left` begin, at once or when what is due has been given back, and fail; no more are let through then.
async fn exactly(left: usize, trials: &[Trial<'_>]) {
    let (start, client) = (Instant::now(), trials[0].client);
    let (mut begun, mut waiting) = respond(trials.iter().collect()).await;
    while begun.len() < left {
        assert!(start.elapsed() < SOON, "{} have begun, {left} expected", begun.len());
        let (more, refused) = respond(waiting).await;
        begun.extend(more);
        waiting = refused;
    }
    join_all(begun.iter().map(|trial| client.wait_for(&trial.url, "invalid"))).await;
    quiet(&client.server).await;
    let (more, waiting) = respond(waiting).await;
    assert_eq!(begun.len() + more.len(), left, "so many began");
    for trial in waiting {
        assert_eq!(client.read(&trial.url).await.expect(200).state(), "pending");
    }
}

async fn lim_03_of_forty_responses_at_once_exactly_the_capacity_begin(server: Arc<Deployment>) {
    let (client, name) = (server.account().await, unique_name());
    let trials = wrong(&client, &name, 40).await;
    let (begun, left) = respond(trials.iter().collect()).await;
    assert_eq!((begun.len(), left.len()), (CAPACITY, 40 - CAPACITY));
    join_all(begun.iter().map(|trial| client.wait_for(&trial.url, "invalid"))).await;
    // They stay charged, by every replica's account, and new orders are refused early.
    let (begun, left) = respond(left).await;
    assert_eq!((begun.len(), left.len()), (0, 40 - CAPACITY));
    for trial in left {
        assert_eq!(client.read(&trial.url).await.expect(200).state(), "pending");
    }
    refused(&place(&client, &[&name]).await, "failed-validations");
    // LIM-04: another name of the same account, and the same name of another account.
    exactly(CAPACITY, &wrong(&client, &unique_name(), CAPACITY + 1).await).await;
    exactly(CAPACITY, &wrong(&server.account().await, &name, CAPACITY + 1).await).await;
}

async fn lim_03_validations_that_succeed_cost_nothing(server: Arc<Deployment>) {
    let (client, name) = (server.account().await, unique_name());
    let trials = wrong(&client, &name, 3 * CAPACITY).await;
    let (right, wrong) = trials.split_at(2 * CAPACITY);
    for trial in right {
        trial.set_right();
        // Three at once: whichever begins it, the others are repeats, and cost nothing here.
        for answer in join_all((0..3).map(|_| trial.respond())).await {
            answer.expect(200);
        }
        client.wait_for(&trial.url, "valid").await;
        quiet(&server).await;
    }
    exactly(CAPACITY, wrong).await;
}

async fn lim_02_a_response_that_is_refused_is_charged_nowhere(server: Arc<Deployment>) {
    let (client, name) = (server.account().await, unique_name());
    let trials = wrong(&client, &name, CAPACITY + 1).await;
    let (last, others) = trials.split_last().expect("some");
    exactly(CAPACITY, others).await;
    for _ in 0..2 * CAPACITY {
        refused(&last.respond().await, "failed-validations");
    }
    let key = format!("{}/{name}", client.account());
    server.command(&["limits", "override", "set", "failed-validations", &key, "1000"]);
    let start = Instant::now();
    loop {
        let answer = last.respond().await;
        if answer.status == 200 {
            break;
        }
        refused(&answer, "failed-validations");
        assert!(start.elapsed() < SOON, "the override is not seen: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Three responses to a challenge, of which this was the first.
    client.wait_for(&last.url, "invalid").await;
    for _ in 0..2 {
        last.respond().await.expect(200);
    }
    refused(&last.respond().await, "challenge-responses");
}

/// Two may fail. Replica 0 takes a response, to which the target says the right thing or not, and dies at `point`; another
/// finishes. Then exactly `left` may fail.
#[cfg(feature = "faults")]
fn killed_at(point: &str, right: bool, left: usize) {
    let server = Deployment::with(Kind::Fleet, &may_fail(2).killed_at(point));
    runtime().block_on(async {
        let client = server.account().await;
        let trials = wrong(&client, &unique_name(), 6).await;
        let (first, others) = trials.split_first().expect("some");
        if right {
            first.set_right();
        }
        let response = client.post(&text(&first.challenge, "url")).json(json!({})).through(0);
        let _ = response.ready().await.try_send().await;
        server.replica(0).wait_for_fault().await;
        client.wait_for(&first.url, if right { "valid" } else { "invalid" }).await;
        quiet(&server).await;
        exactly(left, others).await;
        server.assert_at_rest();
    });
}

#[cfg(feature = "faults")]
#[test]
fn i_09_a_validation_that_succeeds_elsewhere_is_given_back() {
    killed_at("validation-accepted", true, 2);
}

#[cfg(feature = "faults")]
#[test]
fn i_09_a_validation_that_fails_elsewhere_stays_charged() {
    killed_at("validation-accepted", false, 1);
}

#[cfg(feature = "faults")]
#[test]
fn i_09_a_replica_that_dies_before_it_gives_back_costs_one_use() {
    killed_at("validation-recorded", true, 1);
}

#[test]
fn lim_03_a_validation_that_fails_by_our_own_fault_is_given_back() {
    let server = Deployment::with(Kind::Fleet, &may_fail(1));
    runtime().block_on(async {
        let client = server.account().await;
        let trials = wrong(&client, &unique_name(), 3).await;
        let (first, others) = trials.split_first().expect("some");
        responder::http().set(&first.token(), Reply::Silence);
        client.post(&text(&first.challenge, "url")).json(json!({})).through(0).send().await.expect(200);
        refused(&others[0].respond().await, "failed-validations");
        // As if as many replicas had died of it already as may.
        let id = first.url.rsplit('/').next().expect("an id");
        server.kill(0);
        server.sql(&format!("UPDATE authorizations SET claims = 8 WHERE id = '{id}'"));
        let failed = client.wait_for(&first.url, "invalid").await;
        assert!(failed.text().contains("serverInternal"), "{failed}");
        exactly(1, others).await;
    });
}

/// A validation begins, `before` lets its use be charged to buckets that `after` puts out of reach; then both uses that there
/// are are taken, and the validation succeeds: that gives nobody a third.
async fn no_gift(server: &Arc<Deployment>, before: impl AsyncFnOnce(), after: impl AsyncFnOnce(&Client)) {
    let client = server.account().await;
    let trials = wrong(&client, &unique_name(), 5).await;
    let (first, others) = trials.split_first().expect("some");
    responder::http().set(&first.token(), Reply::Silence);
    before().await;
    client.post(&text(&first.challenge, "url")).json(json!({})).through(0).send().await.expect(200);
    after(&client).await;
    let (failing, left) = respond(others.iter().collect()).await;
    assert_eq!((failing.len(), left.len()), (2, 2));
    join_all(failing.iter().map(|trial| client.wait_for(&trial.url, "invalid"))).await;
    first.set_right();
    client.wait_for(&first.url, "valid").await;
    quiet(server).await;
    let (more, _) = respond(left).await;
    assert_eq!(more.len(), 0);
}

/// Without its store a replica counts alone: what it took of itself is not given back to the fleet.
#[test]
fn i_09_what_a_replica_took_of_itself_is_no_gift_to_the_fleet() {
    let server = Deployment::with(Kind::Fleet, &may_fail(2).set("CHANCERY_LIMITS_WITHOUT_REDIS", "local"));
    runtime().block_on(async {
        let redis = server.redis().expect("a fleet");
        let keys = async |pattern| {
            redis.command::<()>(&["ACL", "SETUSER", "default", "resetkeys", pattern]).await;
        };
        // Nonces can be redeemed, and no limit asked.
        no_gift(&server, async || keys("~{nonce}:*").await, async |_| keys("~*").await).await;
        let degraded = "chancery_limits_total{limit=\"failed-validations\",result=\"degraded\"}";
        assert!(server.replica(0).metric(degraded) > 0.0);
    });
}

/// A server without Redis forgets what was used when it ends; what it had begun is not given back to the next one.
#[test]
fn i_09_what_an_embedded_server_took_is_no_gift_to_the_next() {
    let server = Deployment::with(Kind::Embedded, &may_fail(2));
    runtime().block_on(async {
        let restarted = async |client: &Client| {
            server.kill(0);
            server.restart(0);
            client.forget_nonces();
        };
        no_gift(&server, async || {}, restarted).await;
    });
}

/// What docs/performance.md says of an issuance with limits.
#[test]
fn i_09_an_issuance_asks_four_times_for_its_limits() {
    let settings = may_fail(CAPACITY)
        .set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "100")
        .set("CHANCERY_LIMITS_CHALLENGE_RESPONSES_PER_HOUR", "60")
        .set("CHANCERY_LIMITS_DUPLICATE_CERTIFICATES_PER_DAY", "30");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let (client, redis) = (server.account().await, server.redis().expect("a fleet"));
        let asked = async || {
            let log: Vec<redis::Value> = redis.command(&["SLOWLOG", "GET", "-1"]).await;
            let of_limits = |call: &String| call.contains("EVALSHA") && call.contains("{limits}:");
            log.iter().map(|call| format!("{call:?}")).filter(of_limits).count()
        };
        // The second time Redis knows all scripts by name.
        for _ in 0..2 {
            redis.command::<()>(&["CONFIG", "SET", "slowlog-max-len", "10000"]).await;
            redis.command::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await;
            redis.command::<()>(&["SLOWLOG", "RESET"]).await;
            let name = unique_name();
            let order = client.order(&[&name]).await;
            assert_eq!(asked().await, 1, "new-order");
            client.authorize(&order, "http-01").await;
            quiet(&server).await;
            assert_eq!(asked().await, 3, "the response, and what its validation gives back");
            client.collect(&order, &[&name], Key::new()).await;
            assert_eq!(asked().await, 4, "finalize");
        }
    });
}
