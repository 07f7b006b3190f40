//! A TCP proxy in front of a database, which can fall silent: what a host that is gone, or a cut cable, looks like.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::run::runtime;

/// The proxy.
pub struct Proxy {
    url: String,
    /// Connections of earlier generations say nothing any more, and stay open.
    generation: watch::Sender<Generation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Generation {
    number: u32,
    /// Whether new connections are silent too.
    silent: bool,
}

impl Proxy {
    /// Starts one in front of the server of a URL (`scheme://…@host:port/…`).
    pub fn start(url: &str) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("bound").port();
        let authority = url.split(['@', '/']).find(|part| part.starts_with("127.0.0.1:")).expect("a port");
        let target: SocketAddr = authority.parse().expect("an address");
        let (generation, watched) = watch::channel(Generation { number: 0, silent: false });
        runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, target, watched.clone()));
            }
        });
        Self { url: url.replace(authority, &format!("127.0.0.1:{port}")), generation }
    }

    /// The URL that leads through it.
    pub fn url(&self) -> &String {
        &self.url
    }

    /// From here on no octet passes, on connections old and new, and none is closed.
    pub fn fall_silent(&self) {
        self.generation.send_modify(|now| *now = Generation { number: now.number + 1, silent: true });
    }

    /// New connections pass; those that were open stay silent for ever.
    pub fn serve_new_connections(&self) {
        self.generation.send_modify(|now| now.silent = false);
    }
}

async fn forward(mut stream: TcpStream, target: SocketAddr, mut watched: watch::Receiver<Generation>) {
    let born = *watched.borrow();
    let passing = async {
        if !born.silent
            && let Ok(mut server) = TcpStream::connect(target).await
        {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            return false;
        }
        born.silent
    };
    let silent = tokio::select! {
        biased;
        _ = watched.wait_for(|now| now.number != born.number) => true,
        silent = passing => silent,
    };
    if silent {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}
