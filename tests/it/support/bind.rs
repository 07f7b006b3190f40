//! Debian's BIND as the one who serves a zone that clients write their dns-01 answers into by dynamic updates
//! (RFC 2136), signed with a TSIG key.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::process::Process;
use crate::support::run::{folder, free_port, wait_until, with_log};

/// A name server.
pub struct Bind {
    port: u16,
    secret: String,
    process: Process,
}

/// The zone that it serves; every name below it is 127.0.0.1.
pub const ZONE: &str = "chancery-zone.test";

const PARENT: &str = "test";

/// The name of the TSIG key that may write TXT records below the zone.
pub const TSIG_KEY: &str = "chancery-test-key";

impl Bind {
    /// Starts a name server on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let (home, port) = (folder("bind"), free_port());
        let key = Command::new("tsig-keygen").args(["-a", "hmac-sha256", TSIG_KEY]).output();
        let key = String::from_utf8(key.expect("tsig-keygen, of Debian's bind9").stdout).expect("text");
        let secret = key.split('"').nth(3).expect("key \"NAME\" { … secret \"SECRET\"; };").to_owned();
        let place = home.display();
        let configuration = format!(
            "{key}
options {{
  directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; empty-zones-enable no; notify no;
  pid-file \"{place}/named.pid\"; session-keyfile \"{place}/session.key\"; managed-keys-directory \"{place}\";
}};
controls {{ }};
zone \"{ZONE}\" {{
  type primary; file \"{place}/zone\"; update-policy {{ grant {TSIG_KEY} zonesub TXT; }};
}};
zone \"{PARENT}\" {{ type primary; file \"{place}/parent\"; }};
"
        );
        let zone = format!(
            "$TTL 1\n@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 1\n@ NS ns.{ZONE}.\n\
             ns A 127.0.0.1\n@ A 127.0.0.1\n* A 127.0.0.1\n"
        );
        // CAA records are looked for in the parents, too.
        let parent = format!(
            "$TTL 1\n@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 1\n@ NS ns.{ZONE}.\n\
             {ZONE}. NS ns.{ZONE}.\nns.{ZONE}. A 127.0.0.1\n"
        );
        let file = home.join("named.conf");
        std::fs::write(home.join("parent"), parent).expect("written");
        std::fs::write(home.join("zone"), zone).expect("written");
        std::fs::write(&file, configuration).expect("written");
        let log = home.join("log");
        let process = Process::start("named", ["-g", "-c", &file.display().to_string()], &[], &log);
        wait_until("named has loaded its zone", || {
            assert!(process.is_running(), "{}", with_log("named ended", &process.log()));
            !process.log().contains("not loaded due to errors")
                && process.log().contains("all zones loaded")
                && process.log().contains("running")
        });
        Self { port, secret, process }
    }

    /// Where it answers, by UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The secret of the TSIG key (HMAC-SHA256) in base64, as BIND prints it.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What it has logged, updates among it.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
