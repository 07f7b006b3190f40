//! x/crypto's acme and autocert, in a program of ours (tests/foreign/go-acme): all three challenges, an address, a
//! profile, a binding, renewal and revocation, over HTTP/2.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::evidence::Certificate;
use crate::clients::hook::dns_hook;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, finish, text};
use crate::clients::site::Site;
use crate::support::chancery::Kind;
use crate::support::foreign::folder_of;

/// Where the program is.
pub fn program() -> PathBuf {
    folder_of("go-acme").join("go-acme")
}

pub fn goes_its_way(site: &Site, program: &Path) {
    let version = finish(Command::new(program).arg("version")).trim().to_owned();
    let go = Go { site, program };
    go.issues(&Judge::new(site, "x/crypto acme", &version));
    go.serves(&Judge::new(site, "x/crypto autocert", &version));
}

/// The program at a site.
struct Go<'s> {
    site: &'s Site,
    program: &'s Path,
}

impl Go<'_> {
    fn issues(&self, judge: &Judge<'_>) {
        let site = self.site;
        let account = judge.does(&[Flow::Register], || self.registers("go", &site.directory, &[]));
        let name = site.name();
        let issue =
            || assert_eq!(self.run("go", &self.order(&["--challenge", "http-01"], &[&name])), account);
        let first = judge.does(&[Flow::Http01], || {
            issue();
            Certificate::verified(site, &self.file("go", &name), &[&name])
        });
        let second = judge.does(&[Flow::Renew], || {
            issue();
            first.renewed(site, &self.file("go", &name), &[&name])
        });
        judge.does(&[Flow::Revoke], || {
            let file = text(&self.file("go", &name));
            self.run("go", &self.at(&["revoke", "--certificate", &file, "--reason", "4"]));
            second.assert_revoked(Some("Superseded"));
        });
        first.assert_not_revoked();
        let names = [site.name(), site.name()];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        judge.does(&[Flow::TlsAlpn01, Flow::SeveralNames], || {
            self.issued(&["--challenge", "tls-alpn-01"], &names)
        });
        if site.kind() == Kind::Fleet {
            self.issues_beside(judge);
        }
    }

    /// What only the fleet is asked: it knows further profiles, and a DNS server of ours.
    fn issues_beside(&self, judge: &Judge<'_>) {
        let site = self.site;
        let (plain, address) = (site.name(), site.address.to_string());
        judge.does(&[Flow::Dns01, Flow::Wildcard], || {
            let hook = text(&dns_hook(site));
            let of_dns = ["--challenge", "dns-01", "--hook", &hook];
            self.run("go", &self.order(&of_dns, &[&plain, &format!("*.{plain}")]));
            let (file, below) = (self.file("go", &plain), format!("below.{plain}"));
            Certificate::verified(site, &file, &[&plain, &below]);
        });
        judge.does(&[Flow::Address], || self.issued(&["--challenge", "http-01"], &[&address]));
        // Not asked to answer anything, it would fail were it to meet a challenge.
        judge.does(&[Flow::Trusted, Flow::Profile], || {
            self.issued(&["--profile", "trusted"], &[&site.name()])
        });
        judge.does(&[Flow::Eab], || {
            let (kid, hmac) = site.external_account();
            let directory = site.directory_of("bound");
            let account = self.registers("bound", &directory, &["--kid", &kid, "--hmac", &hmac]);
            let name = site.name();
            let order = self.order(&["--challenge", "http-01", "--directory", &directory], &[&name]);
            assert_eq!(self.run("bound", &order), account);
            Certificate::verified(site, &self.file("bound", &name), &[&name]);
        });
    }

    /// autocert renews a month before the end at the earliest: on the fleet, that is at once.
    fn serves(&self, judge: &Judge<'_>) {
        let site = self.site;
        let is_fleet = site.kind() == Kind::Fleet;
        let directory = if is_fleet { site.directory_of("short") } else { site.directory.clone() };
        let serve = |name: &str, further: &[&str]| self.serves_one("served", &directory, name, further);
        let (name, other) = (site.name(), site.name());
        let first = judge.does(&[Flow::Register, Flow::TlsAlpn01], || {
            Certificate::verified(site, &serve(&name, &[]), &[&name])
        });
        if is_fleet {
            judge.does(&[Flow::Renew], || {
                first.renewed(site, &serve(&name, &["--renew-before", "720h"]), &[&name]);
            });
        }
        first.assert_not_revoked();
        // It tries tls-alpn-01 first whatever it is told: the order fails, and the next one is for http-01.
        judge.does(&[Flow::Http01], || {
            Certificate::verified(site, &serve(&other, &["--only-http"]), &[&other]);
        });
        if is_fleet {
            self.serves_beside(judge);
        }
    }

    /// By the directories of profiles: autocert names none. An account that was made is not made again, bound or not, so
    /// the bound one lies elsewhere.
    fn serves_beside(&self, judge: &Judge<'_>) {
        let site = self.site;
        let (bound, trusted) = (site.name(), site.name());
        judge.does(&[Flow::Eab], || {
            let (kid, hmac) = site.external_account();
            let binding = ["--kid", &kid, "--hmac", &hmac];
            let file = self.serves_one("served-bound", &site.directory_of("bound"), &bound, &binding);
            Certificate::verified(site, &file, &[&bound]);
        });
        judge.does(&[Flow::Trusted], || {
            let file = self.serves_one("served", &site.directory_of("trusted"), &trusted, &[]);
            Certificate::verified(site, &file, &[&trusted]);
        });
    }

    /// Serves a name until it has a certificate, with what the client's folder `place` keeps: its file.
    fn serves_one(&self, place: &str, directory: &str, name: &str, further: &[&str]) -> PathBuf {
        let arguments = [&["serve", "--directory", directory, "--name", name], further].concat();
        self.run(place, &self.at(&arguments));
        self.file(place, name)
    }

    /// Makes an account that is kept in the client's folder `place`: its URL.
    fn registers(&self, place: &str, directory: &str, further: &[&str]) -> String {
        let account = self.run(place, &self.at(&[&["register", "--directory", directory], further].concat()));
        assert!(account.starts_with("https://localhost:"), "{account}");
        account
    }

    /// Gets a certificate for `names` from the account of the last run.
    fn issued(&self, how: &[&str], names: &[&str]) -> Certificate {
        self.run("go", &self.order(how, names));
        Certificate::verified(self.site, &self.file("go", names[0]), names)
    }

    fn order(&self, how: &[&str], names: &[&str]) -> Vec<String> {
        let names = names.iter().flat_map(|name| ["--name", name]);
        self.at(&["issue"].into_iter().chain(how.iter().copied()).chain(names).collect::<Vec<_>>())
    }

    /// Arguments with those of the site behind the command; a directory that is named among them has the last word.
    fn at(&self, arguments: &[&str]) -> Vec<String> {
        let site = self.site;
        let (command, further) = arguments.split_first().expect("a command");
        let mut all: Vec<String> = vec![(*command).into(), "--directory".into(), site.directory.clone()];
        all.extend(["--root".into(), text(&site.root), "--address".into(), site.address.to_string()]);
        let ports = [("--http", site.http_port), ("--tls", site.tls_port)];
        all.extend(ports.iter().flat_map(|(name, port)| [(*name).to_owned(), port.to_string()]));
        all.extend(further.iter().map(|argument| (*argument).to_owned()));
        all
    }

    /// Runs the program with what the client's folder `place` keeps: what it says.
    fn run(&self, place: &str, arguments: &[String]) -> String {
        let mut go = client(&text(self.program), &self.site.home);
        let state = self.site.home.join(place);
        finish(go.args(arguments).arg("--state").arg(state)).trim().to_owned()
    }

    fn file(&self, place: &str, name: &str) -> PathBuf {
        self.site.home.join(place).join(format!("{name}.crt"))
    }
}
