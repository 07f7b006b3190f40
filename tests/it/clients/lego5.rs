//! lego 5, where it was built: as lego, and what is new in it: renewal information, profiles.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::hook::dns_hook;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, finish, text};
use crate::clients::site::Site;
use crate::support::bind::TSIG_KEY;
use crate::support::foreign;
use crate::support::responder;

pub fn goes_its_way(site: &Site) {
    let lego = Lego::of(site);
    let (name, trusted) = (site.name(), site.name());
    let http =
        ["--http".to_owned(), "--http.address".to_owned(), format!("{}:{}", site.address, site.http_port)];
    let run = |names: &[&str], options: &[&str]| finish(lego.run(names).args(options).args(&http));

    let first = lego.judge.does(&[Flow::Register, Flow::Http01], || {
        run(&[&name], &[]);
        lego.verified(&name, &[&name])
    });
    // Not due: it asks for renewal information, and leaves the certificate as it is.
    run(&[&name], &["--no-random-sleep"]);
    assert_eq!(lego.verified(&name, &[&name]).serial, first.serial, "the certificate was left");
    // Due, since the operator wants it replaced: renewal information says so from here on (RFC 9773 §4.2).
    site.renew_early(&first.serial);
    let second = lego.judge.does(&[Flow::Renew, Flow::RenewByAri], || {
        run(&[&name], &["--no-random-sleep", "--ari-wait-to-renew-duration", "2m"]);
        first.renewed(site, &lego.file(&name), &[&name])
    });
    assert_eq!(site.replacing_orders(&name), 1, "the renewal says what it replaces (RFC 9773 §5)");
    lego.judge.does(&[Flow::Revoke], || {
        let arguments = ["certificates", "revoke", "--cert.name", &name, "--reason", "4"];
        finish(&mut lego.command(&site.directory, &arguments));
        second.assert_revoked(Some("Superseded"));
    });

    let (one, other) = (site.name(), site.name());
    lego.judge.does(&[Flow::TlsAlpn01, Flow::SeveralNames], || {
        let port = format!("{}:{}", site.address, site.tls_port);
        finish(lego.run(&[&one, &other]).args(["--key-type", "RSA2048", "--tls", "--tls.address", &port]));
        lego.verified(&one, &[&one, &other]);
    });
    lego.judge.does(&[Flow::Trusted, Flow::Profile], || {
        run(&[&trusted], &["--profile", "trusted"]);
        lego.verified(&trusted, &[&trusted]);
    });
    let address = site.address.to_string();
    lego.judge.does(&[Flow::Address], || {
        run(&[&address], &[]);
        assert!(lego.file(&address).is_file(), "{}", lego.file(&address).display());
    });
    by_dns(&lego);
    let name = site.name();
    lego.judge.does(&[Flow::Eab], || {
        let (kid, hmac) = site.external_account();
        let mut bound =
            lego.command(&site.directory_of("bound"), &["run", "--accept-tos", "--domains", &name]);
        bound.args(["--account-id", "bound", "--eab", "--eab.kid", &kid, "--eab.hmac", &hmac]);
        finish(bound.args(&http));
        lego.verified(&name, &[&name]);
    });
}

/// A name and its wildcard, whose two TXT records stand under one name.
fn by_dns(lego: &Lego<'_>) {
    let name = lego.site.name();
    let resolver = responder::dns().address().to_string();
    let mut run = lego.run(&[&name, &format!("*.{name}")]);
    run.env("EXEC_PATH", dns_hook(lego.site)).env("EXEC_SEQUENCE_INTERVAL", "1");
    run.args(["--dns", "exec", "--dns.resolvers", &resolver, "--dns.propagation.wait", "1ms"]);
    lego.judge.does(&[Flow::Dns01, Flow::Wildcard], || {
        finish(&mut run);
        lego.verified(&name, &[&name, &format!("below.{name}")]);
    });
}

/// A name and its wildcard, whose TXT records lego writes into BIND's zone.
pub fn updates_a_zone(site: &Site) {
    let lego = Lego::of(site);
    let name = site.name();
    let server = site.bind().address().to_string();
    let mut run = lego.run(&[&name, &format!("*.{name}")]);
    run.env("DNSUPDATE_NAMESERVER", &server).env("DNSUPDATE_TSIG_KEY", TSIG_KEY);
    run.env("DNSUPDATE_TSIG_ALGORITHM", "hmac-sha256.").env("DNSUPDATE_TSIG_SECRET", site.bind().secret());
    run.env("DNSUPDATE_SEQUENCE_INTERVAL", "1").env("DNSUPDATE_POLLING_INTERVAL", "1");
    run.args(["--dns", "dnsupdate", "--dns.resolvers", &server, "--dns.propagation.disable-ans"]);
    lego.judge.does(&[Flow::Rfc2136], || {
        finish(&mut run);
        lego.verified(&name, &[&name, &format!("below.{name}")]);
    });
}

struct Lego<'s> {
    site: &'s Site,
    program: String,
    judge: Judge<'s>,
}

impl<'s> Lego<'s> {
    fn of(site: &'s Site) -> Self {
        let program = text(&foreign::folder_of("lego").join("lego"));
        let said = finish(Command::new(&program).arg("--version"));
        let version = said.split_whitespace().nth(2).expect("`lego version 5.6.0 linux/amd64`");
        Self { site, program, judge: Judge::new(site, "lego", version) }
    }

    fn run(&self, names: &[&str]) -> Command {
        let mut command = self.command(&self.site.directory, &["run", "--accept-tos"]);
        names.iter().for_each(|name| {
            command.args(["--domains", name]);
        });
        command
    }

    fn command(&self, directory: &str, arguments: &[&str]) -> Command {
        let mut command = client(&self.program, &self.site.home);
        command.env("LEGO_CA_CERTIFICATES", &self.site.root).env("LEGO_SERVER", directory);
        command.env("LEGO_EMAIL", "lego@example.org").env("LEGO_PATH", self.site.home.join("lego5"));
        command.args(arguments);
        command
    }

    fn verified(&self, first: &str, names: &[&str]) -> Certificate {
        Certificate::verified(self.site, &self.file(first), names)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.home.join("lego5/certificates").join(format!("{name}.crt"))
    }
}
