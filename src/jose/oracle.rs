//! josekit (OpenSSL) against aws-lc-rs: keys made and signatures written by the one, and both must give the
//! same verdict on whatever becomes of them. josekit gets the octets that our parser cut out, never a body.

use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding};
use josekit::jwk::alg::ed::EdCurve;
use josekit::jwk::{Jwk, KeyPair};
use josekit::jws::{ES256, ES384, ES512, EdDSA, JwsSigner, JwsVerifier, RS256};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::jose::{Algorithm, Jws, KeyReference, PublicKey};

/// A key that josekit made, with josekit's signer and verifier for it.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Value,
    pub(super) spki: Vec<u8>,
    pub(super) signer: Box<dyn JwsSigner>,
    verifier: Box<dyn JwsVerifier>,
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
    pub(super) fn all() -> &'static [Self] {
        &SIGNERS
    }

    pub(super) fn of(algorithm: Algorithm) -> &'static Self {
        SIGNERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }

    pub(super) fn stranger(algorithm: Algorithm) -> &'static Self {
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
        let protected = Base64UrlUnpadded::encode_string(header.as_bytes());
        let payload = Base64UrlUnpadded::encode_string(payload);
        let signature = self.signer.sign(format!("{protected}.{payload}").as_bytes()).unwrap();
        let signature = Base64UrlUnpadded::encode_string(&signature);
        json!({"protected": protected, "payload": payload, "signature": signature})
    }

    /// A request with `jwk`.
    pub(super) fn request(&self, payload: &[u8]) -> Vec<u8> {
        self.sign(&self.header().to_string(), payload).to_string().into_bytes()
    }
}

pub(super) fn josekit_verifier(algorithm: Algorithm, jwk: &Jwk) -> Option<Box<dyn JwsVerifier>> {
    Some(match algorithm {
        Algorithm::ES256 => Box::new(ES256.verifier_from_jwk(jwk).ok()?),
        Algorithm::ES384 => Box::new(ES384.verifier_from_jwk(jwk).ok()?),
        Algorithm::ES512 => Box::new(ES512.verifier_from_jwk(jwk).ok()?),
        Algorithm::EdDSA => Box::new(EdDSA.verifier_from_jwk(jwk).ok()?),
        Algorithm::RS256 => Box::new(RS256.verifier_from_jwk(jwk).ok()?),
    })
}

/// What happens to octets on their way.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Flip { at: usize, bit: u8 },
    Cut(usize),
    Append(u8),
    Prepend(u8),
    Zero { from: usize, count: usize },
    SwapHalves,
    Replace(Vec<u8>),
}

impl Damage {
    fn strategy() -> impl Strategy<Value = Self> {
        prop_oneof![
            3 => Just(Self::None),
            6 => (any::<usize>(), 0_u8..8).prop_map(|(at, bit)| Self::Flip { at, bit }),
            1 => any::<usize>().prop_map(Self::Cut),
            1 => any::<u8>().prop_map(Self::Append),
            1 => any::<u8>().prop_map(Self::Prepend),
            1 => (any::<usize>(), 1_usize..80).prop_map(|(from, count)| Self::Zero { from, count }),
            1 => Just(Self::SwapHalves),
            1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Self::Replace),
        ]
    }

    fn apply(&self, octets: &mut Vec<u8>) {
        let length = octets.len().max(1);
        match self {
            Self::None => {}
            Self::Flip { at, bit } => octets[at % length] ^= 1 << bit,
            Self::Cut(at) => octets.truncate(at % length),
            Self::Append(octet) => octets.push(*octet),
            Self::Prepend(octet) => octets.insert(0, *octet),
            Self::Zero { from, count } => {
                octets.iter_mut().skip(from % length).take(*count).for_each(|octet| *octet = 0);
            }
            Self::SwapHalves => octets.rotate_left(length / 2),
            Self::Replace(with) => octets.clone_from(with),
        }
    }
}

/// Both verdicts on one signature.
fn verdicts(signer: &Signer, key: &PublicKey, message: &[u8], signature: &[u8]) -> (bool, bool) {
    (key.accepts(message, signature), signer.verifier.verify(message, signature).is_ok())
}

