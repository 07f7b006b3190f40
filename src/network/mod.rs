//! Floor 1: what this server asks of the outside world: resolving, connecting, fetching. Everything is bounded in time,
//! size and count, and an address that is not allowed is refused on the very address connected to (AUT-13).

pub mod answer;
pub mod connect;
pub mod dns;
#[cfg(test)]
pub(crate) mod fakes;
pub mod fetch;
pub mod guard;
pub mod targets;
pub mod tls;
pub mod url;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ClientConfig;
use thiserror::Error;

use crate::network::answer::CaaRecord;
use crate::network::dns::{DnsError, Resolver};
use crate::network::guard::{Guard, Refused};
use crate::network::targets::Targets;

/// How the outside world is reached.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The recursive name servers to ask, tried in turn; empty for those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// How long one DNS lookup may take as a whole, aliases and second tries included.
    pub dns_timeout: Duration,
    /// How long one TCP connection may take to come about.
    pub connect_timeout: Duration,
    /// How many connections to one address (of IPv6: to one /64) are open at once.
    pub connections_per_target: usize,
    /// How long one validation over TCP may take as a whole: look-up, connection, TLS, redirects and body included.
    pub http_timeout: Duration,
    /// Networks that may be connected to though they are refused by default (see [`guard`]).
    pub allow_networks: Vec<IpNet>,
    /// Networks that may not be connected to; these win over `allow_networks`.
    pub refuse_networks: Vec<IpNet>,
    /// Whether names under `.localhost` (RFC 6761 §6.3) may be connected to, for a server that runs on one machine.
    pub local_names: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            dns_servers: Vec::new(),
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            connections_per_target: 32,
            http_timeout: Duration::from_secs(10),
            allow_networks: Vec::new(),
            refuse_networks: Vec::new(),
            local_names: false,
        }
    }
}

/// Why the outside world cannot be reached at all.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The system's resolver configuration names no server.
    #[error("/etc/resolv.conf names no name server; configure one")]
    NoNameServer,
    /// The system's resolver configuration cannot be read.
    #[error("/etc/resolv.conf cannot be read: {0}")]
    ResolverConfiguration(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The way out. Cheap to share by reference; holds no connections but those to name servers.
pub struct Network {
    config: NetworkConfig,
    guard: Guard,
    resolver: Resolver,
    https: Arc<ClientConfig>,
    targets: Arc<Targets>,
}

impl Network {
    /// Reads the system's resolver configuration where `dns_servers` is empty; connects to nothing yet.
    pub fn new(config: NetworkConfig) -> Result<Self, NetworkError> {
        let guard = Guard::new(config.allow_networks.clone(), config.refuse_networks.clone());
        let resolver = Resolver::new(&config.dns_servers, config.dns_timeout)?;
        let https = tls::client_config(&[])?;
        let targets = Arc::new(Targets::new(config.connections_per_target));
        Ok(Self { config, guard, resolver, https, targets })
    }

    /// The bounds and rules that this was made with.
    pub const fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Whether `address` may be connected to; `name_is_local` says that it was reached by a name under `.localhost`
    /// (which counts only where `local_names` is set).
    pub fn permits(&self, address: IpAddr, name_is_local: bool) -> Result<(), Refused> {
        self.guard.judge(address, name_is_local && self.config.local_names)
    }

    /// The addresses of `name`: IPv6 first, each family in the order of the answer. Names under `.localhost` are
    /// loopback without asking (RFC 6761 §6.3).
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        if dns::is_local(name) {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        self.resolver.addresses(name).await
    }

    /// The TXT values at `name`, aliases followed, the strings of each record joined; never empty. Names under
    /// `.localhost` have none (RFC 6761 §6.3), unless the operator lets them be tried out and names the servers to ask.
    pub async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError> {
        let tried_out = self.config.local_names && !self.config.dns_servers.is_empty();
        if dns::is_local(name) && !tried_out {
            return Err(DnsError::NoRecords { name: name.to_owned(), kind: "TXT" });
        }
        self.resolver.txt(name).await
    }

    /// The CAA records at `name` itself, aliases followed; empty where DNS says that there are none. Every other
    /// failure is an error, so that the caller fails closed (RFC 8659 §3).
    pub async fn caa(&self, name: &str) -> Result<Vec<CaaRecord>, DnsError> {
        if dns::is_local(name) {
            return Ok(Vec::new());
        }
        match self.resolver.caa(name).await {
            Err(error) if error.is_negative() => Ok(Vec::new()),
            other => other,
        }
    }
}
