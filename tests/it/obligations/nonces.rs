//! Nonces as clients fetch, keep and lose them.

use std::time::{Duration, Instant};

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::admission::{Nonces, RedisConfig, RedisNonces};
use futures_util::future::join_all;
use http::Method;

use super::walk::{Step, errors, walk};
use super::{on, on_the_fleet};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::response::{Response, URN};
use crate::support::run::{SOON, SplitMix};

fn nonce_of(step: &Step) -> String {
    let nonces: Vec<_> = step.answer.headers.get_all("replay-nonce").iter().collect();
    assert_eq!(nonces.len(), 1, "{}: one nonce expected: {}", step.what, step.answer);
    step.answer.nonce().expect("counted")
}

/// certbot stops at a POST answered without a nonce; dehydrated and node-acme-client use that of the error, `badNonce`
/// above all.
#[test]
fn o06_every_answer_brings_a_nonce_that_works_on_another_replica() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let mut steps = walk(&server).await;
        steps.extend(errors(&server).await);
        let signed = |step: &&Step| !step.answer.request.starts_with("GET");
        let mut nonces: Vec<_> =
            steps.iter().filter(signed).map(|step| (step.what, nonce_of(step))).collect();
        let url = client.resource("newNonce").await;
        for (what, method) in [("HEAD new-nonce", Method::HEAD), ("GET new-nonce", Method::GET)] {
            let answer = client.plain(method, &url).send().await;
            nonces.push((what, nonce_of(&Step { what, wanted: 200, answer })));
        }
        assert!(nonces.len() > 40, "{}", nonces.len());
        for (what, nonce) in nonces {
            let answer = client.post(client.account()).nonce(nonce).send().await;
            assert_eq!(answer.status, 200, "the nonce of {what:?}: {answer}");
        }
    });
}

/// certbot decodes a nonce; acme4j refuses one that is not base64url.
#[test]
fn o07_a_nonce_is_base64url_without_padding() {
    on_the_fleet(async |server| {
        let client = server.client();
        let mut steps = walk(&server).await;
        steps.extend(errors(&server).await);
        let mut nonces: Vec<String> = steps.iter().filter_map(|step| step.answer.nonce()).collect();
        for _ in 0..32 * server.size() {
            nonces.push(client.fresh_nonce().await);
        }
        for nonce in nonces {
            let octets = Base64UrlUnpadded::decode_vec(&nonce).unwrap_or_else(|_| panic!("{nonce:?}"));
            assert!(octets.len() >= 16, "{nonce:?}");
            assert_eq!(Base64UrlUnpadded::encode_string(&octets), nonce, "no unused bits are set");
        }
    });
}

/// instant-acme takes 200 only for HEAD; acme-tiny asks by GET, and acme4j knows 200 and 204.
#[test]
fn o08_new_nonce_answers_head_with_200_and_get_with_204() {
    on_the_fleet(async |server| {
        let client = server.client();
        let url = client.resource("newNonce").await;
        for replica in 0..server.size() {
            for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
                let answer = client.plain(method, &url).through(replica).send().await.expect(status);
                assert!(answer.nonce().is_some_and(|nonce| !nonce.is_empty()), "{answer}");
                assert!(answer.body.is_empty(), "{answer}");
            }
            // node-acme-client names a media type though there is no body.
            let ask = client.plain(Method::HEAD, &url).header("content-type", "application/jose+json");
            ask.through(replica).send().await.expect(200);
        }
    });
}

/// What acme.sh looks for in the body, and acmez in the headers.
fn assert_known_as_bad_nonce(answer: &Response) {
    assert_eq!((answer.status, answer.content_type()), (400, "application/problem+json"), "{answer}");
    assert_eq!(answer.string("type"), format!("{URN}badNonce"), "{answer}");
    assert!(answer.text().contains("\"detail\":\"JWS has an invalid anti-replay nonce"), "{answer}");
}

