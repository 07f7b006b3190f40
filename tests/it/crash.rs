//! A replica dies, stalls or stops at each step of its work; the work is done all the same, once, and soon (AUT-07,
//! ORD-12, I-3, I-4).

#[cfg(feature = "faults")]
mod content;
#[cfg(feature = "faults")]
mod points;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::text;
use crate::support::keys::{Key, base64url};
use crate::support::postgres::TableLock;
use crate::support::responder::{self, Reply};
use crate::support::run::{SOON, runtime, unique_name, with_log};
use crate::support::trial::Trial;

type Server = Arc<Deployment>;

/// The gauge of jobs that no replica holds, as a replica shows it.
fn waiting(server: &Deployment, replica: usize, kind: &str) -> Option<String> {
    let (_, metrics) = server.replica(replica).ops_get("/metrics")?;
    let name = format!("chancery_jobs_waiting{{kind=\"{kind}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned))
}

/// Within this time another replica finishes what a dead one had begun.
const TAKEOVER: Duration = Duration::from_secs(15);

/// Waits for something that is to happen soon.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A challenge whose target says nothing, accepted by replica 0, which waits for the target.
async fn hanging(client: &crate::support::client::Client) -> Trial<'_> {
    let trial = Trial::http(client, |_| Reply::Silence).await;
    client.post(&text(&trial.challenge, "url")).json(json!({})).through(0).send().await.expect(200);
    until("the target is asked", || !responder::http().requests(&trial.token()).is_empty()).await;
    trial
}

impl Trial<'_> {
    /// From here on the target gives the right answer.
    fn heal(&self) {
        responder::http().set(&self.token(), Reply::Body(self.answer()));
    }

    fn name(&self) -> String {
        text(&self.authorization["identifier"], "value")
    }
}

fn assert_soon(what: &str, since: Instant, limit: Duration) {
    let taken = since.elapsed();
    println!("{what}: {:.1} s", taken.as_secs_f64());
    assert!(taken < limit, "{what}: {taken:?}");
}

/// Lets no certificate be recorded until it is ended: the job that tries to goes on trying.
struct Stall<'a>(&'a Deployment);

impl<'a> Stall<'a> {
    fn begin(server: &'a Deployment) -> Self {
        server.sql(
            "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'stalled' USING ERRCODE = '57P03'; END $$; \
             CREATE TRIGGER stall BEFORE UPDATE ON certificates FOR EACH ROW EXECUTE FUNCTION stall()",
        );
        Self(server)
    }

    fn end(self) {
        self.0.sql("DROP TRIGGER stall ON certificates; DROP FUNCTION stall()");
    }
}

#[test]
fn aut_07_a_validation_outlives_the_replica_that_answered() {
    let server = Deployment::with(Kind::Fleet, &Settings::new());
    runtime().block_on(async {
        let client = server.account().await;
        let trial = hanging(&client).await;
        server.kill(0);
        let dead = Instant::now();
        trial.heal();
        client.wait_for(&trial.url, "valid").await;
        assert_soon("validation after the 200 and a SIGKILL", dead, TAKEOVER);
        client.collect(&trial.order, &[&trial.name()], Key::new()).await;
        server.assert_at_rest();
    });
}

#[test]
fn ord_12_an_issuance_outlives_the_replica_that_answered() {
    let server = Deployment::with(Kind::Fleet, &Settings::new());
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let stall = Stall::begin(&server);
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let answer = client.post(&order.finalize()).json(payload).through(0).send().await.expect(200);
        assert_eq!(answer.state(), "processing");
        assert!(answer.retry_after().is_some(), "{answer}");
        server.kill(0);
        let dead = Instant::now();
        stall.end();
        let url = client.wait_for(&order.url, "valid").await.string("certificate");
        assert_soon("issuance after the 200 and a SIGKILL", dead, TAKEOVER);
        assert_eq!(Chain::parse(&client.read(&url).await.expect(200).text()).names(), [name]);
        assert_eq!(server.sql("SELECT count(*) FROM certificates"), "1");
        server.assert_at_rest();
    });
}

