//! Floor 1: everything X.509. What a client may put into a CSR and which keys it may have, what a certificate
//! looks like, who signs it, what a CRL says, and which chains go with it. The only room that names `rcgen`.
//!
//! Bytes of strangers are read by a strict reader of our own, because the difference between what two parsers
//! accept is where certificates go wrong. `rcgen` only writes; what it wrote is cut open again and compared
//! with what was meant before anyone gets it.

pub mod authority;
pub mod chain;
pub mod crl;
pub mod csr;
mod der;
pub mod error;
pub mod issuer;
pub mod key;
mod parts;
mod signature;
mod signer;
pub mod template;
pub mod weak_keys;
pub mod weakness;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod openssl;

/// The serial number of a certificate in DER, all of `der`: big-endian octets without leading zeros. `None` if it is no
/// certificate.
pub fn certificate_serial(der: &[u8]) -> Option<Vec<u8>> {
    parts::Parts::cut(der).ok().map(|parts| parts.serial.to_vec())
}

/// Octets as lower-case hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
