//! Why an issuer cannot be used, or does not issue.

use thiserror::Error;

use crate::acme::time::Timestamp;
use crate::pki::key::KeyError;

/// Why an issuer cannot be used, or does not issue. Operators read these; no client does.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// No unused key could be made, for want of random numbers or memory.
    #[error("cannot generate a key: {0}")]
    CannotGenerate(String),
    /// A certificate of the chain did not sign the one before it, or is no authority's.
    #[error("chain {chain}: certificate {position} is not the authority that issued the one before it")]
    ChainOrder {
        /// The chain, from 1.
        chain: usize,
        /// The certificate in it after the leaf, from 1; the issuing one is the first.
        position: usize,
    },
    /// The common name is not among the identifiers.
    #[error("the common name must be one of the certificate's names")]
    CommonNameNotListed,
    /// Above 64 characters (RFC 5280 appendix A.1).
    #[error("the common name is longer than 64 characters")]
    CommonNameTooLong,
    /// A CRL whose next update is not after this one.
    #[error("a CRL's next update must be after this update")]
    CrlDates,
    /// A file of the authority cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Some files of the authority are there and others are not.
    #[error(
        "the certificate authority in {folder} is incomplete: {missing} missing. Put back what is missing from \
         a backup; or, if this authority has issued nothing that is in use, move root.pem, root.key, \
         issuing.pem and issuing.key away, and a new authority is made at the next start"
    )]
    Incomplete {
        /// The folder.
        folder: std::path::PathBuf,
        /// The missing files, joined.
        missing: String,
    },
    /// The leaf would outlive its issuer.
    #[error("the certificate would be valid until {leaf}, and its issuer only is until {issuer}")]
    IssuerExpiresFirst {
        /// The leaf's last second.
        leaf: Timestamp,
        /// The issuer's.
        issuer: Timestamp,
    },
    /// The issuing key is of a kind that is not used for that.
    #[error(
        "the issuing key must be P-256, P-384, or RSA with 2048, 3072 or 4096 bits and exponent 65537 or more"
    )]
    KeyKind,
    /// Key and certificate are two pairs' halves.
    #[error("the issuing key does not belong to the issuing certificate: their public keys differ")]
    KeyMismatch,
    /// The text is no private key.
    #[error(
        "the issuing key cannot be read: expected one unencrypted PEM block, PRIVATE KEY (PKCS #8), \
         EC PRIVATE KEY (SEC 1) or RSA PRIVATE KEY (PKCS #1)"
    )]
    KeyUnreadable,
    /// The public key of the leaf.
    #[error("the certificate's public key cannot be used: {0}")]
    LeafKey(KeyError),
    /// What was written is not what was meant.
    #[error("what was signed is not what was meant ({0}); it has been thrown away")]
    Miswritten(&'static str),
    /// The authority's name cannot be a common name.
    #[error("the authority's name must have 1 to 48 characters, none of them a control character")]
    Name,
    /// A certificate without names.
    #[error("a certificate needs at least one name")]
    NoIdentifier,
    /// The issuing certificate cannot issue.
    #[error("the issuing certificate cannot be used: {0}")]
    NotAnAuthority(&'static str),
    /// The text has not exactly one certificate.
    #[error(
        "expected exactly one PEM CERTIFICATE block as the issuing certificate, found {0}; \
         others go in the chains"
    )]
    NotOneCertificate(usize),
    /// No dotted object identifier.
    #[error("{0:?} is not an object identifier in dotted form")]
    PolicyOid(String),
    /// A private key could not be used, or rcgen could not write.
    #[error("the certificate or CRL cannot be written: {0}")]
    Unwritable(#[from] rcgen::Error),
    /// A URL that cannot be in a certificate.
    #[error("{0:?} must be an http or https URL of at most 2048 ASCII characters")]
    Url(String),
    /// `notAfter` before `notBefore`.
    #[error("the certificate would end before it begins")]
    Validity,
    /// A thread that signs did not come back.
    #[error("signing was interrupted")]
    Interrupted,
}
