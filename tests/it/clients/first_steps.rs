//! The README's first certificate: what `chancery serve --local` prints can be pasted, and is what the README has.

use std::path::Path;

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish, require, text};
use crate::clients::site::Site;
use crate::support::foreign;

/// What the commands for lego 5, for lego 4 and for certbot have, and no other has.
const LEGO_5: &str = " lego run --server ";
const LEGO_4: &str = " lego --server ";
const CERTBOT: &str = " certbot certonly ";

/// Where lego leaves the certificate, and where certbot does.
const OF_LEGO: &str = "lego-data/certificates/app.localhost.crt";
const OF_CERTBOT: &str = "certbot-data/live/app.localhost/fullchain.pem";

#[test]
fn the_printed_commands_get_a_certificate() {
    let site = Site::embedded();
    require("lego");
    require("certbot");
    let path = std::env::var("PATH").expect("a path");
    let serials =
        [(LEGO_4, OF_LEGO), (CERTBOT, OF_CERTBOT)].map(|(part, file)| pasted(&site, &path, part, file));
    assert_ne!(serials[0], serials[1]);
}

#[test]
#[ignore = "needs tests/foreign/build lego"]
fn the_printed_command_for_lego_5_gets_a_certificate() {
    let built = foreign::folder_of("lego");
    let site = Site::embedded();
    let path = format!("{}:{}", text(&built), std::env::var("PATH").expect("a path"));
    pasted(&site, &path, LEGO_5, OF_LEGO);
}

/// Gives the printed command that has `part` to a shell, and verifies what is then in `file`: its serial.
fn pasted(site: &Site, path: &str, part: &str, file: &str) -> String {
    let command = command(&site.log(), part);
    finish(client("sh", &site.home).env("PATH", path).args(["-c", &command]));
    Certificate::verified(site, &site.home.join(file), &["app.localhost"]).serial
}

#[test]
fn the_readme_has_the_printed_commands() {
    let site = Site::embedded();
    let root = site.root.display().to_string();
    let port = site.directory.split([':', '/']).nth(4).expect("a port");
    let printed = site
        .log()
        .replace(&root, "chancery-data/root.pem")
        .replace(&format!("localhost:{port}"), "localhost:14000")
        .replace(&site.http_port.to_string(), "5002");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    for part in [LEGO_5, LEGO_4, CERTBOT] {
        assert_eq!(command(&readme, part), command(&printed, part));
    }
}

/// The one command of a text that has `part`, from its lines as one.
fn command(text: &str, part: &str) -> String {
    let joined = text.replace("\\\n", " ");
    let commands = joined.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let found: Vec<_> = commands.filter(|line| line.contains(part)).collect();
    assert_eq!(found.len(), 1, "{part}: {found:?}");
    found[0].clone()
}
