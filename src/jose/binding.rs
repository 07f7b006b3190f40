//! External account bindings (RFC 8555 §7.3.4): a JWS within new-account's payload, by which whoever holds a key of the
//! operator's vouches for the account's key.

use aws_lc_rs::hmac;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::acme::problem::{ProblemType, printable};
use crate::jose::jws::{part, present, refuse_extensions, string};
use crate::jose::strict_json::{self, SHOWN};
use crate::jose::{Error, PublicKey};

/// A MAC algorithm (RFC 7518 §3.2). A key of 32 octets serves each: HMAC is as strong as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MacAlgorithm {
    HS256,
    HS384,
    HS512,
}

impl MacAlgorithm {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::HS256),
            "HS384" => Some(Self::HS384),
            "HS512" => Some(Self::HS512),
            _ => None,
        }
    }

    const fn implementation(self) -> hmac::Algorithm {
        match self {
            Self::HS256 => hmac::HMAC_SHA256,
            Self::HS384 => hmac::HMAC_SHA384,
            Self::HS512 => hmac::HMAC_SHA512,
        }
    }
}

/// A binding whose shape and content hold, and whose MAC has not been looked at.
#[derive(Clone, Debug)]
pub struct Binding {
    algorithm: MacAlgorithm,
    kid: String,
    signing_input: String,
    mac: Vec<u8>,
}

impl Binding {
    /// Reads `externalAccountBinding` and checks all that can be checked without its key: it is a flattened JWS with
    /// a MAC algorithm, a `kid`, the outer JWS's `url`, no `nonce`, and the outer JWS's key as payload (EAB-02).
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn parse(value: &Value, url: &str, account_key: &PublicKey) -> Result<Self, BindingError> {
        let members = value.as_object().ok_or(Error::NotAnObject("it"))?;
        let expected = ["protected", "payload", "signature"];
        if let Some(name) = members.keys().find(|name| !expected.contains(&name.as_str())) {
            return Err(Error::UnexpectedMember(printable(name.as_bytes(), SHOWN)).into());
        }
        let (protected, header) = part(members, "protected")?;
        let (encoded_payload, payload) = part(members, "payload")?;
        let (_, mac) = part(members, "signature")?;
        let header = strict_json::object(&header, "its protected header")?;
        let (algorithm, kid) = check_header(&header, url)?;
        let payload = strict_json::object(&payload, "its payload")?;
        let vouched = PublicKey::from_jwk(&Value::Object(payload)).map_err(BindingError::PayloadNotAKey)?;
        if vouched != *account_key {
            return Err(BindingError::AnotherKey);
        }
        let signing_input = format!("{protected}.{encoded_payload}");
        Ok(Self { algorithm, kid, signing_input, mac })
    }

    /// The identifier of the key that it says it was made with, as it was sent.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the MAC under `secret`, in constant time.
    ///
    /// # Errors
    /// [`BindingError::NotAuthentic`].
    pub fn verify(&self, secret: &[u8]) -> Result<(), BindingError> {
        let key = hmac::Key::new(self.algorithm.implementation(), secret);
        hmac::verify(&key, self.signing_input.as_bytes(), &self.mac).map_err(|_| BindingError::NotAuthentic)
    }
}

fn check_header(header: &Map<String, Value>, url: &str) -> Result<(MacAlgorithm, String), BindingError> {
    refuse_extensions(header)?;
    let name = string(header, "alg")?.ok_or(Error::MissingMember("alg"))?;
    let algorithm = MacAlgorithm::parse(name)
        .ok_or_else(|| BindingError::AlgorithmNotAccepted(printable(name.as_bytes(), SHOWN)))?;
    if present(header, "jwk").is_some() {
        return Err(BindingError::Jwk);
    }
    let kid = string(header, "kid")?.ok_or(Error::MissingMember("kid"))?;
    // Presence alone is refused (RFC 8555 §7.3.4: the "nonce" field MUST NOT be present).
    if header.contains_key("nonce") {
        return Err(BindingError::Nonce);
    }
    if string(header, "url")?.ok_or(Error::MissingMember("url"))? != url {
        return Err(BindingError::Url);
    }
    Ok((algorithm, kid.to_owned()))
}

/// What the maker of a binding did wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BindingError {
    /// Used an algorithm that is no MAC.
    #[error("\"externalAccountBinding\" names the algorithm \"{0}\"; it must be HS256, HS384 or HS512")]
    AlgorithmNotAccepted(String),
    /// Vouched for another key than the one that signs the request.
    #[error("the payload of \"externalAccountBinding\" is another key than the request's \"jwk\"")]
    AnotherKey,
    /// Put a key into the protected header.
    #[error("\"externalAccountBinding\" must name its key by \"kid\" alone, without \"jwk\"")]
    Jwk,
    /// Put a nonce into the protected header.
    #[error("the protected header of \"externalAccountBinding\" must not have a \"nonce\"")]
    Nonce,
    /// Named a key that is not there, or has not got its secret: which of the two is not said.
    #[error(
        "\"externalAccountBinding\" is not accepted: its \"kid\" is not known here, or its signature is not one by \
         that key's HMAC key; check both against what the operator gave out"
    )]
    NotAuthentic,
    /// Has a payload that is no public key.
    #[error("the payload of \"externalAccountBinding\" must be the request's \"jwk\": {0}")]
    PayloadNotAKey(Error),
    /// Is no JWS of the form that RFC 8555 wants.
    #[error("\"externalAccountBinding\" cannot be read: {0}")]
    Shape(#[from] Error),
    /// Has another `url` than the request.
    #[error("\"externalAccountBinding\" must have the same \"url\" in its protected header as the request")]
    Url,
}

