//! Certificate revocation lists (RFC 5280 §5).

use std::collections::HashSet;

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    KeyIdMethod, RevocationReason as Reason, RevokedCertParams, SerialNumber,
};

use crate::acme::certificate::{RevocationReason, Serial};
use crate::acme::time::Timestamp;
use crate::pki::error::IssuerError;
use crate::pki::template::check_url;

/// What a CRL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlTemplate {
    /// Larger than that of every earlier CRL of this issuer (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is there at the latest.
    pub next_update: Timestamp,
    /// The revoked certificates, in this order.
    pub revoked: Vec<RevokedEntry>,
    /// The URL at which certificates say that they look for it, where the CRL is to repeat it (RFC 5280
    /// §5.2.5).
    pub distribution_point: Option<String>,
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Those of `revoked` that a CRL in DER lists for that reason; none if it is no CRL. Reads the whole list.
pub fn listed(
    der: &[u8],
    revoked: &HashSet<(Serial, RevocationReason)>,
) -> HashSet<(Serial, RevocationReason)> {
    let Ok((_, crl)) = x509_parser::parse_x509_crl(der) else { return HashSet::new() };
    let entries = crl.iter_revoked_certificates().filter_map(|entry| {
        let code = entry.reason_code().map_or(0, |(_, code)| i64::from(code.0));
        Serial::from_bytes(entry.raw_serial()).zip(RevocationReason::from_code(code))
    });
    entries.filter(|entry| revoked.contains(entry)).collect()
}

impl CrlTemplate {
    /// Checks the template and turns it into rcgen's form; `key_id` is the issuer's subject key identifier.
    pub(super) fn params(&self, key_id: &[u8]) -> Result<CertificateRevocationListParams, IssuerError> {
        if self.next_update.truncated() <= self.this_update.truncated() {
            return Err(IssuerError::CrlDates);
        }
        if let Some(url) = &self.distribution_point {
            check_url(url)?;
        }
        Ok(CertificateRevocationListParams {
            this_update: self.this_update.to_datetime(),
            next_update: self.next_update.to_datetime(),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: self.distribution_point.as_ref().map(|url| {
                CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint { uris: vec![url.clone()] },
                    scope: Some(CrlScope::UserCertsOnly),
                }
            }),
            revoked_certs: self.revoked.iter().map(RevokedEntry::params).collect(),
            // Any other method hashes the key anew, and need not come to what the issuer's certificate says.
            key_identifier_method: KeyIdMethod::PreSpecified(key_id.to_vec()),
        })
    }
}

impl RevokedEntry {
    fn params(&self) -> RevokedCertParams {
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(self.serial.as_bytes()),
            revocation_time: self.at.to_datetime(),
            // RFC 5280 §5.3.1: absent rather than unspecified.
            reason_code: match self.reason {
                RevocationReason::Unspecified => None,
                RevocationReason::KeyCompromise => Some(Reason::KeyCompromise),
                RevocationReason::AffiliationChanged => Some(Reason::AffiliationChanged),
                RevocationReason::Superseded => Some(Reason::Superseded),
                RevocationReason::CessationOfOperation => Some(Reason::CessationOfOperation),
                RevocationReason::PrivilegeWithdrawn => Some(Reason::PrivilegeWithdrawn),
            },
            invalidity_date: None,
        }
    }
}
