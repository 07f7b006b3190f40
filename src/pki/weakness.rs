//! RSA keys whose private half can be found from the public one (ORD-11, BR 6.1.1.3).

use std::sync::LazyLock;

use num_bigint::BigUint;
use thiserror::Error;

/// How the private half of a public key can be found.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Weakness {
    /// Fermat's method factors it.
    #[error("its two primes are so close that it can be factored")]
    ClosePrimes,
    /// On the list of keys that Debian's OpenSSL made from 2006 to 2008.
    #[error("it is one of the few keys that a broken random number generator could make")]
    Debian,
    /// CVE-2017-15361.
    #[error("it has the structure of CVE-2017-15361 (ROCA)")]
    Roca,
    /// Divisible by a prime below 752.
    #[error("its modulus has a small factor")]
    SmallFactor,
}

/// Looks for the weaknesses that can be seen from an RSA modulus (big-endian) alone.
pub(super) fn check_modulus(modulus: &[u8]) -> Result<(), Weakness> {
    let modulus = BigUint::from_bytes_be(modulus);
    let residues: Vec<u64> = SMALL_PRIMES.iter().map(|prime| residue(&modulus, *prime)).collect();
    if residues.contains(&0) {
        return Err(Weakness::SmallFactor);
    }
    if has_roca_structure(&residues) {
        return Err(Weakness::Roca);
    }
    if has_close_primes(&modulus) {
        return Err(Weakness::ClosePrimes);
    }
    Ok(())
}

/// The primes below 752 (BR 6.1.6 asks for no factor smaller than that).
static SMALL_PRIMES: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..752).filter(prime).collect()
});

/// How many of the small primes the ROCA fingerprint looks at: the odd ones up to 167.
const ROCA_PRIMES: usize = 38;
/// How many steps of Fermat's method are tried.
const FERMAT_STEPS: u64 = 100;

fn residue(number: &BigUint, modulus: u64) -> u64 {
    (number % modulus).iter_u64_digits().next().unwrap_or(0)
}

/// Whether the modulus is a power of 65537 modulo every one of the primes, as the moduli of that library are
/// and others practically never ("The Return of Coppersmith's Attack", Nemec et al., 2017, §3).
fn has_roca_structure(residues: &[u64]) -> bool {
    SMALL_PRIMES.iter().zip(residues).skip(1).take(ROCA_PRIMES).all(|(prime, residue)| {
        let mut power = 1;
        loop {
            power = power * 65_537 % prime;
            if power == *residue {
                return true;
            }
            if power == 1 {
                return false;
            }
        }
    })
}

/// Fermat's method: with primes p and q near each other, n = a² − b² for an a just above √n.
fn has_close_primes(modulus: &BigUint) -> bool {
    // Most candidates for b² are no square modulo one of these, which spares their root.
    const FILTERS: [u64; 7] = [64, 63, 65, 11, 17, 19, 23];
    let root = modulus.sqrt();
    if &root * &root == *modulus {
        return true;
    }
    let start = root + 1u32;
    let filters = FILTERS.map(|filter| (filter, residue(&start, filter), residue(modulus, filter)));
    (0..FERMAT_STEPS).any(|step| {
        let plausible = filters.iter().all(|(filter, start, modulus)| {
            let a = start + step;
            let square = (a * a + filter - modulus) % filter;
            (0..=filter / 2).any(|b| b * b % filter == square)
        });
        plausible && {
            let a = &start + step;
            let square = &a * &a - modulus;
            let b = square.sqrt();
            &b * &b == square
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::key::tests::number;

    fn strength(modulus: &BigUint) -> Result<(), Weakness> {
        check_modulus(&modulus.to_bytes_be())
    }

    fn is_probable_prime(n: &BigUint) -> bool {
        let two = BigUint::from(2u32);
        SMALL_PRIMES.iter().all(|p| residue(n, *p) != 0) && two.modpow(&(n - 1u32), n) == BigUint::from(1u32)
    }

    fn next_prime(from: BigUint) -> BigUint {
        let mut n = from | BigUint::from(1u32);
        while !is_probable_prime(&n) {
            n += 2u32;
        }
        n
    }

    #[test]
    fn ord_11_close_primes_are_found_and_distant_ones_are_not() {
        let p = next_prime(number(1024, 2));
        let close = next_prime(&p + (BigUint::from(1u32) << 512));
        assert_eq!(strength(&(&p * &close)), Err(Weakness::ClosePrimes));
        assert_eq!(strength(&(&p * &p)), Err(Weakness::ClosePrimes));
        let distant = next_prime(number(1024, 3));
        assert_eq!(strength(&(&p * &distant)), Ok(()));
    }

    #[test]
    fn ord_11_close_primes_are_found_in_the_last_step_too() {
        // n = (a − b)(a + b), where a is the last candidate that is tried, and then the first that is not.
        for (step, expected) in [(FERMAT_STEPS - 1, true), (FERMAT_STEPS, false)] {
            let a = number(1024, 4);
            // √n is about a − b²/2a, here a little above a − (step + 1), so the first candidate is a − step.
            let b = (&a * 2u32 * (step + 1)).sqrt();
            let n = (&a - &b) * (&a + &b);
            let first = n.sqrt() + 1u32;
            assert_eq!(&a - &first, BigUint::from(step));
            assert_eq!(has_close_primes(&n), expected, "{step}");
        }
    }

    #[test]
    fn ord_11_roca_structure_is_found() {
        // Primes of the form k·M + (65537^a mod M), M the product of the first 126 primes, as that library
        // made them.
        let m: BigUint = SMALL_PRIMES.iter().take(126).map(|p| BigUint::from(*p)).product();
        let roca_prime = |power: u32, seed: u8| {
            let low = BigUint::from(65_537u32).modpow(&BigUint::from(power), &m);
            let mut k = number(1024, seed) / &m;
            loop {
                let candidate = &k * &m + &low;
                if is_probable_prime(&candidate) {
                    return candidate;
                }
                k += 1u32;
            }
        };
        let n = roca_prime(12_345, 5) * roca_prime(678_901, 6);
        assert_eq!(n.bits(), 2048);
        assert_eq!(strength(&n), Err(Weakness::Roca));
        assert_eq!(SMALL_PRIMES[ROCA_PRIMES], 167);
    }

    #[test]
    fn ord_11_small_factors_are_found() {
        let p = next_prime(number(2048, 7) / 1024u32);
        assert_eq!(strength(&(&p * 751u32)), Err(Weakness::SmallFactor));
        assert_eq!(strength(&(&p * 2u32)), Err(Weakness::SmallFactor));
        assert_eq!(SMALL_PRIMES.last(), Some(&751));
    }
}
