//! Reading request bodies: each within a limit and a time, and all that are held at once within another limit.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Rejection;
use crate::acme::problem::Problem;

/// The largest request body that is read (GEN-06).
const MAX_BODY: usize = 64 * 1024;

/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// How many octets of bodies are held at once. Ten thousand connections of a hundred streams each could send as many
/// bodies; those of real requests have a few kibibytes.
const MOST_HELD: usize = 64 * 1024 * 1024;

/// The octets of request bodies that are held now.
#[derive(Clone)]
pub(super) struct Bodies {
    free: Arc<Semaphore>,
}

/// A body, and what is given back when its request is over.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) octets: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Too large, too late, or broken.
    Refused(Rejection),
    /// Too much is held for others.
    Full,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self::of(MOST_HELD)
    }

    fn of(octets: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(octets)) }
    }

    /// Reads a body whole, no further than its limit (GEN-06).
    pub(super) async fn read(&self, body: Body) -> Result<Held, BodyError> {
        if hyper::body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let late = || Err(refused(Problem::malformed("the request body took too long").with_status(408)));
        tokio::time::timeout(BODY_LIMIT, self.collect(body)).await.unwrap_or_else(|_| late())
    }

    async fn collect(&self, body: Body) -> Result<Held, BodyError> {
        let mut body = Limited::new(body, MAX_BODY);
        let mut octets = BytesMut::new();
        let mut permit: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return too_large();
                }
                refused(Problem::malformed("the request body could not be read"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = self.free.clone().try_acquire_many_owned(count).map_err(|_| BodyError::Full)?;
            match &mut permit {
                Some(permit) => permit.merge(more),
                None => permit = Some(more),
            }
            octets.extend_from_slice(&data);
        }
        Ok(Held { octets: octets.freeze(), _permit: permit })
    }
}

fn too_large() -> BodyError {
    let detail = format!("the request body is larger than {MAX_BODY} octets");
    refused(Problem::malformed(detail).with_status(413))
}

fn refused(problem: Problem) -> BodyError {
    BodyError::Refused(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(octets: usize) -> Body {
        // Two frames.
        let frames = [octets / 2, octets - octets / 2].map(|size| Ok::<_, std::io::Error>(vec![7; size]));
        Body::from_stream(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn gen_16_all_bodies_together_have_a_bound() {
        let bodies = Bodies::of(100);
        let first = bodies.read(body(60)).await.expect("room");
        assert_eq!(first.octets, vec![7; 60]);
        assert!(matches!(bodies.read(body(60)).await, Err(BodyError::Full)));
        let second = bodies.read(body(40)).await.expect("what was read of the refused one was given back");
        assert!(matches!(bodies.read(body(1)).await, Err(BodyError::Full)));
        bodies.read(Body::empty()).await.expect("nothing needs no room");
        drop((first, second));
        bodies.read(body(100)).await.expect("all was given back");
    }

    #[tokio::test]
    async fn gen_06_a_body_is_read_to_its_limit_and_no_further() {
        let bodies = Bodies::new();
        bodies.read(body(MAX_BODY)).await.expect("as large as may be");
        assert!(matches!(bodies.read(body(MAX_BODY + 1)).await, Err(BodyError::Refused(_))));
        assert_eq!(bodies.free.available_permits(), MOST_HELD);
    }
}
