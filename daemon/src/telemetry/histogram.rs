//! A histogram with logarithmic buckets: how long things take, how large they are.
//!
//! In: [`Histogram::record`] from any thread, without a lock. Out: [`Distribution`] with quantiles. Owned by
//! whoever holds a clone; cannot fail (not-a-number and negative values count as 0).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling; a quantile is off by at most half a bucket, about 6 %.
const PER_DOUBLING: u64 = 8;
/// Smallest power of two told apart: 2^-30, about a nanosecond where values are seconds.
const LOWEST: i64 = -30;
/// Doublings covered: up to 2^34.
const DOUBLINGS: u64 = 64;
const BUCKETS: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// A histogram. Clones record together. Values are in the unit that the metric's name ends in (seconds,
/// bytes), from 2^-30 to 2^34.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    /// Sum as f64 bits.
    sum: AtomicU64,
    /// Largest as f64 bits; for values that are not negative the bits order as the numbers do.
    max: AtomicU64,
}

/// What a histogram has seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distribution {
    /// Values recorded.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self(Arc::new(Inner {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }))
    }
}

/// An f64's exponent and its top three bits of mantissa, read as one number, are a logarithmic scale with
/// eight steps per doubling.
fn bucket(value: f64) -> usize {
    let step = (value.to_bits() >> 49) as i64;
    let first = (1023 + LOWEST) * PER_DOUBLING as i64;
    (step - first).clamp(0, BUCKETS as i64 - 1) as usize
}

/// The middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let step = (1023 + LOWEST) as u64 * PER_DOUBLING + bucket as u64;
    f64::from_bits((step << 49) | (1 << 48))
}

/// How often each bucket of a [`Histogram`] was hit, at one time. The difference of two is what came between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// What came since `before`, an earlier look at the same histogram.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// The value below which the share `q` (0 to 1) of them lie; `None` without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        (self.total() > 0).then(|| quantile(&self.0, q, f64::INFINITY))
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many lie below each bound. Exact where a bound is a power of two times 1, 1.125, 1.25 ... 1.875.
    #[must_use]
    pub fn below(&self, bounds: &[f64]) -> Vec<u64> {
        let mut sum = 0;
        let mut next = 0;
        let upto = |bound: &f64| {
            // A value that is exactly a bound is in the bucket that begins there, and counts as above it.
            let end = bucket(*bound).max(next);
            sum += self.0[next..end].iter().sum::<u64>();
            next = end;
            sum
        };
        bounds.iter().map(upto).collect()
    }
}

impl Histogram {
    /// A histogram that no registry knows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one value.
    pub fn record(&self, value: f64) {
        let value = if value > 0.0 { value } else { 0.0 };
        self.0.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.max.fetch_max(value.to_bits(), Ordering::Relaxed);
        let mut old = self.0.sum.load(Ordering::Relaxed);
        loop {
            let new = (f64::from_bits(old) + value).to_bits();
            match self.0.sum.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// Records a time, in seconds.
    pub fn record_duration(&self, time: Duration) {
        self.record(time.as_secs_f64());
    }

    /// The value below which the share `q` (0 to 1) of all values lie; 0 without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let counts: Vec<u64> = self.0.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        quantile(&counts, q, f64::from_bits(self.0.max.load(Ordering::Relaxed)))
    }

    /// What several have seen together.
    #[must_use]
    pub fn together<'a>(all: impl IntoIterator<Item = &'a Self>) -> Distribution {
        let sum = Self::new();
        for one in all {
            for (into, from) in sum.0.buckets.iter().zip(&one.0.buckets) {
                into.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            let seen = one.distribution();
            sum.0.count.fetch_add(seen.count, Ordering::Relaxed);
            let total = f64::from_bits(sum.0.sum.load(Ordering::Relaxed)) + seen.sum;
            sum.0.sum.store(total.to_bits(), Ordering::Relaxed);
            sum.0.max.fetch_max(seen.max.to_bits(), Ordering::Relaxed);
        }
        sum.distribution()
    }

    /// How often each of its buckets was hit.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }

    /// Sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.0.sum.load(Ordering::Relaxed))
    }

    /// What it has seen.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let counts: Vec<u64> = self.0.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let max = f64::from_bits(self.0.max.load(Ordering::Relaxed));
        Distribution {
            count: self.0.count.load(Ordering::Relaxed),
            sum: f64::from_bits(self.0.sum.load(Ordering::Relaxed)),
            p50: quantile(&counts, 0.5, max),
            p99: quantile(&counts, 0.99, max),
            max,
        }
    }
}

fn quantile(counts: &[u64], q: f64, max: f64) -> f64 {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
    let mut below = 0;
    for (index, count) in counts.iter().enumerate() {
        below += count;
        if below >= rank {
            // Bucket 0 also holds zeros, and no quantile exceeds what was seen.
            return if index == 0 { 0.0 } else { middle(index).min(max) };
        }
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let histogram = Histogram::new();
        for n in 1..=10_000 {
            histogram.record(f64::from(n) * 1e-4);
        }
        let seen = histogram.distribution();
        assert_eq!(seen.count, 10_000);
        assert!((seen.sum - 5000.5).abs() < 1e-3, "{seen:?}");
        assert!((seen.p50 / 0.5 - 1.0).abs() < 0.07, "{seen:?}");
        assert!((seen.p99 / 0.99 - 1.0).abs() < 0.07, "{seen:?}");
        assert_eq!(seen.max, 1.0);
        assert!(histogram.quantile(1.0) <= 1.0);
    }

    #[test]
    fn several_together_are_as_one() {
        let (one, other, all) = (Histogram::new(), Histogram::new(), Histogram::new());
        for n in 1..=1000 {
            let value = f64::from(n) * 1e-3;
            if n % 3 == 0 { &one } else { &other }.record(value);
            all.record(value);
        }
        let (seen, expected) = (Histogram::together([&one, &other]), all.distribution());
        assert!((seen.sum - expected.sum).abs() < 1e-9);
        assert_eq!(Distribution { sum: 0.0, ..seen }, Distribution { sum: 0.0, ..expected });
    }

    #[test]
    fn counts_tell_what_lies_below_a_bound_and_what_came_between() {
        let histogram = Histogram::new();
        for value in [0.3, 0.6, 0.9, 3.0, 40.0] {
            histogram.record(value);
        }
        let before = histogram.counts();
        assert_eq!(before.below(&[0.25, 0.5, 0.75, 1.0, 4.0, 32.0]), [0, 1, 2, 3, 4, 4]);
        assert_eq!((before.total(), histogram.sum()), (5, 44.8));
        histogram.record(0.1);
        let came = histogram.counts().since(&before);
        assert_eq!(came.total(), 1);
        assert!((came.quantile(0.99).unwrap() / 0.1 - 1.0).abs() < 0.07);
        assert_eq!(histogram.counts().since(&histogram.counts()).quantile(0.5), None);
    }

    #[test]
    fn the_scale_has_no_holes_and_clamps() {
        let mut last = 0;
        for exponent in -40..40 {
            for step in 0..8 {
                let value = 2f64.powi(exponent) * (1.0 + f64::from(step) / 8.0);
                let index = bucket(value);
                assert!(index == last || index == last + 1, "{value} jumps from {last} to {index}");
                last = index;
            }
        }
        assert_eq!(last, BUCKETS - 1);
        assert_eq!(bucket(0.0), 0);
        let histogram = Histogram::new();
        histogram.record(f64::NAN);
        histogram.record(-1.0);
        assert_eq!(histogram.distribution(), Distribution { count: 2, ..Distribution::default() });
    }
}
