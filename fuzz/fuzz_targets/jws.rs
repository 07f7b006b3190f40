//! Signed requests: reading and checking one never panics, and a key that was accepted is read back as
//! itself. `src/jose/corpus.rs` does the same in the ordinary test run.

#![no_main]

use chancery::jose::{Jws, KeyReference, PublicKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(jws) = Jws::parse(data) else { return };
    let KeyReference::Jwk(key) = &jws.key else { return };
    let _ = jws.verify(key);
    let stored = PublicKey::from_stored(&key.to_jwk()).expect("a key is read back");
    assert_eq!(stored.thumbprint(), key.thumbprint());
    assert!(stored.has_spki(&key.spki_der()));
});
