//! Between Chancery and the suite's name server. Chancery asks in random letter case, so that answers are harder to
//! forge; `pebble-challtestsrv` knows names in lower case only. Questions pass in lower case, and answers get theirs back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Where the name in a question begins: after the header (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// How long a name server has; Chancery gives up by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Forwards what is asked at an address of `ip`, which is answered, to the first of `servers` that answers.
pub(crate) async fn forward(ip: IpAddr, servers: Vec<SocketAddr>) -> io::Result<SocketAddr> {
    let datagrams = Arc::new(UdpSocket::bind((ip, 0)).await?);
    let address = datagrams.local_addr()?;
    let streams = TcpListener::bind(address).await?;
    let servers: Arc<[SocketAddr]> = servers.into();
    tokio::spawn(serve_datagrams(datagrams, Arc::clone(&servers)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = streams.accept().await {
            tokio::spawn(serve_stream(stream, Arc::clone(&servers)));
        }
    });
    Ok(address)
}

async fn serve_datagrams(socket: Arc<UdpSocket>, servers: Arc<[SocketAddr]>) {
    let mut message = vec![0; 65_535];
    while let Ok((length, client)) = socket.recv_from(&mut message).await {
        let (question, socket, servers) =
            (message[..length].to_vec(), Arc::clone(&socket), Arc::clone(&servers));
        tokio::spawn(async move {
            for server in servers.iter() {
                if let Ok(Ok(answer)) = timeout(PATIENCE, ask_by_datagram(*server, &question)).await {
                    // A client that is gone needs no answer.
                    let _ = socket.send_to(&answer, client).await;
                    return;
                }
            }
        });
    }
}

async fn ask_by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any =
        if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&in_lower_case(question)).await?;
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(as_asked(answer, question))
}

async fn serve_stream(mut client: TcpStream, servers: Arc<[SocketAddr]>) {
    while let Ok(question) = read_message(&mut client).await {
        let mut answered = None;
        for server in servers.iter() {
            if let Ok(Ok(answer)) = timeout(PATIENCE, ask_by_stream(*server, &question)).await {
                answered = Some(answer);
                break;
            }
        }
        let Some(answer) = answered else { return };
        if write_message(&mut client, &answer).await.is_err() {
            return;
        }
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, &in_lower_case(question)).await?;
    Ok(as_asked(read_message(&mut stream).await?, question))
}

/// A message with its length before it (RFC 1035 §4.2.2).
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}

/// The octets of the name in the first question: labels up to the root.
fn name(message: &[u8]) -> std::ops::Range<usize> {
    let mut end = HEADER;
    while let Some(length) = message.get(end).copied().filter(|length| (1..64).contains(length)) {
        end += 1 + usize::from(length);
    }
    HEADER.min(message.len())..end.min(message.len())
}

fn in_lower_case(question: &[u8]) -> Vec<u8> {
    let mut asked = question.to_vec();
    // Lengths of labels are below the letters.
    asked[name(question)].make_ascii_lowercase();
    asked
}

/// An answer whose question is the one that was asked, letter for letter.
fn as_asked(mut answer: Vec<u8>, question: &[u8]) -> Vec<u8> {
    let (theirs, ours) = (name(&answer), name(question));
    if answer[theirs.clone()].eq_ignore_ascii_case(&question[ours.clone()]) {
        answer[theirs].copy_from_slice(&question[ours]);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &[u8], rest: &[u8]) -> Vec<u8> {
        [&[0; HEADER][..], name, rest].concat()
    }

    #[test]
    fn the_name_in_the_question_alone_changes_its_case() {
        let question = message(b"\x03aBc\x04Test\0", b"\0\x10ABC");
        let asked = in_lower_case(&question);
        assert_eq!(asked, message(b"\x03abc\x04test\0", b"\0\x10ABC"));
        let answer = message(b"\x03abc\x04test\0", b"\0\x10VALUE");
        assert_eq!(as_asked(answer, &question), message(b"\x03aBc\x04Test\0", b"\0\x10VALUE"));
        let other = message(b"\x03xyz\0", b"");
        assert_eq!(as_asked(other.clone(), &question), other);
        for short in [&[][..], &[1; HEADER], &message(b"\x3fabc", b"")] {
            assert_eq!(as_asked(in_lower_case(short), short), short);
        }
    }
}
