//! A TCP proxy in front of a store, which can fall silent (what a host that is gone, or a cut cable, looks like), cut and
//! refuse connections, delay, and lose single messages.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::support::accept::accept;
use crate::support::run::SplitMix;

/// The proxy.
pub struct Proxy {
    url: String,
    generation: watch::Sender<Generation>,
    losses: Arc<Losses>,
}

#[derive(Default)]
struct Losses {
    count: AtomicU64,
    /// The next message with this in it is lost, or its answer.
    once: Mutex<Option<(String, Part)>>,
}

/// What is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The message: the store does not get it.
    Message,
    /// The answer: the store has done what it says.
    Answer,
}

impl Losses {
    fn takes(&self, message: &[u8]) -> Option<Part> {
        let mut once = self.once.lock().expect("not poisoned");
        let contains = |text: &str| message.windows(text.len()).any(|part| part == text.as_bytes());
        let (_, part) = once.take_if(|(text, _)| contains(text))?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(part)
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Generation {
    number: u32,
    /// Whether connections of earlier generations say nothing any more and stay open; or else they are closed.
    leaves_open: bool,
    /// Whether new connections are silent too.
    silent: bool,
    /// Whether new connections are closed at once.
    refuses: bool,
    /// By how much each message is late.
    delay: Duration,
    /// In how many of a thousand messages to the store its connection is cut: half before the store has it, and half
    /// when the store has answered, before the answer arrives.
    losses: u64,
    seed: u64,
}

impl Proxy {
    /// Starts one in front of the server of a URL (`scheme://…@host:port/…`).
    pub fn start(url: &str) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let authority = url.split(['@', '/']).find(|part| part.starts_with("127.0.0.1:")).expect("a port");
        let target: SocketAddr = authority.parse().expect("an address");
        let (generation, watched) = watch::channel(Generation::default());
        let losses = Arc::<Losses>::default();
        let counting = Arc::clone(&losses);
        let mut count = 0;
        accept(listener, move |stream| {
            count += 1;
            forward(stream, target, watched.clone(), count, Arc::clone(&counting))
        });
        Self { url: url.replace(authority, &format!("127.0.0.1:{port}")), generation, losses }
    }

    /// The URL that leads through it.
    pub fn url(&self) -> &String {
        &self.url
    }

    /// From here on no octet passes, on connections old and new, and none is closed.
    pub fn fall_silent(&self) {
        self.generation.send_modify(|now| {
            *now = Generation { number: now.number + 1, silent: true, leaves_open: true, ..*now };
        });
    }

    /// New connections pass; those that were open stay silent for ever.
    pub fn serve_new_connections(&self) {
        self.generation.send_modify(|now| (now.silent, now.refuses) = (false, false));
    }

    /// Closes all connections, wherever they are. New ones pass.
    pub fn cut(&self) {
        self.generation
            .send_modify(|now| *now = Generation { number: now.number + 1, leaves_open: false, ..*now });
    }

    /// Closes all connections, and new ones at once, until `serve_new_connections`.
    pub fn refuse(&self) {
        self.generation.send_modify(|now| now.refuses = true);
        self.cut();
    }

    /// Each message, in both directions, is late by this from here on.
    pub fn delay(&self, delay: Duration) {
        self.generation.send_modify(|now| now.delay = delay);
    }

    /// Cuts the connection in so many of a thousand messages to the store: before the store has the message, or after
    /// the store has answered it and before the answer arrives. On new connections; the old ones are closed.
    pub fn lose(&self, of_a_thousand: u64, seed: u64) {
        self.generation.send_modify(|now| (now.losses, now.seed) = (of_a_thousand, seed));
        self.cut();
    }

    /// How many messages were lost.
    pub fn lost(&self) -> u64 {
        self.losses.count.load(Ordering::Relaxed)
    }

    /// Cuts the connection of the next message that has this text in it, before or after the store has it.
    pub fn lose_next(&self, text: &str, part: Part) {
        *self.losses.once.lock().expect("not poisoned") = Some((text.to_owned(), part));
    }
}

async fn forward(
    stream: TcpStream,
    target: SocketAddr,
    watched: watch::Receiver<Generation>,
    count: u64,
    losses: Arc<Losses>,
) {
    let born = *watched.borrow();
    if born.refuses {
        return;
    }
    let passing = async {
        if !born.silent
            && let Ok(server) = TcpStream::connect(target).await
        {
            let _ = (stream.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (stream.into_split(), server.into_split());
            let losing = AtomicBool::new(false);
            let pump = Pump { watched: watched.clone(), losing: &losing, losses };
            tokio::select! {
                () = pump.requests(from_client, to_server, born, count) => {}
                () = pump.answers(from_server, to_client) => {}
            }
            return None;
        }
        born.silent.then_some(stream)
    };
    let (mut changed, mut healed) = (watched.clone(), watched.clone());
    // A connection that has fallen silent, or was so from the first, stays open here.
    tokio::pin!(passing);
    let changed =
        async { changed.wait_for(|now| now.number != born.number).await.map(|now| now.leaves_open) };
    let (stays, _open) = tokio::select! {
        biased;
        leaves_open = changed => (leaves_open.unwrap_or(false), None),
        silent = &mut passing => (silent.is_some(), silent),
    };
    if stays {
        let _ = healed.wait_for(|now| now.number > born.number && !now.leaves_open).await;
    }
}

struct Pump<'a> {
    watched: watch::Receiver<Generation>,
    losing: &'a AtomicBool,
    losses: Arc<Losses>,
}

impl Pump<'_> {
    async fn late(&self) {
        let delay = self.watched.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, born: Generation, count: u64) {
        let mut random = SplitMix::new(born.seed.wrapping_add(count));
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.late().await;
            match self.losses.takes(&buffer[..read]) {
                Some(Part::Message) => return,
                Some(Part::Answer) => self.losing.store(true, Ordering::Relaxed),
                None => {}
            }
            let draw = random.below(1000);
            if draw < born.losses {
                self.losses.count.fetch_add(1, Ordering::Relaxed);
                if draw.is_multiple_of(2) {
                    return;
                }
                self.losing.store(true, Ordering::Relaxed);
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.late().await;
            if self.losing.load(Ordering::Relaxed) || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
