//! Where a client finds the server, and where the server finds the client.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::clients::balanced::Balanced;
use crate::clients::program::surroundings;
use crate::eab;
use crate::support::bind::{self, Bind};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::process::Process;
use crate::support::responder;
use crate::support::run::{folder, free_port, unique, unique_address, wait_until, with_log};

/// A server, and one client's place beside it.
pub struct Site {
    /// The URL of the directory.
    pub directory: String,
    /// The root that TLS and certificates are verified with.
    pub root: PathBuf,
    /// Where the client answers challenges: in the fleet, which all clients share, each has an address of its own.
    pub address: Ipv4Addr,
    /// The port for http-01.
    pub http_port: u16,
    /// The port for tls-alpn-01.
    pub tls_port: u16,
    /// The client's folder.
    pub home: PathBuf,
    server: Server,
}

enum Server {
    Embedded(Process),
    Fleet(&'static Fleet),
}

struct Fleet {
    balanced: Balanced,
    bind: Option<Bind>,
}

/// Beside the profiles that every fleet of the tests has (`trusted` among them), one that requires a binding, and one
/// of certificates for a week, each order of which is validated anew.
const PROFILES: &str = "[profiles.bound]\nexternal_account_required = true\n\
                        [profiles.short]\nvalidity = \"7d\"\nreuse_authorizations = false\n";

impl Site {
    /// `chancery serve --local` on ports of its own, with its data in `chancery-data` of the client's folder.
    pub fn embedded() -> Self {
        let home = folder("site");
        let [port, http_port, tls_port] = [free_port(), free_port(), free_port()];
        let mut environment = surroundings(&home);
        environment.extend(
            [
                ("CHANCERY_LISTEN", format!("127.0.0.1:{port}")),
                ("CHANCERY_OPS_LISTEN", format!("127.0.0.1:{}", free_port())),
                ("CHANCERY_CA_LISTEN", format!("127.0.0.1:{}", free_port())),
                ("CHANCERY_EXTERNAL_URL", format!("https://localhost:{port}")),
                ("CHANCERY_VALIDATION_HTTP01_PORT", http_port.to_string()),
                ("CHANCERY_VALIDATION_TLSALPN01_PORT", tls_port.to_string()),
                ("CHANCERY_DATA_DIR", home.join("chancery-data").display().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let program = env!("CARGO_BIN_EXE_chancery");
        let process = Process::start(program, ["serve", "--local"], &environment, &home.join("log"));
        wait_until("chancery has said what to do next", || {
            assert!(process.is_running(), "{}", with_log("chancery ended", &process.log()));
            process.log().contains("or with certbot")
        });
        Self {
            directory: format!("https://localhost:{port}/directory"),
            root: home.join("chancery-data/root.pem"),
            address: Ipv4Addr::LOCALHOST,
            http_port,
            tls_port,
            home,
            server: Server::Embedded(process),
        }
    }

    /// HAProxy, round robin, in front of three replicas on Postgres and Redis.
    pub fn fleet() -> Self {
        static FLEET: OnceLock<Fleet> = OnceLock::new();
        Self::of(FLEET.get_or_init(|| Fleet::start(None)))
    }

    /// As `fleet`, with replicas that ask BIND for every name: for clients that update its zone (RFC 2136).
    pub fn fleet_on_bind() -> Self {
        static FLEET: OnceLock<Fleet> = OnceLock::new();
        Self::of(FLEET.get_or_init(|| Fleet::start(Some(Bind::start()))))
    }

    fn of(fleet: &'static Fleet) -> Self {
        Self {
            directory: format!("{}/directory", fleet.balanced.base_url),
            root: fleet.balanced.root.clone(),
            address: unique_address(),
            http_port: fleet.balanced.http_port,
            tls_port: fleet.balanced.tls_port,
            home: folder("site"),
            server: Server::Fleet(fleet),
        }
    }

    fn fleet_of(&self) -> &'static Fleet {
        match &self.server {
            Server::Embedded(_) => panic!("this is for a fleet"),
            Server::Fleet(fleet) => fleet,
        }
    }

    /// The name server of `fleet_on_bind`.
    pub fn bind(&self) -> &'static Bind {
        self.fleet_of().bind.as_ref().expect("a site of fleet_on_bind")
    }

    /// The directory of a profile; `bound` requires an external account, `trusted` trusts every account, `short` is for
    /// certificates that are renewed soon.
    pub fn directory_of(&self, profile: &str) -> String {
        self.directory.replace("/directory", &format!("/profiles/{profile}/directory"))
    }

    /// A new external account: its key identifier and its MAC key in base64url, as an operator gets them.
    pub fn external_account(&self) -> (String, String) {
        let printed = eab::create(self.deployment(), &[]);
        (printed.kid, printed.secret)
    }

    /// How many orders for `name` said which certificate they replace (RFC 9773 §5).
    pub fn replacing_orders(&self, name: &str) -> usize {
        self.count("count(replaces)", name)
    }

    /// Lets renewal information say that a certificate is to be renewed at once.
    pub fn renew_early(&self, serial: &str) {
        self.deployment().command(&["renew", serial]);
    }

    /// From how many accounts there are orders for `name`.
    pub fn accounts_with_orders(&self, name: &str) -> usize {
        self.count("count(DISTINCT account_id)", name)
    }

    fn count(&self, what: &str, name: &str) -> usize {
        let sql = format!("SELECT {what} FROM orders WHERE identifiers LIKE '%\"{name}\"%'");
        self.deployment().sql(&sql).trim().parse().expect("a count")
    }

    fn deployment(&self) -> &'static Deployment {
        &self.fleet_of().balanced.deployment
    }

