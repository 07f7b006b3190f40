//! Libraries with which others write clients, each in a small client of ours under `tests/foreign`: node's acme-client,
//! instant-acme, acme4j. The clients have their arguments in common:
//! `issue|renew CHALLENGE FOLDER NAME…`, `revoke FOLDER REASON`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::alpn_folder::AlpnFolder;
use crate::clients::evidence::Certificate;
use crate::clients::hook::dns_hook;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, finish, text};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;
use crate::support::foreign;

/// The part of each client's page of a lock file that has its version.
fn version(file: &str, before: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(file);
    let text = std::fs::read_to_string(path).expect("the pins");
    let after = text.split_once(before).unwrap_or_else(|| panic!("{before} is not in {file}")).1;
    after.split(['"', '<']).next().expect("a version").to_owned()
}

/// node's acme-client.
pub fn node(site: &Site) {
    let folder = foreign::folder_of("node-acme-client");
    let version = version("node-acme-client/package.json", "\"acme-client\": \"");
    let library = Library::new(site, Judge::new(site, "node acme-client", &version), move |library| {
        let mut node = client("node", &library.site.home);
        node.env("NODE_EXTRA_CA_CERTS", &library.site.root).arg(folder.join("client.js"));
        node
    });
    site.every_replica_works(|| {
        let (names, first) = library.does_the_common();
        let second = library.judge.does(&[Flow::Renew], || {
            library.run("account", &library.issue("http-01", "one", &[&names[0], &names[1]]));
            first.renewed(site, &library.chain("one"), &[&names[0], &names[1]])
        });
        library.revokes("one", &second);
    });
}

/// instant-acme.
pub fn instant_acme(site: &Site) {
    let folder = foreign::folder_of("instant-acme-client");
    let version = version("instant-acme-client/Cargo.toml", "instant-acme = { version = \"=");
    let library = Library::new(site, Judge::new(site, "instant-acme", &version), move |library| {
        let mut program = client(&text(&folder.join("client")), &library.site.home);
        program.env("ACME_ROOT", &library.site.root);
        program
    });
    site.every_replica_works(|| library.does_the_common_and_what_is_new());
}

/// acme4j.
pub fn acme4j(site: &Site) {
    let folder = foreign::folder_of("acme4j");
    let version = version("acme4j/pom.xml", "<artifactId>acme4j-client</artifactId>\n      <version>");
    let store = text(&site.home.join("trust.p12"));
    let mut keytool = client("keytool", &site.home);
    keytool.args(["-importcert", "-noprompt", "-alias", "root", "-file"]).arg(&site.root);
    finish(keytool.args(["-keystore", &store, "-storetype", "PKCS12", "-storepass", "changeit"]));
    let library = Library::new(site, Judge::new(site, "acme4j", &version), move |library| {
        let mut java = client("java", &library.site.home);
        java.arg(format!("-Djavax.net.ssl.trustStore={store}"));
        java.arg("-Djavax.net.ssl.trustStorePassword=changeit").arg("-cp");
        java.arg(format!("{0}/client.jar:{0}/lib/*", folder.display())).arg("Client");
        java
    });
    site.every_replica_works(|| library.does_the_common_and_what_is_new());
}

/// A client on a library.
struct Library<'s> {
    site: &'s Site,
    judge: Judge<'s>,
    program: Box<dyn Fn(&Self) -> Command + 's>,
    hook: PathBuf,
    _webroot: Webroot,
    _alpn: AlpnFolder,
}

impl<'s> Library<'s> {
    fn new(site: &'s Site, judge: Judge<'s>, program: impl Fn(&Self) -> Command + 's) -> Self {
        let [webroot, alpn] = ["challenges", "alpn"].map(|name| site.home.join(name));
        std::fs::create_dir(&webroot).expect("a folder");
        std::fs::create_dir(&alpn).expect("a folder");
        Self {
            site,
            judge,
            program: Box::new(program),
            hook: dns_hook(site),
            _webroot: Webroot::start(site.address, site.http_port, &webroot),
            _alpn: AlpnFolder::start(site.address, site.tls_port, &alpn),
        }
    }

