//! josekit against aws-lc-rs, in verifications per CPU second of one thread: what decides which one serves.
//! `cargo test --release -p chancery-jose-oracle --test speed -- --ignored --nocapture`

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::hint::black_box;

use josekit::jwk::Jwk;

use chancery::jose::{Jws, PublicKey};
use chancery_jose_oracle::{Signed, Signer, josekit_verifier};

/// CPU time of this thread in ns, by Linux's scheduler.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Median rate of five runs of 0.3 CPU seconds each.
fn rate(mut verify: impl FnMut() -> bool) -> f64 {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let (start, mut count) = (cpu_ns(), 0_u32);
            while cpu_ns() - start < 300_000_000 {
                for _ in 0..20 {
                    assert!(black_box(verify()));
                }
                count += 20;
            }
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let elapsed = (cpu_ns() - start) as f64;
            f64::from(count) * 1e9 / elapsed
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

#[test]
#[ignore = "a measurement"]
fn verifications_per_cpu_second() {
    for signer in Signer::all() {
        let body = signer.request(br#"{"identifiers":[{"type":"dns","value":"www.example.test"}]}"#);
        let Signed { message, signature } = &Signed::of(&body);
        let key = signer.key();
        let jwk = Jwk::from_map(signer.jwk.as_object().unwrap().clone()).unwrap();
        let josekits = josekit_verifier(signer.algorithm, &jwk).unwrap();
        let ready = rate(|| key.accepts(message, signature));
        let ready_josekit = rate(|| josekits.verify(message, signature).is_ok());
        let imported = rate(|| PublicKey::from_jwk(&signer.jwk).unwrap().accepts(message, signature));
        let imported_josekit =
            rate(|| josekit_verifier(signer.algorithm, &jwk).unwrap().verify(message, signature).is_ok());
        let whole = rate(|| Jws::parse(&body).unwrap().verify(&key).is_ok());
        let parse = rate(|| Jws::parse(&body).is_ok());
        println!(
            "{}: key ready {ready_josekit:.0} josekit, {ready:.0} aws-lc-rs ({:.1}x); from JWK \
             {imported_josekit:.0}, {imported:.0} ({:.1}x); \
             parse (with jwk) {parse:.0}, parse and verify {whole:.0}",
            signer.algorithm,
            ready / ready_josekit,
            imported / imported_josekit,
        );
    }
}
