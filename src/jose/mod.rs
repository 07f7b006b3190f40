//! JOSE (RFC 7515, 7517, 7518, 7638, 8037): the signed requests of strangers, read strictly, and the keys
//! that sign them.
//!
//! - [`Jws::parse`] accepts what RFC 8555 §6.2 allows and nothing else; the payload comes out only through
//!   [`Jws::verify`], which checks the signature over the text as it was received.
//! - [`Binding`] is the JWS within new-account's payload by which an external account vouches for a key.
//! - [`PublicKey`] is a key that was checked when it was read; its canonical JWK (RFC 7638) is its identity.
//!
//! aws-lc-rs serves; josekit (OpenSSL) is only the oracle of the differential tests (`tests/jose-oracle`). Measured
//! by its `speed.rs`, in thousands of verifications per CPU second of one thread, josekit with Debian 12's
//! OpenSSL 3.0 against aws-lc-rs 1.19: ES256 23 to 29 with the key ready and 7 to 26 from its JWK each time,
//! RS256 64 to 79 and 9 to 36, EdDSA 16 to 41 and 8 to 37, ES384 2.2 to 7.4 and 1.8 to 7.0. As reading a key
//! costs aws-lc-rs next to nothing, there is no cache of verifiers. josekit's own parser reads no request: it
//! accepts unknown critical extensions, unprotected headers and duplicate members.

mod algorithm;
mod binding;
mod error;
mod jws;
mod key;
mod strict_json;

pub use algorithm::Algorithm;
pub use binding::{Binding, BindingError};
pub use error::Error;
pub use jws::{Jws, KeyReference};
pub use key::PublicKey;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod signer;
