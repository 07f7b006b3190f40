//! A certificate (RFC 5280 §4.1) cut into the octets that matter here, without interpreting them.

use crate::pki::der::{DerError, Reader, SEQUENCE};
use crate::pki::key::PublicKey;
use crate::pki::signature::verify;

/// The pieces of a certificate in DER.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// What is signed.
    pub(super) tbs: &'a [u8],
    /// The AlgorithmIdentifier of the signature.
    pub(super) algorithm: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
    /// The serial number's magnitude.
    pub(super) serial: &'a [u8],
    /// The issuer's Name.
    pub(super) issuer: &'a [u8],
    /// The subject's Name.
    pub(super) subject: &'a [u8],
    /// The SubjectPublicKeyInfo.
    pub(super) public_key: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Cuts a certificate, all of `der`.
    pub(super) fn cut(der: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(der);
        let mut certificate = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let tbs = certificate.expect(SEQUENCE)?;
        let algorithm = certificate.expect(SEQUENCE)?.raw;
        let signature = certificate.octet_bits()?;
        certificate.finish()?;
        let mut fields = Reader::new(tbs.content);
        fields.optional(0xa0)?;
        let serial = fields.unsigned()?;
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.raw;
        fields.expect(SEQUENCE)?;
        let subject = fields.expect(SEQUENCE)?.raw;
        let public_key = fields.expect(SEQUENCE)?.raw;
        Ok(Self { tbs: tbs.raw, algorithm, signature, serial, issuer, subject, public_key })
    }

    /// Whether the holder of `issuer` signed this: names agree octet for octet, and the signature holds.
    pub(super) fn is_signed_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject
            && PublicKey::parse(issuer.public_key)
                .is_ok_and(|key| verify(&key, self.algorithm, self.tbs, self.signature).is_ok())
    }

    /// Whether subject and issuer are the same, as in a root.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}
