//! Signed requests: a flattened JWS (RFC 7515 §7.2.2) as RFC 8555 §6.2 narrows it.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

use crate::acme::problem::printable;
use crate::jose::strict_json::{self, SHOWN};
use crate::jose::{Algorithm, Error, PublicKey};

/// Which key signed, by the protected header (RFC 8555 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// `jwk`: the key itself.
    Jwk(PublicKey),
    /// `kid`: the URL of an account, as it was sent.
    Kid(String),
}

/// A JWS whose shape holds and whose signature has not been looked at.
#[derive(Clone)]
pub struct Jws {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `nonce`, where given; see [`Self::nonce_is_well_formed`].
    pub nonce: Option<String>,
    /// `url`, where given.
    pub url: Option<String>,
    /// `jwk` or `kid`.
    pub key: KeyReference,
    /// The received text that is signed (RFC 7515 §5.2 step 8), never a re-encoding of what was read.
    pub(super) signing_input: String,
    pub(super) signature: Vec<u8>,
    payload: Vec<u8>,
}

impl Jws {
    /// Reads a flattened JWS from a body, or from the payload that holds an inner one. The caller bounds its
    /// size.
    ///
    /// # Errors
    /// The first thing that is wrong with the shape, the algorithm, or the `jwk`.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        Self::from_members(&strict_json::object(body, "a signed request's body")?)
    }

    /// Reads an inner JWS that is a JSON value already. Members that its object had twice can no longer be
    /// seen in `value`; those of the protected header still are.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        Self::from_members(value.as_object().ok_or(Error::NotAnObject("the inner JWS"))?)
    }

    /// Whether `nonce`, where given, is base64url and not empty (RFC 8555 §6.5.2).
    pub fn nonce_is_well_formed(&self) -> bool {
        self.nonce
            .as_deref()
            .is_none_or(|nonce| !nonce.is_empty() && Base64UrlUnpadded::decode_vec(nonce).is_ok())
    }

    /// Checks the signature under `key`, and gives the payload, which is empty for POST-as-GET.
    ///
    /// # Errors
    /// `alg` does not go with the key, or the signature is wrong.
    pub fn verify(&self, key: &PublicKey) -> Result<&[u8], Error> {
        if key.algorithm() != self.algorithm {
            return Err(Error::AlgorithmAgainstAccountKey { named: self.algorithm, needed: key.algorithm() });
        }
        let sent = self.signature.len();
        if let Some(width) = self.algorithm.signature_width().filter(|width| *width != sent) {
            return Err(Error::SignatureWidth { algorithm: self.algorithm, width, sent });
        }
        if key.accepts(self.signing_input.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err(Error::SignatureWrong)
        }
    }

    fn from_members(members: &Map<String, Value>) -> Result<Self, Error> {
        let expected = ["protected", "payload", "signature"];
        if let Some(name) = members.keys().find(|name| !expected.contains(&name.as_str())) {
            return Err(Error::UnexpectedMember(printable(name.as_bytes(), SHOWN)));
        }
        let (protected, header) = part(members, "protected")?;
        let (encoded_payload, payload) = part(members, "payload")?;
        let (_, signature) = part(members, "signature")?;
        let header = strict_json::object(&header, "the JWS protected header")?;
        let algorithm = algorithm(&header)?;
        let key = key_reference(&header, algorithm)?;
        Ok(Self {
            algorithm,
            nonce: string(&header, "nonce")?.map(str::to_owned),
            url: string(&header, "url")?.map(str::to_owned),
            key,
            signing_input: format!("{protected}.{encoded_payload}"),
            signature,
            payload,
        })
    }
}

impl fmt::Debug for Jws {
    /// Without payload and signature: a payload may hold what no log should.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws")
            .field("algorithm", &self.algorithm)
            .field("url", &self.url)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Extensions that change how a JWS is read. Presence alone is refused: `null` would be one too (RFC 7515 §4.1.11).
pub(super) fn refuse_extensions(header: &Map<String, Value>) -> Result<(), Error> {
    if header.contains_key("crit") {
        return Err(Error::Critical);
    }
    if header.contains_key("b64") {
        return Err(Error::UnencodedPayload);
    }
    Ok(())
}

fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Error> {
    refuse_extensions(header)?;
    let name = string(header, "alg")?.ok_or(Error::MissingMember("alg"))?;
    Algorithm::parse(name).ok_or_else(|| Error::AlgorithmNotAccepted(printable(name.as_bytes(), SHOWN)))
}

fn key_reference(header: &Map<String, Value>, algorithm: Algorithm) -> Result<KeyReference, Error> {
    // Some clients write the one that they do not use as null.
    let kid = if present(header, "kid").is_some() { string(header, "kid")? } else { None };
    match (present(header, "jwk"), kid) {
        (Some(_), Some(_)) => Err(Error::JwkAndKid),
        (None, None) => Err(Error::NeitherJwkNorKid),
        (None, Some(kid)) => Ok(KeyReference::Kid(kid.to_owned())),
        (Some(jwk), None) => {
            let key = PublicKey::from_jwk(jwk)?;
            if key.algorithm() == algorithm {
                Ok(KeyReference::Jwk(key))
            } else {
                Err(Error::AlgorithmAgainstJwk { named: algorithm, needed: key.algorithm() })
            }
        }
    }
}

/// A member, if it is there and not null.
pub(super) fn present<'a>(members: &'a Map<String, Value>, member: &str) -> Option<&'a Value> {
    members.get(member).filter(|value| !value.is_null())
}

/// A member that must be a string if it is there at all.
pub(super) fn string<'a>(
    members: &'a Map<String, Value>,
    member: &'static str,
) -> Result<Option<&'a str>, Error> {
    match members.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::WrongType { member, expected: "a string" }),
    }
}

/// One of the three members: its text, and the octets that it encodes.
pub(super) fn part<'a>(
    members: &'a Map<String, Value>,
    member: &'static str,
) -> Result<(&'a str, Vec<u8>), Error> {
    let text = string(members, member)?.ok_or(Error::MissingMember(member))?;
    let octets = Base64UrlUnpadded::decode_vec(text).map_err(|_| Error::Base64(member))?;
    Ok((text, octets))
}
