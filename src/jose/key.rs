//! Public keys: read from a JWK, checked once, and written in one canonical form.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

use crate::acme::ed25519;
use crate::acme::problem::printable;
use crate::jose::strict_json::SHOWN;
use crate::jose::{Algorithm, Error};

/// Members that only a private or a symmetric key has (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE: [&str; 8] = ["d", "dp", "dq", "k", "oth", "p", "q", "qi"];

/// A public key that passed every check of RFC 8555 §6.2 and of its type. Two are equal if they are the same
/// key.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The canonical JWK: required members only, in the order of RFC 7638 §3.2.
    jwk: String,
    verifier: ParsedPublicKey,
}

impl PublicKey {
    /// Reads and checks a JWK (RFC 7517): P-256, P-384, P-521 (RFC 7518 §6.2), Ed25519 (RFC 8037 §2) or RSA
    /// of 2048 to 8192 bits (RFC 7518 §6.3). Members that do not make the key (`kid`, `alg`, `use`, …) are
    /// dropped unread.
    ///
    /// # Errors
    /// `malformed` for something that is no object or holds a private key, `badPublicKey` for the rest.
    pub fn from_jwk(value: &Value) -> Result<Self, Error> {
        let members = value.as_object().ok_or(Error::NotAnObject("the jwk"))?;
        if PRIVATE.iter().any(|member| members.contains_key(*member)) {
            return Err(Error::PrivateKey);
        }
        match members.get("kty").and_then(Value::as_str) {
            Some("EC") => Self::elliptic(members),
            Some("OKP") => Self::edwards(members),
            Some("RSA") => Self::rsa(members),
            _ => Err(Error::KeyType),
        }
    }

    /// Reads what [`Self::to_jwk`] wrote.
    ///
    /// # Errors
    /// As [`Self::from_jwk`]; one means that the store was tampered with.
    pub fn from_stored(jwk: &str) -> Result<Self, Error> {
        let value = serde_json::from_str(jwk).map_err(|_| Error::NotAnObject("the stored key"))?;
        Self::from_jwk(&value)
    }

    /// The one algorithm whose signatures the key checks.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The canonical JWK: the required members only, in the order of RFC 7638 §3.2, without white space.
    pub fn to_jwk(&self) -> String {
        self.jwk.clone()
    }

    /// The thumbprint (RFC 7638): SHA-256 of the canonical JWK, in base64url.
    pub fn thumbprint(&self) -> String {
        Base64UrlUnpadded::encode_string(digest(&SHA256, self.jwk.as_bytes()).as_ref())
    }

    /// The `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1.2.7), with an uncompressed point for elliptic curves.
    pub fn spki_der(&self) -> Vec<u8> {
        self.verifier.as_der().expect("a key that was imported has a DER form").as_ref().to_vec()
    }

    /// Whether `der`, the `SubjectPublicKeyInfo` of a CSR or of a certificate, holds this very key, though
    /// its point may be written in compressed form.
    pub fn has_spki(&self, der: &[u8]) -> bool {
        let mine = self.spki_der();
        mine == der
            || ParsedPublicKey::new(self.algorithm.verification(), der)
                .and_then(|other| Ok(other.as_der()?.as_ref() == mine))
                .unwrap_or(false)
    }