    /// How the server is deployed.
    pub fn kind(&self) -> Kind {
        match self.server {
            Server::Embedded(_) => Kind::Embedded,
            Server::Fleet(_) => Kind::Fleet,
        }
    }

    /// A name that nothing else has, and under which the server finds the client.
    pub fn name(&self) -> String {
        self.name_of(self.address)
    }

    /// A name of 127.0.0.1, for the one client that listens there whatever it is told.
    pub fn name_of_localhost(&self) -> String {
        self.name_of(Ipv4Addr::LOCALHOST)
    }

    fn name_of(&self, address: Ipv4Addr) -> String {
        match self.kind() {
            Kind::Embedded => format!("n{}.localhost", unique()),
            Kind::Fleet => {
                if self.fleet_of().bind.is_some() {
                    return format!("n{}.{}", unique(), bind::ZONE);
                }
                let name = format!("n{}.chancery.test", unique());
                responder::dns().add_address(&name, address.into());
                name
            }
        }
    }

    /// What the embedded server has written.
    pub fn log(&self) -> String {
        match &self.server {
            Server::Embedded(process) => process.log(),
            Server::Fleet(_) => panic!("a fleet has several logs"),
        }
    }

    /// Asserts that while `client` goes its way, each replica accepts some of its nonces, and that no replica has
    /// refused a nonce or failed.
    pub fn every_replica_works(&self, client: impl FnOnce()) {
        let fleet = self.fleet_of();
        let accepted =
            || fleet.metric("chancery_nonces_redeemed_total", |labels| labels.contains("accepted"));
        let before = accepted();
        client();
        let after = accepted();
        assert_eq!(after.len(), 3);
        assert!(
            before.iter().zip(&after).all(|(before, after)| after > before),
            "{before:?}, then {after:?}"
        );
        let refused = fleet.metric("chancery_nonces_redeemed_total", |labels| !labels.contains("accepted"));
        assert_eq!(refused, [0; 3], "a nonce of any replica is accepted by any other");
        let failed = fleet.metric("chancery_requests_total", |labels| labels.contains("status=\"5"));
        assert_eq!(failed, [0; 3], "no request fails for our reasons");
    }
}

impl Fleet {
    fn start(bind: Option<Bind>) -> Self {
        let mut settings =
            Settings::new().toml(PROFILES).set("CHANCERY_EAB_ENCRYPTION_KEY", eab::ENCRYPTION_KEY);
        if let Some(bind) = &bind {
            settings = settings.set("CHANCERY_VALIDATION_DNS_SERVERS", bind.address().to_string());
        }
        Self { balanced: Balanced::start(&settings), bind }
    }

    /// The sums of a counter over those of its `labels`, replica by replica.
    fn metric(&self, name: &str, labels: impl Fn(&str) -> bool) -> Vec<u64> {
        let of = |at| {
            let (_, text) = self.balanced.deployment.replica(at).ops_get("/metrics").expect("metrics");
            let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
            let values = lines.filter(|(found, _)| labels(found)).map(|(_, value)| value);
            values.map(|value| value.parse::<u64>().expect("a count")).sum()
        };
        (0..self.balanced.deployment.size()).map(of).collect()
    }
}
