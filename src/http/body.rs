//! Reading request bodies: each within a limit and a time, and the large ones within what peers may hold.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::problem::Rejection;
use crate::acme::problem::Problem;
use crate::peers::budget::SMALL_BODY;
use crate::peers::{Held, Ledger, Resource};

/// The largest request body that is read (GEN-06).
const MAX_BODY: usize = 64 * 1024;

/// How much of a refused body is read and thrown away, and for how long.
const MOST_DRAINED: usize = 16 * 1024 * 1024;
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// A body, and what is given back when its request is over.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) octets: Bytes,
    _paid: Vec<Held>,
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Too late, or broken.
    Refused(Rejection),
    /// Larger than bodies may be; with what was not read of it.
    TooLarge(Rejection, Body),
    /// Its client, or all together, hold as much as they may.
    Full,
}

/// Reads a body whole, no further than its limit (GEN-06). A small one is part of what its open request costs; what a
/// large one has beyond is taken from the client's share as it comes.
pub(super) async fn read(
    ledger: &Arc<Ledger>,
    client: IpAddr,
    mut body: Body,
) -> Result<Received, BodyError> {
    if hyper::body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
        return Err(too_large(body));
    }
    let late = || Err(refused(Problem::malformed("the request body took too long").with_status(408)));
    match tokio::time::timeout(BODY_LIMIT, collect(ledger, client, &mut body)).await {
        Ok(Err(BodyError::TooLarge(refusal, _))) => Err(BodyError::TooLarge(refusal, body)),
        Ok(outcome) => outcome,
        Err(_) => late(),
    }
}

/// Reads the rest of a body that is refused, and keeps none of it, so that an HTTP/2 client which sends all before it
/// reads sees its 413: its stream would be reset. (With HTTP/1 the connection lingers.)
pub(super) async fn drain(mut body: Body) {
    let rest = async {
        let mut left = MOST_DRAINED;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
}

async fn collect(ledger: &Arc<Ledger>, client: IpAddr, body: &mut Body) -> Result<Received, BodyError> {
    let mut octets = BytesMut::new();
    let (mut paid, mut covered) = (Vec::new(), SMALL_BODY);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| refused(Problem::malformed("the request body could not be read")))?;
        let Ok(data) = frame.into_data() else { continue };
        let needed = octets.len() + data.len();
        if needed > MAX_BODY {
            return Err(too_large(Body::empty()));
        }
        if needed > covered {
            // In steps, so that a body that comes octet by octet costs no entry each.
            let more = (needed - covered).max(SMALL_BODY);
            let more_held = ledger.take(Some(client), Resource::Octets, more, 0);
            paid.push(more_held.map_err(|_| BodyError::Full)?);
            covered += more;
        }
        octets.extend_from_slice(&data);
    }
    Ok(Received { octets: octets.freeze(), _paid: paid })
}

fn too_large(rest: Body) -> BodyError {
    let detail = format!("the request body is larger than {MAX_BODY} octets");
    BodyError::TooLarge(Problem::malformed(detail).with_status(413).into(), rest)
}

fn refused(problem: Problem) -> BodyError {
    BodyError::Refused(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{Bound, Bounds};

    fn body(octets: usize) -> Body {
        // Two frames.
        let frames = [octets / 2, octets - octets / 2].map(|size| Ok::<_, std::io::Error>(vec![7; size]));
        Body::from_stream(futures_util::stream::iter(frames))
    }

    fn ledger(share: usize) -> Arc<Ledger> {
        let bound = Bound { most: 2 * share, share };
        let (connections, open_requests, running_requests, octets) = (bound, bound, bound, bound);
        Ledger::new(Bounds { connections, open_requests, running_requests, octets })
    }

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test]
    async fn gen_16_large_bodies_of_a_client_have_a_bound_and_small_ones_always_fit() {
        let ledger = ledger(64 * 1024);
        let read = |client, octets| read(&ledger, client, body(octets));
        let first = read(ONE, 48 * 1024).await.expect("room");
        assert_eq!(first.octets, vec![7; 48 * 1024]);
        assert!(matches!(read(ONE, 48 * 1024).await, Err(BodyError::Full)));
        let small: Vec<_> = futures_util::future::join_all((0..50).map(|_| read(ONE, SMALL_BODY))).await;
        assert!(small.iter().all(Result::is_ok), "small ones are part of their requests");
        let second = read(OTHER, 48 * 1024).await.expect("another client's share");
        drop((first, second));
        drop(read(ONE, MAX_BODY).await.expect("all was given back"));
    }

    #[tokio::test]
    async fn gen_06_a_body_is_read_to_its_limit_and_no_further() {
        let ledger = ledger(MAX_BODY);
        drop(read(&ledger, ONE, body(MAX_BODY)).await.expect("as large as may be"));
        assert!(matches!(read(&ledger, ONE, body(MAX_BODY + 1)).await, Err(BodyError::TooLarge(..))));
        drop(ledger.take(Some(ONE), Resource::Octets, MAX_BODY, 0).expect("given back"));
    }
}
