//! dehydrated: all three challenges (by files and by a hook), renewal, revocation, an external account.

use std::process::Command;

use crate::clients::alpn_folder::AlpnFolder;
use crate::clients::documented::block;
use crate::clients::evidence::Certificate;
use crate::clients::hook::{dns_hook, script};
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, debian_version, finish, text};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;
use crate::support::chancery::Kind;

pub fn goes_its_way(site: &Site) {
    let judge = Judge::new(site, "dehydrated", &debian_version("dehydrated"));
    let (one, other) = (site.name(), site.name());
    let challenges = site.home.join("challenges");
    std::fs::create_dir(&challenges).expect("a folder");
    let _webroot = Webroot::start(site.address, site.http_port, &challenges);
    configure(site, "config", &site.directory, "");

    let obtain = ["--cron", "--domain", &one, "--domain", &other];
    let file = site.home.join("certs").join(&one).join("fullchain.pem");
    let first = judge.does(&[Flow::Register, Flow::Http01, Flow::SeveralNames], || {
        finish(dehydrated(site, "config").args(["--register", "--accept-terms"]));
        finish(dehydrated(site, "config").args(obtain));
        Certificate::verified(site, &file, &[&one, &other])
    });
    first.assert_not_revoked();
    let second = judge.does(&[Flow::Renew], || {
        finish(dehydrated(site, "config").args(obtain).arg("--force"));
        first.renewed(site, &file, &[&one, &other])
    });
    judge.does(&[Flow::Revoke], || {
        finish(dehydrated(site, "config").arg("--revoke").arg(file.with_file_name("cert.pem")));
        second.assert_revoked(None);
    });
    first.assert_not_revoked();

    judge.does(&[Flow::TlsAlpn01], || by_tls(site));
    if site.kind() == Kind::Fleet {
        judge.does(&[Flow::Dns01, Flow::Wildcard], || by_dns(site));
        judge.does(&[Flow::Trusted], || {
            configure(site, "trusted", &site.directory_of("trusted"), "");
            obtain_first(site, "trusted", &[&site.name()]);
        });
        judge.does(&[Flow::Eab], || {
            let (kid, hmac) = site.external_account();
            let binding = format!("EAB_KID='{kid}'\nEAB_HMAC_KEY='{hmac}'\n");
            configure(site, "bound", &site.directory_of("bound"), &binding);
            obtain_first(site, "bound", &[&site.name()]);
        });
    }
}

/// It writes the certificate that is to be shown, and leaves the showing to others.
fn by_tls(site: &Site) {
    let certificates = site.home.join("alpn-certs");
    std::fs::create_dir(&certificates).expect("a folder");
    let _server = AlpnFolder::start(site.address, site.tls_port, &certificates);
    configure(site, "by-tls", &site.directory, "CHALLENGETYPE=tls-alpn-01\n");
    obtain(site, "by-tls", &[&site.name()]);
}

/// A name and its wildcard, whose two TXT records stand under one name.
fn by_dns(site: &Site) {
    // deploy_challenge, domain, token, value; other calls are for other things.
    let hook = format!(
        "[ \"$1\" = deploy_challenge ] || exit 0\nexec '{}' present \"_acme-challenge.$2\" \"$4\"\n",
        dns_hook(site).display()
    );
    let hook = text(&script(&site.home.join("hook"), &hook));
    configure(site, "by-dns", &site.directory, &format!("CHALLENGETYPE=dns-01\nHOOK='{hook}'\n"));
    let name = site.name();
    obtain(site, "by-dns", &[&name, &format!("*.{name}")]);
}

/// Registers with the directory of `configuration`, and then as `obtain`.
fn obtain_first(site: &Site, configuration: &str, names: &[&str]) {
    finish(dehydrated(site, configuration).args(["--register", "--accept-terms"]));
    obtain(site, configuration, names);
}

fn obtain(site: &Site, configuration: &str, names: &[&str]) {
    let mut dehydrated = dehydrated(site, configuration);
    dehydrated.arg("--cron");
    names.iter().for_each(|name| {
        dehydrated.args(["--domain", name]);
    });
    finish(&mut dehydrated);
    let below: Vec<_> = names.iter().map(|name| name.replace('*', "below")).collect();
    let below: Vec<_> = below.iter().map(String::as_str).collect();
    Certificate::verified(site, &site.home.join("certs").join(names[0]).join("fullchain.pem"), &below);
}

/// Writes what docs/clients.md shows, and `more`.
fn configure(site: &Site, file: &str, directory: &str, more: &str) {
    let home = site.home.display();
    let places = format!("WELLKNOWN='{home}/challenges'\nBASEDIR='{home}'\n");
    let shown = block("CA=", directory, &site.root);
    std::fs::write(site.home.join(file), format!("{shown}{places}{more}")).expect("written");
}

fn dehydrated(site: &Site, configuration: &str) -> Command {
    let mut dehydrated = client("dehydrated", &site.home);
    dehydrated.arg("--config").arg(site.home.join(configuration));
    dehydrated
}
