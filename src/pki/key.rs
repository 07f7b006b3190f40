//! Public keys: which ones a certificate may have (ORD-11), and the names they go by.

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding};
use thiserror::Error;

use crate::acme::ed25519;
use crate::acme::profile::KeyType;
use crate::pki::der::{DerError, Reader, SEQUENCE};
use crate::pki::hex;

/// Why a public key cannot be used, whoever has it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// RSA with an exponent that is even, below 65537, or above 33 bits.
    #[error("the RSA public exponent must be odd, at least 65537, and below 2^33")]
    Exponent,
    /// The octets are no SubjectPublicKeyInfo.
    #[error("the public key is not well formed: its DER {0}")]
    Malformed(#[from] DerError),
    /// An Ed25519 key that is a point of small order, or not in its one spelling.
    #[error("the Ed25519 key is a point of small order, or not in its canonical form")]
    OfNobody,
    /// An elliptic-curve point that is compressed, of the wrong length, or not on its curve.
    #[error("the elliptic-curve public key must be an uncompressed point on its curve")]
    Point,
    /// An RSA modulus of a size that is not issued to.
    #[error("the RSA key has {0} bits; 2048, 3072 and 4096 are accepted")]
    RsaSize(u64),
    /// Another algorithm, or parameters that are not those of RFC 3279, RFC 5480 or RFC 8410.
    #[error("the key is none of RSA (rsaEncryption), P-256, P-384, P-521 as a named curve, and Ed25519")]
    Unsupported,
}

/// The name of a key in the store: SHA-256 of its SubjectPublicKeyInfo in DER, hexadecimal.
pub fn sha256(spki: &[u8]) -> String {
    hex(digest(&SHA256, spki).as_ref())
}

/// A NIST curve (RFC 5480 §2.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// Octets of one coordinate.
    const fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The name in a JWK (RFC 7518 §6.2.1.1).
    const fn jwk_name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }
}

/// A SubjectPublicKeyInfo, taken apart. It has one encoding only: what is read here and written again is the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// On a NIST curve.
    Ec {
        /// Which one.
        curve: Curve,
        /// The uncompressed point, `04 X Y`.
        point: &'a [u8],
    },
    /// RFC 8410: the 32 octets.
    Ed25519(&'a [u8]),
    /// RSA.
    Rsa {
        /// RSAPublicKey in DER (RFC 8017 appendix A.1.1).
        der: &'a [u8],
        /// The modulus, big-endian, without leading zeros.
        modulus: &'a [u8],
        /// The public exponent, likewise.
        exponent: &'a [u8],
    },
}

