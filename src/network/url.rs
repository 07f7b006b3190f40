//! The URLs that http-01 may fetch, and where a redirect may lead (AUT-10): http on port 80 or the configured one, https
//! on 443. RFC 3986 §5 for http and https alone, read strictly: what two programs could read differently is refused.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::network::connect::Host;

/// How long a Location may be, in octets.
pub const MAX_LOCATION: usize = 2048;

/// An http or https URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether the scheme is https.
    pub https: bool,
    /// Where.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// The path, beginning with a slash, and the query if there is one.
    pub path: String,
}

/// The ports that redirects may lead to.
#[derive(Clone, Copy, Debug)]
pub struct RedirectPorts {
    /// For http, beside 80.
    pub http: u16,
    /// For https.
    pub https: u16,
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RedirectError {
    /// A host that is neither a DNS name nor an address.
    #[error("its host is neither a DNS name nor an IP address")]
    Host,
    /// Not a URL.
    #[error("it is not a URL of at most {MAX_LOCATION} printable characters")]
    Malformed,
    /// No Location header.
    #[error("there is no Location header")]
    NoLocation,
    /// A port other than those of http-01.
    #[error("its port is {0}, but only http on port 80 and https on port 443 are followed")]
    Port(u16),
    /// A scheme other than http and https.
    #[error("its scheme is neither http nor https")]
    Scheme,
    /// A user name or a password.
    #[error("it has a user name in it")]
    UserInfo,
}

impl HttpUrl {
    /// `http://HOST:PORT/PATH`; `path` begins with a slash.
    pub fn http(host: Host, port: u16, path: &str) -> Self {
        Self { https: false, host, port, path: path.to_owned() }
    }

    /// What the Host header says: the port is left out where it is the scheme's own (RFC 9110 §4.2.3).
    pub fn authority(&self) -> String {
        let own = if self.https { 443 } else { 80 };
        if self.port == own { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Where a Location header leads from here (RFC 9110 §10.2.2), if it may be followed.
    pub fn redirect(&self, location: &[u8], ports: RedirectPorts) -> Result<Self, RedirectError> {
        if location.len() > MAX_LOCATION || location.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(RedirectError::Malformed);
        }
        let reference = ascii(location);
        // A fragment is the client's own business, and is never sent.
        let reference = reference.split('#').next().unwrap_or_default();
        let target = match scheme(reference) {
            Some((name, rest)) => {
                let https = match name.to_ascii_lowercase().as_str() {
                    "http" => false,
                    "https" => true,
                    _ => return Err(RedirectError::Scheme),
                };
                let rest = rest.strip_prefix("//").ok_or(RedirectError::Malformed)?;
                Self::absolute(https, rest)?
            }
            None => match reference.strip_prefix("//") {
                Some(rest) => Self::absolute(self.https, rest)?,
                None => Self { path: self.resolve(reference), ..self.clone() },
            },
        };
        let allowed =
            if target.https { target.port == ports.https } else { [80, ports.http].contains(&target.port) };
        if allowed { Ok(target) } else { Err(RedirectError::Port(target.port)) }
    }

    /// Reads what follows the `//`.
    fn absolute(https: bool, rest: &str) -> Result<Self, RedirectError> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(RedirectError::UserInfo);
        }
        let own = if https { 443 } else { 80 };
        // An address in brackets has colons of its own.
        let after_host = authority.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority[after_host..].find(':') {
            Some(colon) => authority.split_at(after_host + colon),
            None => (authority, ""),
        };
        let port = match port.strip_prefix(':').unwrap_or_default() {
            "" => own,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| RedirectError::Malformed)?
            }
            _ => return Err(RedirectError::Malformed),
        };
        let path = match path.strip_prefix('/') {
            Some(_) => without_dots(path),
            None => format!("/{path}"),
        };
        Ok(Self { https, host: read_host(host)?, port, path })
    }

    /// A reference without scheme and authority, resolved (RFC 3986 §5.2.2).
    fn resolve(&self, reference: &str) -> String {
        let own_path = self.path.split('?').next().unwrap_or("/");
        if reference.is_empty() {
            return self.path.clone();
        }
        if reference.starts_with('?') {
            return format!("{own_path}{reference}");
        }
        if reference.starts_with('/') {
            return without_dots(reference);
        }
        let directory = own_path.rfind('/').map_or("/", |slash| &own_path[..=slash]);
        without_dots(&format!("{directory}{reference}"))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Bytes above ASCII, which some servers send bare, are percent-encoded; so are those that no URI may have.
fn ascii(location: &[u8]) -> String {
    let mut text = String::new();
    for byte in location {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                text.push_str(&format!("%{byte:02X}"));
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

/// The scheme, if the reference begins with one.
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (name, rest) = reference.split_once(':')?;
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (letters && name.starts_with(|first: char| first.is_ascii_alphabetic())).then_some((name, rest))
}

fn read_host(text: &str) -> Result<Host, RedirectError> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .map(|address| Host::Address(address.into()))
            .map_err(|_| RedirectError::Host);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last label that begins with a digit is how some spell addresses: 127.1, 0x7f000001, 2130706433.
    let last_is_a_number =
        name.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit()));
    if name.len() > 253 || last_is_a_number || !name.split('.').all(label_is_good) {
        return Err(RedirectError::Host);
    }
    Ok(Host::Name(name))
}

