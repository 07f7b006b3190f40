//! GEN-16: what is held of request bodies has a bound, however many streams send some.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::run::runtime;
use crate::support::transport::Version;

/// As many as one connection may have.
const STREAMS: usize = 100;
const CONNECTIONS: usize = 60;
/// What each stream sends of a body that does not end: 360 MB in all.
const SENT: usize = 60_000;
/// What the server may need more than before, in KiB: 64 MiB of bodies, and what 6000 streams cost beside.
const MOST: u64 = 256 * 1024;

#[test]
fn gen_16_bodies_without_end_are_shed_before_they_fill_the_memory() {
    runtime().block_on(async {
        let server = Deployment::with(Kind::Embedded, &Settings::new());
        let before = resident(server.replica(0).pid());
        let connections: Vec<_> = join_all((0..CONNECTIONS).map(|_| async {
            let stream = server.replica(0).endpoint().connect(Version::Http2).await.expect("a connection");
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender
        }))
        .await;
        let url = server.client().resource("newOrder").await;
        let mut answers: FuturesUnordered<_> = connections
            .iter()
            .flat_map(|sender| (0..STREAMS).map(|_| sender.clone()))
            .map(|mut sender| {
                let first = Frame::data(Bytes::from(vec![b' '; SENT]));
                let frames = futures_util::stream::iter([Ok::<_, Infallible>(first)]);
                let body = StreamBody::new(frames.chain(futures_util::stream::pending()));
                let request = Request::post(&url).header("content-type", "application/jose+json").body(body);
                async move {
                    let answer = sender.send_request(request.expect("a request")).await.ok()?;
                    let (head, body) = answer.into_parts();
                    Some((head, body.collect().await.ok()?.to_bytes()))
                }
            })
            .collect();
        // As many as do not fit are told so; the others wait for the rest of their bodies.
        let fit = 64 * 1024 * 1024 / SENT;
        let mut shed = 0;
        while shed < CONNECTIONS * STREAMS - fit {
            let Some(answer) = answers.next().await else { break };
            let Some((head, body)) = answer else { continue };
            // Who waited longer than a body may take is told that, and made room for another.
            if head.status != 408 {
                assert_eq!(head.status, 503);
                assert!(
                    head.headers.contains_key("retry-after") && head.headers.contains_key("replay-nonce")
                );
                assert!(String::from_utf8_lossy(&body).contains("rateLimited"));
                shed += 1;
            }
        }
        assert!(shed > 0, "none was shed");
        let more = resident(server.replica(0).pid()).saturating_sub(before);
        eprintln!("{shed} shed, {more} KiB more");
        assert!(more < MOST, "{more} KiB more than before");
        assert!(server.replica(0).metric("chancery_requests_shed_total") >= shed as f64);
        drop((answers, connections));
        // What they held is free again.
        server.account().await.issue_any().await;
    });
}

/// The most memory that a process has had, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
