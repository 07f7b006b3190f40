//! TCP connections to hosts that clients name: resolved, judged and connected to in one go, so that what was judged is
//! what is connected to (AUT-13). IPv6 first, IPv4 when that fails (AUT-10).

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;
use tokio::net::TcpStream;

use crate::acme::identifier::Identifier;
use crate::network::Network;
use crate::network::dns::{self, DnsError};
use crate::network::guard::Refused;
use crate::network::targets::Place;

/// How many addresses of each family are tried.
const TRIES_PER_FAMILY: usize = 2;

/// A name, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// To be connected to at this address.
    Address(IpAddr),
    /// To be looked up; without a dot at its end.
    Name(String),
}

impl From<&Identifier> for Host {
    fn from(identifier: &Identifier) -> Self {
        match identifier {
            Identifier::Dns(name) => Self::Name(name.clone()),
            Identifier::Ip(address) => Self::Address(*address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConnectError {
    /// No address was found.
    #[error(transparent)]
    Lookup(#[from] DnsError),
    /// No address may be connected to.
    #[error(transparent)]
    NotPermitted(#[from] Refused),
    /// No address could be connected to.
    #[error("could not connect to {}", listed(.0))]
    Unreachable(Vec<(SocketAddr, &'static str)>),
}

fn listed(tries: &[(SocketAddr, &'static str)]) -> String {
    let each: Vec<String> = tries.iter().map(|(address, why)| format!("{address} ({why})")).collect();
    each.join(", ")
}

/// A connection, and where it leads.
#[derive(Debug)]
pub struct Connection {
    /// The connection.
    pub stream: TcpStream,
    /// The address connected to.
    pub address: SocketAddr,
    /// Its place among the connections to that target, to be kept for as long as the stream.
    pub place: Place,
}

impl Network {
    /// Connects to one address within `connect_timeout`, if it is permitted and has not too many connections already; `name_is_local` as for
    /// [`Network::permits`].
    pub async fn connect(
        &self,
        address: IpAddr,
        port: u16,
        name_is_local: bool,
    ) -> Result<Connection, ConnectError> {
        self.permits(address, name_is_local)?;
        let target = SocketAddr::new(address, port);
        let Some(place) = self.targets.place(address).await else {
            return Err(ConnectError::Unreachable(vec![(target, "too many connections to it are open")]));
        };
        let why = match tokio::time::timeout(self.config.connect_timeout, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => return Ok(Connection { stream, address: target, place }),
            Err(_) => "timed out",
            Ok(Err(error)) => match error.kind() {
                ErrorKind::ConnectionRefused => "connection refused",
                ErrorKind::HostUnreachable => "host unreachable",
                ErrorKind::NetworkUnreachable => "network unreachable",
                ErrorKind::ConnectionReset => "connection reset",
                ErrorKind::TimedOut => "timed out",
                _ => "connection failed",
            },
        };
        Err(ConnectError::Unreachable(vec![(target, why)]))
    }

    /// Resolves and connects: two IPv6 addresses, then two IPv4 addresses, until one answers. Addresses that are not
    /// permitted are passed over; that is an error only where no other is left.
    pub async fn connect_host(&self, host: &Host, port: u16) -> Result<Connection, ConnectError> {
        let (addresses, local) = match host {
            Host::Address(address) => (vec![*address], false),
            Host::Name(name) => (self.addresses(name).await?, dns::is_local(name)),
        };
        let (permitted, refused) = self.permitted(addresses, local);
        let mut failures = Vec::new();
        for address in chosen(&permitted) {
            match self.connect(address, port, local).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Unreachable(tries)) => failures.extend(tries),
                Err(other) => return Err(other),
            }
        }
        match refused {
            Some(refused) if failures.is_empty() => Err(refused.into()),
            _ => Err(ConnectError::Unreachable(failures)),
        }
    }

    fn permitted(&self, addresses: Vec<IpAddr>, local: bool) -> (Vec<IpAddr>, Option<Refused>) {
        let mut refused = None;
        let permitted = addresses.into_iter().filter(|address| match self.permits(*address, local) {
            Ok(()) => true,
            Err(why) => {
                refused = Some(why);
                false
            }
        });
        (permitted.collect(), refused)
    }
}

fn chosen(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let family =
        |six: bool| addresses.iter().copied().filter(move |one| one.is_ipv6() == six).take(TRIES_PER_FAMILY);
    family(true).chain(family(false))
}
