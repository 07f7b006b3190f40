//! The http-01 side: raw TCP, so that it can also misbehave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::accept::accept;

/// What is answered to a request for a token.
#[derive(Clone)]
pub enum Reply {
    /// 200 with this body.
    Body(String),
    /// 302 to this place.
    Redirect(String),
    /// These octets and then the end.
    Raw(Vec<u8>),
    /// 200, and a body that does not end.
    Endless,
    /// 200, and a body of which a little comes now and then.
    Drip,
    /// Nothing, with the connection left open.
    Silence,
    /// As decided by the request.
    By(Arc<dyn Fn(&HttpRequest) -> Self + Send + Sync>),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Host` header.
    pub host: String,
    /// The address that was connected to.
    pub local: SocketAddr,
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, Reply>,
    requests: HashMap<String, Vec<HttpRequest>>,
}

/// The server. A token is known by the last segment of the path.
pub struct Http {
    port: u16,
    script: Arc<Mutex<Script>>,
}

impl Http {
    pub(super) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = Self { port: listener.local_addr().expect("bound").port(), script: Arc::default() };
        server.serve(listener);
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Listens on the same port of another address too, until the handle is aborted.
    pub fn listen_on(&self, address: IpAddr) -> JoinHandle<()> {
        self.serve(std::net::TcpListener::bind((address, self.port)).expect("the port is free"))
    }

    /// Sets what a token is answered with; without it, 404.
    pub fn set(&self, token: &str, reply: Reply) {
        self.script.lock().expect("not poisoned").replies.insert(token.to_owned(), reply);
    }

    /// The requests that came for a token.
    pub fn requests(&self, token: &str) -> Vec<HttpRequest> {
        self.script.lock().expect("not poisoned").requests.get(token).cloned().unwrap_or_default()
    }

    fn serve(&self, listener: std::net::TcpListener) -> JoinHandle<()> {
        let script = Arc::clone(&self.script);
        accept(listener, move |stream| answer(stream, Arc::clone(&script)))
    }
}

async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let Some(request) = read(&mut stream).await else { return };
    let token =
        request.target.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or("").to_owned();
    let mut reply = {
        let mut script = script.lock().expect("not poisoned");
        script.requests.entry(token.clone()).or_default().push(request.clone());
        script.replies.get(&token).cloned()
    };
    while let Some(Reply::By(decide)) = &reply {
        reply = Some(decide(&request));
    }
    let text = match reply {
        Some(Reply::Body(body)) => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
        }
        Some(Reply::Redirect(to)) => {
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }
        Some(Reply::Raw(octets)) => octets,
        Some(Reply::Endless) => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
            let mut write = stream.write_all(head).await;
            while write.is_ok() {
                write = stream.write_all(&[b'x'; 4096]).await;
            }
            return;
        }
        Some(Reply::Drip) => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n";
            let mut write = stream.write_all(head).await;
            while write.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
                write = stream.write_all(b"x").await;
            }
            return;
        }
        Some(Reply::Silence) => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return;
        }
        Some(Reply::By(_)) | None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    };
    let _ = stream.write_all(&text).await;
    let _ = stream.shutdown().await;
    // What the other side still sends is read, so that the end is not a reset.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await;
}

async fn read(stream: &mut TcpStream) -> Option<HttpRequest> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 || head.len() > 16_384 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    Some(HttpRequest { method, target, host: host.unwrap_or_default(), local: stream.local_addr().ok()? })
}
