//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): how a balancer that passes bytes on says whose they
//! are. Only networks that the configuration trusts are listened to, and those must speak it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Who speaks the PROXY protocol to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol(Vec<IpNet>);

/// The longest line of version 1, its end included.
const MOST_OCTETS_V1: usize = 107;

/// The longest rest of version 2: two Unix addresses (216) and some extensions.
const MOST_OCTETS_V2: usize = 2048;

const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

impl ProxyProtocol {
    /// Spoken by the peers in these networks, on each of their connections.
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    /// The client's address: read from the front of `stream` if `peer` is trusted, and not one octet further; else `peer`.
    /// An error if a trusted peer does not speak the protocol.
    pub(super) async fn client<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        peer: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let address = peer.ip().to_canonical();
        if !self.0.iter().any(|network| network.contains(&address)) {
            return Ok(peer);
        }
        let mut first = [0; SIGNATURE_V2.len()];
        stream.read_exact(&mut first).await?;
        let told =
            if first == *SIGNATURE_V2 { version_2(stream).await? } else { version_1(stream, &first).await? };
        Ok(told.unwrap_or(peer))
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `PROXY TCP4 <source> <destination> <port> <port>`, or `PROXY UNKNOWN …`, which tells nothing.
async fn version_1<S: AsyncRead + Unpin>(stream: &mut S, first: &[u8]) -> io::Result<Option<SocketAddr>> {
    if !first.starts_with(b"PROXY ") {
        return Err(wrong("no PROXY header"));
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MOST_OCTETS_V1 {
            return Err(wrong("the PROXY header has no end"));
        }
        line.push(stream.read_u8().await?);
    }
    let text =
        std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| wrong("the PROXY header is no text"))?;
    let words: Vec<&str> = text.split(' ').collect();
    let read = |family: &str, source: &str, port: &str| {
        let address: IpAddr = source.parse().ok()?;
        let fits = address.is_ipv4() == (family == "TCP4");
        Some(SocketAddr::new(address, port.parse().ok()?)).filter(|_| fits)
    };
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            read(family, source, port).map(Some).ok_or_else(|| wrong("the PROXY header's addresses are none"))
        }
        _ => Err(wrong("the PROXY header has another form")),
    }
}

async fn version_2<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_OCTETS_V2 {
        return Err(wrong("the PROXY header is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let too_short = || wrong("the PROXY header is too short");
    match (command, family) {
        // The balancer speaks for itself: a check of health.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => {
            let source: [u8; 4] = rest.get(..4).and_then(|a| a.try_into().ok()).ok_or_else(too_short)?;
            if rest.len() < 12 {
                return Err(too_short());
            }
            Ok(Some((Ipv4Addr::from(source), port(8)).into()))
        }
        (0x21, 0x21) => {
            let source: [u8; 16] = rest.get(..16).and_then(|a| a.try_into().ok()).ok_or_else(too_short)?;
            if rest.len() < 36 {
                return Err(too_short());
            }
            Ok(Some((Ipv6Addr::from(source), port(32)).into()))
        }
        // A family that has no IP address.
        (0x21, _) => Ok(None),
        _ => Err(wrong("the PROXY header has another version or command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1:9";

    /// What is read of `bytes`, and what is left.
    async fn told(peer: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), String> {
        let proxies = ProxyProtocol::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut stream = bytes;
        let client = proxies.client(&mut stream, peer.parse().unwrap()).await.map_err(|e| e.to_string())?;
        Ok((client.to_string(), stream.to_vec()))
    }

    fn v2(command: u8, family: u8, addresses: &[u8], extensions: usize) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + extensions).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[command, family][..], &length, addresses, &vec![7; extensions], b"GET /"].concat()
    }

    #[tokio::test]
    async fn both_versions_tell_the_client_and_leave_the_rest() {
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
        for (bytes, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.2 5000 443\r\nGET /".to_vec(), "192.0.2.1:5000"),
            (b"PROXY TCP6 2001:db8::1 ::1 5000 443\r\nGET /".to_vec(), "[2001:db8::1]:5000"),
            (b"PROXY UNKNOWN\r\nGET /".to_vec(), PEER),
            (b"PROXY UNKNOWN what ever\r\nGET /".to_vec(), PEER),
            (v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 2, 0x13, 0x88, 1, 187], 0), "192.0.2.1:5000"),
            (v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 2, 0x13, 0x88, 1, 187], 99), "192.0.2.1:5000"),
            (v2(0x21, 0x21, &[&v6[..], &[0x13, 0x88, 1, 187]].concat(), 3), "[2001:db8::1]:5000"),
            (v2(0x20, 0x00, &[], 0), PEER),
            (v2(0x21, 0x31, &[0; 216], 0), PEER),
        ] {
            assert_eq!(told(PEER, &bytes).await, Ok((client.to_owned(), b"GET /".to_vec())), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_not_listened_to() {
        let bytes = b"PROXY TCP4 192.0.2.1 10.0.0.2 5000 443\r\n";
        assert_eq!(told("192.0.2.9:9", bytes).await, Ok(("192.0.2.9:9".to_owned(), bytes.to_vec())));
    }

    #[tokio::test]
    async fn a_trusted_peer_must_speak_it_within_bounds() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let mut lying = v2(0x21, 0x11, &[0; 12], 0);
        lying[14] = 0xff;
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 10.0.0.2 5000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.2 70000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.2 5000 443\r\n".to_vec(),
            b"PROXY TC".to_vec(),
            long,
            lying,
            v2(0x21, 0x11, &[0; 3], 0),
            v2(0x21, 0x21, &[0; 20], 0),
            v2(0x31, 0x11, &[0; 12], 0),
            v2(0x22, 0x11, &[0; 12], 0),
        ] {
            assert!(told(PEER, &bytes).await.is_err(), "{bytes:?}");
        }
    }
}
