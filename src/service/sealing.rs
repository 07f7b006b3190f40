//! Secrets of external account keys as they lie in the database: AES-256-GCM under a key of the configuration, with the
//! key identifier as associated data, so that nobody who can write the database can give one key another's secret.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

/// How many octets a sealing key has.
const KEY_OCTETS: usize = 32;

/// The form of what is sealed: this octet, the nonce, the ciphertext, the tag.
const FORM: u8 = 1;

/// The key that seals. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; KEY_OCTETS]>);

impl SealingKey {
    /// Reads 32 octets in base64 or base64url, padded or not.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('=').unwrap_or(text);
        let text = Zeroizing::new(text.replace('+', "-").replace('/', "_"));
        let mut octets = Zeroizing::new([0; KEY_OCTETS]);
        let read = Base64UrlUnpadded::decode(text.as_bytes(), &mut *octets).ok()?.len();
        (read == KEY_OCTETS).then_some(Self(octets))
    }

    /// A new key as text; `None` if there are no random numbers.
    pub fn generate() -> Option<Zeroizing<String>> {
        let mut octets = Zeroizing::new([0; KEY_OCTETS]);
        aws_lc_rs::rand::fill(&mut *octets).ok()?;
        Some(Zeroizing::new(Base64::encode_string(&*octets)))
    }

    /// Seals the secret of the key `kid`; `None` if there are no random numbers.
    pub fn seal(&self, kid: &str, secret: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = secret.to_vec();
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::from(kid), &mut sealed).ok()?;
        Some([&[FORM][..], nonce.as_ref(), &sealed].concat())
    }

    /// Opens what [`Self::seal`] made for `kid` under this key; `None` for anything else.
    pub fn open(&self, kid: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(&[FORM])?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let length = self.cipher()?.open_in_place(nonce, Aad::from(kid), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &*self.0).ok()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64Unpadded, Base64Url};

    use super::*;

    fn key() -> SealingKey {
        SealingKey::parse(&SealingKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_its_key_and_name_only() {
        let (key, secret) = (key(), [5; 32]);
        let sealed = key.seal("a", &secret).unwrap();
        assert_eq!(key.open("a", &sealed).unwrap().as_slice(), secret);
        assert!(!sealed.windows(8).any(|part| part == [5; 8]));
        assert_ne!(sealed, key.seal("a", &secret).unwrap(), "each time another nonce");
        assert!(key.open("b", &sealed).is_none(), "another key identifier");
        assert!(SealingKey::parse(&SealingKey::generate().unwrap()).unwrap().open("a", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(key.open("a", &damaged).is_none(), "octet {at}");
            assert!(key.open("a", &sealed[..at]).is_none(), "{at} octets");
        }
    }

    #[test]
    fn a_key_is_32_octets_in_any_base64() {
        let octets = [0xfb; 32];
        for text in [
            Base64::encode_string(&octets),
            Base64Unpadded::encode_string(&octets),
            Base64Url::encode_string(&octets),
            Base64UrlUnpadded::encode_string(&octets),
        ] {
            assert_eq!(*SealingKey::parse(&text).unwrap().0, octets, "{text}");
        }
        for length in [0, 16, 31, 33, 64] {
            assert!(SealingKey::parse(&Base64::encode_string(&vec![1; length])).is_none(), "{length}");
        }
        assert!(SealingKey::parse("password").is_none());
        assert!(!format!("{:?}", key()).contains(char::is_numeric));
    }
}
