//! Where relying parties find CRLs and issuers' certificates.

use std::net::SocketAddr;

use super::{Reader, mismatch};
use crate::config::kind::Value;

/// The port of `ca.listen` where it is not set.
const PORT: u16 = 14002;

impl Reader {
    /// The plain listener that has them, and what the URLs in certificates begin with.
    pub(super) fn public(&self, external_url: &str, alone: bool) -> (Option<SocketAddr>, String) {
        let listen = self.ca_listen(external_url, alone);
        let url = self.text("ca.public_url").or_else(|| plain_url(external_url, listen?));
        (listen, url.unwrap_or_else(|| external_url.to_owned()))
    }

    /// By itself only where no balancer is there to do it, and where the main listener does not do it already.
    fn ca_listen(&self, external_url: &str, alone: bool) -> Option<SocketAddr> {
        match self.value("ca.listen") {
            Some(Value::Address(address)) => Some(*address),
            Some(Value::Text(_)) => None,
            None if alone && external_url.starts_with("https://") => {
                Some(SocketAddr::new(self.address("listen").ip(), PORT))
            }
            None => None,
            other => mismatch("ca.listen", other),
        }
    }
}

/// The URL of a plain listener at a URL's host; none for a port that is yet to be chosen.
fn plain_url(url: &str, listen: SocketAddr) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    match (uri.host()?, listen.port()) {
        (_, 0) => None,
        (host, 80) => Some(format!("http://{host}")),
        (host, port) => Some(format!("http://{host}:{port}")),
    }
}
