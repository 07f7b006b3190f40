//! The signature algorithms that are accepted.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). Each goes with one type of key and one curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// EdDSA, on Ed25519 only.
    EdDSA,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl Algorithm {
    /// The names of all accepted algorithms: what a `badSignatureAlgorithm` problem lists (RFC 8555 §6.2).
    pub const ALLOWED: &'static [&'static str] = &["ES256", "ES384", "ES512", "EdDSA", "RS256"];

    /// The value of `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::RS256 => "RS256",
        }
    }

    /// Reads a value of `alg`; `None` for one that is not accepted. Case matters (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::ES256, Self::ES384, Self::ES512, Self::EdDSA, Self::RS256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// How many octets a signature has; `None` for RSA, where that is up to the key (RFC 7518 §3.3, §3.4).
    pub(super) const fn signature_width(self) -> Option<usize> {
        match self {
            Self::ES256 | Self::EdDSA => Some(64),
            Self::ES384 => Some(96),
            Self::ES512 => Some(132),
            Self::RS256 => None,
        }
    }

    /// The implementation that checks signatures; ECDSA's takes the fixed-width R‖S form only (RFC 7518
    /// §3.4).
    pub(super) fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::ES256 => &ECDSA_P256_SHA256_FIXED,
            Self::ES384 => &ECDSA_P384_SHA384_FIXED,
            Self::ES512 => &ECDSA_P521_SHA512_FIXED,
            Self::EdDSA => &ED25519,
            Self::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowed_names_are_the_names_that_are_read() {
        for name in Algorithm::ALLOWED {
            assert_eq!(Algorithm::parse(name).map(Algorithm::as_str), Some(*name));
        }
        for name in ["", "es256", "ES256 ", "none", "HS256", "PS256", "RS384", "RS512", "ES256K", "Ed25519"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }
}