#[test]
fn jws_02_every_algorithm_verifies_what_josekit_signed() {
    for signer in Signer::all() {
        for payload in [&b""[..], b"{}", br#"{"contact":["mailto:a@b.test"]}"#, &[0xff; 5000]] {
            let jws = Jws::parse(&signer.request(payload)).unwrap();
            let KeyReference::Jwk(key) = &jws.key else { panic!("jwk") };
            assert_eq!(jws.verify(key).unwrap(), payload);
            assert_eq!(verdicts(signer, key, jws.signing_input.as_bytes(), &jws.signature), (true, true));
            let other = Signer::stranger(signer.algorithm);
            assert!(jws.verify(&other.key()).is_err());
            assert_eq!(
                verdicts(other, &other.key(), jws.signing_input.as_bytes(), &jws.signature),
                (false, false)
            );
        }
    }
}

#[test]
fn both_write_the_same_subject_public_key_info() {
    for signer in Signer::all() {
        let key = signer.key();
        assert_eq!(key.spki_der(), signer.spki);
        assert!(key.has_spki(&signer.spki));
        assert!(!key.has_spki(&Signer::stranger(signer.algorithm).spki));
        assert!(!key.has_spki(&[]));
    }
}

/// How the property tests run; failures are not written beside the sources.
pub(super) fn cases() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Damage to the signature, to what was signed, and to neither: one verdict.
    #[test]
    fn jws_10_both_agree_on_every_damaged_signature(
        which in 0_usize..5, on_signature in Damage::strategy(), on_message in Damage::strategy(),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let signer = &Signer::all()[which];
        let jws = Jws::parse(&signer.request(&payload)).unwrap();
        let (mut message, mut signature) = (jws.signing_input.clone().into_bytes(), jws.signature.clone());
        on_signature.apply(&mut signature);
        on_message.apply(&mut message);
        let untouched = message == jws.signing_input.as_bytes() && signature == jws.signature;
        let (ours, josekits) = verdicts(signer, &signer.key(), &message, &signature);
        prop_assert_eq!(ours, josekits);
        prop_assert_eq!(ours, untouched);
    }

    /// Damage to the body: whatever the parser still lets through, both judge alike, and the payload is the
    /// signed one.
    #[test]
    fn jws_10_both_agree_on_every_damaged_body(which in 0_usize..5, damage in Damage::strategy()) {
        let signer = &Signer::all()[which];
        let mut body = signer.request(b"{\"x\":1}");
        damage.apply(&mut body);
        if let Ok(jws) = Jws::parse(&body) {
            let key = signer.key();
            let ours = jws.verify(&key);
            let josekits = signer.verifier.verify(jws.signing_input.as_bytes(), &jws.signature).is_ok();
            prop_assert!(jws.algorithm != signer.algorithm || ours.is_ok() == josekits);
            if let Ok(payload) = ours {
                prop_assert_eq!(payload, b"{\"x\":1}");
            }
        }
    }

    /// A key that is accepted here is one that josekit accepts, and is the same key there.
    #[test]
    fn jws_03_no_damaged_key_is_accepted_that_josekit_refuses(
        which in 0_usize..5, member in 0_usize..2, damage in Damage::strategy(),
    ) {
        let signer = &Signer::all()[which];
        let member = match signer.algorithm {
            Algorithm::RS256 => ["n", "e"][member],
            Algorithm::EdDSA => "x",
            _ => ["x", "y"][member],
        };
        let mut jwk = signer.jwk.clone();
        let mut octets = Base64UrlUnpadded::decode_vec(jwk[member].as_str().unwrap()).unwrap();
        damage.apply(&mut octets);
        jwk[member] = Base64UrlUnpadded::encode_string(&octets).into();
        let theirs = Jwk::from_map(jwk.as_object().unwrap().clone()).unwrap();
        let josekits = josekit_verifier(signer.algorithm, &theirs);
        match PublicKey::from_jwk(&jwk) {
            Ok(key) => {
                prop_assert!(josekits.is_some());
                prop_assert_eq!(key == signer.key(), jwk[member] == signer.jwk[member]);
            }
            Err(_) => prop_assert!(jwk[member] != signer.jwk[member]),
        }
    }
}
