//! Asking recursive name servers. UDP, and TCP where an answer is cut off; no cache, no hosts file, random ports, ids and
//! letter case. A server that fails is overtaken by the next. Names that do not exist and lookups that failed are
//! told apart: CAA hangs on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError as WireError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use thiserror::Error;

use crate::network::NetworkError;
use crate::network::answer::{self, AnswerError, CaaRecord, MAX_ALIASES, Step};

/// Why a lookup gave nothing. The names are those asked for, or the end of their aliases.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DnsError {
    /// Aliases in a circle, or too many.
    #[error("the aliases (CNAME) of {name} form a loop, or a chain of more than {MAX_ALIASES}")]
    AliasChain {
        /// The name.
        name: String,
    },
    /// No server gave a usable answer.
    #[error("the DNS lookup of {kind} records for {name} failed: {why}")]
    Failed {
        /// The name.
        name: String,
        /// The record type.
        kind: &'static str,
        /// What the last server did.
        why: String,
    },
    /// The name exists, but has no such records.
    #[error("DNS has no {kind} records for {name}")]
    NoRecords {
        /// The name.
        name: String,
        /// The record type.
        kind: &'static str,
    },
    /// NXDOMAIN.
    #[error("DNS says that {name} does not exist (NXDOMAIN)")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// Not a name that DNS can hold.
    #[error("{name} is not a DNS name")]
    NotAName {
        /// The text.
        name: String,
    },
    /// Nobody answered in time.
    #[error("the DNS lookup of {kind} records for {name} was not answered within {limit:?}")]
    TimedOut {
        /// The name.
        name: String,
        /// The record type.
        kind: &'static str,
        /// The time allowed.
        limit: Duration,
    },
}

impl DnsError {
    /// Whether DNS said that there is nothing, rather than failing to say.
    pub const fn is_negative(&self) -> bool {
        matches!(self, Self::NoRecords { .. } | Self::NoSuchName { .. })
    }
}

/// Whether `name` is `localhost` or below it (RFC 6761 §6.3).
pub fn is_local(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// Asks the configured name servers.
pub(crate) struct Resolver {
    servers: Vec<NameServerPool<TokioRuntimeProvider>>,
    /// The server that answered last: it is asked first.
    preferred: AtomicUsize,
    timeout: Duration,
}

impl Resolver {
    pub(crate) fn new(servers: &[SocketAddr], timeout: Duration) -> Result<Self, NetworkError> {
        let configurations =
            if servers.is_empty() { system_servers()? } else { servers.iter().copied().map(at).collect() };
        let tls = TlsConfig::new().map_err(|error| NetworkError::ResolverConfiguration(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options(timeout), tls));
        // One pool a server: a pool of several takes the first SERVFAIL for the last word.
        let pool = |server| {
            NameServerPool::from_config([server], Arc::clone(&context), TokioRuntimeProvider::default())
        };
        let servers = configurations.into_iter().map(pool).collect();
        Ok(Self { servers, preferred: AtomicUsize::new(0), timeout })
    }

    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let (six, four) =
            tokio::join!(self.records(name, RecordType::AAAA), self.records(name, RecordType::A));
        let mut errors = Vec::new();
        let mut addresses = Vec::new();
        for outcome in [six, four] {
            match outcome {
                Ok(records) => addresses.extend(records.iter().filter_map(RData::ip_addr)),
                Err(error) => errors.push(error),
            }
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        // That a lookup failed says more than that the other family has nothing; NXDOMAIN says more than that, too.
        let rank = |error: &DnsError| match error {
            DnsError::NoRecords { .. } => 0,
            DnsError::NoSuchName { .. } => 1,
            _ => 2,
        };
        match errors.into_iter().max_by_key(rank) {
            Some(DnsError::NoRecords { name, .. }) => Err(DnsError::NoRecords { name, kind: "A or AAAA" }),
            Some(error) => Err(error),
            None => Err(DnsError::NoRecords { name: name.to_owned(), kind: "A or AAAA" }),
        }
    }

    pub(crate) async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError> {
        Ok(answer::txt_values(&self.records(name, RecordType::TXT).await?))
    }

    pub(crate) async fn caa(&self, name: &str) -> Result<Vec<CaaRecord>, DnsError> {
        Ok(answer::caa_values(&self.records(name, RecordType::CAA).await?))
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        match tokio::time::timeout(self.timeout, self.follow(name, kind)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(DnsError::TimedOut { name: name.to_owned(), kind: kind.into(), limit: self.timeout })
            }
        }
    }

    async fn follow(&self, text: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        // The dot at the end keeps search domains out of it.
        let mut name = Name::from_ascii(format!("{}.", text.trim_end_matches('.')))
            .map_err(|_| DnsError::NotAName { name: text.to_owned() })?;
        let mut aliases = 0;
        loop {
            match self.ask(&name, kind).await? {
                Step::Found(records) => return Ok(records),
                Step::Nothing => return Err(DnsError::NoRecords { name: shown(&name), kind: kind.into() }),
                Step::Alias { target, hops } => {
                    aliases += hops;
                    if aliases > MAX_ALIASES {
                        return Err(DnsError::AliasChain { name: text.to_owned() });
                    }
                    name = target;
                }
            }
        }
    }

    /// Asks the servers in turn: the next one is asked when one fails, or when it has kept us waiting for a while; the
    /// first answer counts. Each is asked at most twice.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Step, DnsError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut turns = (0..self.servers.len() * 2).map(|turn| (first + turn) % self.servers.len());
        let mut waiting = FuturesUnordered::new();
        let mut last = None;
        loop {
            if let Some(index) = turns.next() {
                waiting.push(async move { (index, self.ask_one(index, name, kind).await) });
            }
            tokio::select! {
                outcome = waiting.next() => match outcome {
                    Some((index, Err(error))) if !error.is_negative() => {
                        tracing::debug!(index, %error, "a name server failed");
                        last = Some(error);
                    }
                    Some((index, outcome)) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return outcome;
                    }
                    None => return Err(last.unwrap_or_else(|| failed(name, kind, "no name server is configured"))),
                },
                () = tokio::time::sleep(self.timeout / 5) => {}
            }
        }
    }

    async fn ask_one(&self, index: usize, name: &Name, kind: RecordType) -> Result<Step, DnsError> {
        let query = Query::query(name.clone(), kind);
        let response = self.servers[index].lookup(query, request_options()).first_answer().await;
        match response {
            Ok(response) => read(&response, name, kind),
            Err(NetError::Dns(WireError::NoRecordsFound(nothing))) => Err(no_records(&nothing, name, kind)),
            Err(error) => Err(failed(name, kind, &reason(&error))),
        }
    }
}

