//! The authority that Chancery issues by, made anew at each start as Pebble's is: roots, and the chain below them.
//!
//! There is one chain below the first root, since Chancery has one issuing certificate. Each further root certifies the
//! first root's key, so that its chain is the same with one certificate more.

use std::time::Duration;

use ::chancery::acme::time::{FleetClock, Timestamp};
use ::chancery::pki::chain::pem;
use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    RsaKeySize, SerialNumber,
};

use crate::Failure;

/// How long authorities are valid, as Pebble's: 30 years.
const VALIDITY: Duration = Duration::from_secs(30 * 365 * 86_400);
/// By how much they are dated back.
const BACKDATE: Duration = Duration::from_secs(3_600);

/// The kind of the authority's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// P-256.
    Ecdsa,
    /// RSA, 2048 bits.
    Rsa,
}

impl Keys {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

/// The texts of an authority.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    /// The roots in PEM, and their keys as Pebble shows them, if it does.
    pub(crate) roots: Vec<(String, Option<String>)>,
    /// The issuing certificate in PEM.
    pub(crate) issuing: String,
    /// Its key as Pebble shows it, if it does.
    pub(crate) shown_key: Option<String>,
    /// Its key as PKCS #8 in PEM.
    pub(crate) issuing_key: String,
    /// For each root what follows the issuing certificate, the root at the end.
    pub(crate) chains: Vec<String>,
}

struct Made {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Made {
    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

impl Authority {
    /// Makes one whose chains have `length` certificates between leaf and root, and `alternates` further roots.
    pub(crate) fn make(keys: Keys, alternates: usize, length: usize) -> Result<Self, Failure> {
        let now = FleetClock::machine_now();
        let root = self_signed(keys, now)?;
        let mut between: Vec<String> = Vec::new();
        let mut above = None;
        for index in (1..length).rev() {
            let made = signed(keys, now, &format!("#{index}"), above.as_ref().unwrap_or(&root))?;
            between.insert(0, made.pem.clone());
            above = Some(made);
        }
        let issuing = signed(keys, now, "", above.as_ref().unwrap_or(&root))?;
        let middle = between.concat();
        let mut chains = vec![format!("{middle}{}", root.pem)];
        let mut roots = vec![(root.pem.clone(), shown(keys, &root.key))];
        for _ in 0..alternates {
            let other = self_signed(keys, now)?;
            let mut params = root.params.clone();
            params.serial_number = Some(random_serial()?);
            params.use_authority_key_identifier_extension = true;
            let cross = params.signed_by(&root.key, &other.issuer())?.pem();
            chains.push(format!("{middle}{cross}{}", other.pem));
            roots.push((other.pem, shown(keys, &other.key)));
        }
        Ok(Self {
            roots,
            issuing: issuing.pem,
            shown_key: shown(keys, &issuing.key),
            issuing_key: issuing.key.serialize_pem(),
            chains,
        })
    }
}

fn self_signed(keys: Keys, now: Timestamp) -> Result<Made, Failure> {
    let (key, params) = (keys.generate()?, params(&format!("Pebble Root CA {}", word()?), now)?);
    let pem = params.self_signed(&key)?.pem();
    Ok(Made { params, key, pem })
}

fn signed(keys: Keys, now: Timestamp, mark: &str, above: &Made) -> Result<Made, Failure> {
    let key = keys.generate()?;
    let name = format!("Pebble Intermediate CA {} {mark}", word()?);
    let mut params = params(name.trim_end(), now)?;
    params.use_authority_key_identifier_extension = true;
    let pem = params.signed_by(&key, &above.issuer())?.pem();
    Ok(Made { params, key, pem })
}

fn params(name: &str, now: Timestamp) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(random_serial()?);
    params.not_before = now.minus(BACKDATE).to_datetime();
    params.not_after = now.plus(VALIDITY).to_datetime();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|_| "there are no random numbers")?;
    Ok(octets)
}

fn random_serial() -> Result<SerialNumber, Failure> {
    let mut octets = random::<16>()?;
    octets[0] = (octets[0] & 0x7f) | 1;
    Ok(SerialNumber::from_slice(&octets))
}

/// Six hexadecimal digits that tell one start's authority from another's.
fn word() -> Result<String, Failure> {
    Ok(::chancery::pki::hex(&random::<3>()?))
}

/// A key as Pebble's management interface shows it: PKCS #1 for RSA, and not at all otherwise.
fn shown(keys: Keys, key: &KeyPair) -> Option<String> {
    match keys {
        Keys::Ecdsa => None,
        Keys::Rsa => rsa_private_key(&key.serialize_der()).map(|der| pem(der, "RSA PRIVATE KEY")),
    }
}

/// The PKCS #1 key within a PKCS #8 one: SEQUENCE { version, algorithm, OCTET STRING { key } }.
fn rsa_private_key(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, body, _) = element(pkcs8)?;
    let (_, _, rest) = element(body)?;
    let (_, _, rest) = element(rest)?;
    let (tag, key, _) = element(rest)?;
    (tag == 0x04).then_some(key)
}

/// The tag and the content of the DER element that `der` begins with, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use ::chancery::pki::issuer::{Issuer as _, LocalIssuer};

    use super::*;

    #[test]
    fn chancery_accepts_every_chain() {
        for (keys, alternates, length) in [(Keys::Ecdsa, 0, 1), (Keys::Ecdsa, 2, 3), (Keys::Rsa, 1, 1)] {
            let made = Authority::make(keys, alternates, length).unwrap();
            assert_eq!((made.roots.len(), made.chains.len()), (alternates + 1, alternates + 1));
            let issuer =
                LocalIssuer::from_pem(&made.issuing, &made.issuing_key, &made.chains, false).unwrap();
            let lengths: Vec<usize> = issuer.chains().iter().map(Vec::len).collect();
            assert_eq!(lengths[0], length, "the issuing certificate and {} more", length - 1);
            assert!(lengths[1..].iter().all(|other| *other == length + 1), "{lengths:?}");
            assert_eq!(made.roots[0].1.is_some(), keys == Keys::Rsa);
        }
    }

    #[test]
    fn rsa_keys_are_shown_as_pkcs_1() {
        let made = Authority::make(Keys::Rsa, 0, 1).unwrap();
        let key = made.shown_key.unwrap();
        assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{key}");
        let der =
            <rustls::pki_types::PrivatePkcs1KeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
                key.as_bytes(),
            );
        // A parser by others takes it.
        aws_lc_rs::rsa::KeyPair::from_der(der.unwrap().secret_pkcs1_der()).unwrap();
    }
}
