//! The other side of the challenges: in-test servers for http-01, tls-alpn-01 and DNS, one of each a run. What they
//! say is scripted by token or by name, so that tests in parallel do not meet.

mod dns;
mod http;
mod tls;

use std::sync::OnceLock;

pub use dns::{Dns, Rcode};
pub use http::{Http, HttpRequest, Reply};
pub use tls::{Handshake, Tls};

/// The http-01 server.
pub fn http() -> &'static Http {
    static SERVER: OnceLock<Http> = OnceLock::new();
    SERVER.get_or_init(Http::start)
}

/// The tls-alpn-01 server.
pub fn tls() -> &'static Tls {
    static SERVER: OnceLock<Tls> = OnceLock::new();
    SERVER.get_or_init(Tls::start)
}

/// The DNS server.
pub fn dns() -> &'static Dns {
    static SERVER: OnceLock<Dns> = OnceLock::new();
    SERVER.get_or_init(Dns::start)
}
