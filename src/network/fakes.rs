//! Peers for tests, in process and on loopback: a name server, and TCP servers that behave as told.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CAA, CNAME, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

use crate::network::fetch::{FetchFailure, Response, exchange};
use crate::network::url::HttpUrl;
use crate::network::{Network, NetworkConfig};

/// A way out that may reach loopback, is impatient, and asks `dns`.
pub(crate) fn network(dns: &[&FakeDns]) -> Network {
    Network::new(config(dns)).unwrap()
}

/// What [`network`] is made with.
pub(crate) fn config(dns: &[&FakeDns]) -> NetworkConfig {
    NetworkConfig {
        // Nothing listens at port 9, should a test without a name server ask all the same.
        dns_servers: match dns {
            [] => vec![SocketAddr::from(([127, 0, 0, 1], 9))],
            some => some.iter().map(|fake| fake.address).collect(),
        },
        dns_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(1),
        http_timeout: Duration::from_secs(5),
        allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ..NetworkConfig::default()
    }
}

/// What a name server says to one question.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These records, each at its name.
    Answer(Vec<(&'static str, RData)>),
    /// A response code and nothing else.
    Code(ResponseCode),
    /// A message that breaks off in the middle of its records.
    Mangled(Vec<RData>),
    /// The name exists, but nothing of this type.
    NoData,
    /// These records at the name asked for.
    Records(Vec<RData>),
    /// A referral to another server.
    Referral,
    /// Nothing at all.
    Silence,
    /// Over UDP: "ask by TCP"; over TCP: these records.
    Truncated(Vec<RData>),
    /// Over UDP: "ask by TCP"; over TCP: nothing at all.
    TruncatedForEver,
}

type Zone = Arc<Mutex<HashMap<(String, RecordType), Reply>>>;

/// A name server that says NXDOMAIN to all that it was not told of.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    pub(crate) udp_questions: Arc<AtomicUsize>,
    pub(crate) tcp_questions: Arc<AtomicUsize>,
    zone: Zone,
    tasks: Vec<AbortHandle>,
}

impl FakeDns {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let zone = Zone::default();
        let (udp_questions, tcp_questions) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let by_udp = tokio::spawn(serve_udp(udp, Arc::clone(&zone), Arc::clone(&udp_questions)));
        let by_tcp = tokio::spawn(serve_tcp(tcp, Arc::clone(&zone), Arc::clone(&tcp_questions)));
        let tasks = vec![by_udp.abort_handle(), by_tcp.abort_handle()];
        Self { address, udp_questions, tcp_questions, zone, tasks }
    }

    pub(crate) fn set(&self, name: &str, kind: RecordType, reply: Reply) -> &Self {
        self.zone.lock().unwrap().insert((name.to_owned(), kind), reply);
        self
    }

    /// `name` has these addresses, and no others.
    pub(crate) fn host(&self, name: &str, addresses: &[IpAddr]) -> &Self {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => four.push(RData::A(A(*address))),
                IpAddr::V6(address) => six.push(RData::AAAA(AAAA(*address))),
            }
        }
        let reply = |records: Vec<RData>| match records.is_empty() {
            true => Reply::NoData,
            false => Reply::Records(records),
        };
        self.set(name, RecordType::A, reply(four)).set(name, RecordType::AAAA, reply(six))
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

pub(crate) fn txt(text: &str) -> RData {
    // A record has one string at least, which may be empty.
    let parts: Vec<&[u8]> = if text.is_empty() { vec![b""] } else { text.as_bytes().chunks(255).collect() };
    RData::TXT(TXT::from_bytes(parts))
}

pub(crate) fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

pub(crate) fn caa(critical: bool, tag: &str, value: &str) -> RData {
    let mut caa = CAA::new_issue(critical, None, Vec::new());
    tag.clone_into(&mut caa.tag);
    caa.value = value.as_bytes().to_vec();
    RData::CAA(caa)
}

