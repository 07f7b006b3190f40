//! How long a client that is turned away stays away: longer the more were turned away lately, and not all of them equally
//! long, so that they do not come back as one wave (GEN-16).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// The longest wait that is told, in seconds (GEN-16).
const LONGEST: u32 = 30;

/// The golden ratio's fraction of 2³²: its multiples are spread evenly, however many are drawn.
const GOLDEN: u32 = 0x9e37_79b9;

/// Counts who is turned away, by seconds.
pub(super) struct Overload {
    begun: Instant,
    /// What can be at work at once.
    capacity: u32,
    /// The second in the upper half, how many were turned away in it in the lower.
    current: AtomicU64,
    /// How many were in the second before.
    before: AtomicU32,
    drawn: AtomicU32,
}

impl Overload {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).max(1);
        let (current, before, drawn) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        Self { begun: Instant::now(), capacity, current, before, drawn }
    }

    /// Counts one that is turned away: after how many seconds it may come back.
    pub(super) fn turned_away(&self) -> u32 {
        let lately = self.count(self.begun.elapsed().as_secs());
        // Who was turned away in two seconds comes back over as many seconds as it takes to let them in, one capacity each.
        let spread = (1 + lately / self.capacity).min(LONGEST - 1);
        let draw = u64::from(self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN));
        let jitter = u32::try_from((draw * u64::from(spread + 1)) >> 32).unwrap_or(0);
        (1 + jitter).min(LONGEST)
    }

    /// How many were turned away in this second and the one before.
    fn count(&self, second: u64) -> u32 {
        let mut before = None;
        let next = |current: u64| {
            let (counted, of) = (current & 0xffff_ffff, current >> 32);
            before = (of < second).then_some((of, counted));
            Some(if of < second { (second << 32) | 1 } else { current.saturating_add(1) })
        };
        let last = self.current.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or(0);
        if let Some((of, counted)) = before {
            let counted = if of + 1 == second { counted } else { 0 };
            self.before.store(u32::try_from(counted).unwrap_or(u32::MAX), Ordering::Release);
            return u32::try_from(counted + 1).unwrap_or(u32::MAX);
        }
        let current = u32::try_from(last & 0xffff_ffff).unwrap_or(u32::MAX);
        current.saturating_add(1).saturating_add(self.before.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn gen_16_the_wait_grows_with_what_was_turned_away_and_is_spread() {
        let few = Overload::new(512);
        assert!((0..20).all(|_| (1..=2).contains(&few.turned_away())));
        let many = Overload::new(512);
        let mut waits = BTreeMap::<u32, u32>::new();
        for _ in 0..8000 {
            *waits.entry(many.turned_away()).or_default() += 1;
        }
        assert!(waits.keys().all(|wait| (1..=LONGEST).contains(wait)), "{waits:?}");
        assert!(waits.len() >= 12, "{waits:?}");
        assert!(waits.values().all(|count| *count < 8000 / 4), "no second has them all: {waits:?}");
    }

    #[test]
    fn only_two_seconds_count() {
        let overload = Overload::new(10);
        assert_eq!((overload.count(5), overload.count(5), overload.count(6)), (1, 2, 3));
        assert_eq!((overload.count(6), overload.count(8)), (4, 1));
    }
}
