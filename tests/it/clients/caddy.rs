//! Caddy: a site by http-01 and one by tls-alpn-01, and their renewal. It does not revoke.

use std::path::PathBuf;

use serde_json::Value;

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish, require, surroundings, text};
use crate::clients::site::Site;
use crate::support::process::Process;
use crate::support::run::{SOON, wait_until};

pub fn goes_its_way(site: &Site) {
    // Beside the sockets that it is told to open, it tries the challenge ports of all addresses, and is content if it
    // finds itself at 127.0.0.1.
    let (by_http, by_tls) = (site.name_of_localhost(), site.name_of_localhost());
    let names = [by_http.as_str(), by_tls.as_str()];
    let caddyfile = text(&site.home.join("Caddyfile"));
    // One site first: two that begin at once may each make an account, and Caddy then keeps the key of one beside the
    // URL of the other.
    for sites in [&names[..1], &names[..]] {
        std::fs::write(&caddyfile, configuration(site, sites)).expect("written");
        let caddy = start(site, &["--config", &caddyfile, "--adapter", "caddyfile"]);
        sites.iter().for_each(|name| wait_for_certificate(site, &caddy, name, None));
        stop(&caddy);
    }
    let first = names.map(|name| Certificate::verified(site, &file(site, name), &[name]));

    let caddy = start(site, &["--config", &for_renewal(site, &caddyfile)]);
    for (name, first) in names.iter().zip(&first) {
        first.assert_not_revoked();
        wait_for_certificate(site, &caddy, name, Some(first));
        first.renewed(site, &file(site, name), &[name]);
    }
}

/// The first of `names` is proven by http-01, the second by tls-alpn-01.
fn configuration(site: &Site, names: &[&str]) -> String {
    let global = format!(
        "{{\n  admin off\n  skip_install_trust\n  storage file_system {}\n  http_port {}\n  https_port {}\n  \
         default_bind 127.0.0.1\n  email caddy@example.org\n}}\n",
        site.home.join("store").display(),
        site.http_port,
        site.tls_port
    );
    // The issuer is named with each site, since Caddy certifies names under `.localhost` by itself otherwise.
    let one = |name: &str, other_challenge: &str| {
        format!(
            "{name} {{\n  respond ok\n  tls {{\n    issuer acme {{\n      dir {}\n      trusted_roots {}\n      \
             {other_challenge}\n    }}\n  }}\n}}\n",
            site.directory,
            site.root.display()
        )
    };
    let others = ["disable_tlsalpn_challenge", "disable_http_challenge"];
    names.iter().zip(others).fold(global, |text, (name, other)| text + &one(name, other))
}

/// The same configuration, under which every certificate is due for renewal: certificates are dated back by a minute,
/// which is more than what this ratio leaves of their lifetime.
fn for_renewal(site: &Site, caddyfile: &str) -> String {
    let adapt = &mut client("caddy", &site.home);
    let adapted = finish(adapt.args(["adapt", "--adapter", "caddyfile", "--config", caddyfile]));
    let mut adapted: Value = serde_json::from_str(&adapted).expect("JSON");
    let policies = adapted["apps"]["tls"]["automation"]["policies"].as_array_mut().expect("policies");
    policies.iter_mut().for_each(|policy| policy["renewal_window_ratio"] = 0.999_999.into());
    let file = text(&site.home.join("caddy.json"));
    std::fs::write(&file, adapted.to_string()).expect("written");
    file
}

fn start(site: &Site, arguments: &[&str]) -> Process {
    require("caddy");
    let arguments = [&["run"], arguments].concat();
    Process::start("caddy", arguments, &surroundings(&site.home), &site.home.join("caddy.log"))
}

fn stop(caddy: &Process) {
    caddy.signal("TERM");
    caddy.wait_for_end(SOON);
}

/// Waits until Caddy has stored a certificate, another one than `last`.
fn wait_for_certificate(site: &Site, caddy: &Process, name: &str, last: Option<&Certificate>) {
    let last = last.map(Certificate::pem);
    wait_until("Caddy has a certificate", || {
        assert!(caddy.is_running(), "Caddy ended: {}", caddy.log());
        // It may be stopped while it still tidies a lock away, and says so; that is its own affair.
        let is_failure =
            |line: &&str| line.contains("\"level\":\"error\"") && !line.contains("\"signal\":\"SIGTERM\"");
        let failure = caddy.log().lines().find(is_failure).map(str::to_owned);
        assert_eq!(failure, None, "Caddy is content");
        let stored = std::fs::read_to_string(file(site, name)).ok();
        stored.is_some_and(|stored| stored.ends_with("-----\n") && Some(stored) != last)
    });
}

/// Where Caddy stores a certificate: below a folder that is named after the directory's URL.
fn file(site: &Site, name: &str) -> PathBuf {
    let server = site.directory.trim_start_matches("https://").replace([':', '/'], "-");
    site.home.join("store/certificates").join(server).join(name).join(format!("{name}.crt"))
}