/// Takes `.` and `..` out of a path that begins with a slash; the query stays as it is (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |mark| path.split_at(mark));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: RedirectPorts = RedirectPorts { http: 5002, https: 443 };

    fn follow(location: &str) -> Result<String, RedirectError> {
        let start = HttpUrl::http(Host::Name("a.test".into()), 5002, "/.well-known/acme-challenge/tok");
        start.redirect(location.as_bytes(), PORTS).map(|url| url.to_string())
    }

    #[test]
    fn aut_10_locations_are_resolved_as_rfc_3986_says() {
        for (location, target) in [
            ("http://b.test/x", "http://b.test/x"),
            ("HTTP://B.Test:80/x?y=/../z", "http://b.test/x?y=/../z"),
            ("https://b.test", "https://b.test/"),
            ("https://b.test:443?q", "https://b.test/?q"),
            ("http://b.test.:5002/", "http://b.test:5002/"),
            ("http://b_c.test/#fragment", "http://b_c.test/"),
            ("//b.test:5002/p", "http://b.test:5002/p"),
            ("http://192.0.2.1/p", "http://192.0.2.1/p"),
            ("http://[2001:DB8::1]:80/p", "http://[2001:db8::1]/p"),
            ("/up", "http://a.test:5002/up"),
            ("/a/b/../../../c/./d/..", "http://a.test:5002/c/"),
            ("other", "http://a.test:5002/.well-known/acme-challenge/other"),
            ("../x", "http://a.test:5002/.well-known/x"),
            ("?q", "http://a.test:5002/.well-known/acme-challenge/tok?q"),
            ("", "http://a.test:5002/.well-known/acme-challenge/tok"),
            ("#top", "http://a.test:5002/.well-known/acme-challenge/tok"),
            ("/b\u{fc}cher<x>", "http://a.test:5002/b%C3%BCcher%3Cx%3E"),
            ("/a:b", "http://a.test:5002/a:b"),
        ] {
            assert_eq!(follow(location).as_deref(), Ok(target), "{location}");
        }
    }

    #[test]
    fn aut_10_redirects_lead_to_the_ports_of_http_01_and_nowhere_else() {
        use RedirectError as E;
        let long = format!("/{}", "a".repeat(MAX_LOCATION));
        for (location, error) in [
            ("http://b.test:8080/", E::Port(8080)),
            ("http://b.test:443/", E::Port(443)),
            ("https://b.test:80/", E::Port(80)),
            ("https://b.test:5002/", E::Port(5002)),
            ("https://b.test:22/", E::Port(22)),
            ("http://b.test:65616/", E::Malformed),
            ("http://b.test:+80/", E::Malformed),
            ("http://b.test:80:80/", E::Malformed),
            ("ftp://b.test/", E::Scheme),
            ("file:///etc/passwd", E::Scheme),
            ("gopher://b.test:80/", E::Scheme),
            ("http:/b.test/", E::Malformed),
            ("http://user@b.test/", E::UserInfo),
            ("http://b.test:80@evil.test/", E::UserInfo),
            ("http:///x", E::Host),
            ("http://b..test/", E::Host),
            ("http://2130706433/", E::Host),
            ("http://0x7f000001/", E::Host),
            ("http://127.1/", E::Host),
            ("http://0177.0.0.1/", E::Host),
            ("http://[fe80::1%25eth0]/", E::Host),
            ("http://[::1/", E::Malformed),
            ("http://b%2etest/", E::Host),
            ("http://b.test\\@evil.test/", E::UserInfo),
            ("http://b.test/a b", E::Malformed),
            ("http://b.test/a\r\nHost: x", E::Malformed),
            (long.as_str(), E::Malformed),
        ] {
            assert_eq!(follow(location), Err(error), "{location}");
        }
    }
}