async fn serve_udp(socket: UdpSocket, zone: Zone, count: Arc<AtomicUsize>) {
    let mut buffer = [0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        count.fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = respond(&zone, &buffer[..length], false) {
            socket.send_to(&answer, peer).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Zone, count: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (zone, count) = (Arc::clone(&zone), Arc::clone(&count));
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = respond(&zone, &question, true) {
                    let length = u16::try_from(answer.len()).unwrap();
                    stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.unwrap();
                }
            }
        });
    }
}

/// The answer in wire form; the question is echoed in its own letter case.
fn respond(zone: &Zone, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).unwrap();
    let query = request.queries[0].clone();
    let asked = query.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned();
    let reply = zone.lock().unwrap().get(&(asked, query.query_type())).cloned();
    let mut message = Message::response(request.metadata.id, OpCode::Query);
    message.add_query(query.clone());
    let add = |message: &mut Message, records: Vec<RData>| {
        message
            .add_answers(records.into_iter().map(|data| Record::from_rdata(query.name().clone(), 1, data)));
    };
    match reply.unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
        Reply::Answer(records) => {
            let records = records.into_iter().map(|(owner, data)| Record::from_rdata(name(owner), 1, data));
            message.add_answers(records);
        }
        Reply::Code(code) => message.metadata.response_code = code,
        Reply::Mangled(records) => {
            add(&mut message, records);
            let bytes = message.to_vec().unwrap();
            return Some(bytes[..bytes.len() - 3].to_vec());
        }
        Reply::NoData => {
            let soa = SOA::new(name("ns"), name("who"), 1, 1, 1, 1, 1);
            message.add_authority(Record::from_rdata(name("test"), 1, RData::SOA(soa)));
        }
        Reply::Records(records) => add(&mut message, records),
        Reply::Referral => {
            let ns = hickory_resolver::proto::rr::rdata::NS(name("ns.test"));
            message.add_authority(Record::from_rdata(name("test"), 1, RData::NS(ns)));
        }
        Reply::Silence => return None,
        Reply::Truncated(_) | Reply::TruncatedForEver if !by_tcp => message.metadata.truncation = true,
        Reply::Truncated(records) => add(&mut message, records),
        Reply::TruncatedForEver => return None,
    }
    Some(message.to_vec().unwrap())
}

/// A TCP server that hands each connection, with the head of the request already read, to `act`.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    /// The heads of the requests so far.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl FakeServer {
    pub(crate) async fn http<F, R>(ip: &str, port: u16, act: F) -> Self
    where
        F: Fn(TcpStream, String) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (act, heads) = (Arc::new(act), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (act, heads) = (Arc::clone(&act), Arc::clone(&heads));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    heads.lock().unwrap().push(head.clone());
                    act(stream, head).await;
                });
            }
        });
        Self { address, requests, task: task.abort_handle() }
    }

    /// Answers every request with these bytes, and closes.
    pub(crate) async fn saying(answer: String) -> Self {
        Self::http("127.0.0.1", 0, move |mut stream, _| {
            let answer = answer.clone();
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A response with a body of known length.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// What our client makes of a peer that takes the request, answers with these bytes, and closes.
pub(crate) async fn exchange_with(answer: &[u8], url: &HttpUrl) -> Result<Response, FetchFailure> {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let peer = async {
        theirs.read_u8().await.unwrap();
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
    };
    let both = async { tokio::join!(exchange(ours, url), peer) };
    tokio::time::timeout(Duration::from_secs(5), both).await.expect("it ends").0
}

/// Every file of a fuzzing corpus, and `count` mutations of them; the same ones each time.
pub(crate) fn corpus_and_mutations(folder: &str, count: usize) -> Vec<Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    let mut inputs = seeds.clone();
    for _ in 0..count {
        let mut input = seeds[random(seeds.len())].clone();
        for _ in 0..=random(6) {
            let at = random(input.len());
            match random(4) {
                0 if !input.is_empty() => input[at] = u8::try_from(random(256)).unwrap(),
                1 if !input.is_empty() => input[at] ^= 1 << random(8),
                2 => input.truncate(at),
                _ => input.insert(at, u8::try_from(random(256)).unwrap()),
            }
        }
        inputs.push(input);
    }
    inputs
}
