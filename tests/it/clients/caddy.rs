//! Caddy, Debian's and a current one: a site by http-01 and one by tls-alpn-01, their renewal, a trusted profile, an
//! external account. It does not revoke.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clients::evidence::Certificate;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{finish, require, surroundings, text};
use crate::clients::site::Site;
use crate::support::chancery::Kind;
use crate::support::foreign;
use crate::support::process::Process;
use crate::support::run::{SOON, wait_until, with_log};

/// Of the Caddys at one site, one at a time: they would share a port, and answer each other's challenges.
static TURN: Mutex<()> = Mutex::new(());

pub fn goes_its_way(site: &Site) {
    require("caddy");
    let _turn = TURN.lock();
    let said = finish(Command::new("caddy").arg("version"));
    let version = said.split_whitespace().next().expect("a version").trim_start_matches('v');
    let caddy = Caddy { site, program: "caddy".to_owned(), judge: Judge::new(site, "Caddy", version) };
    caddy.goes_its_way();
    if site.kind() == Kind::Fleet {
        // It cannot name the profile.
        caddy.gets_one_on_trust(&[Flow::Trusted], "trusted", "");
        caddy.gets_one_with_an_external_account();
    }
}

/// The current one: it can also name a profile, and renews by renewal information. (Its orders do not
/// say what they replace.)
pub fn current_goes_its_way(site: &Site) {
    let built = foreign::folder_of("caddy");
    let _turn = TURN.lock();
    let version = std::fs::read_to_string(built.join("version")).expect("its version");
    let judge = Judge::new(site, "Caddy", version.trim());
    let caddy = Caddy { site, program: text(&built.join("caddy")), judge };
    caddy.goes_its_way();
    caddy.renews_when_asked();
    caddy.gets_one_on_trust(&[Flow::Trusted, Flow::Profile], "", "profile trusted");
    caddy.gets_one_with_an_external_account();
}

struct Caddy<'s> {
    site: &'s Site,
    program: String,
    judge: Judge<'s>,
}

