//! Whose request it is: the peer's address, or the one that a trusted proxy names in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::Request;
use ipnet::IpNet;

/// How many entries of `X-Forwarded-For` are looked at, from its end.
const MOST_ENTRIES: usize = 32;

/// The address of the client: the peer, unless that is a trusted proxy; then the last address in `X-Forwarded-For` that is
/// no trusted proxy itself. What stands before that one, anybody may have written.
pub fn client_address<B>(request: &Request<B>, trusted: &[IpNet]) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = request.headers().get_all("x-forwarded-for").iter().rev();
    let entries = lines.flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
    let mut last = peer;
    for entry in entries.take(MOST_ENTRIES) {
        // An entry that cannot be read is the end of what the proxies said.
        let Some(address) = read(entry.trim()) else { return last };
        if !is_trusted(&address) {
            return address;
        }
        last = address;
    }
    last
}

/// An address; some proxies add the port.
fn read(entry: &str) -> Option<IpAddr> {
    let address = entry.parse::<IpAddr>().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn seen(peer: &str, lines: &[&str]) -> String {
        let mut request = Request::get("/");
        for line in lines {
            request = request.header("X-Forwarded-For", *line);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        client_address(&request, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_own_word() {
        for (peer, lines, client) in [
            ("192.0.2.9:1", &[][..], "192.0.2.9"),
            // A stranger says what it likes.
            ("192.0.2.9:1", &["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1:1", &[], "10.0.0.1"),
            ("10.0.0.1:1", &["198.51.100.1"], "198.51.100.1"),
            ("[::ffff:10.0.0.1]:1", &["198.51.100.1"], "198.51.100.1"),
            // What the client sent stands first, what the proxy added last.
            ("10.0.0.1:1", &["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["203.0.113.7", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["203.0.113.7, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1:1", &["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
            ("10.0.0.1:1", &["198.51.100.1, nonsense, 10.3.3.3"], "10.3.3.3"),
            ("10.0.0.1:1", &["nonsense"], "10.0.0.1"),
            ("10.0.0.1:1", &["2001:db8::1"], "2001:db8::1"),
            ("[fd00::1]:1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1:1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1:1", &["198.51.100.1:5000"], "198.51.100.1"),
        ] {
            assert_eq!(seen(peer, lines), client, "{peer} {lines:?}");
        }
    }
}
