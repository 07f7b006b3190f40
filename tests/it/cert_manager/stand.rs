//! The server that cert-manager is set up for as docs/cert-manager.md says: three replicas behind HAProxy, which ask
//! BIND.

use std::path::PathBuf;
use std::sync::Arc;

use base64ct::{Base64, Encoding};

use crate::cert_manager::page::Page;
use crate::clients::program::require;
use crate::clients::site::balancer_certificate;
use crate::support::bind::{self, Bind};
use crate::support::chancery::{Deployment, Kind, Settings, run};
use crate::support::haproxy::{Backend, Haproxy};
use crate::support::postgres::Postgres;
use crate::support::run::{folder, free_port};

/// The limits by default, where the page says nothing else: those of the tests' configuration are off.
const LIMITS: [(&str, &str); 5] = [
    ("CHANCERY_LIMITS_KEY_CHANGES_PER_HOUR", "5"),
    ("CHANCERY_LIMITS_CHALLENGE_RESPONSES_PER_HOUR", "60"),
    ("CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR", "100"),
    ("CHANCERY_LIMITS_FAILED_VALIDATIONS_PER_HOUR", "30"),
    ("CHANCERY_LIMITS_DUPLICATE_CERTIFICATES_PER_DAY", "30"),
];

/// The server.
pub struct Stand {
    /// Its replicas.
    pub deployment: Arc<Deployment>,
    /// Whom they ask.
    pub bind: Bind,
    /// Where they look for http-01.
    pub http_port: u16,
    /// The file of the root that everything is verified with.
    pub root: PathBuf,
    /// What the page writes, and what it is here.
    names: Vec<(&'static str, String)>,
    _balancer: Haproxy,
}

impl Stand {
    /// Starts it.
    pub fn start(page: &Page) -> Self {
        require("haproxy");
        require("named");
        let bind = Bind::start();
        let authority = folder("cert-manager-authority");
        run(&["ca", "init", "--data-dir", &authority.display().to_string()], &[]);
        let [port, http_port] = [free_port(), free_port()];
        let base_url = format!("https://localhost:{port}");
        let mut settings = Settings::new()
            .toml(&page.profiles().replace("example.com", bind::ZONE))
            .set("CHANCERY_EXTERNAL_URL", &base_url)
            .set("CHANCERY_EAB_ENCRYPTION_KEY", Base64::encode_string(&[7; 32]))
            .set("CHANCERY_CA_CERT", authority.join("issuing.pem").display().to_string())
            .set("CHANCERY_CA_KEY", authority.join("issuing.key").display().to_string())
            .set("CHANCERY_VALIDATION_HTTP01_PORT", http_port.to_string())
            .set("CHANCERY_VALIDATION_DNS_SERVERS", bind.address().to_string())
            // One answer is kept back while Redis is taken away.
            .set("CHANCERY_VALIDATION_TIMEOUT", "2m");
        for (name, value) in LIMITS {
            settings = settings.set(name, value);
        }
        for (name, value) in page.limits() {
            settings = settings.set(&name, value);
        }
        let deployment = Deployment::with(Kind::Fleet, &settings);
        let backends: Vec<_> = (0..deployment.size())
            .map(|at| Backend { listen: deployment.replica(at).listen, ops: deployment.replica(at).ops })
            .collect();
        let balancer = Haproxy::start_on(port, &balancer_certificate(&authority), &backends);
        let root = authority.join("root.pem");
        let names = names(&deployment, &base_url, &bind, &std::fs::read(&root).expect("a root"));
        Self { deployment, bind, http_port, root, names, _balancer: balancer }
    }

    /// A text of the page with the names of this server.
    pub fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    /// How many requests to an endpoint (of which this is a part of the name) were answered 503.
    pub fn unavailable(&self, endpoint: &str) -> u64 {
        let of = |at| {
            let (_, text) = self.deployment.replica(at).ops_get("/metrics").unwrap_or_default();
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix("chancery_requests_total")?.rsplit_once(' '));
            let lines =
                lines.filter(|(labels, _)| labels.contains("status=\"503\"") && labels.contains(endpoint));
            lines.filter_map(|(_, count)| count.parse::<u64>().ok()).sum::<u64>()
        };
        (0..self.deployment.size()).map(of).sum()
    }

    /// What SQL finds in the replicas' database.
    pub fn query(&self, sql: &str) -> String {
        Postgres::shared().psql(self.deployment.database().expect("a fleet"), sql)
    }
}

/// What the page writes, and what it is here; in this order, since some are parts of others.
fn names(deployment: &Deployment, base_url: &str, bind: &Bind, root: &[u8]) -> Vec<(&'static str, String)> {
    let printed = deployment.command(&["eab", "create", "--profile", "members"]);
    let after = |label: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {printed}")).trim().to_owned()
    };
    let names = vec![
        ("https://acme.example.com", base_url.to_owned()),
        ("example.com", bind::ZONE.to_owned()),
        ("Y2hhbmNlcnkncyByb290LnBlbSBpbiBiYXNlNjQ=", Base64::encode_string(root)),
        ("192.0.2.53:53", bind.address().to_string()),
        ("cluster-key", bind::TSIG_KEY.to_owned()),
        ("dGhlIHRzaWcgc2VjcmV0LCBhcyBCSU5EIHByaW50cyBpdA==", bind.secret().to_owned()),
        ("keyID: KID", format!("keyID: {}", after("kid:"))),
        ("dGhlIGtleSwgYXMgY2hhbmNlcnkgZWFiIGNyZWF0ZSBwcmludHMgaXQ", after("hmac key:")),
    ];
    let yaml = Page::read().yaml();
    let unknown = names.iter().find(|(there, _)| !yaml.contains(there));
    assert!(unknown.is_none(), "the page does not write {unknown:?}");
    names
}
