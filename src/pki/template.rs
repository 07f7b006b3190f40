//! The leaf certificate (CRT-03): what is in one, written from the order and its profile alone.

use rcgen::{
    CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::acme::certificate::Serial;
use crate::acme::identifier::Identifier;
use crate::acme::time::Timestamp;
use crate::pki::der::{element, oid, oid_arcs, sequence};
use crate::pki::error::IssuerError;
use crate::pki::key::PublicKey;

/// Everything that goes into a leaf certificate. It is what is on record before the signature (design I-4),
/// so the same template gives the same octets to sign, whoever signs them and whenever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The serial number.
    pub serial: Serial,
    /// The subject alternative names, in this order; at least one.
    pub identifiers: Vec<Identifier>,
    /// The subject's common name: one of the identifiers, and at most 64 characters. Without it the subject
    /// is empty.
    pub common_name: Option<String>,
    /// The first second of validity.
    pub not_before: Timestamp,
    /// The last second of validity (RFC 5280 §4.1.2.5: inclusive).
    pub not_after: Timestamp,
    /// SubjectPublicKeyInfo in DER, which is copied as it is.
    pub public_key: Vec<u8>,
    /// Whether TLS clients may use it too.
    pub client_auth: bool,
    /// Where the CRL is found.
    pub crl_url: Option<String>,
    /// Where the issuer's certificate is found (authorityInfoAccess, caIssuers).
    pub issuer_url: Option<String>,
    /// The certificate policy, dotted. `2.23.140.1.2.1` says domain validated by the rules of the public web,
    /// so a private authority has none, or one of its own.
    pub policy_oid: Option<String>,
}

impl Template {
    /// Checks the template and turns it into rcgen's form.
    pub(super) fn params(&self, issuer_not_after: Timestamp) -> Result<CertificateParams, IssuerError> {
        self.check(issuer_not_after)?;
        let key = PublicKey::parse(&self.public_key).map_err(IssuerError::LeafKey)?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(self.serial.as_bytes()));
        params.not_before = self.not_before.to_datetime();
        params.not_after = self.not_after.to_datetime();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.subject_alt_names = self
            .identifiers
            .iter()
            .map(|identifier| {
                Ok(match identifier {
                    Identifier::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                    Identifier::Ip(address) => SanType::IpAddress(*address),
                })
            })
            .collect::<Result<_, rcgen::Error>>()?;
        // NoCa would leave out basicConstraints and the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key.identifier());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // RFC 5280 §4.2.1.3 with RFC 3279 §2.3.1: only RSA keys encipher others; TLS 1.2 still does that here
        // and there.
        if matches!(key, PublicKey::Rsa { .. }) {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if self.client_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if let Some(url) = &self.crl_url {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.clone()] }];
        }
        params.custom_extensions.extend(self.issuer_url.as_deref().map(authority_information_access));
        if let Some(policy) = &self.policy_oid {
            let arcs = oid_arcs(policy).ok_or_else(|| IssuerError::PolicyOid(policy.clone()))?;
            params.custom_extensions.push(certificate_policies(&arcs));
        }
        Ok(params)
    }

    fn check(&self, issuer_not_after: Timestamp) -> Result<(), IssuerError> {
        if self.identifiers.is_empty() {
            return Err(IssuerError::NoIdentifier);
        }
        if let Some(name) = &self.common_name {
            // RFC 5280 appendix A.1, ub-common-name.
            if name.chars().count() > 64 {
                return Err(IssuerError::CommonNameTooLong);
            }
            if !self.identifiers.iter().any(|identifier| identifier.value() == *name) {
                return Err(IssuerError::CommonNameNotListed);
            }
        }
        if self.not_before > self.not_after {
            return Err(IssuerError::Validity);
        }
        if self.not_after.truncated() > issuer_not_after {
            return Err(IssuerError::IssuerExpiresFirst { leaf: self.not_after, issuer: issuer_not_after });
        }
        for url in self.crl_url.iter().chain(&self.issuer_url) {
            check_url(url)?;
        }
        Ok(())
    }
}

