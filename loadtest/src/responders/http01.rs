//! http-01 (RFC 8555 §8.3): a server that knows one kind of path. Written by hand, as it shares the machine
//! with the server under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Published;

/// Largest request head that is read.
const HEAD_LIMIT: usize = 4096;
/// How long a connection may stay without a whole request.
const IDLE: Duration = Duration::from_secs(10);

/// Listens on `address` and serves what is published.
pub(super) async fn start(address: SocketAddr, published: Arc<Published>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&published)));
            }
        }
    });
    Ok(())
}

async fn serve(mut stream: TcpStream, published: Arc<Published>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut head = Vec::with_capacity(1024);
    loop {
        let Ok(Ok(read)) = tokio::time::timeout(IDLE, stream.read_buf(&mut head)).await else { return };
        if read == 0 || head.len() > HEAD_LIMIT {
            return;
        }
        if head.ends_with(b"\r\n\r\n") {
            let (answer, keep) = answer(&String::from_utf8_lossy(&head), &published);
            if stream.write_all(answer.as_bytes()).await.is_err() || !keep {
                return;
            }
            head.clear();
        }
    }
}

/// The response to a request head, and whether the connection stays open.
fn answer(head: &str, published: &Published) -> (String, bool) {
    let keep = !head.lines().any(|line| line.eq_ignore_ascii_case("connection: close"));
    let connection = if keep { "" } else { "Connection: close\r\n" };
    let token = head
        .strip_prefix("GET /.well-known/acme-challenge/")
        .and_then(|rest| rest.split_once(' '))
        .map(|(token, _)| token);
    let found = token.and_then(|token| published.key_authorization(token));
    let (status, body) = found.as_deref().map_or(("404 Not Found", ""), |body| ("200 OK", body));
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {length}\r\n{connection}\r\n{body}"
    );
    (text, keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ChallengeKind;

    #[test]
    fn a_published_token_gives_its_key_authorization_and_another_gives_404() {
        let published = Published::new();
        let _publication = published.publish(ChallengeKind::Http01, "a.test", "tok", "thumb");
        let head =
            "GET /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let (text, keep) = answer(head, &published);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\ntok.thumb"), "{text}");
        assert!(text.contains("Content-Length: 9\r\n") && !keep);
        let (text, keep) =
            answer("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a\r\n\r\n", &published);
        assert!(text.starts_with("HTTP/1.1 404 ") && keep, "{text}");
    }
}
