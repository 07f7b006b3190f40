//! Keys that sign: for accounts, and for certificates.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use rcgen::SignatureAlgorithm;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

use crate::support::weak_keys::{WeakRsa, components};

/// The kinds of key that an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// P-256.
    Es256,
    /// P-384.
    Es384,
    /// P-521.
    Es512,
    /// Ed25519.
    EdDsa,
    /// RSA, 2048 bits.
    Rs256,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::Es512, Self::EdDsa, Self::Rs256];

    /// The JWS algorithm of such a key.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    fn ecdsa(self) -> Option<(&'static EcdsaSigningAlgorithm, &'static str)> {
        match self {
            Self::Es256 => Some((&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")),
            Self::Es384 => Some((&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")),
            Self::Es512 => Some((&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521")),
            Self::EdDsa | Self::Rs256 => None,
        }
    }

    fn x509(self) -> &'static SignatureAlgorithm {
        match self {
            Self::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::Es384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Es512 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Self::EdDsa => &rcgen::PKCS_ED25519,
            Self::Rs256 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    Weak(WeakRsa),
    Mac(Box<hmac::Key>),
}

/// A private key.
pub struct Key {
    kind: KeyKind,
    pair: Pair,
    pkcs8: Vec<u8>,
}

impl Key {
    /// A new P-256 key, the usual one.
    pub fn new() -> Self {
        Self::of(KeyKind::Es256)
    }

    /// A new key.
    pub fn of(kind: KeyKind) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = match kind {
            KeyKind::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&random).expect("a key").as_ref().to_vec(),
            KeyKind::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let encoded: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("PKCS#8");
                encoded.as_ref().to_vec()
            }
            _ => {
                let (algorithm, _) = kind.ecdsa().expect("ECDSA");
                EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key").as_ref().to_vec()
            }
        };
        Self::from_pkcs8(kind, pkcs8)
    }

    /// A P-256 key from PKCS #8 in PEM.
    pub fn from_pem(text: &str) -> Self {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).expect("PEM");
        Self::from_pkcs8(KeyKind::Es256, pem.contents)
    }

    fn from_pkcs8(kind: KeyKind, pkcs8: Vec<u8>) -> Self {
        let pair = match kind {
            KeyKind::EdDsa => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).expect("Ed25519"))
            }
            KeyKind::Rs256 => Pair::Rsa(RsaKeyPair::from_pkcs8(&pkcs8).expect("RSA")),
            _ => Pair::Ecdsa(
                EcdsaKeyPair::from_pkcs8(kind.ecdsa().expect("ECDSA").0, &pkcs8).expect("an ECDSA key"),
            ),
        };
        Self { kind, pair, pkcs8 }
    }

    /// A key that no server should take, which signs all the same, as RS256.
    pub fn weak(key: WeakRsa) -> Self {
        Self { kind: KeyKind::Rs256, pair: Pair::Weak(key), pkcs8: Vec::new() }
    }

    /// A shared secret, which signs with HMAC-SHA-256: what no ACME request may be signed with.
    pub fn secret(bytes: &[u8]) -> Self {
        let pair = Pair::Mac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)));
        Self { kind: KeyKind::Es256, pair, pkcs8: Vec::new() }
    }

    /// The same key once more.
    pub fn duplicate(&self) -> Self {
        Self::from_pkcs8(self.kind, self.pkcs8.clone())
    }

    /// The JWS algorithm of the key.
    pub fn algorithm(&self) -> &'static str {
        if matches!(self.pair, Pair::Mac(_)) { "HS256" } else { self.kind.algorithm() }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = self.kind.ecdsa().expect("ECDSA").1;
                json!({"crv": curve, "kty": "EC", "x": base64url(x), "y": base64url(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"crv": "Ed25519", "kty": "OKP", "x": base64url(pair.public_key().as_ref())})
            }
            Pair::Rsa(pair) => {
                let (n, e) = components(pair.public_key().as_ref());
                json!({"e": base64url(&e), "kty": "RSA", "n": base64url(&n)})
            }
            Pair::Weak(key) => json!({"e": base64url(&key.e()), "kty": "RSA", "n": base64url(&key.n())}),
            Pair::Mac(_) => json!({"k": "AAAA", "kty": "oct"}),
        }
    }

    /// The RFC 7638 thumbprint. (The members of `jwk` are already sorted.)
    pub fn thumbprint(&self) -> String {
        base64url(&sha256(self.jwk().to_string().as_bytes()))
    }

    /// A signature in the form that JWS has.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Pair::Weak(key) => key.sign(message),
            Pair::Mac(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    /// The key as the certificate library has it.
    pub fn to_rcgen(&self) -> rcgen::KeyPair {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.clone());
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, self.kind.x509()).expect("a key")
    }
}

/// Base64url without padding.
pub fn base64url(octets: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(octets)
}

/// SHA-256.
pub fn sha256(octets: &[u8]) -> Vec<u8> {
    digest(&SHA256, octets).as_ref().to_vec()
}