/// acme.sh knows `badNonce` by the English of its detail, and by nothing else.
#[test]
fn o10_a_bad_nonce_is_told_in_the_words_that_acme_sh_knows() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        for replica in 0..server.size() {
            let used = client.fresh_nonce().await;
            let read = client.post(client.account()).nonce(used.clone()).through(replica);
            read.send().await.expect(200);
            for nonce in [used.as_str(), "AAAA", "!", ""] {
                let ask = client.post(client.account()).nonce(nonce).through(replica + 1);
                let refused = ask.send().await;
                assert_known_as_bad_nonce(&refused);
                let again = client.post(client.account()).nonce(refused.nonce().expect("a nonce"));
                again.through(replica + 2).send().await.expect(200);
            }
            assert_known_as_bad_nonce(
                &client.post(client.account()).no_nonce().through(replica).send().await,
            );
        }
    });
}

/// x/crypto keeps up to a hundred nonces and takes any of them; lego and acmez keep as many as they get, for ever.
#[test]
fn o25_a_pool_of_nonces_is_good_in_any_order_on_any_replica() {
    on_the_fleet(async |server| {
        let client = server.account().await;
        let mut pool = Vec::new();
        for _ in 0..100 {
            pool.extend(join_all((0..server.size()).map(|_| client.fresh_nonce())).await);
        }
        let mut random = SplitMix::new(25);
        while !pool.is_empty() {
            let mut asks = Vec::new();
            for _ in 0..pool.len().min(20) {
                let index = usize::try_from(random.below(pool.len() as u64)).expect("small");
                let replica = usize::try_from(random.below(3)).expect("small");
                let ask = client.post(client.account()).nonce(pool.swap_remove(index)).through(replica);
                asks.push(ask.ready().await.send());
            }
            for answer in join_all(asks).await {
                answer.expect(200);
            }
        }
    });
}

/// The same clients come back to their pool after a night.
#[test]
fn o25_an_old_nonce_is_good_until_its_end() {
    on(Deployment::with(Kind::Fleet, &Settings::new()), async |server| {
        let client = server.account().await;
        // A nonce of this replica of our own has five minutes left, as one of the others has after ten.
        let url = server.redis().expect("a fleet has Redis").url();
        let old = RedisNonces::connect(RedisConfig::new(url), Duration::from_secs(300)).expect("a URL");
        old.wait_until_ready(SOON).await.expect("Redis is there");
        for replica in 0..server.size() {
            let nonce = old.mint().expect("a nonce");
            client.post(client.account()).nonce(nonce).through(replica).send().await.expect(200);
        }
        old.close().await;
    });
}

/// And what is too old is refused so that they all go on.
#[test]
fn o25_a_pool_that_is_too_old_is_refused_nonce_by_nonce_with_fresh_ones() {
    on(Deployment::hasty(Kind::Fleet), async |server| {
        let client = server.account().await;
        let mut pool = Vec::new();
        for _ in 0..12 {
            pool.push(client.fresh_nonce().await);
        }
        wait_until_too_old(&client).await;
        for nonce in pool {
            let refused = client.post(client.account()).nonce(nonce).send().await;
            assert_known_as_bad_nonce(&refused);
            let fresh = refused.nonce().expect("a nonce");
            client.post(client.account()).nonce(fresh).send().await.expect(200);
        }
    });
}

/// Waits until a nonce fetched now would have expired: lifetimes are the same for all.
async fn wait_until_too_old(client: &Client) {
    let nonce = client.fresh_nonce().await;
    let octets = Base64UrlUnpadded::decode_vec(&nonce).expect("base64url");
    let expiry = i64::from_be_bytes(octets[8..16].try_into().expect("eight octets"));
    let start = Instant::now();
    loop {
        let redis = client.server.redis().expect("a fleet has Redis");
        if redis.micros().await > expiry {
            return;
        }
        assert!(start.elapsed() < SOON, "the lifetime is two seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