// The AlgorithmIdentifiers in full: anything else, explicit curves and absent parameters included, is not
// taken.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const P521: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23";
const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7). Says nothing yet of sizes and weaknesses, nor
    /// whether a point is on its curve (checking a signature does).
    pub fn parse(spki: &'a [u8]) -> Result<Self, KeyError> {
        let mut outer = Reader::new(spki);
        let mut info = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let algorithm = info.expect(SEQUENCE)?.raw;
        let octets = info.octet_bits()?;
        info.finish()?;
        let ec = |curve: Curve| match octets {
            [4, coordinates @ ..] if coordinates.len() == 2 * curve.width() => {
                Ok(Self::Ec { curve, point: octets })
            }
            _ => Err(KeyError::Point),
        };
        match algorithm {
            RSA => Self::parse_rsa(octets),
            P256 => ec(Curve::P256),
            P384 => ec(Curve::P384),
            P521 => ec(Curve::P521),
            ED25519 if octets.len() != 32 => Err(KeyError::Unsupported),
            ED25519 if !ed25519::may_be_a_key(octets) => Err(KeyError::OfNobody),
            ED25519 => Ok(Self::Ed25519(octets)),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn parse_rsa(der: &'a [u8]) -> Result<Self, KeyError> {
        let mut outer = Reader::new(der);
        let mut key = outer.enter(SEQUENCE)?;
        outer.finish()?;
        let (modulus, exponent) = (key.unsigned()?, key.unsigned()?);
        key.finish()?;
        Ok(Self::Rsa { der, modulus, exponent })
    }

    /// What is inside the BIT STRING.
    pub(super) const fn octets(&self) -> &'a [u8] {
        match self {
            Self::Ec { point, .. } => point,
            Self::Ed25519(octets) => octets,
            Self::Rsa { der, .. } => der,
        }
    }

    /// The kind of key; an error if it is RSA of a size or with an exponent that no profile can allow.
    pub fn key_type(&self) -> Result<KeyType, KeyError> {
        match self {
            Self::Ec { curve: Curve::P256, .. } => Ok(KeyType::P256),
            Self::Ec { curve: Curve::P384, .. } => Ok(KeyType::P384),
            Self::Ec { curve: Curve::P521, .. } => Ok(KeyType::P521),
            Self::Ed25519(_) => Ok(KeyType::Ed25519),
            Self::Rsa { modulus, exponent, .. } => {
                let bits = modulus.len() as u64 * 8 - u64::from(modulus[0].leading_zeros());
                let kind = match bits {
                    2048 => KeyType::Rsa2048,
                    3072 => KeyType::Rsa3072,
                    4096 => KeyType::Rsa4096,
                    _ => return Err(KeyError::RsaSize(bits)),
                };
                // At most 33 bits: what aws-lc takes, so that every key that is issued to can also be used.
                let value = exponent.iter().take(8).fold(0, |sum, octet| (sum << 8) | u64::from(*octet));
                let fits = exponent.len() <= 5 && (65_537..1 << 33).contains(&value) && value % 2 == 1;
                if fits { Ok(kind) } else { Err(KeyError::Exponent) }
            }
        }
    }

    /// The key identifier of RFC 7093 §2 method 1: the first 160 bits of SHA-256 over the key's octets.
    pub fn identifier(&self) -> Vec<u8> {
        digest(&SHA256, self.octets()).as_ref()[..20].to_vec()
    }

    /// The thumbprint that this key has as a JWK (RFC 7638 §3), base64url: how it is found to be an account's
    /// key (RFC 8555 §11.1), or the one that signed a revocation (RFC 8555 §7.6).
    pub fn thumbprint(&self) -> String {
        let text = Base64UrlUnpadded::encode_string;
        let jwk = match self {
            Self::Ec { curve, point } => {
                let (x, y) = point[1..].split_at(curve.width());
                let name = curve.jwk_name();
                format!(r#"{{"crv":"{name}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
            }
            Self::Ed25519(octets) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(octets)),
            Self::Rsa { modulus, exponent, .. } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(exponent), text(modulus))
            }
        };
        text(digest(&SHA256, jwk.as_bytes()).as_ref())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use num_bigint::BigUint;

    use super::*;
    use crate::pki::der::{BIT_STRING, INTEGER, element, sequence};

    fn integer(number: &BigUint) -> Vec<u8> {
        let mut octets = number.to_bytes_be();
        if octets[0] >= 0x80 {
            octets.insert(0, 0);
        }
        element(INTEGER, &octets)
    }

    /// A SubjectPublicKeyInfo with this modulus and exponent.
    pub(in crate::pki) fn rsa_spki(modulus: &BigUint, exponent: u64) -> Vec<u8> {
        let key = sequence(&[integer(modulus), integer(&BigUint::from(exponent))]);
        sequence(&[RSA.to_vec(), element(BIT_STRING, &[&[0], key.as_slice()].concat())])
    }

    fn key_type(modulus: &BigUint, exponent: u64) -> Result<KeyType, KeyError> {
        PublicKey::parse(&rsa_spki(modulus, exponent)).and_then(|key| key.key_type())
    }

    /// An arbitrary number of exactly so many bits, its two highest bits set.
    pub(in crate::pki) fn number(bits: usize, seed: u8) -> BigUint {
        let octets: Vec<u8> = (0..bits as u32 / 256)
            .flat_map(|i| digest(&SHA256, &[seed, i as u8]).as_ref().to_vec())
            .collect();
        BigUint::from_bytes_be(&octets) | (BigUint::from(3u32) << (bits - 2))
    }

    #[test]
    fn ord_11_rsa_sizes_and_exponents() {
        for (bits, kind) in [(2048, KeyType::Rsa2048), (3072, KeyType::Rsa3072), (4096, KeyType::Rsa4096)] {
            assert_eq!(key_type(&number(bits, 1), 65_537), Ok(kind));
            assert_eq!(key_type(&number(bits, 1), (1 << 33) - 1), Ok(kind));
            assert_eq!(key_type(&(number(bits, 1) >> 1u32), 65_537), Err(KeyError::RsaSize(bits as u64 - 1)));
            for exponent in [1, 3, 65_535, 65_538, (1 << 33) + 1, u64::MAX] {
                assert_eq!(key_type(&number(bits, 1), exponent), Err(KeyError::Exponent), "{exponent}");
            }
        }
        for bits in [1024, 2560, 8192] {
            assert_eq!(key_type(&number(bits, 1), 65_537), Err(KeyError::RsaSize(bits as u64)));
        }
    }

    #[test]
    fn ord_11_points_are_uncompressed_and_algorithms_exact() {
        let ec = |algorithm: &[u8], point: &[u8]| {
            sequence(&[algorithm.to_vec(), element(BIT_STRING, &[&[0], point].concat())])
        };
        let uncompressed = [&[4], [7; 64].as_slice()].concat();
        assert!(PublicKey::parse(&ec(P256, &uncompressed)).is_ok());
        for wrong in [&[&[2], [7; 32].as_slice()].concat(), &[&[6], [7; 64].as_slice()].concat(), &vec![0]] {
            assert_eq!(PublicKey::parse(&ec(P256, wrong)), Err(KeyError::Point));
        }
        assert_eq!(PublicKey::parse(&ec(P384, &uncompressed)), Err(KeyError::Point));
        assert_eq!(PublicKey::parse(&ec(ED25519, &[7; 31])), Err(KeyError::Unsupported));
        let neutral = [&[1], [0; 31].as_slice()].concat();
        assert_eq!(PublicKey::parse(&ec(ED25519, &neutral)), Err(KeyError::OfNobody));
        // rsaEncryption without its NULL; id-ecPublicKey without a curve.
        for algorithm in [
            &b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"[..],
            b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
        ] {
            assert_eq!(PublicKey::parse(&ec(algorithm, &uncompressed)), Err(KeyError::Unsupported));
        }
        let mut trailing = ec(P256, &uncompressed);
        trailing.push(0);
        assert_eq!(PublicKey::parse(&trailing), Err(KeyError::Malformed(DerError::Trailing)));
    }

    #[test]
    fn thumbprints_are_those_of_the_rfcs() {
        // RFC 8037 appendix A.3.
        let x = Base64UrlUnpadded::decode_vec("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(PublicKey::Ed25519(&x).thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB\
                 ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
                 KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_\
                 xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let modulus = BigUint::from_bytes_be(&Base64UrlUnpadded::decode_vec(n).unwrap());
        assert_eq!(
            PublicKey::parse(&rsa_spki(&modulus, 65_537)).unwrap().thumbprint(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }
}
