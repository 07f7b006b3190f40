//! The PROXY protocol in front of HTTP.

use super::*;

#[tokio::test]
async fn lim_04_a_trusted_proxy_tells_whose_connection_it_is() {
    let server = Server::behind_proxy("127.0.0.0/8", echo(), ListenerLimits::default()).await;
    for (header, seen) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n"[..], "192.0.2.1:5000"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x13\x88\x01\xbb", "192.0.2.7:5000"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(header).await.unwrap();
        let mut sender = h1(stream).await;
        let answer = sender.send_request(request()).await.unwrap();
        assert_eq!(text(answer).await, format!("HTTP/1.1 {seen}"));
    }
    // Without the header nothing is said.
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(until_closed(&mut stream).await, b"");
    server.end().await;
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_not_waited_for() {
    let limits = ListenerLimits { header_timeout: Duration::from_millis(200), ..ListenerLimits::default() };
    let server = Server::behind_proxy("127.0.0.0/8", echo(), limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PROXY TCP4 ").await.unwrap();
    assert_eq!(until_closed(&mut stream).await, b"");
    server.end().await;
}

#[tokio::test]
async fn lim_04_a_stranger_cannot_speak_for_others() {
    let server = Server::behind_proxy("192.0.2.0/24", echo(), ListenerLimits::default()).await;
    let mut sender = h1(server.connect().await).await;
    let answer = text(sender.send_request(request()).await.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 127.0.0.1:"), "{answer}");
    let mut stream = server.connect().await;
    stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nGET / HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 400 ") || answer.is_empty(), "{}", answer.escape_ascii());
    server.end().await;
}
