//! What the fuzz targets do, on their corpus and on some thousand mutations of it, in an ordinary test run.

use std::fs;
use std::path::Path;

use crate::acme::message::{
    AccountUpdate, AuthorizationUpdate, Finalize, KeyChange, NewAccount, NewAuthorization, NewOrder,
    RevokeCertificate,
};
use crate::jose::{Jws, KeyReference, PublicKey};

/// As `fuzz/fuzz_targets/jws.rs`.
fn jws(data: &[u8]) -> bool {
    let Ok(jws) = Jws::parse(data) else { return false };
    let KeyReference::Jwk(key) = &jws.key else { return true };
    let _ = jws.verify(key);
    let stored = PublicKey::from_stored(&key.to_jwk()).expect("a key is read back");
    assert_eq!(stored.thumbprint(), key.thumbprint());
    assert!(stored.has_spki(&key.spki_der()));
    true
}

/// As `fuzz/fuzz_targets/json_body.rs`.
fn json_body(data: &[u8]) -> bool {
    [
        NewAccount::parse(data).is_ok(),
        AccountUpdate::parse(data).is_ok(),
        NewOrder::parse(data).is_ok(),
        NewAuthorization::parse(data).is_ok(),
        AuthorizationUpdate::parse(data).is_ok(),
        Finalize::parse(data).is_ok(),
        RevokeCertificate::parse(data).is_ok(),
        KeyChange::parse(data).is_ok(),
    ]
    .contains(&true)
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The same sequence in every run: a failure can be run again.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            match self.below(6) {
                0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                1 => data.insert(at, b"\"{}[],:\\= 0A\xff"[self.below(13)]),
                2 => data.truncate(at),
                3 => drop(data.drain(at..(at + self.below(8)).min(data.len()))),
                4 => {
                    let piece = data[at..(at + self.below(40)).min(data.len())].to_vec();
                    let to = self.below(data.len());
                    data.splice(to..to, piece);
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    data.truncate(at);
                    data.extend_from_slice(&other[from..]);
                }
            }
        }
        data
    }
}

fn run(target: &str, body: fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    let read = seeds.iter().filter(|seed| body(seed)).count();
    assert!(read >= 4, "only {read} seeds of {target} are read at all");
    assert!(read < seeds.len(), "no seed of {target} is refused");
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        body(&random.mutate(&seeds));
    }
}

#[test]
fn the_jws_target_holds_on_its_corpus() {
    run("jws", jws);
}

#[test]
fn the_json_body_target_holds_on_its_corpus() {
    run("json_body", json_body);
}
