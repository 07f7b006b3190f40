//! Signatures over PKCS #10 requests and certificates, checked with aws-lc over the octets that were sent.

use aws_lc_rs::signature::{self as algorithms, ParsedPublicKey, VerificationAlgorithm};
use thiserror::Error;

use crate::pki::key::{Curve, PublicKey};

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The key is of the right shape, and yet none: a point that is not on its curve.
    #[error("the public key is not a point on its curve")]
    NotAKey,
    /// An algorithm that is not taken, SHA-1 and RSA-PSS among them, or one for another kind of key.
    #[error(
        "the signature algorithm is not one of RSA (PKCS #1 v1.5) or ECDSA with SHA-256, SHA-384 or SHA-512, \
         or Ed25519, or does not belong to the kind of key"
    )]
    Unsupported,
    /// It was not made with this key over these octets.
    #[error("the signature was not made with the key's private half over this content")]
    Wrong,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

enum Scheme {
    Ecdsa(Hash),
    Ed25519,
    Rsa(Hash),
}

/// Reads an AlgorithmIdentifier. RFC 4055 §5: with RSA the parameters are NULL, and absent ones are accepted
/// too; RFC 5758 §3.2 and RFC 8410 §3: with ECDSA and Ed25519 they are absent. Some clients write a NULL with ECDSA as
/// they do with RSA: nothing hangs on it.
fn scheme(algorithm: &[u8]) -> Option<Scheme> {
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01";
    const ECDSA: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03";
    const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
    let [0x30, length, content @ ..] = algorithm else { return None };
    if usize::from(*length) != content.len() {
        return None;
    }
    if content == ED25519 {
        return Some(Scheme::Ed25519);
    }
    if let Some(rest) = content.strip_prefix(RSA) {
        return match rest {
            [0x0b] | [0x0b, 0x05, 0x00] => Some(Scheme::Rsa(Hash::Sha256)),
            [0x0c] | [0x0c, 0x05, 0x00] => Some(Scheme::Rsa(Hash::Sha384)),
            [0x0d] | [0x0d, 0x05, 0x00] => Some(Scheme::Rsa(Hash::Sha512)),
            _ => None,
        };
    }
    match content.strip_prefix(ECDSA)? {
        [2] | [2, 0x05, 0x00] => Some(Scheme::Ecdsa(Hash::Sha256)),
        [3] | [3, 0x05, 0x00] => Some(Scheme::Ecdsa(Hash::Sha384)),
        [4] | [4, 0x05, 0x00] => Some(Scheme::Ecdsa(Hash::Sha512)),
        _ => None,
    }
}

/// What aws-lc calls this pair of key and scheme. Every hash goes with every curve: clients do send SHA-384
/// with P-256.
fn algorithm(key: &PublicKey<'_>, scheme: &Scheme) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (key, scheme) {
        (PublicKey::Rsa { .. }, Scheme::Rsa(Hash::Sha256)) => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        (PublicKey::Rsa { .. }, Scheme::Rsa(Hash::Sha384)) => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        (PublicKey::Rsa { .. }, Scheme::Rsa(Hash::Sha512)) => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        (PublicKey::Ed25519(_), Scheme::Ed25519) => &algorithms::ED25519,
        (PublicKey::Ec { curve, .. }, Scheme::Ecdsa(hash)) => match (curve, hash) {
            (Curve::P256, Hash::Sha256) => &algorithms::ECDSA_P256_SHA256_ASN1,
            (Curve::P256, Hash::Sha384) => &algorithms::ECDSA_P256_SHA384_ASN1,
            (Curve::P256, Hash::Sha512) => &algorithms::ECDSA_P256_SHA512_ASN1,
            (Curve::P384, Hash::Sha256) => &algorithms::ECDSA_P384_SHA256_ASN1,
            (Curve::P384, Hash::Sha384) => &algorithms::ECDSA_P384_SHA384_ASN1,
            (Curve::P384, Hash::Sha512) => &algorithms::ECDSA_P384_SHA512_ASN1,
            (Curve::P521, Hash::Sha256) => &algorithms::ECDSA_P521_SHA256_ASN1,
            (Curve::P521, Hash::Sha384) => &algorithms::ECDSA_P521_SHA384_ASN1,
            (Curve::P521, Hash::Sha512) => &algorithms::ECDSA_P521_SHA512_ASN1,
        },
        _ => return None,
    })
}

/// Checks `signature` over `message`; `identifier` is the AlgorithmIdentifier in DER.
pub(super) fn verify(
    key: &PublicKey<'_>,
    identifier: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let scheme = scheme(identifier).ok_or(SignatureError::Unsupported)?;
    let algorithm = algorithm(key, &scheme).ok_or(SignatureError::Unsupported)?;
    let parsed = ParsedPublicKey::new(algorithm, key.octets()).map_err(|_| SignatureError::NotAKey)?;
    parsed.verify_sig(message, signature).map_err(|_| SignatureError::Wrong)
}
