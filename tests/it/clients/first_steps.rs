//! The README's first certificate: what `chancery serve --local` prints can be pasted, and is what the README has.

use crate::clients::evidence::Certificate;
use crate::clients::program::{client, finish, require};
use crate::clients::site::Site;

/// How the lines for lego and certbot begin.
const BEGINNINGS: [&str; 2] = ["LEGO_CA_CERTIFICATES=", "REQUESTS_CA_BUNDLE="];

#[test]
fn the_printed_lines_get_a_certificate() {
    let site = Site::embedded();
    require("lego");
    require("certbot");
    let log = site.log();
    let files = ["lego-data/certificates/app.localhost.crt", "certbot-data/live/app.localhost/fullchain.pem"];
    let serials = BEGINNINGS.iter().zip(files).map(|(beginning, file)| {
        let line = log.lines().find(|line| line.trim().starts_with(beginning)).expect("the line is printed");
        finish(client("sh", &site.home).args(["-c", line.trim()]));
        Certificate::verified(&site, &site.home.join(file), &["app.localhost"]).serial
    });
    let serials: Vec<_> = serials.collect();
    assert_ne!(serials[0], serials[1]);
}

#[test]
fn the_readme_has_the_printed_lines() {
    let site = Site::embedded();
    let root = site.root.display().to_string();
    let port = site.directory.split([':', '/']).nth(4).expect("a port");
    let printed = site
        .log()
        .replace(&root, "chancery-data/root.pem")
        .replace(&format!("localhost:{port}"), "localhost:14000")
        .replace(&site.http_port.to_string(), "5002");
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let readme = readme.replace("\\\n", " ");
    for beginning in BEGINNINGS {
        let line = |text: &str| -> Vec<String> {
            let found = text.lines().find(|line| line.trim().starts_with(beginning)).expect("a line");
            found.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(line(&readme), line(&printed));
    }
}
