//! uacme: all three challenges by hooks (tls-alpn-01 with its own ualpn), renewal, revocation, an external account. Its
//! version 1.7.4 trusts what the system trusts and nothing else, so it runs where the system's bundle is our root: in a
//! mount namespace of its own.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::hook::{dns_hook, script};
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, debian_version, finish, require, surroundings, text};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;
use crate::support::chancery::Kind;
use crate::support::process::Process;
use crate::support::run::{wait_until, with_log};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

pub fn goes_its_way(site: &Site) {
    let judge = Judge::new(site, "uacme", &debian_version("uacme"));
    let name = site.name();
    let challenges = site.home.join("challenges");
    std::fs::create_dir(&challenges).expect("a folder");
    let _webroot = Webroot::start(site.address, site.http_port, &challenges);
    let by_file = hook(site, "http-01", &format!("printf %s \"$5\" > '{}'/\"$4\"", challenges.display()));

    let issue = ["--type", "EC", "--hook", &by_file, "--force", "issue", &name];
    let file = site.home.join("uacme").join(&name).join("cert.pem");
    let first = judge.does(&[Flow::Register, Flow::Http01], || {
        finish(uacme(site).args(["--type", "EC", "new", "uacme@example.org"]));
        finish(uacme(site).args(issue));
        Certificate::verified(site, &file, &[&name])
    });
    first.assert_not_revoked();
    let second = judge.does(&[Flow::Renew], || {
        finish(uacme(site).args(issue));
        first.renewed(site, &file, &[&name])
    });
    judge.does(&[Flow::Revoke], || {
        finish(uacme(site).args(["--reason", "5", "revoke", &text(&file)]));
        second.assert_revoked(Some("Cessation Of Operation"));
    });
    first.assert_not_revoked();

    judge.does(&[Flow::TlsAlpn01, Flow::SeveralNames], || by_tls(site));
    if site.kind() == Kind::Fleet {
        judge.does(&[Flow::Dns01, Flow::Wildcard], || {
            let present = format!("'{}' present \"_acme-challenge.$3\" \"$5\"", dns_hook(site).display());
            let (name, hook) = (site.name(), hook(site, "dns-01", &present));
            let wildcard = format!("*.{name}");
            finish(uacme(site).args(["--hook", &hook, "issue", &name, &wildcard]));
            verified(site, "uacme", &name, &[&name, &format!("below.{name}")]);
        });
        judge.does(&[Flow::Trusted], || {
            let name = site.name();
            let trusted = || of(site, &site.directory_of("trusted"), "trusted");
            finish(trusted().args(["--type", "EC", "new"]));
            // A hook that declines every challenge.
            finish(trusted().args(["--hook", "/bin/false", "issue", &name]));
            verified(site, "trusted", &name, &[&name]);
        });
        judge.does(&[Flow::Eab], || {
            let name = site.name();
            let (kid, hmac) = site.external_account();
            let bound = || of(site, &site.directory_of("bound"), "bound");
            finish(bound().args(["--type", "EC", "--eab", &format!("{kid}:{hmac}"), "new"]));
            finish(bound().args(["--hook", &by_file, "issue", &name]));
            verified(site, "bound", &name, &[&name]);
        });
    }
}

/// ualpn answers, and is told what by the hook.
fn by_tls(site: &Site) {
    require("ualpn");
    let socket = text(&site.home.join("ualpn.sock"));
    let bind = format!("{}@{}", site.address, site.tls_port);
    let log = site.home.join("ualpn.log");
    let pid = text(&site.home.join("ualpn.pid"));
    // What is no challenge would go to port 9.
    let arguments = ["--bind", &bind, "--connect", "127.0.0.1@9", "--sock", &socket, "--pidfile", &pid];
    let ualpn = Process::start_ending_by("TERM", "ualpn", arguments, &surroundings(&site.home), &log);
    wait_until("ualpn listens", || {
        assert!(ualpn.is_running(), "{}", with_log("ualpn ended", &ualpn.log()));
        UnixStream::connect(&socket).is_ok() && TcpStream::connect((site.address, site.tls_port)).is_ok()
    });
    let tell = |what: &str| format!("[ \"$(echo \"{what}\" | ualpn --sock '{socket}')\" = OK ]");
    let hook = hook(site, "tls-alpn-01", &tell("auth $3 $5"));
    let (one, other) = (site.name(), site.name());
    finish(uacme(site).args(["--hook", &hook, "issue", &one, &other]));
    verified(site, "uacme", &one, &[&one, &other]);
}

/// A hook that declines every challenge but those of a `kind`, by failing, and meets those by `begin`, which is given an
/// identifier ($3), a token ($4) and a key authorization, or its digest ($5).
fn hook(site: &Site, kind: &str, begin: &str) -> String {
    let body = format!("[ \"$2\" = {kind} ] || exit 1\ncase \"$1\" in begin) {begin};; esac\n");
    text(&script(&site.home.join(format!("hook-{kind}")), &body))
}

fn verified(site: &Site, place: &str, first: &str, names: &[&str]) {
    Certificate::verified(site, &site.home.join(place).join(first).join("cert.pem"), names);
}

fn uacme(site: &Site) -> Command {
    of(site, &site.directory, "uacme")
}

/// With a directory, and with an account of the client's folder `place`.
fn of(site: &Site, directory: &str, place: &str) -> Command {
    require("uacme");
    assert!(std::path::Path::new(BUNDLE).exists(), "{BUNDLE} is not there; `make test` installs it");
    let mut unshare = client("unshare", &site.home);
    if !runs_as_root() {
        unshare.arg("--map-root-user");
    }
    let inside = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
    unshare.args(["--mount", "sh", "-c", inside, "sh"]).arg(&site.root).arg(BUNDLE);
    unshare.args(["uacme", "--acme-url", directory, "--yes", "--confdir"]).arg(site.home.join(place));
    unshare
}

/// Whether this process may do anything.
pub fn runs_as_root() -> bool {
    finish(Command::new("id").arg("-u")).trim() == "0"
}
