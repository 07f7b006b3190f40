//! Debian's Pebble, a test server by others: it shows that the kit speaks ACME, and not only our own dialect.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use crate::support::chancery::Deployment;
use crate::support::process::Process;
use crate::support::responder;
use crate::support::run::{folder, free_port, wait_until, with_log};
use crate::support::transport::Endpoint;

/// Starts Pebble, strict, validating against the in-test servers.
pub fn start() -> Arc<Deployment> {
    let home = folder("pebble");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|p| p.self_signed(&key));
    let certificate = certificate.expect("a certificate").pem();
    let (chain_file, key_file, config_file) =
        (home.join("cert.pem"), home.join("key.pem"), home.join("config.json"));
    std::fs::write(&chain_file, &certificate).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let (port, management) = (free_port(), free_port());
    let config = json!({"pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": chain_file,
        "privateKey": key_file,
        "httpPort": responder::http().port(),
        "tlsPort": responder::tls().port(),
    }});
    std::fs::write(&config_file, config.to_string()).expect("written");
    let environment = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (file, dns) = (config_file.display().to_string(), responder::dns().address().to_string());
    let arguments = ["-config", &file, "-strict", "-dnsserver", &dns];
    let process = Process::start("pebble", arguments, &environment, &home.join("log"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("Pebble takes connections", || {
        assert!(process.is_running(), "{}", with_log("Pebble ended", &process.log()));
        std::net::TcpStream::connect(address).is_ok()
    });
    let base_url = format!("https://localhost:{port}");
    let directory = format!("{base_url}/dir");
    Deployment::outside(base_url, directory, Endpoint::tls(address, "localhost", &certificate), process)
}
