//! A histogram of microseconds with logarithmic buckets: fixed size, no allocation, an error below one part
//! in 64.

/// Buckets in each power of two.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();
/// Powers of two above the first, linear `FINE` values: enough for 2⁴⁰ µs, twelve days.
const OCTAVES: usize = 34;

/// Counts of durations in microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; (OCTAVES + 1) * FINE as usize], count: 0, sum: 0, max: 0 }
    }

    /// Adds one duration.
    pub(crate) fn record(&mut self, micros: u64) {
        let last = self.buckets.len() - 1;
        self.buckets[bucket_of(micros).min(last)] += 1;
        self.count += 1;
        self.sum += micros;
        self.max = self.max.max(micros);
    }

    /// Adds all that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many durations were added.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration, exactly.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The mean duration, exactly; 0 when empty.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The smallest bucket bound that at least the part `quantile` (0 to 1) of the durations do not exceed.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let wanted = ((self.count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        // The last bucket has no bound, so that its quantile is the maximum.
        for (index, count) in self.buckets.iter().enumerate().take(self.buckets.len() - 1) {
            seen += count;
            if seen >= wanted {
                return upper_bound(index).min(self.max);
            }
        }
        self.max
    }
}

/// Values below `FINE` have a bucket each; above, the bucket is the octave and the six bits after the leading
/// one.
fn bucket_of(micros: u64) -> usize {
    if micros < FINE {
        return micros as usize;
    }
    let shift = micros.ilog2() - FINE_BITS;
    ((u64::from(shift) + 1) * FINE + ((micros >> shift) - FINE)) as usize
}

/// The largest value that falls into the bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < FINE {
        return index;
    }
    let shift = index / FINE - 1;
    ((index % FINE + FINE + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_no_wider_than_one_part_in_64() {
        let values =
            (0..100_000).chain((17..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 12_345]));
        for value in values {
            let index = bucket_of(value);
            let upper = upper_bound(index);
            assert!(upper >= value, "{value} above its bucket, {upper}");
            assert!(upper - value <= value / 64, "{value} in a bucket up to {upper}");
            assert!(index == 0 || upper_bound(index - 1) < value, "{value} belongs into an earlier bucket");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        let mut values: Vec<u64> = (1..=10_000_u64).map(|i| i * i % 250_007 + 3).collect();
        for value in &values {
            histogram.record(*value);
        }
        values.sort_unstable();
        for quantile in [0.0, 0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((values.len() as f64 * quantile).ceil() as usize).max(1) - 1;
            let (exact, told) = (values[rank], histogram.quantile(quantile));
            assert!(told >= exact && told <= exact + exact / 64 + 1, "{quantile}: {told} for {exact}");
        }
        assert_eq!(histogram.max(), values[values.len() - 1]);
        assert_eq!(histogram.count(), 10_000);
    }

    #[test]
    fn values_beyond_the_last_bucket_are_counted_and_empty_histograms_answer_zero() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.99), histogram.max(), histogram.mean()), (0, 0, 0.0));
        histogram.record(1 << 50);
        assert_eq!(histogram.quantile(0.5), 1 << 50);
    }

    #[test]
    fn merging_gives_what_one_histogram_of_all_values_gives() {
        let (mut left, mut right, mut all) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..5000 {
            if value % 3 == 0 {
                left.record(value)
            } else {
                right.record(value)
            }
            all.record(value);
        }
        left.merge(&right);
        assert_eq!(left.buckets, all.buckets);
        assert_eq!((left.count, left.sum, left.max), (all.count, all.sum, all.max));
    }
}
