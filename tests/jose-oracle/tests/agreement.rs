//! josekit (OpenSSL) against aws-lc-rs: keys made and signatures written by the one, and both must give the
//! same verdict on whatever becomes of them. josekit gets the octets that our parser cut out, never a body.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::jose::{Algorithm, Binding, Jws, KeyReference, PublicKey};
use chancery_jose_oracle::{Signed, Signer, josekit_verifier};
use josekit::jwk::Jwk;
use josekit::jws::{HS256, HS384, HS512, JwsSigner};
use proptest::prelude::*;
use serde_json::{Value, json};

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
fn verdicts(signer: &Signer, key: &PublicKey, signed: &Signed) -> (bool, bool) {
    let Signed { message, signature } = signed;
    (key.accepts(message, signature), signer.verifier.verify(message, signature).is_ok())
}

#[test]
fn jws_02_every_algorithm_verifies_what_josekit_signed() {
    for signer in Signer::all() {
        for payload in [&b""[..], b"{}", br#"{"contact":["mailto:a@b.test"]}"#, &[0xff; 5000]] {
            let body = signer.request(payload);
            let jws = Jws::parse(&body).unwrap();
            let KeyReference::Jwk(key) = &jws.key else { panic!("jwk") };
            assert_eq!(jws.verify(key).unwrap(), payload);
            let signed = Signed::of(&body);
            assert_eq!(verdicts(signer, key, &signed), (true, true));
            let other = Signer::stranger(signer.algorithm);
            assert!(jws.verify(&other.key()).is_err());
            assert_eq!(verdicts(other, &other.key(), &signed), (false, false));
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

/// The MAC of an external account binding (RFC 8555 §7.3.4) is the one that josekit makes.
#[test]
fn eab_02_each_mac_algorithm_agrees_with_another_implementation() {
    const URL: &str = "https://ca.test/new-account";
    // josekit wants keys as long as the hash.
    let secret = [7; 64];
    let account = Signer::of(Algorithm::ES256);
    let signers: [(&str, Box<dyn JwsSigner>); 3] = [
        ("HS256", Box::new(HS256.signer_from_bytes(secret).unwrap())),
        ("HS384", Box::new(HS384.signer_from_bytes(secret).unwrap())),
        ("HS512", Box::new(HS512.signer_from_bytes(secret).unwrap())),
    ];
    for (algorithm, signer) in signers {
        let header = json!({"alg": algorithm, "kid": "k", "url": URL});
        let protected = Base64UrlUnpadded::encode_string(header.to_string().as_bytes());
        let payload = Base64UrlUnpadded::encode_string(account.jwk.to_string().as_bytes());
        let mac = signer.sign(format!("{protected}.{payload}").as_bytes()).unwrap();
        let signature = Base64UrlUnpadded::encode_string(&mac);
        let inner: Value = json!({"protected": protected, "payload": payload, "signature": signature});
        let binding = Binding::parse(&inner, URL, &account.key()).unwrap();
        assert!(binding.verify(&secret).is_ok(), "{algorithm}");
        assert!(binding.verify(&[8; 64]).is_err(), "{algorithm}");
    }
}

/// How the property tests run; failures are not written beside the sources.
fn cases() -> ProptestConfig {
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
        let sent = Signed::of(&signer.request(&payload));
        let mut received = Signed { message: sent.message.clone(), signature: sent.signature.clone() };
        on_signature.apply(&mut received.signature);
        on_message.apply(&mut received.message);
        let untouched = received.message == sent.message && received.signature == sent.signature;
        let (ours, josekits) = verdicts(signer, &signer.key(), &received);
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
            let Signed { message, signature } = Signed::of(&body);
            let josekits = signer.verifier.verify(&message, &signature).is_ok();
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
