//! A DNS server that is authoritative for every name: addresses are 127.0.0.1, TXT is what dns-01 asks for
//! (RFC 8555 §8.4), and of all other types there is nothing. UDP and TCP, RFC 1035.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Published;
use crate::jws::base64;

const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;
/// The name of the question, which stands right after the twelve bytes of the header.
const NAME_OF_QUESTION: [u8; 2] = [0xc0, 12];
/// How long a TCP connection may stay without a whole query.
const IDLE: Duration = Duration::from_secs(10);

/// Listens on `address` for both transports.
pub(super) async fn start(address: SocketAddr, published: Arc<Published>) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    let listener = TcpListener::bind(address).await?;
    let shared = Arc::clone(&published);
    tokio::spawn(async move {
        let mut query = [0; 1500];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut query).await
                && let Some(answer) = answer(&query[..length], &shared)
            {
                // A lost datagram is asked for again.
                drop(socket.send_to(&answer, from).await);
            }
        }
    });
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
    let mut query = vec![0; 1500];
    loop {
        let Ok(Ok(length)) = tokio::time::timeout(IDLE, stream.read_u16()).await else { return };
        let length = usize::from(length);
        if length > query.len() || stream.read_exact(&mut query[..length]).await.is_err() {
            return;
        }
        let Some(answer) = answer(&query[..length], &published) else { return };
        let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// The response to a query; nothing for what is no query with one question.
fn answer(query: &[u8], published: &Published) -> Option<Vec<u8>> {
    let header = query.first_chunk::<12>()?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (name, after_name) = question_name(query)?;
    let question_end = after_name + 4;
    let kind = query.get(after_name..question_end)?;
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    let mut records = Vec::with_capacity(64);
    match kind {
        TYPE_A => record(&mut records, TYPE_A, 60, &[127, 0, 0, 1]),
        TYPE_TXT => {
            let digest = name.strip_prefix("_acme-challenge.").and_then(|name| published.digest(name));
            if let Some(digest) = digest {
                let value = base64(&digest);
                record(&mut records, TYPE_TXT, 0, &[&[value.len() as u8], value.as_bytes()].concat());
            }
        }
        _ => {}
    }
    let found = !records.is_empty();
    if !found {
        // Names with no data prove it with the SOA of their zone (RFC 2308 §2.2); every name here is its own
        // zone.
        let times = [1_u32, 3600, 600, 86_400, if kind == TYPE_TXT { 0 } else { 60 }];
        let data: Vec<u8> = [0, 0].into_iter().chain(times.into_iter().flat_map(u32::to_be_bytes)).collect();
        record(&mut records, TYPE_SOA, 60, &data);
    }
    let mut out = Vec::with_capacity(question_end + records.len());
    out.extend_from_slice(&header[..2]);
    // Response, authoritative, recursion desired as asked; recursion available, no error.
    out.extend_from_slice(&[0x84 | (header[2] & 0x79), 0x80]);
    out.extend_from_slice(&[0, 1, 0, u8::from(found), 0, u8::from(!found), 0, 0]);
    out.extend_from_slice(&query[12..question_end]);
    out.extend_from_slice(&records);
    Some(out)
}

/// The name of the first question in lower case, and where it ends. Compression cannot occur there.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let mut name = String::with_capacity(64);
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || name.len() > 255 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(query.get(at..at + length)?.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
    }
}

fn record(out: &mut Vec<u8>, kind: u16, lifetime: u32, data: &[u8]) {
    out.extend_from_slice(&NAME_OF_QUESTION);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&lifetime.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ChallengeKind;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out
    }

    #[test]
    fn addresses_are_loopback_and_the_question_comes_back_letter_for_letter() {
        let query = query("A.LoAd.test", TYPE_A);
        let answer = answer(&query, &Published::new()).unwrap();
        assert_eq!(answer[..12], [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[12..query.len()], query[12..]);
        assert!(answer.ends_with(&[0, 4, 127, 0, 0, 1]));
    }

    #[test]
    fn txt_is_what_dns_01_asks_for_while_it_is_published() {
        let published = Published::new();
        let query = query("_ACME-challenge.a.test", TYPE_TXT);
        let publication = published.publish(ChallengeKind::Dns01, "a.test", "tok", "thumb");
        let value = base64(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"tok.thumb").as_ref());
        assert!(answer(&query, &published).unwrap().ends_with(format!("{}{value}", '\x2b').as_bytes()));
        drop(publication);
        assert_eq!(answer(&query, &published).unwrap()[6..10], [0, 0, 0, 1]);
    }

    #[test]
    fn of_other_types_there_is_no_data_and_no_error() {
        for kind in [28, 257, 65] {
            let answer = answer(&query("a.test", kind), &Published::new()).unwrap();
            assert_eq!(answer[3] & 0x0f, 0, "no error");
            assert_eq!(answer[6..10], [0, 0, 0, 1], "no answer, one SOA");
        }
    }

    #[test]
    fn what_is_no_query_is_not_answered() {
        let published = Published::new();
        let whole = query("a.test", TYPE_A);
        for length in 0..whole.len() {
            assert!(answer(&whole[..length], &published).is_none(), "{length}");
        }
        let mut response = whole;
        response[2] |= 0x80;
        assert!(answer(&response, &published).is_none());
    }
}
