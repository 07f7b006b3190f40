//! Certification requests (RFC 2986) as RFC 8555 §7.4 uses them: a public key, proof of its private half, and
//! a set of names. Nothing else of a CSR is kept, so nothing else can reach a certificate.

mod extensions;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::acme::identifier::{Identifier, IdentifierError};
use crate::acme::problem::printable;
use crate::acme::profile::KeyType;
use crate::pki::der::{DerError, Element, OID, Reader, SEQUENCE, SET};
use crate::pki::hex;
use crate::pki::key::{self, KeyError, PublicKey};
use crate::pki::signature::{SignatureError, verify};
use crate::pki::weak_keys::WeakKeys;
use crate::pki::weakness::{Weakness, check_modulus};

/// The largest CSR that is read, in octets: room for 100 names of the greatest length and an RSA key of 4096
/// bits.
pub const MAX_CSR: usize = 32 << 10;

/// What counts of a CSR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// SubjectPublicKeyInfo in DER, octet for octet as in the CSR.
    pub public_key: Vec<u8>,
    /// SHA-256 of that, hexadecimal.
    pub key_sha256: String,
    /// The thumbprint that the key has as a JWK (RFC 7638), to be compared with the account's.
    pub key_thumbprint: String,
    /// The kind of key.
    pub key_type: KeyType,
    /// The common names and the subject alternative names, normalised.
    pub names: BTreeSet<Identifier>,
}

/// Why a CSR is refused (ORD-10, ORD-11): each is `badCSR` to the client. The texts are for its sender.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CsrError {
    /// It asks to be an authority's.
    #[error(
        "the CSR asks for a certificate authority's certificate (basicConstraints with CA:TRUE), which no profile issues"
    )]
    Authority,
    /// A common name that is no identifier.
    #[error("the CSR's common name \"{0}\" is neither a DNS name nor an IP address; leave it out or empty")]
    CommonName(String),
    /// An extension that is marked critical and would not be in the certificate.
    #[error("the CSR asks for the critical extension {0}, which this server does not issue; leave it out")]
    CriticalExtension(String),
    /// A subject alternative name that is no identifier.
    #[error("the CSR asks for \"{name}\": {why}")]
    Identifier {
        /// The name, made printable.
        name: String,
        /// What is wrong with it.
        why: IdentifierError,
    },
    /// A kind of key that the profile does not have.
    #[error("the CSR's key is {}, and this profile allows {allowed}", found.as_str())]
    KeyType {
        /// The kind of key.
        found: KeyType,
        /// Those that may be used, joined by commas.
        allowed: String,
    },
    /// Not the DER of a CertificationRequest, or something after it.
    #[error("the CSR is not exactly one PKCS #10 request in DER: it {0}")]
    Malformed(#[from] DerError),
    /// A subject alternative name of another kind.
    #[error("the CSR asks for a subject alternative name that is neither a dNSName nor an iPAddress")]
    NameKind,
    /// The key is of no kind that can be used.
    #[error("the CSR's key cannot be used: {0}")]
    PublicKey(#[from] KeyError),
    /// RFC 7633: the certificate would be refused without a stapled OCSP response, and there is no OCSP here.
    #[error(
        "the CSR asks for OCSP must-staple (a TLS feature, RFC 7633), which this server does not issue: it has no OCSP"
    )]
    MustStaple,
    /// Two attributes or extensions where there may be one.
    #[error("the CSR has its extension request, or its subject alternative names, more than once")]
    Repeated,
    /// The signature does not hold, or is of a kind that is not taken.
    #[error("the CSR's signature is not accepted: {0}")]
    Signature(#[from] SignatureError),
    /// Above [`MAX_CSR`].
    #[error("the CSR is longer than {MAX_CSR} octets")]
    TooLong,
    /// Another version than 0 (RFC 2986 §4.1), or 1 and 2, which clients write that count from one.
    #[error("the CSR's version is not 0, that of PKCS #10")]
    Version,
    /// A key whose private half can be found.
    #[error("the CSR's key is weak: {0}; make a new one with other software")]
    WeakKey(#[from] Weakness),
}

impl Csr {
    /// Reads and judges a CSR in DER: its form, its key (one of the kinds `allowed`, and not weak), its
    /// signature, and its names (RFC 8555 §7.4). Whether these are the order's names, and whether the key is
    /// blocked or an account's, is for the caller to compare.
    pub fn parse(der: &[u8], allowed: &[KeyType]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::TooLong);
        }
        let mut outer = Reader::new(der);
        let mut request = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let info = request.expect(SEQUENCE)?;
        let algorithm = request.expect(SEQUENCE)?.raw;
        let signature = request.octet_bits()?;
        request.finish()?;

        let mut fields = Reader::new(info.content);
        // RFC 2986 §4.1 says 0. certbot up to 1.28 writes 2, as does Ruby's acme-client up to 2.0.18; no rule hangs on it.
        if !matches!(fields.unsigned()?, [0..=2]) {
            return Err(CsrError::Version);
        }
        let subject = fields.enter(SEQUENCE)?;
        let public_key = fields.expect(SEQUENCE)?.raw;
        // RFC 2986 §4.1 has the attributes always there; some clients leave empty ones out.
        let attributes = fields.optional(0xa0)?;
        fields.finish()?;

        let key = PublicKey::parse(public_key)?;
        let key_type = check_type(&key, allowed)?;
        let mut names = BTreeSet::new();
        common_names(subject, &mut names)?;
        if let Some(attributes) = attributes {
            extensions::read(Reader::new(attributes.content), &mut names)?;
        }
        verify(&key, algorithm, info.raw, signature)?;
        // Only now: looking for weaknesses costs more than a signature, which must have been worth it.
        if let PublicKey::Rsa { modulus, .. } = key {
            check_modulus(modulus)?;
        }
        Ok(Self {
            public_key: public_key.to_vec(),
            key_sha256: key::sha256(public_key),
            key_thumbprint: key.thumbprint(),
            key_type,
            names,
        })
    }

    /// Refuses a key that is on the operator's list of weak ones (ORD-11).
    pub fn check_listed(&self, list: &WeakKeys) -> Result<(), CsrError> {
        if list.contains(&PublicKey::parse(&self.public_key)?) {
            return Err(CsrError::WeakKey(Weakness::Debian));
        }
        Ok(())
    }
}

