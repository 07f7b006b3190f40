//! How much of a listener one client may hold, and for how long.

use super::*;
use crate::peers::Bound;

#[tokio::test]
async fn a_client_has_its_share_of_connections_and_others_are_accepted() {
    let connections = Bound { most: 10, share: 2 };
    let bounds = Bounds { connections, ..BOUNDS };
    let server = Server::bounded(bounds, echo(), ListenerLimits::default()).await;
    let from = async |address: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = h1(from("127.0.0.1").await).await;
        assert!(text(client.send_request(request()).await.unwrap()).await.starts_with("HTTP/1.1"));
        held.push(client);
    }
    assert!(until_closed(&mut from("127.0.0.1").await).await.is_empty(), "its share is used up");
    let mut other = h1(from("127.0.0.2").await).await;
    assert!(text(other.send_request(request()).await.unwrap()).await.starts_with("HTTP/1.1"));
    server.end().await;
}

#[tokio::test]
async fn who_takes_no_answer_is_cut() {
    let brief = Duration::from_millis(300);
    let limits = ListenerLimits { write_timeout: brief, ..ListenerLimits::default() };
    let large = async || vec![b'x'; 32 * 1024 * 1024];
    let server = Server::start(None, Router::new().route("/", get(large)), limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // Taken by nobody, it fills the system's buffers; then nothing moves.
    let begun = Instant::now();
    let closed = async {
        loop {
            sleep(Duration::from_millis(20)).await;
            let broken = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_err();
            if broken || begun.elapsed() > PATIENCE {
                return broken;
            }
        }
    };
    assert!(closed.await, "the connection is still there");
    server.end().await;
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let brief = Duration::from_millis(300);
    let limits = ListenerLimits { header_timeout: brief, ..ListenerLimits::default() };
    let server = Server::start(None, echo(), limits).await;
    let mut stream = server.connect().await;
    let answered = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.unwrap();
        assert!(some[..count].starts_with(b"HTTP/1.1 200"));
    };
    answered(&mut stream).await;
    sleep(brief * 4).await;
    answered(&mut stream).await;
    // The next head is begun and does not end.
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(until_closed(&mut stream).await.is_empty());
    server.end().await;
}
