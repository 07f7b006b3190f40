//! The certificate of the ACME listener: from files, or made by the own authority and kept in the data folder; and its
//! renewal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{StartError, make_data_dir, secrets};
use crate::acme::identifier::Identifier;
use crate::config::{Config, Tls};
use crate::listener::{self, ReloadingCertificate};
use crate::pki::chain;
use crate::service::{Services, listener_certificate};

/// How often it is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(3600);

/// Its file in the data folder: the chain, and the key.
const FILE: &str = "listener.pem";

/// The listener's certificate, which can be replaced, and the settings that show it.
type ListenerTls = (Arc<ReloadingCertificate>, Arc<rustls::ServerConfig>);

/// TLS as the configuration wants it, if it does.
pub(super) async fn tls(config: &Config, services: &Services) -> Result<Option<ListenerTls>, StartError> {
    let Some((chain, key)) = tls_certificate(config, services).await? else { return Ok(None) };
    let certificate = ReloadingCertificate::from_pem(&chain, &key)?;
    let tls = listener::tls_config(Arc::clone(&certificate))?;
    Ok(Some((certificate, tls)))
}

type PemPair = (Vec<u8>, Zeroizing<Vec<u8>>);

/// The certificate that the listener shows, in PEM: that of the own authority, or what the files hold now.
async fn tls_certificate(config: &Config, services: &Services) -> Result<Option<PemPair>, StartError> {
    match &config.tls {
        Tls::Off => Ok(None),
        Tls::Files { cert, key } => {
            let read = |path: &Path| {
                std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
            };
            Ok(Some((read(cert)?, Zeroizing::new(read(key)?))))
        }
        Tls::Auto => own_certificate(config, services).await.map(Some),
    }
}

/// The certificate of the own authority: the one that was kept while it serves, or else a new one.
async fn own_certificate(config: &Config, services: &Services) -> Result<PemPair, StartError> {
    let names = listener_names(&config.external_url);
    let file = config.data_dir.join(FILE);
    let kept = Zeroizing::new(std::fs::read(&file).unwrap_or_default());
    if ReloadingCertificate::from_pem(&kept, &kept).is_ok()
        && let Ok(leaf) = CertificateDer::from_pem_slice(&kept)
        && listener_certificate::still_serves(services, &leaf, &names).await?
    {
        return Ok((kept.to_vec(), kept));
    }
    let (chain, key) = listener_certificate::issue(services, &names).await?;
    let (leaf, further) = chain.split_first().ok_or("no certificate was made for the listener")?;
    let chain = chain::to_pem(leaf, further);
    let key = Zeroizing::new(chain::pem(&key, "PRIVATE KEY"));
    let text = Zeroizing::new(format!("{chain}{}", *key));
    let keep = make_data_dir(&config.data_dir).and_then(|()| Ok(secrets::replace(&file, &text)?));
    if let Err(error) = keep {
        // A replica with a read-only file system serves all the same.
        let file = file.display();
        tracing::warn!(%error, %file, "the listener's certificate cannot be kept: the next start makes another");
    }
    Ok((chain.into_bytes(), Zeroizing::new(key.as_bytes().to_vec())))
}

/// The names of the listener's own certificate: the external URL's host alone. Where that is this machine, all that this
/// machine is called by itself.
fn listener_names(external_url: &str) -> Vec<Identifier> {
    let uri = external_url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>().ok();
    let mut names: Vec<_> =
        Identifier::parse(if address.is_some() { "ip" } else { "dns" }, host).into_iter().collect();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        let machine = [
            Identifier::Dns("localhost".to_owned()),
            Identifier::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
            Identifier::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
        ];
        names.extend(machine.into_iter().filter(|name| names.first() != Some(name)).collect::<Vec<_>>());
    }
    names
}

/// Looks at the listener's certificate each hour: files are read again, an own one is made anew when a third of its time is
/// left, or when it was revoked.
pub(super) async fn renew(
    config: Config,
    services: Arc<Services>,
    certificate: Arc<ReloadingCertificate>,
    stopped: CancellationToken,
) {
    while stopped.run_until_cancelled(tokio::time::sleep(CERTIFICATE_CHECK)).await.is_some() {
        let renewed = async {
            let Some((chain, key)) = tls_certificate(&config, &services).await? else { return Ok(()) };
            Ok::<_, StartError>(certificate.store(&chain, &key)?)
        };
        if let Err(error) = renewed.await {
            tracing::error!(%error, "the listener's certificate could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_called_what_clients_call_it_and_nothing_else() {
        let names = |url: &str| listener_names(url).iter().map(Identifier::value).collect::<Vec<_>>();
        assert_eq!(names("https://acme.example.net:14000/pki"), ["acme.example.net"]);
        assert_eq!(names("https://192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(names("https://[2001:db8::7]:14000"), ["2001:db8::7"]);
        assert_eq!(names("https://localhost:14000"), ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(names("https://127.0.0.1"), ["127.0.0.1", "localhost", "::1"]);
    }
}
