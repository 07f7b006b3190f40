//! Apache's mod_md: all three challenges, renewal by renewal information, an external account, a profile. It does not
//! revoke.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::documented::block;
use crate::clients::evidence::Certificate;
use crate::clients::hook::{dns_hook, script};
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{finish, require, surroundings, text};
use crate::clients::site::Site;
use crate::clients::uacme::runs_as_root;
use crate::support::chancery::Kind;
use crate::support::process::Process;
use crate::support::run::with_log;

const PROGRAM: &str = "/usr/sbin/apache2";

/// How long Apache may take until it has a certificate.
const LIMIT: Duration = Duration::from_secs(120);

pub fn goes_its_way(site: &Site) {
    let (by_http, also, by_tls) = (site.name(), site.name(), site.name());
    let domains = format!(
        "<MDomainSet {by_http} {also}>\n  MDCAChallenges http-01\n</MDomainSet>\n\
         <MDomainSet {by_tls}>\n  MDCAChallenges tls-alpn-01\n</MDomainSet>\n{}{}",
        server(site, &by_http, &also),
        server(site, &by_tls, "")
    );
    let apache = Apache::start(site, &domains);
    let judge = Judge::new(site, "Apache mod_md", &apache.version());
    let flows = [Flow::Register, Flow::Http01, Flow::TlsAlpn01, Flow::SeveralNames];
    let (first, other) = judge.does(&flows, || {
        apache.stages(&[&by_http, &by_tls]);
        apache.activates(&[&by_http, &by_tls]);
        (apache.verified(&by_http, &[&by_http, &also]), apache.verified(&by_tls, &[&by_tls]))
    });
    first.assert_not_revoked();
    apache.serves(&by_http, &first);
    apache.serves(&by_tls, &other);
    if site.kind() == Kind::Embedded {
        return;
    }

    site.renew_early(&first.serial);
    judge.does(&[Flow::Renew, Flow::RenewByAri], || {
        // It asks when it starts.
        apache.restarts();
        apache.stages(&[&by_http]);
        apache.activates(&[&by_http]);
        let renewed = first.renewed(site, &apache.file(&by_http), &[&by_http, &also]);
        apache.serves(&by_http, &renewed);
    });
    assert_eq!(site.replacing_orders(&by_http), 1, "the renewal says what it replaces (RFC 9773 §5)");
    assert_eq!(apache.verified(&by_tls, &[&by_tls]).serial, other.serial, "this one was not due");

    let (wildcard, bound, trusted) = (site.name(), site.name(), site.name());
    let (kid, hmac) = site.external_account();
    apache.configure(&format!(
        "MDChallengeDns01 {}\n\
         <MDomainSet {wildcard} *.{wildcard}>\n  MDCAChallenges dns-01\n</MDomainSet>\n\
         <MDomainSet {bound}>\n  MDCertificateAuthority {}\n  MDExternalAccountBinding {kid} {hmac}\n\
         \x20 MDCAChallenges http-01\n</MDomainSet>\n\
         <MDomainSet {trusted}>\n  MDProfile trusted\n  MDProfileMandatory on\n</MDomainSet>\n{domains}",
        hook(site).display(),
        site.directory_of("bound"),
    ));
    judge.does(&[Flow::Dns01, Flow::Wildcard, Flow::Eab, Flow::Trusted, Flow::Profile], || {
        apache.restarts();
        apache.stages(&[&wildcard, &bound, &trusted]);
        apache.activates(&[&wildcard, &bound, &trusted]);
        apache.verified(&wildcard, &[&wildcard, &format!("below.{wildcard}")]);
        apache.verified(&bound, &[&bound]);
        apache.verified(&trusted, &[&trusted]);
    });
}

/// A TLS server for a name, which is also what answers tls-alpn-01 for it.
fn server(site: &Site, name: &str, alias: &str) -> String {
    let alias = if alias.is_empty() { String::new() } else { format!("  ServerAlias {alias}\n") };
    format!("<VirtualHost *:{}>\n  ServerName {name}\n{alias}  SSLEngine on\n</VirtualHost>\n", site.tls_port)
}

