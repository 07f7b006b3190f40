//! lego held to a certificate's whole way, for every challenge and every type of key: an account, a certificate that
//! lies there in PEM and is verified by OpenSSL, another in its place, a revocation. `make acme-rfc-conformance-test`
//! runs it where only loopback can be reached.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::clients::evidence::Certificate;
use crate::clients::hook::dns_hook;
use crate::clients::program::{client, debian_version, finish, openssl, require, text};
use crate::clients::site::Site;
use crate::support::foreign::folder_if_built;
use crate::support::responder;

/// One lego: its command lines differ from one generation to the next.
struct Lego {
    program: String,
    version: String,
    generation: Generation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    Four,
    Five,
}

const CHALLENGES: [&str; 3] = ["http-01", "tls-alpn-01", "dns-01"];

/// The types that Chancery's policy allows, and how OpenSSL describes a key of each. RSA of 8192 bits is not allowed.
const KEY_TYPES: [(&str, &str); 5] = [
    ("rsa2048", "Public-Key: (2048 bit)"),
    ("rsa3072", "Public-Key: (3072 bit)"),
    ("rsa4096", "Public-Key: (4096 bit)"),
    ("ec256", "ASN1 OID: prime256v1"),
    ("ec384", "ASN1 OID: secp384r1"),
];

#[test]
fn lego_in_short() {
    let site = Site::fleet();
    site.every_replica_works(|| {
        for lego in legos() {
            Way::new(&lego, "http-01", KEY_TYPES[3]).goes();
            Way::new(&lego, "dns-01", KEY_TYPES[0]).goes();
        }
    });
}

#[test]
#[ignore = "minutes: `make acme-rfc-conformance-test`"]
fn lego_by_every_challenge_with_every_type_of_key() {
    let site = Site::fleet();
    let legos = legos();
    println!("\n| lego | challenge | key | account | run | renew | revoke |\n|{}", " --- |".repeat(7));
    let every_way = |lego| Way::all(lego).map(|way| println!("{}", way.goes())).count();
    site.every_replica_works(|| {
        let ways: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = legos.iter().map(|lego| scope.spawn(|| every_way(lego))).collect();
            threads.into_iter().map(|thread| thread.join().expect("every way was gone to its end")).sum()
        });
        println!("\n{ways} ways, in seconds a step; each step verified.");
    });
}

/// Debian's lego, and the current one where it was built.
fn legos() -> Vec<Lego> {
    require("lego");
    // Debian's calls itself "dev".
    let four = ("lego".to_owned(), debian_version("lego"), Generation::Four);
    let five = folder_if_built("lego").map(|folder| {
        let program = text(&folder.join("lego"));
        let said = finish(Command::new(&program).arg("--version"));
        let version = said.split_whitespace().nth(2).expect("`lego version 5.6.0 linux/amd64`").to_owned();
        (program, version, Generation::Five)
    });
    let of = |(program, version, generation)| Lego { program, version, generation };
    [four].into_iter().chain(five).map(of).collect()
}

/// One challenge with one type of key, at a place and from an account of its own.
struct Way<'l> {
    lego: &'l Lego,
    challenge: &'static str,
    key_type: (&'static str, &'static str),
    site: Site,
    name: String,
    hook: PathBuf,
}

impl<'l> Way<'l> {
    fn new(lego: &'l Lego, challenge: &'static str, key_type: (&'static str, &'static str)) -> Self {
        let site = Site::fleet();
        let (name, hook) = (site.name(), dns_hook(&site));
        Self { lego, challenge, key_type, site, name, hook }
    }

    fn all(lego: &'l Lego) -> impl Iterator<Item = Self> {
        let has = |key_type: &str| lego.generation == Generation::Five || key_type != "rsa3072";
        let key_types = KEY_TYPES.into_iter().filter(move |(key_type, _)| has(key_type));
        key_types.flat_map(move |key_type| {
            CHALLENGES.into_iter().map(move |challenge| Self::new(lego, challenge, key_type))
        })
    }

