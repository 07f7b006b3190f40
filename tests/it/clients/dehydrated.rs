//! dehydrated: http-01 by files, renewal, revocation.

use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;

pub fn goes_its_way(site: &Site) {
    let (one, other) = (site.name(), site.name());
    let challenges = site.home.join("challenges");
    std::fs::create_dir(&challenges).expect("a folder");
    let _webroot = Webroot::start(site.address, site.http_port, &challenges);
    let configuration = format!(
        "CA='{}'\nCURL_OPTS='--cacert {}'\nWELLKNOWN='{}'\nBASEDIR='{}'\nKEY_ALGO=prime256v1\n\
         CONTACT_EMAIL=dehydrated@example.org\n",
        site.directory,
        site.root.display(),
        challenges.display(),
        site.home.display()
    );
    std::fs::write(site.home.join("config"), configuration).expect("written");

    finish(dehydrated(site).args(["--register", "--accept-terms"]));
    let obtain = ["--cron", "--domain", &one, "--domain", &other];
    finish(dehydrated(site).args(obtain));
    let file = site.home.join("certs").join(&one).join("fullchain.pem");
    let first = Certificate::verified(site, &file, &[&one, &other]);
    first.assert_not_revoked();
    finish(dehydrated(site).args(obtain).arg("--force"));
    let second = first.renewed(site, &file, &[&one, &other]);
    finish(dehydrated(site).arg("--revoke").arg(file.with_file_name("cert.pem")));
    second.assert_revoked(None);
    first.assert_not_revoked();
}

fn dehydrated(site: &Site) -> Command {
    let mut dehydrated = client("dehydrated", &site.home);
    dehydrated.arg("--config").arg(site.home.join("config"));
    dehydrated
}
