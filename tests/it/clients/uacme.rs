//! uacme: http-01 by a hook, renewal, revocation. Its version 1.7.4 trusts what the system trusts and nothing else, so
//! it runs where the system's bundle is our root: in a mount namespace of its own.

use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::lego::script;
use crate::clients::program::{client, finish, require, text};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

pub fn goes_its_way(site: &Site) {
    let name = site.name();
    let challenges = site.home.join("challenges");
    std::fs::create_dir(&challenges).expect("a folder");
    let _webroot = Webroot::start(site.address, site.http_port, &challenges);
    let answer = format!("printf %s \"$5\" > '{}'/\"$4\"", challenges.display());
    // begin|done|failed, type, identifier, token, key authorization; a type is declined by failing.
    let hook = format!("[ \"$2\" = http-01 ] || exit 1\ncase \"$1\" in begin) {answer};; esac\n");
    let hook = text(&script(&site.home.join("hook"), &hook));

    finish(uacme(site).args(["--type", "EC", "new", "uacme@example.org"]));
    let issue = ["--type", "EC", "--hook", &hook, "--force", "issue", &name];
    finish(uacme(site).args(issue));
    let file = site.home.join("uacme").join(&name).join("cert.pem");
    let first = Certificate::verified(site, &file, &[&name]);
    first.assert_not_revoked();
    finish(uacme(site).args(issue));
    let second = first.renewed(site, &file, &[&name]);
    finish(uacme(site).args(["--reason", "5", "revoke", &text(&file)]));
    second.assert_revoked(Some("Cessation Of Operation"));
    first.assert_not_revoked();
}

fn uacme(site: &Site) -> Command {
    require("uacme");
    assert!(std::path::Path::new(BUNDLE).exists(), "{BUNDLE} is not there; `make test` installs it");
    let mut unshare = client("unshare", &site.home);
    if !runs_as_root() {
        unshare.arg("--map-root-user");
    }
    let inside = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
    unshare.args(["--mount", "sh", "-c", inside, "sh"]).arg(&site.root).arg(BUNDLE);
    unshare.args(["uacme", "--acme-url", &site.directory, "--yes", "--confdir"]);
    unshare.arg(site.home.join("uacme"));
    unshare
}

fn runs_as_root() -> bool {
    finish(Command::new("id").arg("-u")).trim() == "0"
}