#[test]
fn i_03_a_stopping_replica_finishes_requests_and_hands_jobs_back() {
    // A lease so long that only a job that was handed back is done in time.
    let server = Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_JOB_LEASE", "60s"));
    runtime().block_on(async {
        let client = server.account().await;
        let trial = hanging(&client).await;
        let lock = TableLock::take(server.database().expect("a fleet"), "orders", "EXCLUSIVE").await;
        let url = client.resource("newOrder").await;
        let payload = json!({"identifiers": [{"type": "dns", "value": unique_name()}]});
        let running = client.post(&url).json(payload).through(0).ready().await;
        let watch = async {
            until("the order waits for the lock", || {
                server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1"
            })
            .await;
            trial.heal();
            let stopping = Instant::now();
            let replica = server.replica(0);
            replica.signal("TERM");
            until("no connection is accepted", || TcpStream::connect(replica.listen).is_err()).await;
            assert!(replica.is_running(), "a request still runs");
            let (status, body) = replica.ops_get("/readyz").expect("an answer");
            assert!(status == 503 && body.contains("stopping"), "{status} {body}");
            drop(lock);
            stopping
        };
        let (answer, stopping) = tokio::join!(running.send(), watch);
        answer.expect(201);
        assert_eq!(
            server.replica(0).ended().await,
            0,
            "{}",
            with_log("it ended otherwise", &server.replica(0).log())
        );
        assert_soon("the end after a SIGTERM", stopping, Duration::from_secs(5));
        client.wait_for(&trial.url, "valid").await;
        assert_soon("validation after a SIGTERM", stopping, Duration::from_secs(8));
        server.assert_at_rest();
    });
}

#[test]
fn i_03_a_stopping_replica_hands_an_issuance_back() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().set("CHANCERY_JOB_LEASE", "60s"));
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = client.ready_order(&[&name]).await;
        let stall = Stall::begin(&server);
        let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[&name]))});
        let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
        let stop = async {
            until("the order is processing", || server.sql("SELECT progress FROM orders") == "processing")
                .await;
            server.replica(0).signal("TERM");
            Instant::now()
        };
        let (answer, stopping) = tokio::join!(ask.send(), stop);
        assert_eq!(answer.expect(200).state(), "processing");
        assert_eq!(
            server.replica(0).ended().await,
            0,
            "{}",
            with_log("it ended otherwise", &server.replica(0).log())
        );
        stall.end();
        client.wait_for(&order.url, "valid").await;
        assert_soon("issuance after a SIGTERM", stopping, Duration::from_secs(8));
        assert_eq!(server.sql("SELECT count(*) FROM certificates"), "1");
        server.assert_at_rest();
    });
}

#[test]
fn i_03_the_embedded_server_goes_on_after_a_kill() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    runtime().block_on(async {
        let client = server.account().await;
        let issued = client.issue_any().await;
        let pem = client.read(&issued.url).await.expect(200).text();
        let waiting = client.order(&[&unique_name()]).await;
        let trial = hanging(&client).await;
        server.kill(0);
        server.restart(0);
        let back = Instant::now();
        client.forget_nonces();
        trial.heal();
        client.wait_for(&trial.url, "valid").await;
        assert_soon("validation after a restart", back, TAKEOVER);
        client.collect(&trial.order, &[&trial.name()], Key::new()).await;
        // Nothing is lost.
        assert_eq!(client.read(&issued.url).await.expect(200).text(), pem);
        assert_eq!(client.read(&issued.order).await.expect(200).state(), "valid");
        assert_eq!(client.read(&waiting.url).await.expect(200).state(), "pending");
        let account = client.new_account(json!({"onlyReturnExisting": true})).await.expect(200);
        assert_eq!(account.location(), client.account());
        server.assert_at_rest();
    });
}

fn no_poll_is_in_the_way(kind: Kind) {
    let settings = Settings::new().set("CHANCERY_JOB_TICK", "60s").set("CHANCERY_JOB_LEASE", "120s");
    let server = Deployment::with(kind, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        for challenge in ["http-01", "dns-01", "tls-alpn-01"] {
            let name = unique_name();
            let order = client.order(&[&name]).await;
            let start = Instant::now();
            client.authorize(&order, challenge).await;
            assert_soon(challenge, start, Duration::from_secs(2));
            let start = Instant::now();
            client.collect(&order, &[&name], Key::new()).await;
            assert_soon("finalize and download", start, Duration::from_secs(2));
        }
        server.assert_at_rest();
    });
}

#[test]
fn i_03_no_poll_is_in_the_way_of_a_healthy_fleet() {
    no_poll_is_in_the_way(Kind::Fleet);
}