fn check_type(key: &PublicKey<'_>, allowed: &[KeyType]) -> Result<KeyType, CsrError> {
    let found = key.key_type()?;
    if allowed.contains(&found) {
        return Ok(found);
    }
    let allowed: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
    Err(CsrError::KeyType { found, allowed: allowed.join(", ") })
}

/// Reads the subject, a sequence of sets of attributes, for common names. Its other attributes are ignored.
fn common_names(mut subject: Reader<'_>, names: &mut BTreeSet<Identifier>) -> Result<(), CsrError> {
    const COMMON_NAME: &[u8] = b"\x55\x04\x03";
    while !subject.is_empty() {
        let mut set = subject.enter(SET)?;
        while !set.is_empty() {
            let mut attribute = set.enter(SEQUENCE)?;
            let kind = attribute.expect(OID)?.content;
            let value = attribute.element()?;
            attribute.finish()?;
            if kind == COMMON_NAME && !value.content.is_empty() {
                names.insert(common_name(&value)?);
            }
        }
    }
    Ok(())
}

fn common_name(value: &Element<'_>) -> Result<Identifier, CsrError> {
    let text = directory_string(value);
    let text = text.as_deref();
    let address = text.and_then(|text| text.parse().ok()).map(Identifier::Ip);
    address
        .or_else(|| text.and_then(|text| Identifier::parse("dns", text).ok()))
        .ok_or_else(|| CsrError::CommonName(printable(text.map_or(value.content, str::as_bytes), 64)))
}

/// The text of a DirectoryString (RFC 5280 §4.1.2.4), in any of its five types, or of an IA5String; `None` if it is none.
fn directory_string(value: &Element<'_>) -> Option<String> {
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const TELETEX: u8 = 0x14;
    const IA5: u8 = 0x16;
    const UNIVERSAL: u8 = 0x1c;
    const BMP: u8 = 0x1e;
    let octets = value.content;
    match value.tag {
        // In all of these, ASCII is ASCII, and names have nothing else.
        UTF8 | PRINTABLE | TELETEX | IA5 => std::str::from_utf8(octets).ok().map(str::to_owned),
        // UTF-16, as Windows writes names that have a `*`.
        BMP => {
            let (units, rest) = octets.as_chunks::<2>();
            let text = char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)));
            rest.is_empty().then(|| text.collect::<Result<_, _>>().ok())?
        }
        UNIVERSAL => {
            let (units, rest) = octets.as_chunks::<4>();
            let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            rest.is_empty().then(|| text.collect::<Option<_>>())?
        }
        _ => None,
    }
}

fn alternative_names(extension: &[u8], names: &mut BTreeSet<Identifier>) -> Result<(), CsrError> {
    const DNS_NAME: u8 = 0x82;
    const IP_ADDRESS: u8 = 0x87;
    let mut outer = Reader::new(extension);
    let mut list = outer.enter(SEQUENCE)?;
    outer.finish()?;
    while !list.is_empty() {
        let name = list.element()?;
        names.insert(match name.tag {
            DNS_NAME => dns_name(name.content)?,
            IP_ADDRESS => ip_address(name.content)?,
            _ => return Err(CsrError::NameKind),
        });
    }
    Ok(())
}

fn dns_name(octets: &[u8]) -> Result<Identifier, CsrError> {
    std::str::from_utf8(octets)
        .map_err(|_| IdentifierError::Character)
        .and_then(|name| Identifier::parse("dns", name))
        .map_err(|why| CsrError::Identifier { name: printable(octets, 64), why })
}

fn ip_address(octets: &[u8]) -> Result<Identifier, CsrError> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(octets).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4.or_else(|_| v6()).map(Identifier::Ip).map_err(|_| CsrError::Identifier {
        name: hex(&octets[..octets.len().min(32)]),
        why: IdentifierError::Address,
    })
}

#[cfg(test)]
mod tests;
