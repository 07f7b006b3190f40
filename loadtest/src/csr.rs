//! Certificate signing requests, written by hand: only the names and the signature change from one to the
//! next.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use crate::failure::Failure;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;

/// `INTEGER 0`, the version.
const VERSION: &[u8] = &[0x02, 0x01, 0x00];
/// `AlgorithmIdentifier` id-ecPublicKey with prime256v1 (RFC 5480 §2.1.1).
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// `AlgorithmIdentifier` ecdsa-with-SHA256 (RFC 5758 §3.2).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `OBJECT IDENTIFIER` extensionRequest (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// `OBJECT IDENTIFIER` subjectAltName (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];

/// The P-256 key that certificates are asked for.
pub(crate) struct CertificateKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl CertificateKey {
    /// A fresh key.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| Failure::Setup("no P-256 key could be made".into()))?;
        Ok(Self { pair, random: SystemRandom::new() })
    }

    /// The uncompressed point of the public key, 65 bytes: what a certificate for this key contains.
    pub(crate) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A DER `CertificationRequest` (RFC 2986 §4) with an empty subject and `names` as dNSNames.
    pub(crate) fn request(&self, names: &[String]) -> Result<Vec<u8>, Failure> {
        let mut general_names = Vec::with_capacity(names.len() * 64);
        for name in names {
            // GeneralName, [2] IA5String.
            append(&mut general_names, 0x82, &[name.as_bytes()]);
        }
        let extension = element(
            SEQUENCE,
            &[SUBJECT_ALT_NAME, &element(OCTET_STRING, &[&element(SEQUENCE, &[&general_names])])],
        );
        let attribute =
            element(SEQUENCE, &[EXTENSION_REQUEST, &element(SET, &[&element(SEQUENCE, &[&extension])])]);
        let info = element(
            SEQUENCE,
            &[VERSION, &element(SEQUENCE, &[]), &self.public_key_info(), &element(0xa0, &[&attribute])],
        );
        let signature = self
            .pair
            .sign(&self.random, &info)
            .map_err(|_| Failure::Setup("the signing request could not be signed".into()))?;
        Ok(element(SEQUENCE, &[&info, ECDSA_SHA256, &element(BIT_STRING, &[&[0], signature.as_ref()])]))
    }

    fn public_key_info(&self) -> Vec<u8> {
        element(SEQUENCE, &[P256, &element(BIT_STRING, &[&[0], self.point()])])
    }
}

/// One DER element: tag, length, and the concatenated `parts`.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + parts.iter().map(|part| part.len()).sum::<usize>());
    append(&mut out, tag, parts);
    out
}

/// Appends one DER element to `out`.
fn append(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - skip) as u8);
        out.extend_from_slice(&bytes[skip..]);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    /// Splits the first element off `der`: tag, content, rest.
    fn split(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, at) = match der[1] {
            short if short < 0x80 => (usize::from(short), 2),
            long => {
                let count = usize::from(long & 0x7f);
                (der[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + count)
            }
        };
        (der[0], &der[at..at + length], &der[at + length..])
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
        ] {
            let made = element(OCTET_STRING, &[&vec![7; length]]);
            assert!(made.starts_with(head), "{length}: {made:02x?}");
            assert_eq!(made.len(), head.len() + length);
        }
    }

    #[test]
    fn the_request_is_signed_by_its_own_key_and_carries_every_name() {
        let key = CertificateKey::generate().unwrap();
        let names: Vec<String> = (0..20).map(|i| format!("name-{i}.load.test")).collect();
        let der = key.request(&names).unwrap();
        let (tag, request, rest) = split(&der);
        assert_eq!((tag, rest.len()), (SEQUENCE, 0));
        let (_, info_content, after_info) = split(request);
        let info = &request[..request.len() - after_info.len()];
        let signature = split(&after_info[ECDSA_SHA256.len()..]).1;
        assert_eq!(signature[0], 0, "no unused bits");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(info, &signature[1..]).unwrap();
        for name in &names {
            assert!(info_content.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
        }
        assert!(info_content.windows(65).any(|window| window == key.point()));
    }

    #[test]
    fn openssl_accepts_the_request() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let key = CertificateKey::generate().unwrap();
        let der = key.request(&["a.load.test".into(), "b.load.test".into()]).unwrap();
        let openssl = Command::new("openssl")
            .args(["req", "-inform", "DER", "-noout", "-verify", "-text"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut openssl) = openssl else {
            eprintln!("skipped: openssl is not installed");
            return;
        };
        openssl.stdin.take().unwrap().write_all(&der).unwrap();
        let output = openssl.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("DNS:a.load.test, DNS:b.load.test"), "{text}");
    }
}
