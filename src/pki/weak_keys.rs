//! The list of RSA keys that Debian's OpenSSL could make between 2006 and 2008 (CVE-2008-0166), read from
//! files in the form of Debian's `openssl-blacklist` package: one key a line, the last 20 hexadecimal digits
//! of the SHA-1 of `Modulus=`, the modulus in upper-case hexadecimal, and a line feed; lines that start with
//! `#` are comments.
//!
//! No list comes with this program: the operator names the files. Without any, no key is found on the list.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use thiserror::Error;

use crate::pki::hex;
use crate::pki::key::PublicKey;

/// A list larger than this is not read. Debian's are about 5 MiB each.
const MAX_FILE: u64 = 64 << 20;

/// Why a list of weak keys cannot be used.
#[derive(Debug, Error)]
pub enum WeakKeysError {
    /// A line that is neither a fingerprint nor a comment.
    #[error("{path}, line {line}: expected 20 hexadecimal digits, as in Debian's openssl-blacklist")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file above 64 MiB.
    #[error("{0} is larger than 64 MiB, which no list of weak keys is")]
    TooLarge(PathBuf),
    /// A file that cannot be read.
    #[error("cannot read the list of weak keys {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A set of weak RSA keys, ten octets each.
#[derive(Clone, Debug, Default)]
pub struct WeakKeys {
    /// Sorted.
    fingerprints: Vec<[u8; 10]>,
}

impl WeakKeys {
    /// Reads and joins the lists in these files.
    pub fn from_files<P: AsRef<Path>>(paths: &[P]) -> Result<Self, WeakKeysError> {
        let mut fingerprints = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            let unreadable = |source| WeakKeysError::Unreadable { path: path.to_owned(), source };
            let mut text = String::new();
            let file = File::open(path).map_err(unreadable)?;
            let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
            if length as u64 > MAX_FILE {
                return Err(WeakKeysError::TooLarge(path.to_owned()));
            }
            for (index, line) in text.lines().map(str::trim).enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let wrong = || WeakKeysError::Line { path: path.to_owned(), line: index + 1 };
                fingerprints.push(fingerprint(line).ok_or_else(wrong)?);
            }
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        fingerprints.shrink_to_fit();
        Ok(Self { fingerprints })
    }

    /// How many keys are on the list.
    pub const fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Whether there is no key on the list.
    pub const fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// Whether this key is on the list. Only RSA keys can be.
    pub fn contains(&self, key: &PublicKey<'_>) -> bool {
        let PublicKey::Rsa { modulus, .. } = key else { return false };
        if self.is_empty() {
            return false;
        }
        let line = format!("Modulus={}\n", hex(modulus).to_ascii_uppercase());
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, line.as_bytes());
        let last: &[u8] = &sha1.as_ref()[10..];
        self.fingerprints.binary_search_by(|known| known.as_slice().cmp(last)).is_ok()
    }
}

fn fingerprint(line: &str) -> Option<[u8; 10]> {
    if line.len() != 20 || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = [0; 10];
    for (octet, pair) in octets.iter_mut().zip((0..20).step_by(2)) {
        *octet = u8::from_str_radix(line.get(pair..pair + 2)?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;
    use crate::pki::key::tests::rsa_spki;
    use crate::pki::openssl::Folder;

    #[test]
    fn ord_11_a_listed_key_is_found_and_others_are_not() {
        let folder = Folder::new();
        // `printf 'Modulus=C0FFEE01\n' | sha1sum` ends in these digits.
        let sha1 = folder.run_with_input("sha1 -r", b"Modulus=C0FFEE01\n");
        let digits = &sha1[20..40];
        std::fs::write(folder.path("list"), format!("# RSA keys\n\n{digits}\n00000000000000000000\n"))
            .unwrap();
        let list = WeakKeys::from_files(&[folder.path("list")]).unwrap();
        assert_eq!(list.len(), 2);
        let listed = rsa_spki(&BigUint::from(0xc0ff_ee01u32), 65_537);
        let other = rsa_spki(&BigUint::from(0xc0ff_ee03u32), 65_537);
        assert!(list.contains(&PublicKey::parse(&listed).unwrap()));
        assert!(!list.contains(&PublicKey::parse(&other).unwrap()));
        assert!(!WeakKeys::default().contains(&PublicKey::parse(&listed).unwrap()));
    }

    #[test]
    fn a_list_in_another_form_is_refused_with_its_line() {
        let folder = Folder::new();
        for wrong in
            ["0123456789abcdef012", "0123456789abcdef0123a", "0123456789abcdef012g", "+123456789abcdef0123"]
        {
            std::fs::write(folder.path("list"), format!("# comment\n{wrong}\n")).unwrap();
            let refused = WeakKeys::from_files(&[folder.path("list")]);
            assert!(matches!(refused, Err(WeakKeysError::Line { line: 2, .. })), "{wrong}");
        }
        let absent = WeakKeys::from_files(&[folder.path("absent")]);
        assert!(matches!(absent, Err(WeakKeysError::Unreadable { .. })));
    }
}
