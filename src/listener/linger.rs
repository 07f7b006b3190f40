//! A close that lets the peer read the last answer. A connection that is closed while octets of it lie unread is reset,
//! and a reset can overtake an answer: the client that sent too large a body would never see its 413 (GEN-06).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::peers::Held;

/// How much more is read and thrown away, and for how long: an ordinary client sends what it has before it reads.
const MOST_OCTETS: u64 = 16 * 1024 * 1024;
const MOST_TIME: Duration = Duration::from_secs(5);

/// A stream that, once dropped, closes its sending side first and reads on for a moment: the peer may be in the middle
/// of a body that was refused by its length alone. Until then it is a connection like others, and `held` pays for it.
pub(super) struct Lingering {
    stream: Option<TcpStream>,
    received: usize,
    held: Option<Held>,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream, held: Held) -> Self {
        Self { stream: Some(stream), received: 0, held: Some(held) }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let outcome = self.stream()?.poll_read(context, into);
        self.received = self.received.saturating_add(into.filled().len() - before);
        outcome
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Who never sent anything is not in the middle of it.
        if self.received == 0 {
            return;
        }
        let held = self.held.take();
        runtime.spawn(timeout(MOST_TIME, async move {
            let _held = held;
            let _ = stream.shutdown().await;
            let mut rest = stream.take(MOST_OCTETS);
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn gen_06_the_last_answer_arrives_though_octets_lie_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let held = crate::peers::Ledger::new(crate::listener::tests::BOUNDS);
        let held = held.take(None, crate::peers::Resource::Connections, 1, 0).unwrap();
        let octets = vec![b'x'; 8 * 1024 * 1024];
        let sending = client.write_all(&octets);
        let serving = async {
            let mut server = Lingering::new(server, held);
            let mut some = vec![0; 1024];
            server.read_exact(&mut some).await.unwrap();
            server.write_all(b"too large").await.unwrap();
        };
        let (sent, ()) = tokio::join!(sending, serving);
        sent.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "too large");
    }
}
