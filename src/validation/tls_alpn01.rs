//! tls-alpn-01 (RFC 8737, RFC 8738 §6; AUT-12): a TLS server that agrees on the protocol `acme-tls/1` shows a self-signed
//! certificate made for the purpose, with a digest of the key authorization in it. Nothing is sent over the connection.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::acme::identifier::Identifier;
use crate::acme::problem::{ProblemType, printable};
use crate::network::connect::{Connection, Host};
use crate::network::{Network, tls};
use crate::validation::{Attempt, Verdict};

/// RFC 8737 §6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// `id-pe-acmeIdentifier` (RFC 8737 §6.1).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// Connects to `port`, shakes hands and looks at the certificate, within the network's `http_timeout`.
pub async fn validate(attempt: &Attempt<'_>, network: &Network, port: u16) -> Verdict {
    let limit = network.config().http_timeout;
    let mut address = None;
    let verdict = tokio::time::timeout(limit, handshake(attempt, network, port, &mut address)).await;
    verdict.unwrap_or_else(|_| {
        let to = address.map(|address| format!(" with {address}")).unwrap_or_default();
        let detail =
            format!("the TLS handshake for {}{to} was not done within {limit:?}", attempt.identifier);
        Verdict::retry(ProblemType::Connection, detail)
    })
}

async fn handshake(
    attempt: &Attempt<'_>,
    network: &Network,
    port: u16,
    reached: &mut Option<SocketAddr>,
) -> Verdict {
    let identifier = attempt.identifier;
    let prepared = tls::client_config(&[PROTOCOL]).ok().zip(ServerName::try_from(sni(identifier)).ok());
    let Some((config, server_name)) = prepared else {
        return Verdict::invalid(ProblemType::Tls, format!("{identifier} cannot be sent as SNI"));
    };
    let Connection { stream, address, place: _place } = match network
        .connect_host(&Host::from(identifier), port)
        .await
    {
        Ok(connection) => connection,
        Err(error) => return Verdict::unreached(&error, format!("tls-alpn-01 for {identifier}: {error}")),
    };
    *reached = Some(address);
    let stream = match TlsConnector::from(config).connect(server_name, stream).await {
        Ok(stream) => stream,
        Err(error) => {
            let why = printable(error.to_string().as_bytes(), 200);
            let detail = format!("the TLS handshake for {identifier} with {address} failed: {why}");
            return Verdict::retry(ProblemType::Tls, detail);
        }
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        let detail =
            format!("the TLS server at {address} does not agree on the ALPN protocol \"acme-tls/1\"");
        return Verdict::invalid(ProblemType::Unauthorized, detail);
    }
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let outcome = match leaf {
        Some(leaf) => judge(&attempt.key_authorization(), identifier, leaf),
        None => Err(Wrong { kind: ProblemType::Unauthorized, what: "there is none".into() }),
    };
    match outcome {
        Ok(()) => Verdict::Valid,
        Err(Wrong { kind, what }) => {
            let detail = format!("the certificate that {address} shows for {identifier} is wrong: {what}");
            Verdict::invalid(kind, detail)
        }
    }
}

/// The server name to ask for: the name, or the reverse-mapping name of the address (RFC 8738 §6).
fn sni(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(address)) => {
            let nibbles = (0..32).map(|nibble| format!("{:x}.", address.to_bits() >> (4 * nibble) & 0xf));
            format!("{}ip6.arpa", nibbles.collect::<String>())
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The problem's type.
    pub kind: ProblemType,
    /// The end of a sentence that begins "the certificate is wrong:".
    pub what: String,
}

/// Whether a certificate in DER answers the challenge (RFC 8737 §3).
pub fn judge(key_authorization: &str, identifier: &Identifier, der: &[u8]) -> Result<(), Wrong> {
    let unauthorized = |what: &str| Wrong { kind: ProblemType::Unauthorized, what: what.to_owned() };
    let Ok(([], certificate)) = X509Certificate::from_der(der) else {
        return Err(unauthorized("it cannot be read"));
    };
    if !tls::is_self_signed(&certificate, der) {
        return Err(unauthorized("it is not self-signed"));
    }
    match certificate.subject_alternative_name() {
        Ok(Some(names)) if names_only(&names.value.general_names, identifier) => {}
        Ok(Some(names)) => {
            let shown: Vec<String> = names.value.general_names.iter().take(3).map(shown).collect();
            return Err(unauthorized(&format!(
                "its subjectAltName must be {identifier} and nothing else, but is {}",
                shown.join(", ")
            )));
        }
        Ok(None) => return Err(unauthorized("it has no subjectAltName")),
        Err(_) => return Err(unauthorized("it has several subjectAltNames, or one that cannot be read")),
    }
    let acme: Vec<_> = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER)
        .collect();
    let [extension] = acme.as_slice() else {
        return Err(unauthorized("it has no acmeIdentifier extension (1.3.6.1.5.5.7.1.31), or several"));
    };
    if !extension.critical {
        return Err(unauthorized("its acmeIdentifier extension is not critical"));
    }
    let expected = digest(&SHA256, key_authorization.as_bytes());
    // DER: an OCTET STRING of 32 octets.
    let wanted = [&[0x04, 0x20][..], expected.as_ref()].concat();
    if verify_slices_are_equal(extension.value, &wanted).is_err() {
        let what = format!(
            "its acmeIdentifier extension holds {}, but the OCTET STRING of the key authorization's SHA-256 is {}",
            hex(extension.value),
            hex(&wanted)
        );
        return Err(Wrong { kind: ProblemType::IncorrectResponse, what });
    }
    Ok(())
}

fn names_only(names: &[GeneralName<'_>], identifier: &Identifier) -> bool {
    match (names, identifier) {
        ([GeneralName::DNSName(name)], Identifier::Dns(wanted)) => name.eq_ignore_ascii_case(wanted),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V4(wanted))) => *octets == wanted.octets(),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V6(wanted))) => *octets == wanted.octets(),
        _ => false,
    }
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => printable(name.as_bytes(), 64),
        GeneralName::IPAddress(octets) => hex(octets),
        _ => "a name of another type".to_owned(),
    }
}

/// The first 40 octets, in hexadecimal.
fn hex(octets: &[u8]) -> String {
    octets.iter().take(40).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests;
