//! Account keys and the flattened JWS that RFC 8555 §6.2 asks for.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;

use crate::arguments::KeyKind;
use crate::failure::Failure;

/// An account's private key, with what is derived from it.
pub(crate) struct AccountKey {
    pair: Pair,
    random: SystemRandom,
    jwk: String,
    thumbprint: String,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl AccountKey {
    /// A fresh key.
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, Failure> {
        let failed = |_| Failure::Setup("no account key could be made".into());
        let pair = match kind {
            KeyKind::Es256 => {
                Pair::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?)
            }
            KeyKind::Rs256 => Pair::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
        };
        // The members stand in the order of RFC 7638 §3.2, so that the JWK is its own canonical form.
        let jwk = match &pair {
            Pair::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64(x), base64(y))
            }
            Pair::Rs256(pair) => {
                let (modulus, exponent) = rsa_numbers(pair.public_key().as_ref())
                    .ok_or_else(|| Failure::Setup("the RSA public key is not in PKCS #1 form".into()))?;
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64(exponent), base64(modulus))
            }
        };
        let thumbprint = base64(digest(&SHA256, jwk.as_bytes()).as_ref());
        Ok(Self { pair, random: SystemRandom::new(), jwk, thumbprint })
    }

    /// The public key as a JSON Web Key.
    pub(crate) fn jwk(&self) -> &str {
        &self.jwk
    }

    /// The key's thumbprint (RFC 7638) in base64url, as it stands in key authorizations.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The `alg` of this key's signatures.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Rs256(_) => "RS256",
        }
    }

    /// The body of a signed request. `identity` is the `kid` or `jwk` member, name and all; an empty payload
    /// makes a POST-as-GET (RFC 8555 §6.3).
    pub(crate) fn sign(
        &self,
        identity: &str,
        nonce: &str,
        url: &str,
        payload: &[u8],
    ) -> Result<Bytes, Failure> {
        let protected =
            format!(r#"{{"alg":"{}",{identity},"nonce":"{nonce}","url":"{url}"}}"#, self.algorithm());
        let protected = base64(protected.as_bytes());
        let payload = base64(payload);
        let input = format!("{protected}.{payload}");
        let signature = base64(&self.signature(input.as_bytes())?);
        Ok(Bytes::from(format!(
            r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#
        )))
    }

    fn signature(&self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = |_| Failure::Setup("a request could not be signed".into());
        match &self.pair {
            Pair::Es256(pair) => Ok(pair.sign(&self.random, input).map_err(failed)?.as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, input, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// base64url without padding, RFC 7515 §2.
pub(crate) fn base64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// Modulus and exponent, without leading zeros, of a DER `RSAPublicKey` (RFC 8017 §A.1.1).
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (numbers, _) = der_content(der, 0x30)?;
    let (modulus, rest) = der_content(numbers, 0x02)?;
    let (exponent, _) = der_content(rest, 0x02)?;
    Some((modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent.strip_prefix(&[0]).unwrap_or(exponent)))
}

/// The content of the first element of `der`, which must have `tag`, and what follows it.
fn der_content(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = if head[1] < 0x80 {
        (usize::from(head[1]), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(head[1] & 0x7f))?;
        (digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::PublicKeyComponents;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn decode(text: &str) -> Vec<u8> {
        Base64UrlUnpadded::decode_vec(text).unwrap()
    }

    fn signed(kind: KeyKind) -> (AccountKey, Value, Value) {
        let key = AccountKey::generate(kind).unwrap();
        let identity = format!(r#""jwk":{}"#, key.jwk());
        let body = key.sign(&identity, "bm9uY2U", "https://acme.test/new-account", br#"{"a":1}"#).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let protected: Value = serde_json::from_slice(&decode(body["protected"].as_str().unwrap())).unwrap();
        (key, body, protected)
    }

    fn input_and_signature(body: &Value) -> (String, Vec<u8>) {
        let part = |name: &str| body[name].as_str().unwrap().to_owned();
        (format!("{}.{}", part("protected"), part("payload")), decode(&part("signature")))
    }

    #[test]
    fn es256_signatures_verify_under_the_jwk_of_the_header() {
        let (_, body, protected) = signed(KeyKind::Es256);
        assert_eq!(protected["alg"], "ES256");
        assert_eq!(protected["nonce"], "bm9uY2U");
        assert_eq!(protected["url"], "https://acme.test/new-account");
        let mut point = vec![4];
        point.extend(decode(protected["jwk"]["x"].as_str().unwrap()));
        point.extend(decode(protected["jwk"]["y"].as_str().unwrap()));
        let (input, signature) = input_and_signature(&body);
        assert_eq!(signature.len(), 64, "the fixed-width form");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
            .verify(input.as_bytes(), &signature)
            .unwrap();
        assert_eq!(decode(body["payload"].as_str().unwrap()), br#"{"a":1}"#);
    }

    #[test]
    fn rs256_signatures_verify_under_the_jwk_of_the_header() {
        let (_, body, protected) = signed(KeyKind::Rs256);
        assert_eq!(protected["alg"], "RS256");
        let n = decode(protected["jwk"]["n"].as_str().unwrap());
        let e = decode(protected["jwk"]["e"].as_str().unwrap());
        assert_eq!((n.len(), e.as_slice()), (256, &[1, 0, 1][..]));
        let (input, signature) = input_and_signature(&body);
        PublicKeyComponents { n, e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn the_jwk_is_canonical_json_so_that_its_hash_is_the_thumbprint() {
        for kind in [KeyKind::Es256, KeyKind::Rs256] {
            let key = AccountKey::generate(kind).unwrap();
            // serde_json keeps members sorted, which is the order of RFC 7638.
            let canonical = serde_json::from_str::<Value>(key.jwk()).unwrap().to_string();
            assert_eq!(canonical, key.jwk());
            assert_eq!(decode(key.thumbprint()), digest(&SHA256, canonical.as_bytes()).as_ref());
        }
    }
}