    /// Goes it: the row of the table.
    fn goes(&self) -> String {
        let mut row = format!("| {} | {} | {} |", self.lego.version, self.challenge, self.key_type.0);
        match self.lego.generation {
            // It makes the account when the first certificate is asked for.
            Generation::Four => row += " with run |",
            Generation::Five => timed(&mut row, || {
                finish(self.five(&["accounts", "register"]).arg("--accept-tos"));
            }),
        }
        let first = timed(&mut row, || {
            finish(&mut match self.lego.generation {
                Generation::Four => self.four(&["run"]),
                Generation::Five => self.five_runs(&[]),
            });
            self.landed()
        });
        let account = self.account();
        let second = timed(&mut row, || {
            finish(&mut match self.lego.generation {
                Generation::Four => self.four(&["renew", "--days", "1000", "--no-random-sleep"]),
                Generation::Five => self.five_runs(&["--renew-force", "--no-random-sleep"]),
            });
            self.landed()
        });
        assert_ne!(second.serial, first.serial, "the file has a new certificate");
        timed(&mut row, || {
            finish(&mut match self.lego.generation {
                Generation::Four => self.four(&["revoke", "--keep", "--reason", "4"]),
                Generation::Five => self.five_revokes(&["--keep", "--reason", "4"]),
            });
            second.assert_revoked(Some("Superseded"));
        });
        first.assert_not_revoked();
        assert_eq!(self.account(), account, "the account of the first run did it all");
        row
    }

    /// The certificate in PEM and its key: verified up to the root, and of the type that was asked for.
    fn landed(&self) -> Certificate {
        let file = |end: &str| self.site.home.join("lego/certificates").join(format!("{}.{end}", self.name));
        let (chain, key) = (file("crt"), text(&file("key")));
        let certificate = Certificate::verified(&self.site, &chain, &[&self.name]);
        let shown = openssl(&["x509", "-in", &text(&chain), "-noout", "-text", "-pubkey"]);
        assert!(shown.contains(self.key_type.1), "{} in {shown}", self.key_type.1);
        assert!(shown.ends_with(&openssl(&["pkey", "-in", &key, "-pubout"])), "the key is the certificate's");
        certificate
    }

    /// What lego keeps about its account: a new one would have another URL.
    fn account(&self) -> String {
        let mut folders = vec![self.site.home.join("lego/accounts")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("lego made it").flatten() {
                if entry.file_name() == "account.json" {
                    let kept = std::fs::read_to_string(entry.path()).expect("text");
                    assert!(kept.contains("https://localhost:"), "{kept}");
                    return kept;
                }
                folders.extend(Some(entry.path()).filter(|path| path.is_dir()));
            }
        }
        panic!("lego kept no account");
    }

    fn four(&self, command: &[&str]) -> Command {
        let mut lego = self.lego(&[]);
        lego.args(["--accept-tos", "--domains", &self.name]);
        let (http, tls) = self.ports();
        match self.challenge {
            "http-01" => lego.args(["--http", "--http.port", &http]),
            "tls-alpn-01" => lego.args(["--tls", "--tls.port", &tls]),
            _ => lego.args(["--dns", "exec", "--dns.disable-cp", "--dns.resolvers", &resolver()]),
        };
        lego.args(command);
        lego
    }

    fn five(&self, command: &[&str]) -> Command {
        self.lego(command)
    }

    fn five_runs(&self, further: &[&str]) -> Command {
        let mut lego = self.five(&["run"]);
        lego.args(["--domains", &self.name]).args(further);
        let (http, tls) = self.ports();
        match self.challenge {
            "http-01" => lego.args(["--http", "--http.address", &http]),
            "tls-alpn-01" => lego.args(["--tls", "--tls.address", &tls]),
            _ => lego.args(["--dns", "exec", "--dns.propagation.wait", "0s", "--dns.resolvers", &resolver()]),
        };
        lego
    }

    fn five_revokes(&self, further: &[&str]) -> Command {
        let mut lego = self.five(&["certificates", "revoke"]);
        lego.args(["--cert.name", &self.name]).args(further);
        lego
    }

    /// Where it answers http-01 and tls-alpn-01.
    fn ports(&self) -> (String, String) {
        let site = &self.site;
        (format!("{}:{}", site.address, site.http_port), format!("{}:{}", site.address, site.tls_port))
    }

    /// lego with what all its commands take. Its directory is that of a profile in which a renewal is validated anew.
    fn lego(&self, command: &[&str]) -> Command {
        let site = &self.site;
        let mut lego = client(&self.lego.program, &site.home);
        lego.env("LEGO_CA_CERTIFICATES", &site.root).env("EXEC_PATH", &self.hook);
        lego.env("EXEC_POLLING_INTERVAL", "1").args(command);
        lego.args(["--server", &site.directory_of("short"), "--path", &text(&site.home.join("lego"))]);
        lego.args(["--email", "lego@example.org", "--key-type", self.key_type.0]);
        lego
    }
}

/// The DNS server of the tests; lego would ask the network's otherwise.
fn resolver() -> String {
    responder::dns().address().to_string()
}

/// Appends how long `step` took to a row.
fn timed<T>(row: &mut String, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = step();
    *row += &format!(" {:.1} |", start.elapsed().as_secs_f64());
    result
}
