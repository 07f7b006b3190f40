//! The certificate of the ACME listener: from files, or made by the own authority; and its renewal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::acme::identifier::Identifier;
use crate::acme::time::FleetClock;
use crate::config::{Config, Tls};
use crate::listener::{self, ReloadingCertificate};
use crate::pki::authority;
use crate::pki::chain;
use crate::pki::issuer::LocalIssuer;

/// How often it is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(3600);

/// The listener's certificate, which can be replaced, and the settings that show it.
type ListenerTls = (Arc<ReloadingCertificate>, Arc<rustls::ServerConfig>);

/// TLS as the configuration wants it, if it does.
pub(super) fn tls(config: &Config, issuer: &LocalIssuer) -> Result<Option<ListenerTls>, StartError> {
    let Some((chain, key)) = tls_certificate(config, issuer)? else { return Ok(None) };
    let certificate = ReloadingCertificate::from_pem(&chain, &key)?;
    let tls = listener::tls_config(Arc::clone(&certificate))?;
    Ok(Some((certificate, tls)))
}

type PemPair = (Vec<u8>, zeroize::Zeroizing<Vec<u8>>);

/// The certificate that the listener shows, in PEM: a new one of the own authority, or what the files hold now.
fn tls_certificate(config: &Config, issuer: &LocalIssuer) -> Result<Option<PemPair>, StartError> {
    match &config.tls {
        Tls::Off => Ok(None),
        Tls::Files { cert, key } => {
            let read = |path: &Path| {
                std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
            };
            Ok(Some((read(cert)?, zeroize::Zeroizing::new(read(key)?))))
        }
        Tls::Auto => {
            let names = listener_names(&config.external_url);
            let (chain, key) = authority::server_certificate(issuer, &names, FleetClock::machine_now())?;
            let (leaf, further) = chain.split_first().ok_or("no certificate was made for the listener")?;
            let key = zeroize::Zeroizing::new(chain::pem(&key, "PRIVATE KEY").into_bytes());
            Ok(Some((chain::to_pem(leaf, further).into_bytes(), key)))
        }
    }
}

/// The names of the listener's own certificate: this machine, and the external URL's host.
fn listener_names(external_url: &str) -> Vec<Identifier> {
    let mut names = vec![
        Identifier::Dns("localhost".to_owned()),
        Identifier::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
        Identifier::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    let host = external_url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    if let Ok(name) = Identifier::parse(kind, host)
        && !names.contains(&name)
    {
        names.push(name);
    }
    names
}

/// Replaces the listener's certificate before it ends: files are read again each hour, an own one is made anew each day.
pub(super) async fn renew(
    config: Config,
    issuer: LocalIssuer,
    certificate: Arc<ReloadingCertificate>,
    stopped: CancellationToken,
) {
    let own = matches!(config.tls, Tls::Auto);
    let period = if own { CERTIFICATE_CHECK * 24 } else { CERTIFICATE_CHECK };
    while stopped.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
        let renewed = tls_certificate(&config, &issuer).and_then(|pair| {
            let Some((chain, key)) = pair else { return Ok(()) };
            Ok(certificate.store(&chain, &key)?)
        });
        if let Err(error) = renewed {
            tracing::error!(%error, "the listener's certificate could not be renewed");
        }
    }
}
