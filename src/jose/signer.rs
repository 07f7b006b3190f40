//! Keys that sign, for this room's tests. They are aws-lc-rs's own: what another implementation makes of the same
//! octets is the business of `tests/jose-oracle`, a package of its own, since its library changes features of ours.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use proptest::prelude::ProptestConfig;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::jose::{Algorithm, PublicKey};

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// A private key and its public one.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Value,
    pair: Pair,
}

static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(Signer::one_of_each);

/// Other keys of the same types.
static STRANGERS: LazyLock<Vec<Signer>> = LazyLock::new(Signer::one_of_each);

impl Signer {
    pub(super) fn all() -> &'static [Self] {
        &SIGNERS
    }

    pub(super) fn of(algorithm: Algorithm) -> &'static Self {
        SIGNERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }

    pub(super) fn stranger(algorithm: Algorithm) -> &'static Self {
        STRANGERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }

    fn one_of_each() -> Vec<Self> {
        vec![
            Self::ecdsa(Algorithm::ES256, "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::ecdsa(Algorithm::ES384, "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::ecdsa(Algorithm::ES512, "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            Self::ed25519(),
            Self::rsa(),
        ]
    }

    fn ecdsa(algorithm: Algorithm, curve: &str, signing: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)});
        Self { algorithm, jwk, pair: Pair::Ecdsa(pair) }
    }

    fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref())});
        Self { algorithm: Algorithm::EdDSA, jwk, pair: Pair::Ed25519(pair) }
    }

    fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let (_, spki) = SubjectPublicKeyInfo::from_der(spki.as_ref()).unwrap();
        let Parsed::RSA(key) = spki.parsed().unwrap() else { panic!("an RSA key") };
        let bare = |octets: &[u8]| base64url(octets.strip_prefix(&[0]).unwrap_or(octets));
        let jwk = json!({"kty": "RSA", "n": bare(key.modulus), "e": bare(key.exponent)});
        Self { algorithm: Algorithm::RS256, jwk, pair: Pair::Rsa(pair) }
    }

    pub(super) fn key(&self) -> PublicKey {
        PublicKey::from_jwk(&self.jwk).unwrap()
    }

    /// A header with `jwk`, as new-account has it.
    pub(super) fn header(&self) -> Value {
        json!({"alg": self.algorithm.as_str(), "nonce": "bm9uY2U", "url": "https://ca.test/new",
               "jwk": self.jwk})
    }

    /// `header`, signed as it is written, around `payload`.
    pub(super) fn sign(&self, header: &str, payload: &[u8]) -> Value {
        let protected = base64url(header.as_bytes());
        let payload = base64url(payload);
        let signature = self.signature(format!("{protected}.{payload}").as_bytes());
        json!({"protected": protected, "payload": payload, "signature": base64url(&signature)})
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A request with `jwk`.
    pub(super) fn request(&self, payload: &[u8]) -> Vec<u8> {
        self.sign(&self.header().to_string(), payload).to_string().into_bytes()
    }
}

fn base64url(octets: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(octets)
}

/// How the property tests run; failures are not written beside the sources.
pub(super) fn cases() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}