    /// Whether `signature` is the key's over `message`.
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }

    fn elliptic(members: &Map<String, Value>) -> Result<Self, Error> {
        let curve = curve(members)?;
        let (algorithm, width) = match curve {
            "P-256" => (Algorithm::ES256, 32),
            "P-384" => (Algorithm::ES384, 48),
            "P-521" => (Algorithm::ES512, 66),
            other => return Err(Error::KeyCurve(printable(other.as_bytes(), SHOWN))),
        };
        let (x_text, x) = octets(members, "x")?;
        let (y_text, y) = octets(members, "y")?;
        if x.len() != width {
            return Err(Error::KeyMember("x"));
        }
        if y.len() != width {
            return Err(Error::KeyMember("y"));
        }
        let point = [&[4], x.as_slice(), &y].concat(); // SEC 1 §2.3.3: uncompressed
        let verifier = ParsedPublicKey::new(algorithm.verification(), point).map_err(|_| Error::KeyPoint)?;
        let jwk = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x_text}","y":"{y_text}"}}"#);
        Ok(Self { algorithm, jwk, verifier })
    }

    fn edwards(members: &Map<String, Value>) -> Result<Self, Error> {
        match curve(members)? {
            "Ed25519" => {}
            other => return Err(Error::KeyCurve(printable(other.as_bytes(), SHOWN))),
        }
        let (text, x) = octets(members, "x")?;
        if x.len() != 32 {
            return Err(Error::KeyMember("x"));
        }
        if !ed25519::may_be_a_key(&x) {
            return Err(Error::KeyOfNobody);
        }
        let algorithm = Algorithm::EdDSA;
        let verifier = ParsedPublicKey::new(algorithm.verification(), x).map_err(|_| Error::KeyPoint)?;
        Ok(Self { algorithm, jwk: format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{text}"}}"#), verifier })
    }

    fn rsa(members: &Map<String, Value>) -> Result<Self, Error> {
        let (n_text, n) = octets(members, "n")?;
        let (e_text, e) = octets(members, "e")?;
        // A set top bit means: no leading zeros, and a number of bits that is a multiple of 8.
        let top_bit = n.first().is_some_and(|octet| octet & 0x80 != 0);
        if !top_bit || !(256..=1024).contains(&n.len()) || n.last().is_some_and(|octet| octet & 1 == 0) {
            return Err(Error::KeyModulus);
        }
        if e.len() > 5 || e.first() == Some(&0) {
            return Err(Error::KeyExponent);
        }
        let exponent = e.iter().fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
        if exponent % 2 == 0 || !(65537..1 << 33).contains(&exponent) {
            return Err(Error::KeyExponent);
        }
        let verifier = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| Error::KeyModulus)?;
        let jwk = format!(r#"{{"e":"{e_text}","kty":"RSA","n":"{n_text}"}}"#);
        Ok(Self { algorithm: Algorithm::RS256, jwk, verifier })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.jwk)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.jwk == other.jwk
    }
}

impl Eq for PublicKey {}

fn curve(members: &Map<String, Value>) -> Result<&str, Error> {
    members.get("crv").and_then(Value::as_str).ok_or(Error::KeyMember("crv"))
}

