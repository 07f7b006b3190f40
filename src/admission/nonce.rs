//! The form of a nonce: base64url of epoch (8 bytes), expiry in µs (8), random (16) and the first half of an HMAC-SHA256
//! over all of these (16). It needs no stored state, and 128 bits of it are unpredictable (RFC 8555 §6.5.1, §11.3).

use std::cell::RefCell;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac, rand};
use base64ct::{Base64UrlUnpadded, Encoding};

use super::AdmissionError;
use crate::acme::time::Timestamp;

const EPOCH: usize = 8;
const RANDOM: usize = 16;
const BODY: usize = EPOCH + 8 + RANDOM;
const SEAL: usize = 16;
/// The length of a nonce's text; 48 bytes leave no unused bits at its end.
const TEXT: usize = (BODY + SEAL) / 3 * 4;

/// Names a key. Random, so that it never comes again after the store of nonces was lost.
pub(super) type Epoch = [u8; EPOCH];
/// The secret of a key.
pub(super) type Secret = [u8; 32];

/// A key that seals nonces.
pub(super) struct SealingKey {
    pub(super) epoch: Epoch,
    hmac: hmac::Key,
}

impl SealingKey {
    pub(super) fn new(epoch: Epoch, secret: &[u8]) -> Self {
        Self { epoch, hmac: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// A new nonce that expires `lifetime` after `now`.
    pub(super) fn mint(&self, now: Timestamp, lifetime: Duration) -> Result<String, AdmissionError> {
        let mut bytes = [0; BODY + SEAL];
        bytes[..EPOCH].copy_from_slice(&self.epoch);
        bytes[EPOCH..EPOCH + 8].copy_from_slice(&now.plus(lifetime).micros().to_be_bytes());
        bytes[EPOCH + 8..BODY].copy_from_slice(&random::<RANDOM>()?);
        let seal = hmac::sign(&self.hmac, &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&seal.as_ref()[..SEAL]);
        Ok(Base64UrlUnpadded::encode_string(&bytes))
    }

    /// Whether this key sealed `nonce`.
    pub(super) fn sealed(&self, nonce: &Nonce) -> bool {
        let seal = hmac::sign(&self.hmac, &nonce.0[..BODY]);
        nonce.epoch() == self.epoch
            && constant_time::verify_slices_are_equal(&seal.as_ref()[..SEAL], &nonce.0[BODY..]).is_ok()
    }
}

/// A nonce as a client sent it, not yet believed.
pub(super) struct Nonce([u8; BODY + SEAL]);

impl Nonce {
    /// Reads a nonce; `None` if it cannot be one of ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; BODY + SEAL];
        if text.len() != TEXT {
            return None;
        }
        let read = Base64UrlUnpadded::decode(text, &mut bytes).ok()?.len();
        (read == BODY + SEAL).then_some(Self(bytes))
    }

    pub(super) fn epoch(&self) -> Epoch {
        let mut epoch = [0; EPOCH];
        epoch.copy_from_slice(&self.0[..EPOCH]);
        epoch
    }

    pub(super) fn expiry(&self) -> Timestamp {
        let mut micros = [0; 8];
        micros.copy_from_slice(&self.0[EPOCH..EPOCH + 8]);
        Timestamp::from_micros(i64::from_be_bytes(micros))
    }

    /// What tells this nonce from all others.
    pub(super) fn random(&self) -> [u8; RANDOM] {
        let mut random = [0; RANDOM];
        random.copy_from_slice(&self.0[EPOCH + 8..BODY]);
        random
    }
}

/// Random bytes drawn ahead: one call of the generator costs more than a whole nonce.
struct Entropy {
    bytes: [u8; 4096],
    used: usize,
}

thread_local! {
    static ENTROPY: RefCell<Entropy> = const { RefCell::new(Entropy { bytes: [0; 4096], used: 4096 }) };
}

/// `N` bytes, at most 4096, that nobody can predict; each is handed out once.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AdmissionError> {
    ENTROPY.with_borrow_mut(|entropy| {
        if entropy.bytes.len() - entropy.used < N {
            // Nothing is handed out until the refill has worked.
            entropy.used = entropy.bytes.len();
            rand::fill(&mut entropy.bytes)
                .map_err(|_| AdmissionError::Unavailable("the random number generator failed".to_owned()))?;
            entropy.used = 0;
        }
        let mut out = [0; N];
        let drawn = &mut entropy.bytes[entropy.used..entropy.used + N];
        out.copy_from_slice(drawn);
        drawn.fill(0);
        entropy.used += N;
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn key(epoch: u8) -> SealingKey {
        SealingKey::new([epoch; EPOCH], &[7; 32])
    }

    #[test]
    fn a_nonce_reads_back_as_it_was_minted() {
        let text = key(1).mint(Timestamp::from_seconds(100), LIFETIME).unwrap();
        let nonce = Nonce::parse(&text).unwrap();
        assert_eq!(nonce.expiry(), Timestamp::from_seconds(160));
        assert_eq!(nonce.epoch(), [1; EPOCH]);
        assert!(key(1).sealed(&nonce));
        assert!(!key(2).sealed(&nonce), "another epoch");
        assert!(!SealingKey::new([1; EPOCH], &[8; 32]).sealed(&nonce), "another secret");
    }

    #[test]
    fn every_changed_bit_breaks_the_seal() {
        let text = key(1).mint(Timestamp::from_seconds(100), LIFETIME).unwrap();
        let good = Nonce::parse(&text).unwrap();
        for bit in 0..(BODY + SEAL) * 8 {
            let mut bytes = good.0;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!key(1).sealed(&Nonce(bytes)), "bit {bit}");
        }
    }

    #[test]
    fn non_04_random_parts_do_not_repeat_and_all_their_bits_vary() {
        let key = key(1);
        let (mut seen, mut ones, mut zeros) = (HashSet::new(), [0_u8; RANDOM], [0_u8; RANDOM]);
        for _ in 0..20_000 {
            let random =
                Nonce::parse(&key.mint(Timestamp::from_seconds(1), LIFETIME).unwrap()).unwrap().random();
            for (index, byte) in random.iter().enumerate() {
                ones[index] |= byte;
                zeros[index] |= !byte;
            }
            assert!(seen.insert(random));
        }
        assert_eq!((ones, zeros), ([0xff; RANDOM], [0xff; RANDOM]));
    }

    #[test]
    fn only_the_form_of_our_nonces_is_read() {
        let good = key(1).mint(Timestamp::from_seconds(100), LIFETIME).unwrap();
        assert_eq!(good.len(), TEXT);
        for wrong in [
            String::new(),
            good[1..].to_owned(),
            format!("{good}A"),
            format!("{good}="),
            format!("{}==", &good[2..]),
            format!("{}+", &good[1..]),
            format!("{} ", &good[1..]),
            format!("{}é", &good[2..]),
            "A".repeat(100_000),
        ] {
            assert!(Nonce::parse(&wrong).is_none(), "{wrong}");
        }
    }
}
