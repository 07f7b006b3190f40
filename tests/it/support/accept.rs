//! The loop of every server that lives in the test process.

use std::future::Future;
use std::net::TcpListener;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::run::runtime;

/// Gives every connection that `listener` takes to `answer`, each in a task of its own, until the handle is aborted.
pub fn accept<F>(
    listener: TcpListener,
    mut answer: impl FnMut(TcpStream) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output: Send> + Send + 'static,
{
    listener.set_nonblocking(true).expect("non-blocking");
    runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    })
}
