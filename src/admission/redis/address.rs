//! Where Redis is: the URL in the configuration, for one server, for Sentinel and for Cluster.

use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::admission::AdmissionError;

/// The most hosts a URL may name.
const MOST_HOSTS: usize = 64;

/// Where Redis is, with its credentials: never shown.
pub(super) enum Address {
    /// `redis-cluster://[user:password@]host:port,…`: any of the nodes.
    Cluster(Vec<ConnectionInfo>),
    /// `redis-sentinel://[user:password@]host:port,…/name[/database][?sentinel=user:password]`.
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, node: RedisConnectionInfo, tls: bool },
    /// `redis://[user:password@]host[:port][/database]`.
    Single(ConnectionInfo),
}

/// A URL cut into its parts, all still percent-encoded.
struct Parts<'a> {
    scheme: &'a str,
    /// `user:password@`, or nothing.
    user: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl Address {
    /// Reads a URL: `redis`, `redis-sentinel` (or `redis+sentinel`), `redis-cluster` (or `redis+cluster`); with `rediss` in
    /// place of `redis` all connections use TLS. The errors never repeat the URL, which may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, AdmissionError> {
        let parts = Parts::cut(url)?;
        let (transport, topology) = match parts.scheme.split_once(['-', '+']) {
            Some((transport, topology)) => (transport, Some(topology)),
            None => (parts.scheme, None),
        };
        if !matches!(transport, "redis" | "rediss") {
            return Err(wrong(
                "it must begin with redis:// or rediss:// (or name -sentinel or -cluster there)",
            ));
        }
        match topology {
            None => parts.single(transport).map(Self::Single),
            Some("cluster") => {
                if !parts.path.is_empty() || !parts.query.is_empty() {
                    return Err(wrong("a cluster has neither databases nor parameters"));
                }
                parts.nodes(transport, parts.user).map(Self::Cluster)
            }
            Some("sentinel") => parts.sentinel(transport),
            Some(_) => Err(wrong("only -sentinel and -cluster are known after redis or rediss")),
        }
    }

    /// The hosts, for the log.
    pub(super) fn hosts(&self) -> String {
        let list = |infos: &[ConnectionInfo]| {
            infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Cluster(nodes) => format!("the cluster at {}", list(nodes)),
            Self::Sentinel { sentinels, master, .. } => {
                format!("{master}, by the sentinels {}", list(sentinels))
            }
            Self::Single(info) => info.addr().to_string(),
        }
    }
}