#[test]
fn i_03_no_poll_is_in_the_way_of_the_embedded_server() {
    no_poll_is_in_the_way(Kind::Embedded);
}

#[test]
fn i_03_a_job_that_waits_for_its_turn_goes_to_a_replica_with_a_free_place() {
    let settings = Settings::new().set("CHANCERY_VALIDATION_CONCURRENCY", "1").replicas(2);
    let server = Deployment::with(Kind::Fleet, &settings.set("CHANCERY_VALIDATION_TIMEOUT", "30s"));
    runtime().block_on(async {
        let client = server.account().await;
        let blocking = hanging(&client).await;
        let start = Instant::now();
        let trial = Trial::http(&client, |answer| Reply::Body(answer.to_owned())).await;
        let url = text(&trial.challenge, "url");
        client.post(&url).json(json!({})).through(0).send().await.expect(200);
        client.wait_for(&trial.url, "valid").await;
        assert_soon("validation by the other replica", start, Duration::from_secs(10));
        assert_eq!(client.read(&blocking.url).await.state(), "pending");
    });
}

#[test]
fn i_03_waiting_for_a_turn_ends_no_job() {
    // One place; ten jobs, of which each gives up its turn many times before it comes.
    let settings = Settings::new()
        .set("CHANCERY_VALIDATION_CONCURRENCY", "1")
        .set("CHANCERY_JOB_LEASE", "300ms")
        .set("CHANCERY_JOB_TICK", "50ms");
    let server = Deployment::with(Kind::Embedded, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let blocking = hanging(&client).await;
        let right = |answer: &str| Reply::Body(answer.to_owned());
        let trials: Vec<_> = join_all((0..10).map(|_| Trial::http(&client, right))).await;
        join_all(trials.iter().map(Trial::start)).await;
        // The target's silence ends after two attempts of three seconds.
        join_all(trials.iter().map(|trial| client.wait_for(&trial.url, "valid"))).await;
        client.wait_for(&blocking.url, "invalid").await;
        server.assert_at_rest();
    });
}

#[test]
fn acc_07_a_deactivated_account_leaves_no_job_behind() {
    let settings = Settings::new().replicas(2).set("CHANCERY_SWEEP_INTERVAL", "500ms");
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let trial = hanging(&client).await;
        client.send(client.account(), json!({"status": "deactivated"})).await.expect(200);
        until("the replica gave up", || server.replica(0).log().contains("lease was lost")).await;
        trial.heal();
        until("it is tidied up", || server.left_over().is_empty()).await;
        server.assert_at_rest();
        assert_eq!(server.sql("SELECT DISTINCT outcome FROM authorizations"), "deactivated");
    });
}

#[test]
fn i_03_handing_a_job_back_is_not_dying_of_it() {
    let settings = Settings::new().set("CHANCERY_JOB_TICK", "50ms");
    let server = Deployment::with(Kind::Embedded, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let trial = hanging(&client).await;
        let asked = || responder::http().requests(&trial.token()).len();
        // More restarts than the deaths that a job may cause.
        for _ in 0..10 {
            let before = asked();
            server.replica(0).signal("TERM");
            assert_eq!(server.replica(0).ended().await, 0);
            server.start_again(0);
            until("the job is taken again", || asked() > before).await;
        }
        trial.heal();
        client.forget_nonces();
        client.wait_for(&trial.url, "valid").await;
        server.assert_at_rest();
    });
}

#[test]
fn i_03_what_has_expired_is_no_job() {
    let settings = Settings::new()
        .set("CHANCERY_ORDER_LIFETIME", "2s")
        .set("CHANCERY_AUTHORIZATION_LIFETIME", "2s")
        .set("CHANCERY_JOB_LEASE", "3s")
        .replicas(2);
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let trial = hanging(&client).await;
        server.kill(0);
        // Long after the authorization's end and the lease's.
        let over = "SELECT count(*) FROM authorizations \
                    WHERE lease_until < (extract(epoch FROM clock_timestamp()) - 3) * 1000000";
        until("the lease is over", || server.sql(over) == "1").await;
        assert_eq!(waiting(&server, 1, "validation").as_deref(), Some("0"), "nobody needs its result");
        assert_eq!(client.read(&trial.url).await.expect(200).state(), "expired");
        assert_eq!(client.read(&trial.order.url).await.expect(200).state(), "invalid");
    });
}
