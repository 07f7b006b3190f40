//! CSRs as clients make them, and chains as clients read them.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::support::keys::base64url;

/// A CSR in DER for `names` (DNS names or addresses) as subject alternative names, with an empty subject.
pub fn csr(key: &impl SigningKey, names: &[&str]) -> Vec<u8> {
    csr_of(key, &parameters(names))
}

/// The contents of such a CSR, to be changed.
pub fn parameters(names: &[&str]) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let san = |name: &&str| match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName((*name).try_into().expect("an ASCII name")),
    };
    parameters.subject_alt_names = names.iter().map(san).collect();
    parameters
}

/// Adds a common name to a CSR's contents.
pub fn named(mut parameters: CertificateParams, common_name: &str) -> CertificateParams {
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters
}

/// A CSR in DER.
pub fn csr_of(key: &impl SigningKey, parameters: &CertificateParams) -> Vec<u8> {
    parameters.serialize_request(key).expect("a CSR").der().to_vec()
}

/// A certificate chain as it was downloaded.
pub struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// Reads PEM, in which there may be nothing but certificates (RFC 8555 §7.4.2, §9.1).
    pub fn parse(pem: &str) -> Self {
        let mut inside = false;
        for line in pem.lines() {
            match line {
                "-----BEGIN CERTIFICATE-----" => inside = true,
                "-----END CERTIFICATE-----" => inside = false,
                "" => {}
                text => {
                    assert!(inside && !text.starts_with("-----"), "only certificates: {text:?} in\n{pem}")
                }
            }
        }
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.expect("PEM")).collect();
        assert!(!chain.is_empty(), "a chain has a leaf: {pem:?}");
        Self(chain)
    }

    /// The leaf in DER.
    pub fn leaf_der(&self) -> &[u8] {
        &self.0[0]
    }

    /// The leaf.
    pub fn leaf(&self) -> X509Certificate<'_> {
        self.certificate(0)
    }

    /// How many certificates there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One certificate, the leaf being 0.
    pub fn certificate(&self, index: usize) -> X509Certificate<'_> {
        X509Certificate::from_der(&self.0[index]).expect("a certificate").1
    }

    /// Asserts that each certificate was issued by the next.
    pub fn assert_ordered(&self) {
        for index in 1..self.0.len() {
            let (subject, issuer) = (self.certificate(index - 1), self.certificate(index));
            assert_eq!(
                subject.issuer().as_raw(),
                issuer.subject().as_raw(),
                "certificate {index} issued the last"
            );
            subject.verify_signature(Some(issuer.public_key())).expect("signed by the next");
        }
    }

    /// The leaf's names, sorted.
    pub fn names(&self) -> Vec<String> {
        let leaf = self.leaf();
        let names = leaf.subject_alternative_name().expect("one SAN").expect("a SAN");
        let mut names: Vec<_> = names.value.general_names.iter().map(name_text).collect();
        names.sort();
        names
    }

    /// The leaf's serial, as X.509 has it.
    pub fn serial(&self) -> Vec<u8> {
        self.leaf().raw_serial().to_vec()
    }

    /// The leaf's authority key identifier.
    pub fn authority_key_id(&self) -> Vec<u8> {
        let leaf = self.leaf();
        let found = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
        found.expect("an authority key identifier")
    }

    /// The unique identifier of RFC 9773 §4.1.
    pub fn renewal_id(&self) -> String {
        format!("{}.{}", base64url(&self.authority_key_id()), base64url(&self.serial()))
    }
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(octets) => match <[u8; 4]>::try_from(*octets) {
            Ok(octets) => IpAddr::from(octets).to_string(),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(*octets).expect("16 octets")).to_string(),
        },
        other => panic!("an unexpected kind of name: {other:?}"),
    }
}
