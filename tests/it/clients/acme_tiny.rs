//! acme-tiny: http-01 by files, and the same again. It cannot revoke.

use crate::clients::evidence::Certificate;
use crate::clients::matrix::{Flow, Judge};
use crate::clients::program::{client, debian_version, finish, openssl, text};
use crate::clients::site::Site;
use crate::clients::webroot::Webroot;
use crate::support::chancery::Kind;

pub fn goes_its_way(site: &Site) {
    let judge = Judge::new(site, "acme-tiny", &debian_version("acme-tiny"));
    let (one, other) = (site.name(), site.name());
    let path = |name| text(&site.home.join(name));
    let (account, key, request, chain) =
        (path("account.key"), path("key.pem"), path("csr.pem"), path("chain.pem"));
    openssl(&["genrsa", "-traditional", "-out", &account, "2048"]);
    let names = format!("subjectAltName=DNS:{one},DNS:{other}");
    let new_key = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let for_names = ["-subj", "/", "-addext", &names, "-keyout", &key, "-out", &request];
    openssl(&[&new_key[..], &for_names[..]].concat());
    let challenges = site.home.join("challenges");
    std::fs::create_dir(&challenges).expect("a folder");
    let webroot = Webroot::start(site.address, site.http_port, &challenges);

    let obtain = |directory: &str| {
        let mut tiny = client("acme-tiny", &site.home);
        tiny.env("SSL_CERT_FILE", &site.root).arg("--disable-check").arg("--acme-dir").arg(&challenges);
        tiny.args(["--account-key", &account, "--csr", &request, "--directory-url", directory]);
        std::fs::write(&chain, finish(&mut tiny)).expect("written");
    };
    let first = judge.does(&[Flow::Register, Flow::Http01, Flow::SeveralNames], || {
        obtain(&site.directory);
        Certificate::verified(site, chain.as_ref(), &[&one, &other])
    });
    first.assert_not_revoked();
    let second = judge.does(&[Flow::Renew], || {
        obtain(&site.directory);
        first.renewed(site, chain.as_ref(), &[&one, &other])
    });
    if site.kind() == Kind::Fleet {
        drop(webroot);
        judge.does(&[Flow::Trusted], || {
            obtain(&site.directory_of("trusted"));
            second.renewed(site, chain.as_ref(), &[&one, &other]);
        });
    }
}