    /// Every challenge, several names, a wildcard, a profile that trusts, an external account; the names of the first
    /// certificate, and it.
    fn does_the_common(&self) -> ([String; 2], Certificate) {
        let site = self.site;
        let names = [site.name(), site.name()];
        let (account, first) = self.judge.does(&[Flow::Register, Flow::Http01, Flow::SeveralNames], || {
            let said = self.run("account", &self.issue("http-01", "one", &[&names[0], &names[1]]));
            (account(&said), self.verified("one", &[&names[0], &names[1]]))
        });
        first.assert_not_revoked();
        let name = site.name();
        self.judge.does(&[Flow::TlsAlpn01], || {
            let said = self.run("account", &self.issue("tls-alpn-01", "two", &[&name]));
            assert_eq!(self::account(&said), account, "the account of the first run");
            self.verified("two", &[&name]);
        });
        let name = site.name();
        self.judge.does(&[Flow::Dns01, Flow::Wildcard], || {
            self.run("account", &self.issue("dns-01", "three", &[&name, &format!("*.{name}")]));
            self.verified("three", &[&name, &format!("below.{name}")]);
        });
        let name = site.name();
        self.judge.does(&[Flow::Trusted], || {
            let mut program = self.command("trusted", &self.issue("none", "four", &[&name]));
            finish(program.env("ACME_DIRECTORY", site.directory_of("trusted")));
            self.verified("four", &[&name]);
        });
        let name = site.name();
        self.judge.does(&[Flow::Eab], || {
            let (kid, hmac) = site.external_account();
            let mut program = self.command("bound", &self.issue("http-01", "five", &[&name]));
            program.env("ACME_EAB_KID", kid).env("ACME_EAB_KEY", hmac);
            finish(program.env("ACME_DIRECTORY", site.directory_of("bound")));
            self.verified("five", &[&name]);
        });
        (names, first)
    }

    /// And renewal by renewal information, a profile by its name, an address.
    fn does_the_common_and_what_is_new(&self) {
        let (names, first) = self.does_the_common();
        let renew = ["renew", "http-01", &self.folder("one"), &names[0], &names[1]].map(str::to_owned);
        let said = self.run("account", &renew);
        assert!(said.contains("window ") && said.contains("not due"), "{said}");
        self.site.renew_early(&first.serial);
        let second = self.judge.does(&[Flow::Renew, Flow::RenewByAri], || {
            self.run("account", &renew);
            first.renewed(self.site, &self.chain("one"), &[&names[0], &names[1]])
        });
        let replacing = self.site.replacing_orders(&names[0]);
        assert_eq!(replacing, 1, "the renewal says what it replaces (RFC 9773 §5)");
        self.revokes("one", &second);
        first.assert_not_revoked();
        let name = self.site.name();
        self.judge.does(&[Flow::Profile], || {
            finish(
                self.command("account", &self.issue("none", "six", &[&name])).env("ACME_PROFILE", "trusted"),
            );
            self.verified("six", &[&name]);
        });
        let address = self.site.address.to_string();
        self.judge.does(&[Flow::Address], || {
            self.run("account", &self.issue("http-01", "seven", &[&address]));
            self.verified("seven", &[&address]);
        });
    }

    fn revokes(&self, folder: &str, certificate: &Certificate) {
        self.judge.does(&[Flow::Revoke], || {
            self.run("account", &["revoke".to_owned(), self.folder(folder), "superseded".to_owned()]);
            certificate.assert_revoked(Some("Superseded"));
        });
    }

    fn issue(&self, challenge: &str, folder: &str, names: &[&str]) -> Vec<String> {
        let start = ["issue", challenge, &self.folder(folder)].map(str::to_owned);
        start.into_iter().chain(names.iter().map(|name| (*name).to_owned())).collect()
    }

    /// Runs the client with the account that is kept under this name: what it says.
    fn run(&self, account: &str, arguments: &[String]) -> String {
        finish(&mut self.command(account, arguments))
    }

    fn command(&self, account: &str, arguments: &[String]) -> Command {
        let mut program = (self.program)(self);
        program.env("ACME_DIRECTORY", &self.site.directory).env("ACME_DNS_HOOK", &self.hook);
        program.env("ACME_ACCOUNT", self.site.home.join(account));
        program.env("ACME_WEBROOT", self.site.home.join("challenges"));
        program.env("ACME_ALPN", self.site.home.join("alpn")).args(arguments);
        program
    }

    fn verified(&self, folder: &str, names: &[&str]) -> Certificate {
        Certificate::verified(self.site, &self.chain(folder), names)
    }

    fn chain(&self, folder: &str) -> PathBuf {
        self.site.home.join(folder).join("chain.pem")
    }

    fn folder(&self, name: &str) -> String {
        text(&self.site.home.join(name))
    }
}

/// The account's URL, which a client says first.
fn account(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("account "));
    line.unwrap_or_else(|| panic!("no account in {said}")).to_owned()
}