impl BindingError {
    /// The type of problem that the sender is told.
    pub const fn kind(&self) -> ProblemType {
        match self {
            Self::NotAuthentic => ProblemType::Unauthorized,
            _ => ProblemType::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use serde_json::json;

    use super::*;
    use crate::jose::Algorithm;
    use crate::jose::signer::Signer;

    const URL: &str = "https://ca.test/new-account";
    const SECRET: &[u8; 64] = &[7; 64];

    fn mac(algorithm: &str, text: &str) -> hmac::Tag {
        let algorithm = match algorithm {
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, SECRET), text.as_bytes())
    }

    fn header(algorithm: &str) -> Value {
        json!({"alg": algorithm, "kid": "k", "url": URL})
    }

    fn sealed(header: &Value, payload: &Value) -> Value {
        let protected = Base64UrlUnpadded::encode_string(header.to_string().as_bytes());
        let payload = Base64UrlUnpadded::encode_string(payload.to_string().as_bytes());
        let mac = mac(header["alg"].as_str().unwrap_or_default(), &format!("{protected}.{payload}"));
        let signature = Base64UrlUnpadded::encode_string(mac.as_ref());
        json!({"protected": protected, "payload": payload, "signature": signature})
    }

    fn parsed(value: &Value) -> Result<Binding, BindingError> {
        Binding::parse(value, URL, &Signer::of(Algorithm::ES256).key())
    }

    #[test]
    fn eab_02_each_mac_algorithm_is_checked() {
        let jwk = &Signer::of(Algorithm::ES256).jwk;
        for algorithm in ["HS256", "HS384", "HS512"] {
            let good = sealed(&header(algorithm), jwk);
            let binding = parsed(&good).unwrap();
            assert_eq!((binding.kid(), binding.verify(SECRET)), ("k", Ok(())));
            assert_eq!(binding.verify(&[8; 64]), Err(BindingError::NotAuthentic));
            let mac = Base64UrlUnpadded::decode_vec(good["signature"].as_str().unwrap()).unwrap();
            let mut flipped = mac.clone();
            flipped[mac.len() - 1] ^= 1;
            for wrong in [&mac[..16], &[], &flipped, &[&mac[..], &[0]].concat()] {
                let mut cut = good.clone();
                cut["signature"] = Base64UrlUnpadded::encode_string(wrong).into();
                assert_eq!(parsed(&cut).unwrap().verify(SECRET), Err(BindingError::NotAuthentic));
            }
            let mut relabelled = good.clone();
            let other = if algorithm == "HS256" { "HS512" } else { "HS256" };
            relabelled["protected"] =
                Base64UrlUnpadded::encode_string(header(other).to_string().as_bytes()).into();
            assert_eq!(parsed(&relabelled).unwrap().verify(SECRET), Err(BindingError::NotAuthentic));
        }
    }

    #[test]
    fn eab_02_what_is_wrong_is_named() {
        let jwk = Signer::of(Algorithm::ES256).jwk.clone();
        let with = |member: &str, value: Value| {
            let mut header = header("HS256");
            header[member] = value;
            parsed(&sealed(&header, &jwk)).unwrap_err()
        };
        let without = |member: &str| {
            let mut header = header("HS256");
            header.as_object_mut().unwrap().remove(member);
            parsed(&sealed(&header, &jwk)).unwrap_err()
        };
        for name in ["ES256", "none", "HS1", "hs256", "HS256 ", ""] {
            assert_eq!(with("alg", name.into()), BindingError::AlgorithmNotAccepted(name.into()));
        }
        for value in [json!("AA"), json!(null), json!("")] {
            assert_eq!(with("nonce", value), BindingError::Nonce);
        }
        assert_eq!(with("url", "https://ca.test/new-order".into()), BindingError::Url);
        assert_eq!(with("jwk", jwk.clone()), BindingError::Jwk);
        assert_eq!(with("crit", json!(["exp"])), Error::Critical.into());
        assert_eq!(with("b64", json!(true)), Error::UnencodedPayload.into());
        for member in ["kid", "url", "alg"] {
            assert_eq!(without(member), Error::MissingMember(member).into());
        }
        assert!(matches!(with("kid", json!(5)), BindingError::Shape(Error::WrongType { .. })));
        let other = parsed(&sealed(&header("HS256"), &Signer::stranger(Algorithm::ES256).jwk));
        assert_eq!(other.unwrap_err(), BindingError::AnotherKey);
        let none = parsed(&sealed(&header("HS256"), &json!({"kty": "oct"})));
        assert_eq!(none.unwrap_err(), BindingError::PayloadNotAKey(Error::KeyType));
        let good = sealed(&header("HS256"), &jwk);
        for (member, value) in [("header", json!({})), ("signatures", json!([]))] {
            let mut more = good.clone();
            more[member] = value;
            assert_eq!(parsed(&more).unwrap_err(), Error::UnexpectedMember(member.into()).into());
        }
        for member in ["protected", "payload", "signature"] {
            let mut padded = good.clone();
            padded[member] = format!("{}=", good[member].as_str().unwrap()).into();
            assert_eq!(parsed(&padded).unwrap_err(), Error::Base64(member).into());
        }
        assert!(matches!(parsed(&json!("x")), Err(BindingError::Shape(Error::NotAnObject(_)))));
    }

    #[test]
    fn eab_02_a_payload_with_further_members_is_still_the_key() {
        let mut jwk = Signer::of(Algorithm::ES256).jwk.clone();
        jwk["alg"] = "ES256".into();
        assert!(parsed(&sealed(&header("HS256"), &jwk)).is_ok_and(|binding| binding.verify(SECRET).is_ok()));
    }
}
