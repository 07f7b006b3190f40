//! Three replicas on Postgres and Redis behind HAProxy, round robin, as a client meets them: TLS, one root for all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery::acme::identifier::Identifier;
use chancery::acme::time::FleetClock;
use chancery::pki::authority::ServerDraft;
use chancery::pki::chain;
use chancery::pki::issuer::{Issuer, LocalIssuer};

use crate::clients::program::require;
use crate::support::chancery::{Deployment, Kind, Settings, run};
use crate::support::haproxy::{Backend, Haproxy};
use crate::support::run::{folder, free_port, runtime};

/// A running fleet.
pub struct Balanced {
    /// Its replicas.
    pub deployment: Arc<Deployment>,
    /// The URL that clients know, without a slash at the end.
    pub base_url: String,
    /// The file of the root that TLS and certificates are verified with.
    pub root: PathBuf,
    /// Where the replicas look for http-01.
    pub http_port: u16,
    /// Where they look for tls-alpn-01.
    pub tls_port: u16,
    _balancer: Haproxy,
}

impl Balanced {
    /// Starts one with an authority and ports of its own; the rest is in `settings`.
    pub fn start(settings: &Settings) -> Self {
        require("haproxy");
        let authority = folder("authority");
        run(&["ca", "init", "--data-dir", &authority.display().to_string()], &[]);
        let [port, http_port, tls_port] = [free_port(), free_port(), free_port()];
        let base_url = format!("https://localhost:{port}");
        let settings = settings
            .clone()
            .set("CHANCERY_EXTERNAL_URL", &base_url)
            .set("CHANCERY_CA_CERT", authority.join("issuing.pem").display().to_string())
            .set("CHANCERY_CA_KEY", authority.join("issuing.key").display().to_string())
            .set("CHANCERY_VALIDATION_HTTP01_PORT", http_port.to_string())
            .set("CHANCERY_VALIDATION_TLSALPN01_PORT", tls_port.to_string());
        let deployment = Deployment::with(Kind::Fleet, &settings);
        let backend = |at| {
            let replica = deployment.replica(at);
            Backend { listen: replica.listen, ops: replica.ops }
        };
        let backends: Vec<_> = (0..deployment.size()).map(backend).collect();
        let balancer = Haproxy::start_on(port, &balancer_certificate(&authority), &backends);
        let root = authority.join("root.pem");
        Self { deployment, base_url, root, http_port, tls_port, _balancer: balancer }
    }
}

/// A PEM file with a certificate for `localhost` by the fleet's own authority, and its key: clients trust one root.
fn balancer_certificate(authority: &Path) -> PathBuf {
    let read = |name| std::fs::read_to_string(authority.join(name)).expect("ca init wrote it");
    let issuer = LocalIssuer::from_pem(&read("issuing.pem"), &read("issuing.key"), &[], false);
    let names = [Identifier::Dns("localhost".to_owned())];
    let issuer = issuer.expect("an issuer");
    let draft = ServerDraft::new(&names, FleetClock::machine_now(), issuer.not_after()).expect("a draft");
    let leaf = runtime().block_on(issuer.issue(&draft.template)).expect("a certificate");
    let further = &issuer.chains()[0];
    let file = authority.join("balancer.pem");
    std::fs::write(&file, chain::to_pem(&leaf, further) + &chain::pem(&draft.key, "PRIVATE KEY"))
        .expect("written");
    file
}