impl<'a> Parts<'a> {
    fn cut(url: &'a str) -> Result<Self, AdmissionError> {
        if url.contains('#') {
            return Err(wrong("it must have no fragment; write # in a password as %23"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let hosts: Vec<_> = hosts.split(',').collect();
        if hosts.len() > MOST_HOSTS || hosts.iter().any(|host| host.is_empty()) {
            return Err(wrong("it must name at least one host, each without spaces"));
        }
        Ok(Self { scheme, user, hosts, path: path.trim_end_matches('/'), query })
    }

    fn single(&self, transport: &str) -> Result<ConnectionInfo, AdmissionError> {
        let [host] = self.hosts.as_slice() else {
            return Err(wrong("several hosts need redis-sentinel:// or redis-cluster://"));
        };
        if !self.query.is_empty() {
            return Err(wrong("it must have no parameters"));
        }
        info(&format!("{transport}://{}{host}/{}", self.user, self.path))
    }

    fn nodes(&self, transport: &str, user: &str) -> Result<Vec<ConnectionInfo>, AdmissionError> {
        self.hosts.iter().map(|host| info(&format!("{transport}://{user}{host}"))).collect()
    }

    fn sentinel(&self, transport: &str) -> Result<Address, AdmissionError> {
        let (master, database) = self.path.split_once('/').unwrap_or((self.path, ""));
        if master.is_empty() {
            return Err(wrong("after the sentinels it must name the master, as in /mymaster"));
        }
        let user = match self.query.split_once('=') {
            Some(("sentinel", user)) => format!("{user}@"),
            None if self.query.is_empty() => String::new(),
            _ => return Err(wrong("the only parameter is sentinel=user:password")),
        };
        let node = info(&format!("{transport}://{}master/{database}", self.user))?;
        let sentinels = self.hosts.iter().map(|host| {
            // The port that sentinels have when none is named.
            let colon = host.rfind(':').is_some_and(|at| !host[at..].contains(']'));
            info(&format!("{transport}://{user}{host}{}", if colon { "" } else { ":26379" }))
        });
        Ok(Address::Sentinel {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            master: master.to_owned(),
            node: node.redis_settings().clone(),
            tls: transport == "rediss",
        })
    }
}

fn info(url: &str) -> Result<ConnectionInfo, AdmissionError> {
    url.into_connection_info()
        .map_err(|_| wrong("a host, port, database or the credentials in it cannot be read"))
}

fn wrong(why: &str) -> AdmissionError {
    AdmissionError::Misaddressed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(info: &RedisConnectionInfo) -> (Option<&str>, Option<&str>, i64) {
        (info.username(), info.password(), info.db())
    }

    #[test]
    fn one_server() {
        let Ok(Address::Single(info)) =
            Address::parse("rediss://chancery:p%40ss%2Fword@redis.example:6390/3")
        else {
            panic!("not read");
        };
        assert_eq!(settings(info.redis_settings()), (Some("chancery"), Some("p@ss/word"), 3));
        assert_eq!(info.addr().to_string(), "redis.example:6390");
        assert!(matches!(info.addr(), redis::ConnectionAddr::TcpTls { insecure: false, .. }));
        let Ok(Address::Single(info)) = Address::parse("redis://:secret@[::1]") else { panic!("not read") };
        assert_eq!(settings(info.redis_settings()), (None, Some("secret"), 0));
        assert_eq!(info.addr(), &redis::ConnectionAddr::Tcp("::1".to_owned(), 6379));
    }

    #[test]
    fn sentinels() {
        for scheme in ["redis-sentinel", "redis+sentinel"] {
            let url = format!("{scheme}://u:p%2C@a:1,b,[::1]:3,[::2]/main/2?sentinel=su:sp");
            let Ok(Address::Sentinel { sentinels, master, node, tls }) = Address::parse(&url) else {
                panic!("not read");
            };
            assert_eq!((master.as_str(), tls), ("main", false));
            assert_eq!(settings(&node), (Some("u"), Some("p,"), 2));
            let seen: Vec<_> = sentinels.iter().map(|s| s.addr().to_string()).collect();
            assert_eq!(seen, ["a:1", "b:26379", "::1:3", "::2:26379"]);
            assert_eq!(settings(sentinels[2].redis_settings()), (Some("su"), Some("sp"), 0));
        }
        let Ok(Address::Sentinel { tls, .. }) = Address::parse("rediss-sentinel://a:1/main") else {
            panic!("not read");
        };
        assert!(tls);
    }

    #[test]
    fn clusters() {
        for scheme in ["rediss-cluster", "rediss+cluster"] {
            let Ok(Address::Cluster(nodes)) = Address::parse(&format!("{scheme}://:p@a:1,b:2/")) else {
                panic!("not read");
            };
            let seen: Vec<_> = nodes.iter().map(|n| n.addr().to_string()).collect();
            assert_eq!(seen, ["a:1", "b:2"]);
            assert_eq!(settings(nodes[1].redis_settings()), (None, Some("p"), 0));
            assert!(matches!(nodes[0].addr(), redis::ConnectionAddr::TcpTls { .. }));
        }
    }

    #[test]
    fn errors_never_show_the_password() {
        for url in [
            "",
            "hunter2",
            "http://u:hunter2@a",
            "redis://u:hunter2@a:x",
            "redis://u:hunter2@a,b",
            "redis://u:hunter2@a/zero",
            "redis://u:hunter2@a/0?x=hunter2",
            "redis://u:hunter2@a#hunter2",
            "redis://u:hunter2@",
            "redis://u:hunter2@0.0.0.0",
            "redis-sentinel://u:hunter2@a",
            "redis-sentinel://u:hunter2@a/m?x=hunter2",
            "redis-sentinel://u:hunter2@a/m/zero",
            "redis-cluster://u:hunter2@a/1",
            "redis-ring://u:hunter2@a",
        ] {
            let Err(error) = Address::parse(url) else { panic!("{url} was read") };
            assert!(matches!(error, AdmissionError::Misaddressed(_)), "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
