//! What `serve --local` tells a newcomer: commands to paste. The README has the same.

use crate::config::Config;
use crate::service::Urls;

/// Prints them, in one piece, with this server's directory, root and port for http-01.
#[expect(clippy::print_stdout, reason = "these lines are for a person at a terminal")]
pub(super) fn print(config: &Config, urls: &Urls) {
    let directory = urls.directory(None);
    let root = std::path::absolute(config.data_dir.join("root.pem")).unwrap_or_default();
    let root = root.display();
    let public = &config.ca.public_url;
    let port = config.validation.http01_port;
    let text = format!(
        "
Chancery serves {directory}
Clients trust    {root}
Certificates name their CRL and issuer under {public}

A first certificate, with lego 5:

  LEGO_CA_CERTIFICATES={root} \\
  lego run --server {directory} --accept-tos --email you@example.org \\
    --path lego-data --domains app.localhost --http --http.address :{port}

with lego 4 (Debian's):

  LEGO_CA_CERTIFICATES={root} \\
  lego --server {directory} --accept-tos --email you@example.org \\
    --path lego-data --domains app.localhost --http --http.port :{port} run

or with certbot:

  REQUESTS_CA_BUNDLE={root} \\
  certbot certonly --server {directory} --agree-tos --email you@example.org \\
    --config-dir certbot-data --work-dir certbot-data --logs-dir certbot-data --non-interactive \\
    --standalone --http-01-port {port} --domains app.localhost
"
    );
    println!("{text}");
}
