//! A stream that notices what its peer does not do: take what is written to it, or end the head that it has begun.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A peer that takes less than this within the limit, though there is more to take, is as good as one that takes nothing.
const LEAST_TAKEN: usize = 4 * 1024;

/// What a connection is doing, seen from both its stream and its requests.
pub(super) struct Activity {
    origin: Instant,
    /// Requests begun so far.
    begun: AtomicU64,
    /// Requests whose answer was not taken yet.
    open: AtomicUsize,
    /// When octets came while no request was open, in milliseconds since `origin` and one more; 0 if none have.
    head_begun: AtomicU64,
    /// Whether this is HTTP/2, where octets between requests need not be those of a head.
    multiplexed: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            begun: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            head_begun: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
        })
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether an answer is awaited or being taken.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// A request's head is there.
    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool) -> Open {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.open.fetch_add(1, Ordering::AcqRel);
        self.head_begun.store(0, Ordering::Release);
        self.multiplexed.store(multiplexed, Ordering::Release);
        Open(Arc::clone(self))
    }

    /// For how long a head has been coming, where one is.
    pub(super) fn head_coming_for(&self) -> Option<Duration> {
        if self.multiplexed.load(Ordering::Acquire) {
            return None;
        }
        let since = self.head_begun.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.origin.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    fn octets_came(&self) {
        if self.open.load(Ordering::Acquire) == 0 {
            let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
            let _ = self.head_begun.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// A request that is open until this is dropped.
pub(super) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream whose writes fail when the peer does not take them.
pub(super) struct Progressing<S> {
    stream: S,
    activity: Arc<Activity>,
    limit: Duration,
    /// Runs while something waits to be taken, with how much was taken since it began.
    stalled: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Progressing<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, limit: Duration) -> Self {
        Self { stream, activity, limit, stalled: None }
    }

    /// What becomes of a write of `offered` octets that came out as `written`.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(taken)) if taken < offered => {
                if let Some((_, so_far)) = &mut self.stalled {
                    *so_far += taken;
                }
                Poll::Ready(Ok(taken))
            }
            // All was taken, or nothing more will be.
            Poll::Ready(outcome) => {
                self.stalled = None;
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                let limit = self.limit;
                let (timer, taken) = self.stalled.get_or_insert_with(|| (Box::pin(sleep(limit)), 0));
                ready!(timer.as_mut().poll(context));
                if *taken < LEAST_TAKEN {
                    metrics::counter!("chancery_answers_not_taken_total").increment(1);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                timer.as_mut().reset(Instant::now() + limit);
                *taken = 0;
                // Registers the wake-up of the new period.
                let _ = timer.as_mut().poll(context);
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before {
            self.activity.octets_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.judge(context, octets.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, slices.iter().map(|slice| slice.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_slowly_is_not() {
        for (taken_at_once, given_up) in [(0, true), (100, true), (2048, false)] {
            let (ours, mut theirs) = duplex(1024);
            let mut ours = Progressing::new(ours, Activity::new(), LIMIT);
            let reading = tokio::spawn(async move {
                let mut some = vec![0; taken_at_once];
                loop {
                    sleep(LIMIT / 8).await;
                    if theirs.read_exact(&mut some).await.is_err() {
                        return;
                    }
                }
            });
            let written = ours.write_all(&[7; 64 * 1024]).await;
            assert_eq!(written.is_err(), given_up, "{taken_at_once}");
            drop(ours);
            reading.abort();
        }
    }

    #[tokio::test]
    async fn a_head_is_timed_from_its_first_octet() {
        let activity = Activity::new();
        let (ours, mut theirs) = duplex(1024);
        let mut ours = Progressing::new(ours, Arc::clone(&activity), LIMIT);
        let mut some = [0; 16];
        let read = async |ours: &mut Progressing<_>, some: &mut [u8; 16]| ours.read(some).await.unwrap();
        sleep(LIMIT).await;
        assert_eq!(activity.head_coming_for(), None, "idle");
        theirs.write_all(b"GET").await.unwrap();
        read(&mut ours, &mut some).await;
        sleep(LIMIT).await;
        theirs.write_all(b" /").await.unwrap();
        read(&mut ours, &mut some).await;
        assert!(activity.head_coming_for().is_some_and(|coming| coming >= LIMIT));
        let open = activity.begin(false);
        assert_eq!(activity.head_coming_for(), None);
        theirs.write_all(b"body").await.unwrap();
        read(&mut ours, &mut some).await;
        assert_eq!(activity.head_coming_for(), None, "octets of an open request are its body's");
        drop(open);
        assert_eq!(activity.begun(), 1);
    }
}
