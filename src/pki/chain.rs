//! Chains in PEM (RFC 7468), read and written.

use base64ct::{Base64, Encoding};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The most certificates that are read from one text.
const MAX_CERTIFICATES: usize = 16;

/// The body of a certificate's URL: the leaf, then the chain, as `application/pem-certificate-chain` (RFC
/// 8555 §9.1).
pub fn to_pem(leaf: &[u8], chain: &[Vec<u8>]) -> String {
    let mut text = pem(leaf, "CERTIFICATE");
    for certificate in chain {
        text.push_str(&pem(certificate, "CERTIFICATE"));
    }
    text
}

/// One PEM block with this label around DER, in lines of 64 characters.
pub fn pem(der: &[u8], label: &str) -> String {
    let base64 = Base64::encode_string(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The certificates in a PEM text, in DER, in their order; other blocks are skipped. `None` if a block is
/// damaged or there are more than 16.
pub fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(MAX_CERTIFICATES + 1)
        .collect::<Result<_, _>>()
        .ok()?;
    (read.len() <= MAX_CERTIFICATES).then(|| read.iter().map(|der| der.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crt_01_chains_are_read_as_they_were_written() {
        for length in [1, 47, 48, 49, 96, 1000] {
            let (leaf, chain) = (vec![1; length], vec![vec![2; length], vec![3; 5]]);
            let text = to_pem(&leaf, &chain);
            assert!(text.lines().all(|line| (1..=64).contains(&line.len())));
            assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n") && text.ends_with("-----\n"));
            assert_eq!(certificates(&text), Some(vec![leaf, chain[0].clone(), chain[1].clone()]));
        }
        assert_eq!(certificates(""), Some(vec![]));
        assert_eq!(certificates("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(certificates(&pem(&[1], "CERTIFICATE").repeat(MAX_CERTIFICATES + 1)), None);
    }
}