impl Caddy<'_> {
    fn goes_its_way(&self) {
        let site = self.site;
        // Beside the sockets that it is told to open, it tries the challenge ports of all addresses, and is content
        // if it finds itself at 127.0.0.1.
        let both = [site.name_of_localhost(), site.name_of_localhost()];
        let names = both.each_ref().map(String::as_str);
        let caddyfile = text(&site.home.join("Caddyfile"));
        // One site first: two that begin at once may each make an account, and Caddy then keeps the key of one beside
        // the URL of the other.
        for (sites, flows) in
            [(&names[..1], &[Flow::Register, Flow::Http01][..]), (&names[..], &[Flow::TlsAlpn01][..])]
        {
            std::fs::write(&caddyfile, self.configuration(sites)).expect("written");
            self.judge.does(flows, || {
                let caddy = self.start(&["--config", &caddyfile, "--adapter", "caddyfile"]);
                sites.iter().for_each(|name| self.wait_for_certificate(&caddy, "", name, None));
                stop(&caddy);
            });
        }
        let first = names.map(|name| Certificate::verified(site, &self.file("", name), &[name]));
        first.iter().for_each(Certificate::assert_not_revoked);

        let renewing = self.for_renewal(&caddyfile);
        let renew = || {
            let caddy = self.start(&["--config", &renewing]);
            for (name, first) in names.iter().zip(&first) {
                self.wait_for_certificate(&caddy, "", name, Some(first));
                first.renewed(site, &self.file("", name), &[name]);
            }
            stop(&caddy);
        };
        self.judge.does(&[Flow::Renew], renew);
    }

    /// Two certificates, of which the operator wants one replaced: that one is renewed, and the other left.
    fn renews_when_asked(&self) {
        let site = self.site;
        let both = [site.name_of_localhost(), site.name_of_localhost()];
        let [asked, other] = both.each_ref().map(String::as_str);
        let caddyfile = text(&site.home.join("Caddyfile-asked"));
        std::fs::write(&caddyfile, self.configuration(&[asked, other])).expect("written");
        let caddy = self.start(&["--config", &caddyfile, "--adapter", "caddyfile"]);
        let [first, left] = [asked, other].map(|name| {
            self.wait_for_certificate(&caddy, "", name, None);
            wait_until("Caddy knows when to ask again", || {
                self.asks_again(name) > Some(OffsetDateTime::now_utc())
            });
            Certificate::verified(site, &self.file("", name), &[name])
        });
        stop(&caddy);

        site.renew_early(&first.serial);
        [asked, other].iter().for_each(|name| self.lets_it_ask(name));
        let due = self.judge.does(&[Flow::RenewByAri], || {
            let caddy = self.start(&["--config", &caddyfile, "--adapter", "caddyfile"]);
            self.wait_for_certificate(&caddy, "", asked, Some(&first));
            first.renewed(site, &self.file("", asked), &[asked]);
            wait_until("Caddy has asked about the other one, too", || {
                self.asks_again(other) > Some(OffsetDateTime::now_utc())
            });
            stop(&caddy);
            let log = caddy.log();
            let due = log.lines().filter(|line| line.contains("needs renewal based on ARI window"));
            due.map(str::to_owned).collect::<Vec<_>>()
        });
        assert!(!due.is_empty() && due.iter().all(|line| line.contains(asked)), "{due:?}");
        assert_eq!(Certificate::verified(site, &self.file("", other), &[other]).serial, left.serial);
    }

    /// When Caddy asks for renewal information again, as it keeps it: `Retry-After` says some hours each time.
    fn asks_again(&self, name: &str) -> Option<OffsetDateTime> {
        let kept = std::fs::read_to_string(self.kept(name)).ok()?;
        let kept: Value = serde_json::from_str(&kept).ok()?;
        let time = kept["issuer_data"]["renewal_info"]["_retryAfter"].as_str()?;
        Some(OffsetDateTime::parse(time, &Rfc3339).expect("a time"))
    }

    /// Lets Caddy find that these hours are over.
    fn lets_it_ask(&self, name: &str) {
        let kept = std::fs::read_to_string(self.kept(name)).expect("what Caddy keeps");
        let mut kept: Value = serde_json::from_str(&kept).expect("JSON");
        kept["issuer_data"]["renewal_info"]["_retryAfter"] = "2000-01-01T00:00:00Z".into();
        std::fs::write(self.kept(name), kept.to_string()).expect("written");
    }

    fn gets_one_on_trust(&self, flows: &[Flow], profile: &str, line: &str) {
        self.gets_one(flows, profile, &self.site.name_of_localhost(), line);
    }

    fn gets_one_with_an_external_account(&self) {
        let (kid, hmac) = self.site.external_account();
        let name = self.site.name_of_localhost();
        self.gets_one(&[Flow::Eab], "bound", &name, &format!("eab {kid} {hmac}"));
    }

    /// One more certificate, by the directory of `profile`, with a line more in the issuer's block.
    fn gets_one(&self, flows: &[Flow], profile: &str, name: &str, line: &str) {
        let caddyfile = text(&self.site.home.join(format!("Caddyfile-{name}")));
        std::fs::write(&caddyfile, self.global() + &self.block(profile, name, line)).expect("written");
        self.judge.does(flows, || {
            let caddy = self.start(&["--config", &caddyfile, "--adapter", "caddyfile"]);
            self.wait_for_certificate(&caddy, profile, name, None);
            stop(&caddy);
            Certificate::verified(self.site, &self.file(profile, name), &[name]);
        });
    }

    /// The first of `names` is proven by http-01, the second by tls-alpn-01.
    fn configuration(&self, names: &[&str]) -> String {
        let others = ["disable_tlsalpn_challenge", "disable_http_challenge"];
        let blocks = names.iter().zip(others);
        blocks.fold(self.global(), |text, (name, other)| text + &self.block("", name, other))
    }

    fn global(&self) -> String {
        format!(
            "{{\n  admin off\n  skip_install_trust\n  storage file_system {}\n  http_port {}\n  https_port {}\n  \
             default_bind 127.0.0.1\n  email caddy@example.org\n}}\n",
            self.site.home.join("store").display(),
            self.site.http_port,
            self.site.tls_port
        )
    }

    /// The issuer is named with the site, since Caddy certifies names under `.localhost` by itself otherwise.
    fn block(&self, profile: &str, name: &str, line: &str) -> String {
        format!(
            "{name} {{\n  respond ok\n  tls {{\n    issuer acme {{\n      dir {}\n      trusted_roots {}\n      \
             {line}\n    }}\n  }}\n}}\n",
            self.directory(profile),
            self.site.root.display()
        )
    }

    fn directory(&self, profile: &str) -> String {
        if profile.is_empty() { self.site.directory.clone() } else { self.site.directory_of(profile) }
    }

    /// The same configuration, under which every certificate is due for renewal: certificates are dated back by a
    /// minute, which is more than what this ratio leaves of their lifetime.
    fn for_renewal(&self, caddyfile: &str) -> String {
        let mut adapt = Command::new(&self.program);
        adapt.envs(surroundings(&self.site.home));
        let adapted = finish(adapt.args(["adapt", "--adapter", "caddyfile", "--config", caddyfile]));
        let mut adapted: Value = serde_json::from_str(&adapted).expect("JSON");
        let policies = adapted["apps"]["tls"]["automation"]["policies"].as_array_mut().expect("policies");
        policies.iter_mut().for_each(|policy| policy["renewal_window_ratio"] = 0.999_999.into());
        let file = text(&self.site.home.join("caddy.json"));
        std::fs::write(&file, adapted.to_string()).expect("written");
        file
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let arguments = [&["run"], arguments].concat();
        let log = self.site.home.join("caddy.log");
        Process::start(&self.program, arguments, &surroundings(&self.site.home), &log)
    }

    /// Waits until Caddy has stored a certificate, another one than `last`, and all that goes with it: stopped before, it
    /// may complain at its next start.
    fn wait_for_certificate(&self, caddy: &Process, profile: &str, name: &str, last: Option<&Certificate>) {
        let last = last.map(Certificate::pem);
        wait_until("Caddy has a certificate", || {
            assert!(caddy.is_running(), "{}", with_log("Caddy ended", &caddy.log()));
            // Debian's, stopped as soon as a lock is away, may try to remove it again, and says so.
            let is_failure = |line: &&str| {
                line.contains("\"level\":\"error\"") && !line.contains("\"signal\":\"SIGTERM\"")
            };
            let failure = caddy.log().lines().find(is_failure).map(str::to_owned);
            assert_eq!(failure, None, "Caddy is content");
            let stored = std::fs::read_to_string(self.file(profile, name)).ok();
            // It holds the lock until all is written.
            let lock = self.site.home.join(format!("store/locks/issue_cert_{name}.lock"));
            stored.is_some_and(|stored| stored.ends_with("-----\n") && Some(stored) != last) && !lock.exists()
        });
    }

    /// Where Caddy keeps what it knows about a certificate.
    fn kept(&self, name: &str) -> PathBuf {
        self.file("", name).with_extension("json")
    }

    /// Where Caddy stores a certificate: below a folder that is named after the directory's URL.
    fn file(&self, profile: &str, name: &str) -> PathBuf {
        let directory = self.directory(profile);
        let server = directory.trim_start_matches("https://").replace([':', '/'], "-");
        self.site.home.join("store/certificates").join(server).join(name).join(format!("{name}.crt"))
    }
}

fn stop(caddy: &Process) {
    caddy.signal("TERM");
    caddy.wait_for_end(SOON);
}
