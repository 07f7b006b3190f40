//! Debian's HAProxy in front of a fleet: TLS ends here, requests go round robin, nothing is sticky.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::process::Process;
use crate::support::run::{folder, free_port, wait_until, with_log};

/// A load balancer.
pub struct Haproxy {
    port: u16,
    process: Process,
}

/// One replica as the balancer sees it.
pub struct Backend {
    /// Where it serves ACME over plain HTTP.
    pub listen: SocketAddr,
    /// Where it answers `/readyz`.
    pub ops: SocketAddr,
}

impl Haproxy {
    /// Starts a balancer on `port` of 127.0.0.1, with the certificate chain and key in the PEM file `certificate`.
    pub fn start_on(port: u16, certificate: &Path, backends: &[Backend]) -> Self {
        Self::run(port, &configuration(port, certificate, backends))
    }

    /// As `start`, but a connection that a replica refuses is the client's to try again: so are most balancers.
    pub fn start_without_retries(certificate: &Path, backends: &[Backend]) -> Self {
        let port = free_port();
        let text = configuration(port, certificate, backends);
        Self::run(port, &text.replace("option redispatch\n  retries 2", "no option redispatch\n  retries 0"))
    }

    fn run(port: u16, configuration: &str) -> Self {
        let home = folder("haproxy");
        let file = home.join("haproxy.cfg");
        std::fs::write(&file, configuration).expect("the configuration is written");
        let log = home.join("log");
        let process = Process::start("haproxy", ["-db", "-f", &file.display().to_string()], &[], &log);
        wait_until("HAProxy takes connections", || {
            assert!(process.is_running(), "{}", with_log("HAProxy ended", &process.log()));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { port, process }
    }

    /// As `start_on`, on a free port.
    pub fn start(certificate: &Path, backends: &[Backend]) -> Self {
        Self::start_on(free_port(), certificate, backends)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// As deploy/haproxy.cfg: while no replica is ready, all that live are asked, since they can say what is the matter.
fn configuration(port: u16, certificate: &Path, backends: &[Backend]) -> String {
    let mut text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         timeout check 2s\n  option redispatch\n  retries 2\n\
         frontend acme\n  bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1\n  \
         use_backend living if {{ nbsrv(ready) eq 0 }}\n  default_backend ready\n",
        certificate.display()
    );
    for (name, path) in [("ready", "/readyz"), ("living", "/livez")] {
        text += &format!(
            "backend {name}\n  balance roundrobin\n  option httpchk GET {path}\n  \
             http-check expect status 200\n  default-server check inter 200ms fastinter 100ms fall 2 rise 1\n"
        );
        for (index, backend) in backends.iter().enumerate() {
            let (ip, ops) = (backend.ops.ip(), backend.ops.port());
            text += &format!("  server replica{index} {} addr {ip} port {ops}\n", backend.listen);
        }
    }
    text
}
