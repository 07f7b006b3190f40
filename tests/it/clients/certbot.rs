//! certbot: http-01, renewal, revocation.

use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish};
use crate::clients::site::Site;

pub fn goes_its_way(site: &Site) {
    let (one, other) = (site.name(), site.name());
    let mut certonly = certbot(site, "certonly");
    certonly.args(["--agree-tos", "--email", "certbot@example.org", "--standalone", "--key-type", "ecdsa"]);
    certonly.args(["--http-01-address", &site.address.to_string()]);
    certonly.args(["--http-01-port", &site.http_port.to_string()]);
    finish(certonly.args(["--domains", &one, "--domains", &other]));
    let file = site.home.join("config/live").join(&one).join("fullchain.pem");
    let first = Certificate::verified(site, &file, &[&one, &other]);
    first.assert_not_revoked();
    finish(certbot(site, "renew").args(["--force-renewal", "--no-random-sleep-on-renew"]));
    let second = first.renewed(site, &file, &[&one, &other]);
    let mut revoke = certbot(site, "revoke");
    revoke.args(["--reason", "keycompromise", "--no-delete-after-revoke", "--cert-path"]);
    finish(revoke.arg(&file));
    second.assert_revoked(Some("Key Compromise"));
    first.assert_not_revoked();
}

fn certbot(site: &Site, action: &str) -> Command {
    let mut certbot = client("certbot", &site.home);
    certbot.env("REQUESTS_CA_BUNDLE", &site.root);
    certbot.args([action, "--non-interactive", "--server", &site.directory]);
    for (option, folder) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
        certbot.arg(option).arg(site.home.join(folder));
    }
    certbot
}
