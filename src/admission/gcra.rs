//! The arithmetic of a bucket: the generic cell rate algorithm in whole microseconds, with nothing but numbers in it. The
//! scripts `lua/bucket_*.lua` say the same; a differential test holds both to it.
//!
//! A bucket of capacity N that refills in a period P holds N uses. Each use costs P/N of time, its *interval*. Of a
//! bucket one instant is kept: when it will be full again. Its distance from now is the *debt*; a use adds one interval to
//! it, and is refused if the debt would then exceed N intervals.

use std::time::Duration;

use crate::acme::time::Timestamp;

/// The largest capacity: with it, and a period of at most a year, all numbers stay exact in Lua's floating point.
pub const MAX_CAPACITY: u32 = 1_000_000;

/// The longest period.
const LONGEST_PERIOD: Duration = Duration::from_secs(366 * 86_400);

/// How much a bucket holds and how fast it refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many uses it holds when it is full.
    pub capacity: u32,
    /// How many microseconds a use costs.
    pub interval: i64,
}

impl Rate {
    /// `capacity` uses in each `period`, and as many at once. A period that does not divide is rounded up for each use,
    /// so that never more than `capacity` pass. `capacity` is between 1 and [`MAX_CAPACITY`].
    pub fn per(capacity: u32, period: Duration) -> Self {
        let (capacity, period) = (capacity.clamp(1, MAX_CAPACITY), period.min(LONGEST_PERIOD));
        let micros = period.as_micros().div_ceil(u128::from(capacity)).max(1);
        Self { capacity, interval: i64::try_from(micros).unwrap_or(i64::MAX) }
    }

    /// The debt of an empty bucket, in microseconds.
    fn empty(self) -> i64 {
        i64::from(self.capacity) * self.interval
    }
}

/// What is kept of a bucket that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When it will be full.
    pub(super) full_at: Timestamp,
    /// What a use of it cost when it was last written.
    pub(super) interval: i64,
}

impl Bucket {
    fn of(debt: i64, rate: Rate, now: Timestamp) -> Option<Self> {
        let full_at = Timestamp::from_micros(now.micros() + debt);
        (debt > 0).then_some(Self { full_at, interval: rate.interval })
    }

    /// Microseconds until it is full by itself.
    pub(super) fn until_full(self, now: Timestamp) -> i64 {
        (self.full_at.micros() - now.micros()).max(0)
    }
}

/// How many microseconds of `rate` the bucket owes. One whose capacity was changed keeps the uses that were taken of it.
fn debt(held: Option<Bucket>, rate: Rate, now: Timestamp) -> i64 {
    let Some(bucket) = held else { return 0 };
    let mut debt = bucket.until_full(now);
    if bucket.interval != rate.interval {
        debt = uses(debt, bucket.interval) * rate.interval;
    }
    debt.min(rate.empty())
}

/// A debt in whole uses, rounded up.
pub(super) fn uses(debt: i64, interval: i64) -> i64 {
    debt / interval.max(1) + i64::from(debt % interval.max(1) > 0)
}

/// Takes `cost` uses: the bucket as it is afterwards (`None`: full), or for how many microseconds they must be waited for.
pub(super) fn take(
    held: Option<Bucket>,
    rate: Rate,
    cost: u32,
    now: Timestamp,
) -> Result<Option<Bucket>, i64> {
    let debt = debt(held, rate, now) + i64::from(cost) * rate.interval;
    if debt > rate.empty() { Err(debt - rate.empty()) } else { Ok(Bucket::of(debt, rate, now)) }
}

/// Gives `cost` uses back, never past full: the bucket as it is afterwards (`None`: full).
pub(super) fn refund(held: Option<Bucket>, rate: Rate, cost: u32, now: Timestamp) -> Option<Bucket> {
    let debt = debt(held, rate, now) - i64::from(cost) * rate.interval;
    Bucket::of(debt, rate, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + micros)
    }

    #[test]
    fn lim_03_a_full_bucket_holds_its_capacity_and_refills_evenly() {
        let rate = Rate::per(100, HOUR);
        assert_eq!(rate.interval, 36_000_000);
        let mut held = None;
        for _ in 0..100 {
            held = take(held, rate, 1, at(0)).unwrap();
        }
        assert_eq!(take(held, rate, 1, at(0)), Err(36_000_000));
        // Looked at is not taken, and the wait told is exactly the wait needed.
        assert_eq!(take(held, rate, 1, at(35_999_999)), Err(1));
        let held = take(held, rate, 1, at(36_000_000)).unwrap();
        assert_eq!(take(held, rate, 1, at(36_000_000)), Err(36_000_000));
        assert_eq!(take(held, rate, 2, at(36_000_000)), Err(72_000_000));
    }

    #[test]
    fn a_refund_never_fills_past_full() {
        let rate = Rate::per(2, HOUR);
        let one = take(None, rate, 1, at(0)).unwrap();
        assert_eq!(refund(one, rate, 1, at(0)), None);
        assert_eq!(refund(one, rate, 5, at(7)), None);
        assert_eq!(refund(None, rate, 1, at(0)), None);
        let two = take(one, rate, 1, at(0)).unwrap();
        assert_eq!(refund(two, rate, 1, at(0)), one);
    }

    #[test]
    fn a_changed_capacity_keeps_the_uses_taken() {
        let (small, large) = (Rate::per(5, HOUR), Rate::per(10, HOUR));
        let spent = take(None, small, 5, at(0)).unwrap();
        let mut held = spent;
        for _ in 0..5 {
            held = take(held, large, 1, at(0)).unwrap();
        }
        assert!(take(held, large, 1, at(0)).is_err());
        // A smaller one is empty, and not emptier than that.
        assert_eq!(take(held, small, 1, at(0)), Err(small.interval));
    }

    proptest! {
        /// However callers come, no window of a period sees more than twice the capacity, and what the bucket lets pass
        /// is never more than its capacity and what has refilled.
        #[test]
        fn lim_03_no_more_pass_than_capacity_and_refill(
            capacity in 1u32..50,
            seconds in 1u64..100_000,
            steps in prop::collection::vec((0i64..5_000_000_000, 1u32..4), 1..200),
        ) {
            let rate = Rate::per(capacity, Duration::from_secs(seconds));
            let (mut now, mut held, mut passed) = (0i64, None, 0i64);
            for (pause, cost) in steps {
                now += pause;
                match take(held, rate, cost, at(now)) {
                    Ok(after) => {
                        held = after;
                        passed += i64::from(cost);
                    }
                    Err(wait) => {
                        prop_assert!(wait > 0);
                        if cost <= capacity {
                            prop_assert!(take(held, rate, cost, at(now + wait)).is_ok());
                            prop_assert!(take(held, rate, cost, at(now + wait - 1)).is_err());
                        }
                    }
                }
                prop_assert!(passed <= i64::from(capacity) + now / rate.interval);
            }
        }
    }
}
