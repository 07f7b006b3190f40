//! The shim as a suite starts it, and Debian's lego, curl and OpenSSL to ask it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take on a machine with much other work.
const SOON: Duration = Duration::from_secs(120);

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pebble-shim-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A process that ends with the test, by its id.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An address of 127.0.0.0/8 that no other test has, and ports there: nobody takes them meanwhile.
pub struct Place {
    pub address: Ipv4Addr,
    ports: Vec<u16>,
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()[3];
        let address = Ipv4Addr::new(127, 32 + (high & 31), low, number);
        let listeners: Vec<_> = (0..5).map(|_| TcpListener::bind((address, 0)).unwrap()).collect();
        Self { address, ports: listeners.iter().map(|one| one.local_addr().unwrap().port()).collect() }
    }

    /// `ADDRESS:PORT` of one of five ports.
    pub fn at(&self, index: usize) -> String {
        format!("{}:{}", self.address, self.ports[index])
    }

    pub fn port(&self, index: usize) -> u16 {
        self.ports[index]
    }
}

/// Ports of a place.
pub const ACME: usize = 0;
pub const MANAGEMENT: usize = 1;
pub const HTTP: usize = 2;
pub const DNS: usize = 3;
pub const RESPONDER: usize = 4;

/// A running shim.
pub struct Shim {
    pub process: Process,
    pub place: Place,
    pub home: Folder,
}

/// The configuration that a test begins with.
pub fn configuration(place: &Place, home: &Folder) -> Value {
    let names = vec!["localhost".to_owned(), place.address.to_string()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    json!({
        "listenAddress": place.at(ACME),
        "managementListenAddress": place.at(MANAGEMENT),
        "certificate": home.write("tls.pem", &made.cert.pem()),
        "privateKey": home.write("tls.key", &made.signing_key.serialize_pem()),
        "httpPort": place.port(HTTP),
        "tlsPort": 1,
        "keyAlgorithm": "ecdsa",
        "domainBlocklist": ["blocked.example"],
    })
}

/// The command that starts the shim with a configuration.
pub fn command(home: &Folder, configuration: &Value, variables: &[(&str, &str)]) -> Command {
    let file = home.write("pebble.json", &json!({"pebble": configuration}).to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pebble"));
    // As some suites do, without a PATH.
    command.env_clear().envs(variables.iter().copied()).args(["-strict", "-config", &file]);
    command
}

impl Shim {
    /// Starts it with what `change` makes of the usual configuration.
    pub fn start(change: impl FnOnce(&mut Value), variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let (place, home) = (Place::new(), Folder::new());
        let mut configuration = configuration(&place, &home);
        change(&mut configuration);
        Self::start_at(place, home, &configuration, variables, arguments)
    }

    pub fn start_at(
        place: Place,
        home: Folder,
        configuration: &Value,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let log = std::fs::File::create(home.0.join("log")).unwrap();
        let mut command = command(&home, configuration, variables);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process(command.spawn().unwrap());
        let address: SocketAddr = place.at(ACME).parse().unwrap();
        wait_until("the shim takes connections", || {
            let ended = process.0.try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(home.0.join("log")).unwrap());
            TcpStream::connect(address).is_ok()
        });
        Self { process, place, home }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.0.join("log")).unwrap()
    }

    /// What curl, trusting the shim's certificate, prints with these arguments.
    pub fn curl(&self, arguments: &[&str]) -> String {
        let trust = self.home.0.join("tls.pem");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]).arg(trust).args(arguments);
        finish(&mut curl)
    }

    /// The body of a page of the management interface.
    pub fn managed(&self, path: &str) -> String {
        self.curl(&["--fail", &format!("https://{}{path}", self.place.at(MANAGEMENT))])
    }

    /// The status of such a page.
    pub fn managed_status(&self, path: &str) -> String {
        let url = format!("https://{}{path}", self.place.at(MANAGEMENT));
        self.curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url])
    }

    /// lego with its account, before its command.
    pub fn lego(&self, arguments: &[&str]) -> Command {
        let mut lego = Command::new("timeout");
        lego.args([
            "--kill-after=5",
            "120",
            "lego",
            "--server",
            &format!("https://{}/dir", self.place.at(ACME)),
        ]);
        lego.args(["--accept-tos", "--email", "lego@example.org", "--path"]).arg(self.home.0.join("lego"));
        lego.args(arguments).env("LEGO_CA_CERTIFICATES", self.home.0.join("tls.pem"));
        lego.env("NO_PROXY", "*").env("no_proxy", "*");
        lego
    }

    /// The file of the certificate that lego got for `name`.
    pub fn certificate(&self, name: &str) -> String {
        self.home.0.join("lego/certificates").join(format!("{name}.crt")).display().to_string()
    }

    /// Asserts that OpenSSL finds a way from the certificate in `chain` to `root`.
    pub fn assert_verifies(&self, chain: &str, root: &str) {
        let root = self.home.write("root.pem", root);
        openssl(&["verify", "-CAfile", &root, "-untrusted", chain, chain]);
    }
}

/// Runs a program that must succeed; what it printed.
pub fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {command:?}\n{out}\n{err}", output.status);
    out.into_owned()
}

pub fn openssl(arguments: &[&str]) -> String {
    finish(Command::new("openssl").args(arguments))
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a shell script.
pub fn script(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\nset -eu\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
