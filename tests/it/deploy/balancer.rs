//! Behind the balancers of deploy/ a replica still knows who asks; and what certificates name is found through them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bytes::Bytes;
use chancery::config::Tls;
use http_body_util::Full;
use ipnet::IpNet;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use yaml_rust2::Yaml;

use super::{content, load, with_extension, yaml};
use crate::certificates::crl_url;
use crate::docs::{read, root};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::process::Process;
use crate::support::run::{folder, free_port, runtime, wait_until, with_log};
use crate::support::transport::{Connections, Endpoint, Version};

/// From where the balancer connects to replicas; clients are at 127.0.0.1.
const BALANCER: &str = "127.0.0.44";
/// What the replicas trust. Clients are in there too, as happens, and still are not to be believed.
const TRUSTED: &str = "127.0.0.0/24";

#[test]
fn the_balancer_of_the_containers_is_understood() {
    content("deploy/container", "haproxy", &["-c", "-f", "haproxy.cfg"]);
}

#[test]
fn a_replica_without_tls_knows_its_balancer() {
    let mut without_tls = 0;
    for path in with_extension("toml") {
        let file = path.strip_prefix(root()).expect("below the root").display().to_string();
        let config = load(&file);
        if matches!(config.tls, Tls::Off) {
            without_tls += 1;
            assert!(!config.http.trusted_proxies.is_empty(), "{file}: all clients are the balancer");
        }
    }
    assert_eq!(without_tls, 2, "the example of a fleet, and the overlay behind an Ingress");
    for script in read("README.md").split("```").skip(1).step_by(2) {
        let behind = script.contains("CHANCERY_TLS_MODE=off");
        assert!(!behind || script.contains("CHANCERY_HTTP_TRUSTED_PROXIES="), "{script}");
    }
}

#[test]
fn in_the_containers_the_balancer_alone_is_believed() {
    let compose = &yaml("deploy/container/compose.yaml")[0];
    let text = |found: &Yaml| found.as_str().unwrap_or_else(|| panic!("no text: {found:?}")).to_owned();
    let balancer = text(&compose["services"]["balancer"]["networks"]["default"]["ipv4_address"]);
    let trusted = text(&compose["x-chancery"]["environment"]["CHANCERY_HTTP_TRUSTED_PROXIES"]);
    assert_eq!(trusted, balancer);
    // Nobody else is given that address.
    let network = &compose["networks"]["default"]["ipam"]["config"][0];
    let net = |name: &str| text(&network[name]).parse::<IpNet>().expect("a network");
    let balancer: IpAddr = balancer.parse().expect("an address");
    assert!(net("subnet").contains(&balancer) && net("subnet").contains(&net("ip_range")));
    assert!(!net("ip_range").contains(&balancer) && text(&network["gateway"]) != trusted);
}

#[test]
fn the_ingress_lets_crls_be_fetched_over_plain_http() {
    let config = load("deploy/kubernetes/overlays/example/chancery.toml");
    assert!(config.ca.public_url.starts_with("http://"), "{}", config.ca.public_url);
    let ingress = &yaml("deploy/kubernetes/overlays/example/ingress.yaml")[0];
    let redirects = &ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"];
    assert_eq!(redirects.as_str(), Some("false"));
}

/// deploy/haproxy.cfg on ports of 127.0.0.1, in front of these replicas.
struct Balancer {
    process: Process,
    tls: Endpoint,
    plain: Endpoint,
}

impl Balancer {
    fn start(fleet: &Deployment) -> Self {
        let home = folder("balancer");
        let (certificate, both) = certificate(&home);
        let [tls, plain] = [free_port(), free_port()];
        let mut text = read("deploy/haproxy.cfg");
        let mut put = |from: &str, to: String| {
            assert!(text.contains(from), "{from} is in deploy/haproxy.cfg");
            text = text.replace(from, &to);
        };
        put("bind :443 ssl crt /etc/haproxy/acme.pem", format!("bind 127.0.0.1:{tls} ssl crt {both}"));
        put("bind :80\n", format!("bind 127.0.0.1:{plain}\n"));
        for at in 0..fleet.size() {
            let (replica, number) = (fleet.replica(at), 11 + at);
            put(
                &format!("10.0.0.{number}:14000 check port 14001"),
                format!(
                    "{} source {BALANCER} check addr {} port {}",
                    replica.listen,
                    replica.ops.ip(),
                    replica.ops.port()
                ),
            );
        }
        let file = home.join("haproxy.cfg");
        std::fs::write(&file, text).expect("written");
        let process =
            Process::start("haproxy", ["-db", "-f", &file.display().to_string()], &[], &home.join("log"));
        wait_until("HAProxy takes connections", || {
            assert!(process.is_running(), "{}", with_log("HAProxy ended", &process.log()));
            std::net::TcpStream::connect(("127.0.0.1", tls)).is_ok()
        });
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            process,
            tls: Endpoint::tls(at(tls), "localhost", &certificate),
            plain: Endpoint::plain(at(plain)),
        }
    }
}

/// A certificate for `localhost`, and the file with it and its key.
fn certificate(home: &Path) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|p| p.self_signed(&key));
    let certificate = made.expect("a certificate").pem();
    let file = home.join("acme.pem");
    std::fs::write(&file, format!("{certificate}{}", key.serialize_pem())).expect("written");
    (certificate, file.display().to_string())
}

#[test]
fn through_the_balancer_clients_keep_their_addresses_and_crls_are_found() {
    let settings = Settings::new()
        .set("CHANCERY_HTTP_TRUSTED_PROXIES", TRUSTED)
        .set("CHANCERY_CA_PUBLIC_URL", "http://acme.chancery.test");
    let fleet = Deployment::with(Kind::Fleet, &settings);
    let Balancer { process, tls, plain } = Balancer::start(&fleet);
    let balanced = Deployment::outside(fleet.base_url.clone(), fleet.directory.clone(), tls, process);
    runtime().block_on(async {
        // More of them than replicas, and what they claim is nothing.
        for at in 0..8 {
            let client = if at % 2 == 0 { balanced.client() } else { balanced.client().over_http2() };
            let url = client.resource("newAccount").await;
            let asked = client.post(&url).by_jwk().header("x-forwarded-for", "203.0.113.7");
            let made = asked.json(json!({"termsOfServiceAgreed": true})).send().await.expect(201);
            let account = made.header("location").and_then(|url| url.rsplit('/').next()).expect("an account");
            let trail = fleet.command(&["audit", "--account", account, "--json"]);
            let event: Value = serde_json::from_str(trail.lines().next().expect("an event")).expect("JSON");
            assert_eq!(event["client_address"], "127.0.0.1", "{event}");
        }
        let issued = fleet.account().await.issue_any().await;
        let crl = crl_url(&issued.chain);
        assert!(crl.starts_with("http://"), "{crl}");
        assert_eq!(get(&plain, &crl).await.status(), 200, "{crl}");
        let directory = get(&plain, "http://acme.chancery.test/directory").await;
        assert_eq!((directory.status().as_u16(), location(&directory)), (308, fleet.directory.as_str()));
    });
}

async fn get(endpoint: &Endpoint, url: &str) -> http::Response<Bytes> {
    let request = http::Request::get(url).body(Full::<Bytes>::default()).expect("a request");
    Connections::default().exchange(endpoint, Version::Http1, request).await.expect("an answer")
}

fn location(answer: &http::Response<Bytes>) -> &str {
    answer.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default()
}
