//! What was wrong with a JWS or a JWK.

use thiserror::Error;

use crate::acme::problem::{Problem, ProblemType};
use crate::jose::Algorithm;

/// What the sender of a JWS or of a JWK did wrong; the text is fit for a problem's `detail`. Text of
/// strangers in it has been through [`crate::acme::problem::printable`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Signed with another algorithm than the account's key has.
    #[error("the JWS names the algorithm {named}, but the account's key is one for {needed}")]
    AlgorithmAgainstAccountKey {
        /// What the JWS says.
        named: Algorithm,
        /// What goes with the key.
        needed: Algorithm,
    },
    /// Sent a `jwk` of another type or curve than `alg` needs.
    #[error("the JWS names the algorithm {named}, but its jwk is a key for {needed}")]
    AlgorithmAgainstJwk {
        /// What the JWS says.
        named: Algorithm,
        /// What goes with the key.
        needed: Algorithm,
    },
    /// Used an algorithm that is not accepted.
    #[error("the JWS algorithm \"{0}\" is not accepted; sign with one of {list}",
        list = Algorithm::ALLOWED.join(", "))]
    AlgorithmNotAccepted(String),
    /// Wrote something that is not base64url: padding, white space, other letters, loose last bits.
    #[error("the JWS member \"{0}\" must be base64url without padding, white space or loose last bits")]
    Base64(&'static str),
    /// Named critical extensions; none is supported.
    #[error("the protected header has \"crit\", and no extension that could be critical is supported")]
    Critical,
    /// Wrote a member twice in one object.
    #[error("the member \"{0}\" appears twice in one JSON object of the JWS")]
    DuplicateMember(String),
    /// Sent `jwk` and `kid`.
    #[error("the protected header has both \"jwk\" and \"kid\"; exactly one must be there")]
    JwkAndKid,
    /// Used a curve that no accepted algorithm has.
    #[error("the key's curve \"{0}\" is not accepted; use P-256, P-384, P-521 or Ed25519")]
    KeyCurve(String),
    /// Sent an RSA key with a bad public exponent.
    #[error(
        "the RSA key's public exponent must be odd, at least 65537, and below 2^33, without leading zeros"
    )]
    KeyExponent,
    /// Left a member of the key out, or wrote it in another form than base64url of the right length.
    #[error("the key's member \"{0}\" must be there and be base64url of the length that the type of key has")]
    KeyMember(&'static str),
    /// Sent an RSA key with a bad modulus.
    #[error(
        "the RSA key's modulus must be odd and have 2048 to 8192 bits, a multiple of 8, without leading zeros"
    )]
    KeyModulus,
    /// Sent a point that is not on the curve.
    #[error("the key's point is not on its curve")]
    KeyPoint,
    /// Sent an Ed25519 key that belongs to nobody: a point of small order, or not in its one spelling.
    #[error("the Ed25519 key is a point of small order, or not in its canonical form: make a new key")]
    KeyOfNobody,
    /// Used a type of key that no accepted algorithm has.
    #[error("the key's type (kty) must be EC, OKP or RSA")]
    KeyType,
    /// Left a member out.
    #[error("the JWS has no member \"{0}\"")]
    MissingMember(&'static str),
    /// Sent neither `jwk` nor `kid`.
    #[error("the protected header has neither \"jwk\" nor \"kid\"; exactly one must be there")]
    NeitherJwkNorKid,
    /// Sent a body, a protected header or a key that is not a JSON object.
    #[error("{0} is not a JSON object")]
    NotAnObject(&'static str),
    /// Sent a private or symmetric key.
    #[error("the jwk has members of a private key; that key must be considered compromised: make a new one")]
    PrivateKey,
    /// Sent a signature of another length than the algorithm has; with ECDSA perhaps in DER.
    #[error("an {algorithm} signature has {width} octets, but that of the JWS has {sent}")]
    SignatureWidth {
        /// The algorithm.
        algorithm: Algorithm,
        /// Octets that it should have.
        width: usize,
        /// Octets that came.
        sent: usize,
    },
    /// Signed with another key, or changed what was signed.
    #[error("the JWS signature does not verify under the key that the protected header names")]
    SignatureWrong,
    /// Sent more than a flattened JWS has, such as `header` or `signatures`.
    #[error("a signed request is a flattened JWS with protected, payload and signature; it has \"{0}\" too")]
    UnexpectedMember(String),
    /// Sent `b64` (RFC 7797).
    #[error("the protected header has \"b64\"; payloads are always base64url here")]
    UnencodedPayload,
    /// Wrote a member with the wrong JSON type.
    #[error("the JWS member \"{member}\" must be {expected}")]
    WrongType {
        /// The member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl Error {
    /// The type of problem that the sender is told (RFC 8555 §6.2, §6.7).
    pub const fn kind(&self) -> ProblemType {
        match self {
            Self::AlgorithmNotAccepted(_) => ProblemType::BadSignatureAlgorithm,
            Self::AlgorithmAgainstJwk { .. }
            | Self::KeyCurve(_)
            | Self::KeyExponent
            | Self::KeyMember(_)
            | Self::KeyModulus
            | Self::KeyOfNobody
            | Self::KeyPoint
            | Self::KeyType => ProblemType::BadPublicKey,
            _ => ProblemType::Malformed,
        }
    }
}

impl From<Error> for Problem {
    /// The problem document's content, with `algorithms` where RFC 8555 §6.2 wants them.
    fn from(error: Error) -> Self {
        let mut problem = Self::new(error.kind(), error.to_string());
        if problem.kind == ProblemType::BadSignatureAlgorithm {
            problem.algorithms = Algorithm::ALLOWED;
        }
        problem
    }
}
