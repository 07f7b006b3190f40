//! certbot, Debian's and the current one: http-01, dns-01 by hooks and by dynamic updates, renewal, revocation, an
//! external account; the current one also by renewal information, with profiles and for addresses.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::documented::block_for;
use crate::clients::evidence::Certificate;
use crate::clients::hook::{dns_hook, script};
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, finish, text};
use crate::clients::site::Site;
use crate::support::bind::TSIG_KEY;
use crate::support::chancery::Kind;
use crate::support::foreign;

/// Debian's.
pub fn goes_its_way(site: &Site) {
    Certbot::of(site, "certbot".to_owned()).goes_its_way();
}

/// The current one.
pub fn current_goes_its_way(site: &Site) {
    let folder = foreign::folder_of("certbot");
    let certbot = Certbot::of(site, text(&folder.join("certbot")));
    site.every_replica_works(|| {
        certbot.goes_its_way();
        certbot.knows_what_is_new();
    });
}

/// Debian's, with BIND's zone.
pub fn updates_a_zone(site: &Site) {
    Certbot::of(site, "certbot".to_owned()).updates_a_zone();
}

/// The current one, with BIND's zone.
pub fn current_updates_a_zone(site: &Site) {
    let folder = foreign::folder_of("certbot");
    Certbot::of(site, text(&folder.join("certbot"))).updates_a_zone();
}

struct Certbot<'s> {
    site: &'s Site,
    program: String,
    judge: Judge<'s>,
}

impl<'s> Certbot<'s> {
    fn of(site: &'s Site, program: String) -> Self {
        let said = finish(client(&program, &site.home).arg("--version"));
        let version = said.split_whitespace().nth(1).expect("`certbot 2.1.0`");
        Self { site, program, judge: Judge::new(site, "certbot", version) }
    }

    fn goes_its_way(&self) {
        let site = self.site;
        let (one, other) = (site.name(), site.name());
        let first = self.judge.does(&[Flow::Register, Flow::Http01, Flow::SeveralNames], || {
            self.obtain(&site.directory, &["--domains", &one, "--domains", &other]);
            self.verified(&one, &[&one, &other])
        });
        first.assert_not_revoked();
        let second = self.judge.does(&[Flow::Renew], || {
            finish(self.command("renew").args(["--force-renewal", "--no-random-sleep-on-renew"]));
            first.renewed(site, &self.file(&one), &[&one, &other])
        });
        self.judge.does(&[Flow::Revoke], || {
            let mut revoke = self.command("revoke");
            revoke.args(["--server", &site.directory, "--reason", "keycompromise", "--delete-after-revoke"]);
            finish(revoke.arg("--cert-path").arg(self.file(&one)));
            second.assert_revoked(Some("Key Compromise"));
        });
        first.assert_not_revoked();
        if site.kind() == Kind::Embedded {
            return;
        }
        self.judge.does(&[Flow::Dns01, Flow::Wildcard], || self.by_hooks());
        assert_eq!(self.accounts(), 1, "every run used the first one's account");
        let name = site.name();
        self.judge.does(&[Flow::Trusted], || {
            self.obtain(&site.directory_of("trusted"), &["--domains", &name]);
            self.verified(&name, &[&name]);
        });
        let name = site.name();
        self.judge.does(&[Flow::Eab], || {
            let (kid, hmac) = site.external_account();
            let binding = ["--eab-kid", &kid, "--eab-hmac-key", &hmac, "--domains", &name];
            self.obtain(&site.directory_of("bound"), &binding);
            self.verified(&name, &[&name]);
        });
    }

    /// A name and its wildcard, whose two TXT records stand under one name.
    fn by_hooks(&self) {
        let name = self.site.name();
        let hook = format!(
            "exec '{}' present \"_acme-challenge.$CERTBOT_DOMAIN\" \"$CERTBOT_VALIDATION\"\n",
            dns_hook(self.site).display()
        );
        let hook = text(&script(&self.site.home.join("certbot-hook"), &hook));
        let mut certonly = self.certonly(&self.site.directory);
        certonly.args(["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", &hook]);
        finish(certonly.args(["--domains", &name, "--domains", &format!("*.{name}")]));
        self.verified(&name, &[&name, &format!("below.{name}")]);
    }