/// A member's text and the octets that it encodes. The encoding is canonical, so one key has one text.
fn octets<'a>(members: &'a Map<String, Value>, member: &'static str) -> Result<(&'a str, Vec<u8>), Error> {
    let text = members.get(member).and_then(Value::as_str).ok_or(Error::KeyMember(member))?;
    let octets = Base64UrlUnpadded::decode_vec(text).map_err(|_| Error::KeyMember(member))?;
    Ok((text, octets))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::signer::Signer;

    fn rsa(n: &[u8], e: &[u8]) -> Result<PublicKey, Error> {
        PublicKey::from_jwk(&json!({"kty": "RSA", "n": Base64UrlUnpadded::encode_string(n),
                                    "e": Base64UrlUnpadded::encode_string(e)}))
    }

    fn modulus(octets: usize) -> Vec<u8> {
        let mut n = vec![0x5a; octets];
        n[0] = 0x80;
        n[octets - 1] = 1;
        n
    }

    #[test]
    fn jws_03_rsa_moduli_have_2048_to_8192_bits_in_whole_octets_and_are_odd() {
        for octets in [256, 257, 384, 512, 1024] {
            assert!(rsa(&modulus(octets), &[1, 0, 1]).is_ok(), "{octets}");
        }
        let mut one_bit_short = modulus(256);
        one_bit_short[0] = 0x7f;
        let mut even = modulus(256);
        even[255] = 2;
        let leading_zero = [vec![0], modulus(256)].concat();
        for n in [vec![], modulus(128), modulus(255), modulus(1025), one_bit_short, even, leading_zero] {
            assert_eq!(rsa(&n, &[1, 0, 1]), Err(Error::KeyModulus), "{} octets", n.len());
        }
    }

    #[test]
    fn jws_03_rsa_exponents_are_odd_and_at_least_65537() {
        for e in [&[1, 0, 1][..], &[1, 0, 3], &[0xff; 4], &[1, 0xff, 0xff, 0xff, 0xff]] {
            assert!(rsa(&modulus(256), e).is_ok(), "{e:?}");
        }
        for e in [
            &[][..],
            &[0],
            &[1],
            &[3],
            &[0xff, 0xff],
            &[1, 0, 0],
            &[1, 0, 2],
            &[0, 1, 0, 1],
            &[2, 0, 0, 0, 1],
        ] {
            assert_eq!(rsa(&modulus(256), e), Err(Error::KeyExponent), "{e:?}");
        }
        assert_eq!(rsa(&modulus(256), &[1; 9]), Err(Error::KeyExponent));
    }

    #[test]
    fn jws_03_points_are_on_their_curve_and_coordinates_have_its_width() {
        for signer in Signer::all().iter().filter(|signer| signer.jwk["kty"] == "EC") {
            let x = Base64UrlUnpadded::decode_vec(signer.jwk["x"].as_str().unwrap()).unwrap();
            for (member, wrong) in
                [("x", &x[1..]), ("x", &[&[0], &x[..]].concat()), ("y", &[]), ("y", &[0; 67])]
            {
                let mut jwk = signer.jwk.clone();
                jwk[member] = Base64UrlUnpadded::encode_string(wrong).into();
                assert_eq!(PublicKey::from_jwk(&jwk), Err(Error::KeyMember(member)));
            }
            let mut off_curve = signer.jwk.clone();
            off_curve["y"] = off_curve["x"].clone();
            assert_eq!(PublicKey::from_jwk(&off_curve), Err(Error::KeyPoint));
            for zeros in ["x", "y"] {
                let mut jwk = signer.jwk.clone();
                jwk[zeros] = Base64UrlUnpadded::encode_string(&vec![0; x.len()]).into();
                assert_eq!(PublicKey::from_jwk(&jwk), Err(Error::KeyPoint));
            }
            let mut other_curve = signer.jwk.clone();
            other_curve["crv"] = if signer.algorithm == Algorithm::ES256 { "P-384" } else { "P-256" }.into();
            assert_eq!(PublicKey::from_jwk(&other_curve), Err(Error::KeyMember("x")));
        }
    }

    #[test]
    fn jws_03_other_types_and_curves_of_keys_are_bad_public_keys() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        for (jwk, error) in [
            (json!({}), Error::KeyType),
            (json!({"kty": "oct"}), Error::KeyType),
            (json!({"kty": "ec"}), Error::KeyType),
            (json!({"kty": 1}), Error::KeyType),
            (json!({"kty": "EC", "x": x, "y": x}), Error::KeyMember("crv")),
            (json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x}), Error::KeyCurve("secp256k1".into())),
            (json!({"kty": "EC", "crv": "Ed25519", "x": x}), Error::KeyCurve("Ed25519".into())),
            (json!({"kty": "EC", "crv": "P-256", "x": x}), Error::KeyMember("y")),
            (json!({"kty": "OKP", "crv": "Ed448", "x": x}), Error::KeyCurve("Ed448".into())),
            (json!({"kty": "OKP", "crv": "X25519", "x": x}), Error::KeyCurve("X25519".into())),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), Error::KeyMember("x")),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": format!("{x}=")}), Error::KeyMember("x")),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": 5}), Error::KeyMember("x")),
            (json!({"kty": "RSA", "e": "AQAB"}), Error::KeyMember("n")),
        ] {
            let found = PublicKey::from_jwk(&jwk).unwrap_err();
            assert_eq!(found, error, "{jwk}");
            assert_eq!(found.kind(), crate::acme::problem::ProblemType::BadPublicKey);
        }
        assert!(matches!(PublicKey::from_jwk(&json!("EC")), Err(Error::NotAnObject(_))));
    }

    #[test]
    fn a_stored_key_is_the_key_and_holds_only_what_makes_it() {
        for signer in Signer::all() {
            let mut jwk = signer.jwk.clone();
            for (member, value) in [("kid", "x"), ("alg", "HS256"), ("use", "enc"), ("x5t", "AA")] {
                jwk[member] = value.into();
            }
            jwk["key_ops"] = json!(["sign"]);
            let key = PublicKey::from_jwk(&jwk).unwrap();
            assert_eq!(key, signer.key());
            let stored = PublicKey::from_stored(&key.to_jwk()).unwrap();
            assert_eq!((&stored, stored.thumbprint()), (&key, key.thumbprint()));
            let members: Map<String, Value> = serde_json::from_str(&key.to_jwk()).unwrap();
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            let required: &[&str] = match signer.algorithm {
                Algorithm::RS256 => &["e", "kty", "n"],
                Algorithm::EdDSA => &["crv", "kty", "x"],
                _ => &["crv", "kty", "x", "y"],
            };
            assert_eq!(names, required);
            assert!(required.iter().all(|name| members[*name] == signer.jwk[*name]));
            assert_ne!(key, Signer::stranger(signer.algorithm).key());
        }
        assert!(PublicKey::from_stored("{").is_err());
    }

    #[test]
    fn a_compressed_point_in_a_subject_public_key_info_is_the_same_key() {
        let key = Signer::of(Algorithm::ES256).key();
        let spki = key.spki_der();
        let (start, point) = spki.split_at(26);
        assert_eq!((point.len(), point[0]), (65, 4));
        let mut compressed = [start, &[2 + (point[64] & 1)], &point[1..33]].concat();
        compressed[1] -= 32;
        compressed[24] -= 32; // length of the bit string
        assert!(key.has_spki(&compressed));
        assert!(!Signer::stranger(Algorithm::ES256).key().has_spki(&compressed));
    }
}
