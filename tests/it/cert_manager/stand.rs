//! The server that cert-manager is set up for as docs/cert-manager.md says: three replicas behind HAProxy, which ask
//! BIND.

use base64ct::{Base64, Encoding};

use crate::cert_manager::page::Page;
use crate::clients::balanced::Balanced;
use crate::clients::program::require;
use crate::eab;
use crate::support::bind::{self, Bind};
use crate::support::chancery::Settings;
use crate::support::postgres::Postgres;

/// The server.
pub struct Stand {
    /// Its replicas, and where they are.
    pub server: Balanced,
    /// Whom they ask.
    pub bind: Bind,
    /// What the page writes, and what it is here.
    names: Vec<(&'static str, String)>,
}

impl Stand {
    /// Starts it.
    pub fn start(page: &Page) -> Self {
        require("named");
        let bind = Bind::start();
        let settings = Settings::new()
            .default_limits()
            .toml(&page.profiles().replace("example.com", bind::ZONE))
            .set("CHANCERY_EAB_ENCRYPTION_KEY", eab::ENCRYPTION_KEY)
            .set("CHANCERY_VALIDATION_DNS_SERVERS", bind.address().to_string())
            // One answer is kept back while Redis is taken away.
            .set("CHANCERY_VALIDATION_TIMEOUT", "2m");
        let server = Balanced::start(&settings);
        let names = names(&server, &bind);
        Self { server, bind, names }
    }

    /// A text of the page with the names of this server.
    pub fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    /// How many requests to an endpoint (of which this is a part of the name) were answered 503.
    pub fn unavailable(&self, endpoint: &str) -> u64 {
        let of = |at| {
            let (_, text) = self.server.deployment.replica(at).ops_get("/metrics").unwrap_or_default();
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix("chancery_requests_total")?.rsplit_once(' '));
            let lines =
                lines.filter(|(labels, _)| labels.contains("status=\"503\"") && labels.contains(endpoint));
            lines.filter_map(|(_, count)| count.parse::<u64>().ok()).sum::<u64>()
        };
        (0..self.server.deployment.size()).map(of).sum()
    }

    /// What SQL finds in the replicas' database.
    pub fn query(&self, sql: &str) -> String {
        Postgres::shared().psql(self.server.deployment.database().expect("a fleet"), sql)
    }
}

/// What the page writes, and what it is here; in this order, since some are parts of others.
fn names(server: &Balanced, bind: &Bind) -> Vec<(&'static str, String)> {
    let member = eab::create(&server.deployment, &["--profile", "members"]);
    let cluster = eab::create(&server.deployment, &["--profile", "cluster"]);
    let root = std::fs::read(&server.root).expect("a root");
    let names = vec![
        ("https://acme.example.com", server.base_url.clone()),
        ("example.com", bind::ZONE.to_owned()),
        ("Y2hhbmNlcnkncyByb290LnBlbSBpbiBiYXNlNjQ=", Base64::encode_string(&root)),
        ("192.0.2.53:53", bind.address().to_string()),
        ("cluster-key", bind::TSIG_KEY.to_owned()),
        ("dGhlIHRzaWcgc2VjcmV0LCBhcyBCSU5EIHByaW50cyBpdA==", bind.secret().to_owned()),
        ("keyID: CLUSTER-KID", format!("keyID: {}", cluster.kid)),
        ("dGhlIGtleSBvZiB0aGUgY2x1c3RlciwgYXMgaXQgd2FzIHByaW50ZWQ", cluster.secret),
        ("keyID: KID", format!("keyID: {}", member.kid)),
        ("dGhlIGtleSwgYXMgY2hhbmNlcnkgZWFiIGNyZWF0ZSBwcmludHMgaXQ", member.secret),
    ];
    let yaml = Page::read().yaml();
    let unknown = names.iter().find(|(there, _)| !yaml.contains(there));
    assert!(unknown.is_none(), "the page does not write {unknown:?}");
    names
}