    /// Two certificates, of which the operator wants one replaced: that one is renewed, and the other left.
    fn renews_when_asked(&self) {
        let (asked, other) = (self.site.name(), self.site.name());
        let [first, left] = [&asked, &other].map(|name| {
            self.obtain(&self.site.directory, &["--domains", name]);
            self.verified(name, &[name])
        });
        self.site.renew_early(&first.serial);
        self.judge.does(&[Flow::RenewByAri], || {
            finish(self.command("renew").arg("--no-random-sleep-on-renew"));
            first.renewed(self.site, &self.file(&asked), &[&asked]);
        });
        assert_eq!(self.verified(&other, &[&other]).serial, left.serial, "this one was not due");
    }

    /// Renewal information, a profile by its name, an address.
    fn knows_what_is_new(&self) {
        self.renews_when_asked();
        let name = self.site.name();
        self.judge.does(&[Flow::Profile], || {
            self.obtain(&self.site.directory, &["--required-profile", "trusted", "--domains", &name]);
            self.verified(&name, &[&name]);
        });
        let address = self.site.address.to_string();
        self.judge.does(&[Flow::Address], || {
            self.obtain(&self.site.directory, &["--ip-address", &address]);
            self.verified(&address, &[&address]);
        });
    }

    /// A name and its wildcard, whose TXT records certbot writes into BIND's zone.
    fn updates_a_zone(&self) {
        let (name, bind) = (self.site.name(), self.site.bind());
        let credentials = block_for(self.site, "dns_rfc2136_server")
            .replace("192.0.2.53", &bind.address().ip().to_string())
            .replace("= 53\n", &format!("= {}\n", bind.address().port()))
            .replace("KEY_NAME", TSIG_KEY)
            .replace("SECRET", bind.secret());
        let file = text(&self.site.home.join("rfc2136.ini"));
        std::fs::write(&file, credentials).expect("written");
        finish(Command::new("chmod").args(["600", &file]));
        let mut certonly = self.certonly(&self.site.directory);
        certonly.args(["--dns-rfc2136", "--dns-rfc2136-propagation-seconds", "1"]);
        certonly.args(["--dns-rfc2136-credentials", &file]);
        certonly.args(["--domains", &name, "--domains", &format!("*.{name}")]);
        self.judge.does(&[Flow::Rfc2136], || {
            finish(&mut certonly);
            self.verified(&name, &[&name, &format!("below.{name}")]);
        });
    }

    /// By http-01, where a challenge is wanted.
    fn obtain(&self, directory: &str, arguments: &[&str]) {
        let mut certonly = self.certonly(directory);
        certonly.args(["--standalone", "--http-01-address", &self.site.address.to_string()]);
        certonly.args(["--http-01-port", &self.site.http_port.to_string()]);
        finish(certonly.args(arguments));
    }

    fn certonly(&self, directory: &str) -> Command {
        let mut certonly = self.command("certonly");
        certonly.args(["--server", directory, "--agree-tos", "--email", "certbot@example.org"]);
        certonly.args(["--key-type", "ecdsa"]);
        certonly
    }

    fn command(&self, action: &str) -> Command {
        let mut certbot = client(&self.program, &self.site.home);
        certbot.env("REQUESTS_CA_BUNDLE", &self.site.root).args([action, "--non-interactive"]);
        for (option, folder) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
            certbot.arg(option).arg(self.site.home.join(folder));
        }
        certbot
    }

    fn verified(&self, first: &str, names: &[&str]) -> Certificate {
        Certificate::verified(self.site, &self.file(first), names)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.home.join("config/live").join(name).join("fullchain.pem")
    }

    /// How many accounts it has.
    fn accounts(&self) -> usize {
        let folder = text(&self.site.home.join("config/accounts"));
        finish(Command::new("find").args([&folder, "-name", "private_key.json"])).lines().count()
    }
}
