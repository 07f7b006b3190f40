//! The issuing key, and the Name it signs under: the issuing certificate's subject, octet for octet.

use rcgen::{
    CertificateParams, DistinguishedName, Issuer, KeyIdMethod, KeyPair, PublicKeyData, SignatureAlgorithm,
    SigningKey,
};

use crate::pki::der::{DerError, Reader, SEQUENCE, element};

/// Signs what rcgen puts together. rcgen keeps one value for each attribute of a Name, and writes Names anew: one with
/// `DC=com, DC=example`, or with two attributes in one RDN, would come out as another. So the Name is put in here.
pub(super) struct Signer {
    key: KeyPair,
    name: Vec<u8>,
}

impl Signer {
    /// An issuer for rcgen: its key, its subject key identifier, and its subject in DER.
    pub(super) fn issuer(key: KeyPair, key_id: &[u8], subject: &[u8]) -> Issuer<'static, Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
        Issuer::new(params, Self { key, name: subject.to_vec() })
    }

    /// A certificate or CRL as rcgen puts it together, with what was really signed in it.
    pub(super) fn signed(&self, der: &[u8]) -> Result<Vec<u8>, DerError> {
        let mut outer = Reader::new(der);
        let mut parts = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let mut content = self.named(parts.element()?.raw)?;
        while !parts.is_empty() {
            content.extend_from_slice(parts.element()?.raw);
        }
        Ok(element(SEQUENCE, &content))
    }

    /// What is to be signed, with the Name. In a TBSCertificate and in a TBSCertList (RFC 5280 §4.1, §5.1) the issuer is
    /// the second SEQUENCE; the first is the AlgorithmIdentifier.
    fn named(&self, tbs: &[u8]) -> Result<Vec<u8>, DerError> {
        let mut outer = Reader::new(tbs);
        let mut fields = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let (mut content, mut sequences) = (Vec::with_capacity(tbs.len() + self.name.len()), 0);
        while !fields.is_empty() {
            let field = fields.element()?;
            sequences += usize::from(field.tag == SEQUENCE);
            let is_issuer = field.tag == SEQUENCE && sequences == 2;
            content.extend_from_slice(if is_issuer { &self.name } else { field.raw });
        }
        Ok(element(SEQUENCE, &content))
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(&self.named(message).map_err(|_| rcgen::Error::RemoteKeyError)?)
    }
}
