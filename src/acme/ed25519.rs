//! Which 32 octets may be an Ed25519 public key (RFC 8032 §5.1.3). Libraries take more, so that what they were given can
//! be verified at all: keys of small order, for which one signature fits every message, and second spellings of a key.

/// Of the prime 2^255 - 19, little-endian: the first octet; the last is 0x7f, and all between are 0xff.
const PRIME_LOW: u8 = 0xed;

/// The y coordinates of the eight points whose order divides 8, little-endian, as they are written canonically.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // 0: order 4.
    [0; 32],
    // 1: the neutral element.
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // -1: order 2.
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    // Order 8, and its negative.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether these octets may be somebody's public key: a point of large order, in its one spelling. That it is on the curve
/// shows when a signature is verified.
pub fn may_be_a_key(octets: &[u8]) -> bool {
    let Ok(mut y) = <[u8; 32]>::try_from(octets) else { return false };
    // The top bit is the sign of x. No y of small order is one with either sign; where x is 0 the set sign is a second
    // spelling besides.
    y[31] &= 0x7f;
    let canonical = y[31] != 0x7f || y[1..31].iter().any(|octet| *octet != 0xff) || y[0] < PRIME_LOW;
    canonical && !SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use curve25519_dalek::scalar::Scalar;

    use super::*;

    /// What another library says: a point of large order, written as that library writes it.
    fn by_dalek(octets: [u8; 32]) -> bool {
        let point = CompressedEdwardsY(octets).decompress();
        point.is_some_and(|point| !point.is_small_order() && point.compress().0 == octets)
    }

    fn is_on_the_curve(octets: [u8; 32]) -> bool {
        CompressedEdwardsY(octets).decompress().is_some()
    }

    #[test]
    fn jws_03_keys_of_small_order_and_second_spellings_are_none() {
        for point in EIGHT_TORSION {
            for sign in [0, 0x80] {
                let mut octets = point.compress().0;
                octets[31] ^= sign;
                assert!(!may_be_a_key(&octets), "{octets:x?}");
            }
        }
        // y from the prime on: each a second spelling of 0, 1, … 18.
        for low in PRIME_LOW..=0xff {
            for last in [0x7f, 0xff] {
                let mut octets = [0xff; 32];
                (octets[0], octets[31]) = (low, last);
                assert!(!may_be_a_key(&octets), "{octets:x?}");
            }
        }
        assert!(!may_be_a_key(&[9; 31]) && !may_be_a_key(&[9; 33]) && !may_be_a_key(&[]));
    }

    #[test]
    fn jws_03_on_every_point_the_verdict_is_that_of_another_library() {
        let (mut keys, mut refused) = (0, 0);
        let mut judge = |octets: [u8; 32]| {
            if is_on_the_curve(octets) {
                assert_eq!(may_be_a_key(&octets), by_dalek(octets), "{octets:x?}");
                *(if by_dalek(octets) { &mut keys } else { &mut refused }) += 1;
            }
        };
        // Around both ends of the field, with either sign.
        for low in 0..=0xff {
            for (middle, last) in [(0, 0), (0, 0x80), (0xff, 0x7f), (0xff, 0xff)] {
                let mut octets = [middle; 32];
                (octets[0], octets[31]) = (low, last);
                judge(octets);
            }
        }
        // Keys, and keys with a part of small order, which are points of large order.
        for number in 1..500_u64 {
            let point = ED25519_BASEPOINT_POINT * Scalar::from(number * number);
            judge(point.compress().0);
            judge((point + EIGHT_TORSION[number as usize % 8]).compress().0);
        }
        for point in EIGHT_TORSION {
            judge(point.compress().0);
        }
        assert!(keys > 1000 && refused > 20, "{keys}, {refused}");
    }
}
