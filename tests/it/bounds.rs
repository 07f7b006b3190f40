//! What strangers can take of a replica has bounds: the octets of their bodies, the sockets of their connections.

use std::convert::Infallible;
use std::net::TcpStream;
use std::process::Command;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::chancery::{Deployment, Kind, PROGRAM, Settings};
use crate::support::process::Process;
use crate::support::run::{folder, runtime, wait_until};
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

/// An ordinary client sends its whole body before it reads: it sees the 413 all the same, up to 16 MiB.
#[test]
fn gen_06_ordinary_clients_see_that_a_body_is_too_large() {
    let server = Deployment::shared(Kind::Embedded);
    let body = folder("too-large").join("body");
    let url = format!("{}/new-order", server.base_url);
    for size in [100_000, 1_000_000, 16_000_000] {
        std::fs::write(&body, vec![b'x'; size]).expect("written");
        for version in ["--http1.1", "--http2"] {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--insecure", version, "--header", "Expect:"]);
            curl.args(["--header", "Content-Type: application/jose+json", "--data-binary"]);
            curl.arg(format!("@{}", body.display())).arg(&url);
            let done = curl.output().expect("curl starts");
            let (said, errors) =
                (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(said.contains("\"status\":413"), "{version}, {size} octets: {said} {errors}");
        }
    }
}

/// The limit on open files that it is started under, and the one that it may raise it to.
const OPEN_FILES: &str = "--nofile=64:256";

#[test]
fn connections_leave_open_files_for_what_the_server_itself_needs() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    server.kill(0);
    let replica = server.replica(0);
    let arguments = [OPEN_FILES, PROGRAM, "serve"];
    let log = folder("open-files").join("log");
    let process = Process::start("prlimit", arguments, replica.environment(), &log);
    let is_ready = || replica.ops_get("/readyz").is_some_and(|(status, _)| status == 200);
    wait_until("it is ready", is_ready);
    assert!(process.log().contains("fewer connections than http.max_connections"), "{}", process.log());
    let address = replica.endpoint().address;
    let idle: Vec<_> = (0..400).map(|_| TcpStream::connect(address).expect("the backlog takes it")).collect();
    // The soft limit would have been met, and the hard one.
    let open = || std::fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("it runs").count();
    wait_until("as many as fit are accepted", || open() > 192);
    assert!(is_ready(), "the database and the operations listener have what they need");
    assert_eq!(replica.metric("chancery_accept_errors_total"), 0.0);
    assert!(open() < 256);
    drop(idle);
    runtime().block_on(async { server.account().await.issue_any().await });
}

/// The most memory that a process has had, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
