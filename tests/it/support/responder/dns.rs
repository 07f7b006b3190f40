//! A recursive resolver as the server would be configured with, over UDP and TCP. Every name under `test` has the
//! address 127.0.0.1 unless a test says otherwise.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::accept::accept;
use crate::support::run::runtime;

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const CAA: u16 = 257;
/// Longer answers over UDP are truncated.
const UDP_LIMIT: usize = 512;

/// How a lookup fails (RFC 1035 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// SERVFAIL.
    ServerFailure = 2,
    /// NXDOMAIN.
    NoSuchName = 3,
    /// REFUSED.
    Refused = 5,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, u16), Vec<Vec<u8>>>,
    aliases: HashMap<String, String>,
    failures: HashMap<(String, Option<u16>), Rcode>,
    questions: HashMap<(String, u16), u32>,
    /// Zones about whose CAA records nothing is said.
    silent: HashSet<String>,
}

/// The server.
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    pub(super) fn start() -> Self {
        let (udp, tcp) = bind();
        let server = Self { address: udp.local_addr().expect("bound"), zone: Arc::default() };
        let (for_udp, for_tcp) = (Arc::clone(&server.zone), Arc::clone(&server.zone));
        runtime().spawn(async move { serve_udp(UdpSocket::from_std(udp).expect("a socket"), for_udp).await });
        accept(tcp, move |stream| serve_tcp(stream, Arc::clone(&for_tcp)));
        server
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds the TXT record that answers dns-01 for `name`.
    pub fn set_txt(&self, name: &str, key_authorization: &str) {
        let digest = crate::support::keys::sha256(key_authorization.as_bytes());
        self.add_txt(&format!("_acme-challenge.{name}"), &crate::support::keys::base64url(&digest));
    }

    /// Adds a TXT record, in strings of at most 255 octets.
    pub fn add_txt(&self, name: &str, value: &str) {
        let mut data = Vec::new();
        for part in value.as_bytes().chunks(255) {
            data.push(u8::try_from(part.len()).expect("at most 255"));
            data.extend_from_slice(part);
        }
        self.add(name, TXT, data);
    }

    /// Adds an address; the one that every name has goes.
    pub fn add_address(&self, name: &str, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.add(name, A, address.octets().to_vec()),
            IpAddr::V6(address) => self.add(name, AAAA, address.octets().to_vec()),
        }
    }

    /// Adds a CAA record (RFC 8659 §4.1).
    pub fn add_caa(&self, name: &str, flags: u8, tag: &str, value: &str) {
        let mut data = vec![flags, u8::try_from(tag.len()).expect("a short tag")];
        data.extend_from_slice(tag.as_bytes());
        data.extend_from_slice(value.as_bytes());
        self.add(name, CAA, data);
    }

    /// Makes a name an alias of another.
    pub fn alias(&self, name: &str, target: &str) {
        self.zone.lock().expect("not poisoned").aliases.insert(name.to_owned(), target.to_owned());
    }

    /// Lets all lookups of a name fail.
    pub fn fail(&self, name: &str, rcode: Rcode) {
        self.zone.lock().expect("not poisoned").failures.insert((name.to_owned(), None), rcode);
    }

    /// Lets the CAA lookups of a name fail, and nothing else.
    pub fn fail_caa(&self, name: &str, rcode: Rcode) {
        self.zone.lock().expect("not poisoned").failures.insert((name.to_owned(), Some(CAA)), rcode);
    }

    /// Leaves questions for the CAA records of a zone, and below it, without an answer.
    pub fn silence_caa(&self, zone: &str) {
        self.zone.lock().expect("not poisoned").silent.insert(zone.to_owned());
    }

    /// How often the CAA records of a name were asked for.
    pub fn caa_questions(&self, name: &str) -> u32 {
        *self.zone.lock().expect("not poisoned").questions.get(&(name.to_owned(), CAA)).unwrap_or(&0)
    }

    fn add(&self, name: &str, kind: u16, data: Vec<u8>) {
        let mut zone = self.zone.lock().expect("not poisoned");
        zone.records.entry((name.to_owned(), kind)).or_default().push(data);
    }
}

fn bind() -> (std::net::UdpSocket, std::net::TcpListener) {
    loop {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let Ok(tcp) = std::net::TcpListener::bind(udp.local_addr().expect("bound")) else { continue };
        udp.set_nonblocking(true).expect("non-blocking");
        tcp.set_nonblocking(true).expect("non-blocking");
        return (udp, tcp);
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut query = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut query).await {
        if let Some(mut answer) = answer(&query[..length], &zone) {
            if answer.len() > UDP_LIMIT {
                answer = truncated(&query[..length]).unwrap_or_default();
            }
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(answer) = answer(&query, &zone) else { return };
        let mut framed = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend(answer);
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// The question: its name in lower case, its type, and where it ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

fn header(query: &[u8], flags: u16, answers: u16, end: usize) -> Vec<u8> {
    let mut message = query[..2].to_vec();
    for number in [0x8180 | flags, 1, answers, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend_from_slice(&query[12..end]);
    message
}

fn truncated(query: &[u8]) -> Option<Vec<u8>> {
    Some(header(query, 0x0200, 0, question(query)?.2))
}

fn answer(query: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let (name, kind, end) = question(query)?;
    let mut zone = zone.lock().expect("not poisoned");
    *zone.questions.entry((name.clone(), kind)).or_default() += 1;
    let above = |name| std::iter::successors(Some(name), |name: &&str| Some(name.split_once('.')?.1));
    if kind == CAA && above(name.as_str()).any(|level| zone.silent.contains(level)) {
        return None;
    }
    let mut owner = name;
    let mut records = Vec::new();
    while let Some(target) = zone.aliases.get(&owner) {
        if records.len() > 8 {
            break;
        }
        records.push((wire_name(&owner), CNAME, wire_name(target)));
        owner.clone_from(target);
    }
    let failure =
        zone.failures.get(&(owner.clone(), None)).or_else(|| zone.failures.get(&(owner.clone(), Some(kind))));
    if let Some(rcode) = failure {
        return Some(header(query, *rcode as u16, 0, end));
    }
    let scripted = zone.records.get(&(owner.clone(), kind)).cloned().unwrap_or_default();
    let has_address = [A, AAAA].iter().any(|kind| zone.records.contains_key(&(owner.clone(), *kind)));
    let default = kind == A && !has_address && (owner.ends_with(".test") || owner == "test");
    let data = if default { vec![Ipv4Addr::LOCALHOST.octets().to_vec()] } else { scripted };
    records.extend(data.into_iter().map(|data| (wire_name(&owner), kind, data)));
    let mut message = header(query, 0, u16::try_from(records.len()).ok()?, end);
    for (owner, kind, data) in records {
        message.extend(owner);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 5]);
        message.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        message.extend(data);
    }
    Some(message)
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.') {
        octets.push(u8::try_from(label.len()).expect("a short label"));
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}