/// Called with `setup` or `teardown`, a domain, and the value of the record.
fn hook(site: &Site) -> PathBuf {
    let hook = format!(
        "[ \"$1\" = setup ] || exit 0\nexec '{}' present \"_acme-challenge.$2\" \"$3\"\n",
        dns_hook(site).display()
    );
    script(&site.home.join("mod-md-hook"), &hook)
}

struct Apache<'s> {
    site: &'s Site,
    process: Process,
}

impl<'s> Apache<'s> {
    fn start(site: &'s Site, domains: &str) -> Self {
        require(PROGRAM);
        configure(site, domains);
        let arguments = ["-DFOREGROUND", "-f", &text(&site.home.join("httpd.conf"))];
        let (environment, log) = (surroundings(&site.home), site.home.join("error.log"));
        Self { site, process: Process::start_ending_by("TERM", PROGRAM, arguments, &environment, &log) }
    }

    /// The module's own, as it says when it starts: `mod_md (v2.6.10), initializing...`.
    fn version(&self) -> String {
        self.wait("mod_md", || self.process.log().contains("mod_md (v"));
        let log = self.process.log();
        let after = log.split_once("mod_md (v").expect("it was waited for").1;
        after.split(')').next().expect("text").to_owned()
    }

    fn configure(&self, domains: &str) {
        configure(self.site, domains);
    }

    /// Restarts gracefully: what was obtained is used from then on.
    fn restarts(&self) {
        self.process.signal("USR1");
    }

    /// Waits until a new certificate of each name waits for the next restart.
    fn stages(&self, names: &[&str]) {
        for name in names {
            let told = self.site.home.join("md/staging").join(name).join("job.json");
            self.wait(name, || {
                std::fs::read_to_string(&told).is_ok_and(|job| job.contains("\"finished\": true"))
            });
        }
    }

    /// Restarts gracefully, and waits until the new certificates are in their places.
    fn activates(&self, names: &[&str]) {
        self.restarts();
        for name in names {
            let staged = self.site.home.join("md/staging").join(name).join("pubcert.pem");
            self.wait(name, || !staged.exists() && self.file(name).exists());
        }
    }

    /// Waits until what is served is this certificate.
    fn serves(&self, name: &str, certificate: &Certificate) {
        let address = format!("{}:{}", self.site.address, self.site.tls_port);
        self.wait(name, || {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-connect", &address, "-servername", name]).stdin(Stdio::null());
            let shown = client.output().expect("openssl starts").stdout;
            let shown = String::from_utf8_lossy(&shown).into_owned();
            let leaf = certificate.pem();
            let leaf = leaf.lines().nth(1).expect("the first line of the leaf");
            shown.contains(leaf)
        });
    }

    fn wait(&self, name: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(self.process.is_running(), "{}", with_log("Apache ended", &self.process.log()));
            assert!(
                start.elapsed() < LIMIT,
                "{}",
                with_log(format!("{name}: still waiting"), &self.process.log())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn verified(&self, name: &str, names: &[&str]) -> Certificate {
        Certificate::verified(self.site, &self.file(name), names)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.home.join("md/domains").join(name).join("pubcert.pem")
    }
}

/// What docs/clients.md shows, on this site's ports and in its folder.
fn configure(site: &Site, domains: &str) {
    let home = site.home.display();
    // Its workers must be able to read it, whoever they are.
    let root = site.home.join("root.pem");
    std::fs::copy(&site.root, &root).expect("a copy of the root");
    finish(Command::new("chmod").arg("644").arg(&root));
    let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "md"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let user = if runs_as_root() { "User nobody\nGroup nogroup\n" } else { "" };
    let ports = [site.http_port, site.tls_port].map(|port| format!("Listen {}:{port}\n", site.address));
    let shown = block("MDCertificateAuthority", &site.directory, &root);
    let text = format!(
        "ServerName apache.invalid\nServerRoot {home}\nDefaultRuntimeDir {home}\nPidFile {home}/pid\n\
         ErrorLog {home}/error.log\nLogLevel info md:debug\nStartServers 1\n{modules}{user}{}\
         MDStoreDir {home}/md\nMDPortMap http:{} https:{}\nMDRetryDelay 1s\nMDRenewMode always\n{shown}{domains}",
        ports.concat(),
        site.http_port,
        site.tls_port
    );
    std::fs::write(site.home.join("httpd.conf"), text).expect("written");
}
