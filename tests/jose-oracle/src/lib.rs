//! josekit (OpenSSL), the second opinion on signed requests: keys that it makes, and its signers and verifiers for them.
//!
//! A package of its own, built by a command of its own: josekit turns on features of serde_json and regex that the
//! released program does not have, and Cargo would turn them on for the tested one too.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::jose::{Algorithm, PublicKey};
use josekit::jwk::alg::ed::EdCurve;
use josekit::jwk::{Jwk, KeyPair};
use josekit::jws::{ES256, ES384, ES512, EdDSA, JwsSigner, JwsVerifier, RS256};
use serde_json::{Value, json};

/// A key that josekit made, with josekit's signer and verifier for it.
pub struct Signer {
    /// What it signs by.
    pub algorithm: Algorithm,
    /// The public key as a JWK, as josekit writes it.
    pub jwk: Value,
    /// The public key as a SubjectPublicKeyInfo, as OpenSSL writes it.
    pub spki: Vec<u8>,
    signer: Box<dyn JwsSigner>,
    /// josekit's verdict on its signatures.
    pub verifier: Box<dyn JwsVerifier>,
}

static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    [Algorithm::ES256, Algorithm::ES384, Algorithm::ES512, Algorithm::EdDSA, Algorithm::RS256]
        .map(Signer::generate)
        .into()
});

/// Other keys of the same types.
static STRANGERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    [Algorithm::ES256, Algorithm::ES384, Algorithm::ES512, Algorithm::EdDSA, Algorithm::RS256]
        .map(Signer::generate)
        .into()
});

impl Signer {
    /// One of each algorithm.
    pub fn all() -> &'static [Self] {
        &SIGNERS
    }

    /// The one of this algorithm.
    pub fn of(algorithm: Algorithm) -> &'static Self {
        SIGNERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }

    /// Another one of this algorithm.
    pub fn stranger(algorithm: Algorithm) -> &'static Self {
        STRANGERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }

    fn generate(algorithm: Algorithm) -> Self {
        let pair: Box<dyn KeyPair> = match algorithm {
            Algorithm::ES256 => Box::new(ES256.generate_key_pair().unwrap()),
            Algorithm::ES384 => Box::new(ES384.generate_key_pair().unwrap()),
            Algorithm::ES512 => Box::new(ES512.generate_key_pair().unwrap()),
            Algorithm::EdDSA => Box::new(EdDSA.generate_key_pair(EdCurve::Ed25519).unwrap()),
            Algorithm::RS256 => Box::new(RS256.generate_key_pair(2048).unwrap()),
        };
        let private = pair.to_jwk_key_pair();
        let signer: Box<dyn JwsSigner> = match algorithm {
            Algorithm::ES256 => Box::new(ES256.signer_from_jwk(&private).unwrap()),
            Algorithm::ES384 => Box::new(ES384.signer_from_jwk(&private).unwrap()),
            Algorithm::ES512 => Box::new(ES512.signer_from_jwk(&private).unwrap()),
            Algorithm::EdDSA => Box::new(EdDSA.signer_from_jwk(&private).unwrap()),
            Algorithm::RS256 => Box::new(RS256.signer_from_jwk(&private).unwrap()),
        };
        let public = pair.to_jwk_public_key();
        let verifier = josekit_verifier(algorithm, &public).unwrap();
        let jwk = serde_json::to_value(public.as_ref()).unwrap();
        Self { algorithm, jwk, spki: pair.to_der_public_key(), signer, verifier }
    }

    /// The public key as Chancery reads it.
    pub fn key(&self) -> PublicKey {
        PublicKey::from_jwk(&self.jwk).unwrap()
    }

    /// A header with `jwk`, as new-account has it.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm.as_str(), "nonce": "bm9uY2U", "url": "https://ca.test/new",
               "jwk": self.jwk})
    }

    /// `header`, signed as it is written, around `payload`.
    pub fn sign(&self, header: &str, payload: &[u8]) -> Value {
        let protected = Base64UrlUnpadded::encode_string(header.as_bytes());
        let payload = Base64UrlUnpadded::encode_string(payload);
        let signature = self.signer.sign(format!("{protected}.{payload}").as_bytes()).unwrap();
        let signature = Base64UrlUnpadded::encode_string(&signature);
        json!({"protected": protected, "payload": payload, "signature": signature})
    }

    /// A request with `jwk`.
    pub fn request(&self, payload: &[u8]) -> Vec<u8> {
        self.sign(&self.header().to_string(), payload).to_string().into_bytes()
    }
}

/// josekit's verifier for a JWK; `None` if josekit refuses the key.
pub fn josekit_verifier(algorithm: Algorithm, jwk: &Jwk) -> Option<Box<dyn JwsVerifier>> {
    Some(match algorithm {
        Algorithm::ES256 => Box::new(ES256.verifier_from_jwk(jwk).ok()?),
        Algorithm::ES384 => Box::new(ES384.verifier_from_jwk(jwk).ok()?),
        Algorithm::ES512 => Box::new(ES512.verifier_from_jwk(jwk).ok()?),
        Algorithm::EdDSA => Box::new(EdDSA.verifier_from_jwk(jwk).ok()?),
        Algorithm::RS256 => Box::new(RS256.verifier_from_jwk(jwk).ok()?),
    })
}

/// What a flattened JWS says was signed, and the signature.
pub struct Signed {
    /// The protected header and the payload as they stand there, with a full stop between them (RFC 7515 §5.2).
    pub message: Vec<u8>,
    /// The signature's octets.
    pub signature: Vec<u8>,
}

impl Signed {
    /// Cuts a body apart that Chancery's parser has taken.
    pub fn of(body: &[u8]) -> Self {
        let jws: Value = serde_json::from_slice(body).unwrap();
        let part = |name: &str| jws[name].as_str().unwrap();
        Self {
            message: format!("{}.{}", part("protected"), part("payload")).into_bytes(),
            signature: Base64UrlUnpadded::decode_vec(part("signature")).unwrap(),
        }
    }
}