/// A URL that goes into a certificate or CRL: http or https, printable ASCII, at most 2048 characters.
pub(super) fn check_url(url: &str) -> Result<(), IssuerError> {
    let scheme = url.starts_with("http://") || url.starts_with("https://");
    if scheme && url.len() <= 2048 && url.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(IssuerError::Url(url.chars().take(128).collect()))
    }
}

/// Whether a text is an object identifier that [`Template::policy_oid`] may be.
pub fn is_policy(text: &str) -> bool {
    oid_arcs(text).is_some()
}

/// RFC 5280 §4.2.2.1, with one caIssuers.
fn authority_information_access(url: &str) -> CustomExtension {
    const URI: u8 = 0x86;
    let ca_issuers = oid(&[1, 3, 6, 1, 5, 5, 7, 48, 2]);
    let description = sequence(&[ca_issuers, element(URI, url.as_bytes())]);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], sequence(&[description]))
}

/// RFC 5280 §4.2.1.4, one policy without qualifiers.
fn certificate_policies(policy: &[u64]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 32], sequence(&[sequence(&[oid(policy)])]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pki::der::BIT_STRING;

    /// A plain template: one name, an Ed25519 key, valid in the year 2030.
    pub(in crate::pki) fn template() -> Template {
        let algorithm = b"\x30\x05\x06\x03\x2b\x65\x70".to_vec();
        let not_before = Timestamp::from_seconds(1_893_456_000);
        Template {
            serial: Serial::from_random([0xa5; 16]),
            identifiers: vec![Identifier::Dns("a.test".into())],
            common_name: None,
            not_before,
            not_after: not_before.plus(std::time::Duration::from_secs(86_399)),
            public_key: sequence(&[algorithm, element(BIT_STRING, &[&[0], [9; 32].as_slice()].concat())]),
            client_auth: false,
            crl_url: None,
            issuer_url: None,
            policy_oid: None,
        }
    }

    #[test]
    fn crt_03_what_must_not_be_issued_is_refused() {
        let good = template();
        let expiry = good.not_after;
        let params = |change: &dyn Fn(&mut Template)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.params(expiry).map(|_| ())
        };
        assert!(params(&|_| ()).is_ok());
        assert!(params(&|t| t.common_name = Some("a.test".into())).is_ok());
        let long = format!("{}.test", "a".repeat(60));
        type Case<'a> = (&'a dyn Fn(&mut Template), fn(&IssuerError) -> bool);
        let cases: [Case<'_>; 9] = [
            (&|t| t.identifiers.clear(), |e| matches!(e, IssuerError::NoIdentifier)),
            (&|t| t.common_name = Some("b.test".into()), |e| matches!(e, IssuerError::CommonNameNotListed)),
            (
                &|t| {
                    t.identifiers = vec![Identifier::Dns(long.clone())];
                    t.common_name = Some(long.clone());
                },
                |e| matches!(e, IssuerError::CommonNameTooLong),
            ),
            (&|t| t.not_before = t.not_after.plus(std::time::Duration::from_secs(1)), |e| {
                matches!(e, IssuerError::Validity)
            }),
            (&|t| t.not_after = t.not_after.plus(std::time::Duration::from_secs(1)), |e| {
                matches!(e, IssuerError::IssuerExpiresFirst { .. })
            }),
            (&|t| t.crl_url = Some("ldap://a.test".into()), |e| matches!(e, IssuerError::Url(_))),
            (&|t| t.issuer_url = Some("http://a.test/ b".into()), |e| matches!(e, IssuerError::Url(_))),
            (&|t| t.policy_oid = Some("2.23.x".into()), |e| matches!(e, IssuerError::PolicyOid(_))),
            (&|t| t.public_key.push(0), |e| matches!(e, IssuerError::LeafKey(_))),
        ];
        for (number, (change, expected)) in cases.iter().enumerate() {
            let refused = params(change).expect_err("refused");
            assert!(expected(&refused), "{number}: {refused:?}");
        }
    }
}
