//! lego: all three challenges, renewal, revocation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish, require, text};
use crate::clients::site::Site;
use crate::support::chancery::Kind;
use crate::support::responder::{self, Reply};
use crate::support::run::unique;

pub fn goes_its_way(site: &Site) {
    let name = site.name();
    let http =
        ["--http".to_owned(), "--http.port".to_owned(), format!("{}:{}", site.address, site.http_port)];
    finish(lego(site, &[&name]).args(&http).arg("run"));
    let first = Certificate::verified(site, &file(site, &name), &[&name]);
    first.assert_not_revoked();
    // Renewed if it has less than this many days: always.
    finish(lego(site, &[&name]).args(&http).args(["renew", "--days", "1000", "--no-random-sleep"]));
    let second = first.renewed(site, &file(site, &name), &[&name]);
    finish(lego(site, &[&name]).args(["revoke", "--reason", "4"]));
    second.assert_revoked(Some("Superseded"));
    first.assert_not_revoked();

    by_tls(site);
    if site.kind() == Kind::Fleet {
        by_dns(site);
    }
}

fn by_tls(site: &Site) {
    let (one, other) = (site.name(), site.name());
    let port = format!("{}:{}", site.address, site.tls_port);
    let mut lego = lego(site, &[&one, &other]);
    finish(lego.args(["--key-type", "ec384", "--tls", "--tls.port", &port, "run"]));
    Certificate::verified(site, &file(site, &one), &[&one, &other]);
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

/// A program that gives each TXT record it is asked for (`present NAME VALUE`) to the DNS server of the tests, by way
/// of their web server.
fn dns_hook(site: &Site) -> PathBuf {
    require("curl");
    let way = format!("txt{}", unique());
    let record = |query: &str| {
        let mut parts = query.split('&');
        let (action, name, value) = (parts.next()?, parts.next()?, parts.next()?);
        if action == "present" {
            responder::dns().add_txt(name.trim_end_matches('.'), value);
        }
        Some(())
    };
    let reply = move |request: &responder::HttpRequest| {
        request.target.split_once('?').and_then(|(_, query)| record(query)).expect("action, name and value");
        Reply::Body(String::new())
    };
    responder::http().set(&way, Reply::By(Arc::new(reply)));
    let url = format!("http://127.0.0.1:{}/{way}", responder::http().port());
    script(
        &site.home.join("dns-hook"),
        &format!("exec curl --fail --silent --show-error --noproxy '*' \"{url}?$1&$2&$3\"\n"),
    )
}

/// Writes a shell script.
pub fn script(path: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{body}")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its owner");
    path.to_owned()
}

fn lego(site: &Site, names: &[&str]) -> Command {
    let mut lego = client("lego", &site.home);
    lego.env("LEGO_CA_CERTIFICATES", &site.root);
    lego.args(["--server", &site.directory, "--accept-tos", "--email", "lego@example.org"]);
    lego.args(["--path", &text(&site.home.join("lego"))]);
    names.iter().for_each(|name| {
        lego.args(["--domains", name]);
    });
    lego
}

fn file(site: &Site, name: &str) -> PathBuf {
    site.home.join("lego/certificates").join(format!("{name}.crt"))
}
