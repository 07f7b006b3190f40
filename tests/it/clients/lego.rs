//! lego: all three challenges, renewal, revocation.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::hook::dns_hook;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, debian_version, finish, text};
use crate::clients::site::Site;
use crate::support::bind::TSIG_KEY;
use crate::support::chancery::Kind;
use crate::support::responder;

pub fn goes_its_way(site: &Site) {
    let judge = Judge::new(site, "lego", &debian_version("lego"));
    let name = site.name();
    let http =
        ["--http".to_owned(), "--http.port".to_owned(), format!("{}:{}", site.address, site.http_port)];
    let first = judge.does(&[Flow::Register, Flow::Http01], || {
        finish(lego(site, &[&name]).args(&http).arg("run"));
        Certificate::verified(site, &file(site, &name), &[&name])
    });
    first.assert_not_revoked();
    // Renewed if it has less than this many days: always.
    let second = judge.does(&[Flow::Renew], || {
        finish(lego(site, &[&name]).args(&http).args(["renew", "--days", "1000", "--no-random-sleep"]));
        first.renewed(site, &file(site, &name), &[&name])
    });
    judge.does(&[Flow::Revoke], || {
        finish(lego(site, &[&name]).args(["revoke", "--reason", "4"]));
        second.assert_revoked(Some("Superseded"));
    });
    first.assert_not_revoked();

    judge.does(&[Flow::TlsAlpn01, Flow::SeveralNames], || by_tls(site));
    if site.kind() == Kind::Fleet {
        judge.does(&[Flow::Dns01, Flow::Wildcard], || by_dns(site));
        judge.does(&[Flow::Trusted], || on_trust(site));
        judge.does(&[Flow::Eab], || with_external_account(site, &http));
    }
}

/// A name and its wildcard, whose TXT records lego writes into BIND's zone.
pub fn updates_a_zone(site: &Site) {
    let name = site.name();
    let wildcard = format!("*.{name}");
    let bind = site.bind();
    let server = bind.address().to_string();
    let mut lego = lego(site, &[&name, &wildcard]);
    lego.env("RFC2136_NAMESERVER", &server).env("RFC2136_TSIG_KEY", TSIG_KEY);
    lego.env("RFC2136_TSIG_ALGORITHM", "hmac-sha256.").env("RFC2136_TSIG_SECRET", bind.secret());
    lego.env("RFC2136_SEQUENCE_INTERVAL", "1").env("RFC2136_POLLING_INTERVAL", "1");
    lego.args(["--dns", "rfc2136", "--dns.disable-cp", "--dns.resolvers", &server, "run"]);
    Judge::new(site, "lego", &debian_version("lego")).does(&[Flow::Rfc2136], || {
        finish(&mut lego);
        Certificate::verified(site, &file(site, &name), &[&name, &format!("below.{name}")]);
    });
}

fn by_tls(site: &Site) {
    let (one, other) = (site.name(), site.name());
    let port = format!("{}:{}", site.address, site.tls_port);
    let mut lego = lego(site, &[&one, &other]);
    finish(lego.args(["--key-type", "ec384", "--tls", "--tls.port", &port, "run"]));
    Certificate::verified(site, &file(site, &one), &[&one, &other]);
}

/// lego wants a challenge to be chosen, and never meets one.
fn on_trust(site: &Site) {
    let name = site.name();
    let mut lego = of(site, &site.directory_of("trusted"), "trusted", &[&name]);
    finish(lego.args(["--http", "--http.port", ":1", "run"]));
    Certificate::verified(site, &certificate(site, "trusted", &name), &[&name]);
}

fn with_external_account(site: &Site, http: &[String]) {
    let name = site.name();
    let (kid, hmac) = site.external_account();
    let mut lego = of(site, &site.directory_of("bound"), "bound", &[&name]);
    finish(lego.args(["--eab", "--kid", &kid, "--hmac", &hmac]).args(http).arg("run"));
    Certificate::verified(site, &certificate(site, "bound", &name), &[&name]);
}

/// A name and its wildcard, whose two TXT records stand under one name.
fn by_dns(site: &Site) {
    let name = site.name();
    let wildcard = format!("*.{name}");
    let hook = dns_hook(site);
    let resolver = responder::dns().address().to_string();
    let mut lego = lego(site, &[&name, &wildcard]);
    lego.env("EXEC_PATH", hook).env("EXEC_SEQUENCE_INTERVAL", "1").env("EXEC_POLLING_INTERVAL", "1");
    lego.args(["--key-type", "rsa2048", "--dns", "exec", "--dns.disable-cp", "--dns.resolvers", &resolver]);
    finish(lego.arg("run"));
    Certificate::verified(site, &file(site, &name), &[&name, &format!("below.{name}")]);
}

fn lego(site: &Site, names: &[&str]) -> Command {
    of(site, &site.directory, "lego", names)
}

/// With a directory, and with an account of the client's folder `place`.
fn of(site: &Site, directory: &str, place: &str, names: &[&str]) -> Command {
    let mut lego = client("lego", &site.home);
    lego.env("LEGO_CA_CERTIFICATES", &site.root);
    lego.args(["--server", directory, "--accept-tos", "--email", "lego@example.org"]);
    lego.args(["--path", &text(&site.home.join(place))]);
    names.iter().for_each(|name| {
        lego.args(["--domains", name]);
    });
    lego
}

fn file(site: &Site, name: &str) -> PathBuf {
    certificate(site, "lego", name)
}

fn certificate(site: &Site, place: &str, name: &str) -> PathBuf {
    site.home.join(place).join("certificates").join(format!("{name}.crt"))
}
