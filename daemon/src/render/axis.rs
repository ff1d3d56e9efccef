//! Filter weights along one axis: which source samples make up each output sample, and how much of each.
//!
//! In: lengths, where the first output sample lies in the source, and the step. Out: a table with a fixed
//! number of taps. Owned by the scaler, which keeps it from frame to frame. Nothing fails.
//!
//! The filter is a box as wide as an output sample covers, at least one source sample. For shrinking that is
//! the area average; for enlarging, a box of width one over samples of width one is linear interpolation; at
//! scale one both are the same, so a zooming camera crosses it without a visible step.

/// Weights of one axis.
#[derive(Debug, Default)]
pub(super) struct Axis {
    /// First source sample of each output sample.
    pub first: Vec<u32>,
    /// `taps` weights of each output sample; each row's sum is [`Axis::unit`].
    pub weights: Vec<i16>,
    /// Weights of an output sample.
    pub taps: usize,
    /// First source sample that any output sample uses.
    pub begin: u32,
    /// One past the last source sample that any output sample uses with a weight.
    pub end: u32,
    /// Every output sample is one source sample, and they follow each other.
    pub identity: bool,
    unit: i16,
    key: Option<Key>,
}

/// What a table depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Key {
    output: usize,
    source: usize,
    center: f64,
    step: f64,
    padded: bool,
}

impl Axis {
    /// A table whose weights add up to `unit`.
    pub(super) fn new(unit: i16) -> Self {
        Self { unit, ..Self::default() }
    }

    /// Fills the table: `output` samples from `source` ones, the first centred at `center` (sample i covers
    /// i to i + 1), each further one `step` on. `padded`: taps are rounded up to 2, 4 or a multiple of 8,
    /// and the weights beyond the filter are 0. Samples outside the source repeat its edge.
    pub(super) fn prepare(&mut self, output: usize, source: usize, center: f64, step: f64, padded: bool) {
        let key = Key { output, source, center, step, padded };
        if self.key == Some(key) {
            return;
        }
        self.key = Some(key);
        let width = step.max(1.0);
        let most = (width.ceil() as usize + 1).min(source);
        self.taps = if padded {
            match most {
                0..=2 => 2,
                3..=4 => 4,
                more => more.next_multiple_of(8),
            }
        } else {
            most
        };
        self.first.clear();
        self.weights.clear();
        self.identity = output > 0;
        (self.begin, self.end) = (u32::MAX, 0);
        let last = source as i64 - 1;
        for index in 0..output {
            let middle = center + step * index as f64;
            let from = middle - width / 2.0;
            let first = (from.floor() as i64).clamp(0, source as i64 - most as i64);
            // Cumulated coverage is rounded, not each weight: the sum is exact and no rounding drifts.
            let covered = |edge: i64| match edge {
                edge if edge <= first => 0.0,
                edge if edge > last => 1.0,
                edge => ((edge as f64 - from) / width).clamp(0.0, 1.0),
            };
            let rounded = |edge: i64| (covered(edge) * f64::from(self.unit)).round() as i16;
            let mut used = 0;
            for tap in 0..self.taps as i64 {
                let weight =
                    if (tap as usize) < most { rounded(first + tap + 1) - rounded(first + tap) } else { 0 };
                if weight != 0 {
                    used = tap as u32 + 1;
                }
                self.weights.push(weight);
            }
            let only = self.weights.len() - self.taps;
            let single = self.weights[only..].iter().position(|&weight| weight == self.unit);
            self.identity &= single.is_some_and(|tap| {
                first + tap as i64 == index as i64 + center.floor() as i64 && center.floor() >= 0.0
            });
            self.first.push(first as u32);
            self.begin = self.begin.min(first as u32);
            self.end = self.end.max(first as u32 + used);
        }
        if self.identity {
            self.begin = center.floor() as u32;
            self.end = self.begin + output as u32;
        }
    }

    /// The weights of an output sample.
    pub(super) fn row(&self, index: usize) -> &[i16] {
        &self.weights[index * self.taps..(index + 1) * self.taps]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_stay_inside() {
        for (output, source, center, step) in [
            (10, 10, 0.5, 1.0),
            (7, 100, 3.25, 13.3),
            (50, 9, 0.1, 0.18),
            (3, 1, 0.5, 0.3),
            (5, 4000, 400.0, 800.0),
        ] {
            let mut axis = Axis::new(256);
            axis.prepare(output, source, center, step, false);
            for index in 0..output {
                assert_eq!(axis.row(index).iter().map(|&w| i32::from(w)).sum::<i32>(), 256);
                assert!(axis.row(index).iter().all(|&weight| weight >= 0));
                assert!(axis.first[index] as usize + axis.taps <= source);
            }
            assert!(axis.end as usize <= source);
        }
    }

    #[test]
    fn scale_one_is_identity_and_half_a_sample_is_a_mean() {
        let mut axis = Axis::new(256);
        axis.prepare(8, 20, 3.5, 1.0, false);
        assert!(axis.identity);
        axis.prepare(8, 20, 4.0, 1.0, false);
        assert!(!axis.identity);
        assert_eq!((axis.first[0], axis.row(0)), (3, &[128i16, 128][..]));
        axis.prepare(4, 8, 1.0, 2.0, false);
        assert_eq!((axis.first[1], &axis.row(1)[..2]), (2, &[128i16, 128][..]));
    }
}