fn read(message: &Message, name: &Name, kind: RecordType) -> Result<Step, DnsError> {
    answer::read(message, name, kind).map_err(|error| match error {
        AnswerError::AliasChain => DnsError::AliasChain { name: shown(name) },
        other => failed(name, kind, &other.to_string()),
    })
}

/// The library calls every answer without records this; only these two mean that there are none.
fn no_records(nothing: &NoRecords, name: &Name, kind: RecordType) -> DnsError {
    match nothing.response_code {
        ResponseCode::NXDomain => DnsError::NoSuchName { name: shown(name) },
        // A referral (RFC 2308 §2.2) is what a server that does not recurse says of a name it does not know.
        ResponseCode::NoError if nothing.ns.is_some() && nothing.soa.is_none() => {
            failed(name, kind, "the name server answered with a referral")
        }
        ResponseCode::NoError => DnsError::NoRecords { name: shown(name), kind: kind.into() },
        other => failed(name, kind, &format!("the name server answered {other}")),
    }
}

fn failed(name: &Name, kind: RecordType, why: &str) -> DnsError {
    DnsError::Failed { name: shown(name), kind: kind.into(), why: why.to_owned() }
}

/// What went wrong, without the addresses of our name servers.
fn reason(error: &NetError) -> String {
    match error {
        NetError::Dns(WireError::ResponseCode(code)) => format!("the name server answered {code}"),
        NetError::Io(_) | NetError::NoConnections => "no name server could be reached".to_owned(),
        NetError::Timeout => "the name server did not answer".to_owned(),
        NetError::Truncated => "the answer was cut off, over TCP too".to_owned(),
        NetError::Proto(_) => "the answer cannot be read".to_owned(),
        _ => "the name server's answer cannot be used".to_owned(),
    }
}

/// A name as people write it, without the dot at the end; unprintable bytes come escaped.
fn shown(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn at(server: SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(server.ip(), true, connections)
}

fn system_servers() -> Result<Vec<NameServerConfig>, NetworkError> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf()
        .map_err(|error| NetworkError::ResolverConfiguration(error.to_string()))?;
    let (_, _, servers) = config.into_parts();
    if servers.is_empty() { Err(NetworkError::NoNameServer) } else { Ok(servers) }
}

fn options(timeout: Duration) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.case_randomization = true;
    // Thousands of validations may wait at once on one TCP connection.
    options.max_active_requests = 4096;
    options
}

fn request_options() -> DnsRequestOptions {
    let mut options = DnsRequestOptions::default();
    options.case_randomization = true;
    options
}

#[cfg(test)]
mod tests;
