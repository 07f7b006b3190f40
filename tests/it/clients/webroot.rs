//! A web server for clients that only write files: it serves one folder, for http-01.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::accept::accept;

const PREFIX: &str = "/.well-known/acme-challenge/";

/// A running web server, until it is dropped.
pub struct Webroot(JoinHandle<()>);

impl Webroot {
    /// Serves `folder` below `/.well-known/acme-challenge/`.
    pub fn start(address: Ipv4Addr, port: u16, folder: &Path) -> Self {
        let listener = TcpListener::bind((address, port)).expect("the port is free");
        let folder = folder.to_owned();
        Self(accept(listener, move |stream| answer(stream, folder.clone())))
    }
}

impl Drop for Webroot {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(mut stream: TcpStream, folder: PathBuf) -> Option<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 || head.len() > 16_384 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let token = head.strip_prefix("GET ")?.split(' ').next()?.strip_prefix(PREFIX)?;
    let content = if token.contains(['/', '.']) { None } else { std::fs::read(folder.join(token)).ok() };
    let (status, body) = content.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()?;
    stream.shutdown().await.ok()
}
