//! Programs that clients start to have their challenges met.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clients::program::require;
use crate::clients::site::Site;
use crate::support::responder::{self, Reply};
use crate::support::run::unique;

/// A program that gives each TXT record it is asked for (`present NAME VALUE`) to the DNS server of the tests, by way
/// of their web server.
pub fn dns_hook(site: &Site) -> PathBuf {
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
