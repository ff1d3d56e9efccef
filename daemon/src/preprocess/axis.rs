//! Tables of one axis: which samples of a plane make each pixel of the input, and with what weights.
//!
//! In: a [`Span`], where input pixels lie along a plane's axis. Out: [`Lerp`] (two neighbours in fixed point) or
//! [`Taps`] (any number of neighbours). Built once per plan; every index is proven to lie in the plane here, so
//! the kernels need not ask. Nothing fails.

use crate::config::manifest::Filter;

/// Weight of the second neighbour in [`Lerp::weights`] that stands for 1.
pub const LERP_ONE: i32 = 1 << 14;

/// Where `count` input pixels lie along an axis of a plane of `len` samples: pixel `d` covers
/// `origin + d × step` to `origin + (d + 1) × step`, in units of the plane's samples.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Left or top edge of the first pixel.
    pub origin: f64,
    /// Samples a pixel.
    pub step: f64,
    /// Pixels.
    pub count: usize,
    /// Samples of the plane along this axis, at least 1.
    pub len: usize,
}

impl Span {
    /// The same pixels along the axis of a chroma plane of `len` samples, sited in the middle of its two luma
    /// samples.
    #[must_use]
    pub fn chroma(&self, len: usize) -> Self {
        Self { origin: self.origin / 2.0, step: self.step / 2.0, count: self.count, len }
    }

    /// Lower neighbour and the weight, 0 to 1, of the one after it; both lie in the plane. `chroma` says that
    /// this is the span of a chroma plane, whose nearest sample is that of the nearest luma sample.
    fn neighbours(&self, pixel: usize, filter: Filter, chroma: bool) -> (usize, f64) {
        let center = self.origin + (pixel as f64 + 0.5) * self.step;
        let last = (self.len - 1) as f64;
        if filter == Filter::Nearest {
            let nearest = if chroma { ((center * 2.0).floor() / 2.0).floor() } else { center.floor() };
            return (nearest.clamp(0.0, last) as usize, 0.0);
        }
        let position = (center - 0.5).clamp(0.0, last);
        let lower = position.floor();
        if lower >= last && self.len > 1 { (self.len - 2, 1.0) } else { (lower as usize, position - lower) }
    }
}

/// Two neighbours for each pixel along x, in fixed point.
#[derive(Debug, Default)]
pub struct Lerp {
    indices: Vec<i32>,
    weights: Vec<i32>,
    first: usize,
    end: usize,
}

impl Lerp {
    /// The table of a span.
    #[must_use]
    pub fn new(span: &Span, filter: Filter, chroma: bool) -> Self {
        let neighbours = |pixel| span.neighbours(pixel, filter, chroma);
        let first = (0..span.count).map(|pixel| neighbours(pixel).0).min().unwrap_or(0);
        let mut table = Self { first, ..Self::default() };
        let mut reach = 0;
        for pixel in 0..span.count {
            let (lower, weight) = neighbours(pixel);
            let second = (weight * f64::from(LERP_ONE)).round() as i32;
            reach = reach.max(lower);
            table.indices.push((lower - first) as i32);
            table.weights.push((LERP_ONE - second) & 0xffff | second << 16);
        }
        table.end = (reach + 2).min(span.len).max(first + 1);
        table
    }

    /// First sample of the plane that is used.
    #[must_use]
    pub fn first(&self) -> usize {
        self.first
    }

    /// Samples from [`Self::first`] on that are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.end - self.first
    }

    /// Lower neighbours, counted from [`Self::first`]; each is non-negative and less than [`Self::used`].
    #[must_use]
    pub fn indices(&self) -> &[i32] {
        &self.indices
    }

    /// Weights of the lower neighbour (low 16 bits) and the one after it (high 16 bits), together [`LERP_ONE`].
    #[must_use]
    pub fn weights(&self) -> &[i32] {
        &self.weights
    }
}

/// Two rows for a pixel along y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowPair {
    /// Upper row.
    pub upper: usize,
    /// Lower row.
    pub lower: usize,
    /// Weight of the lower row, 0 to 32767 for 0 to just below 1.
    pub weight: i16,
}

/// Two rows for each pixel along y.
#[must_use]
pub fn row_pairs(span: &Span, filter: Filter, chroma: bool) -> Vec<RowPair> {
    let pair = |pixel| {
        let (upper, weight) = span.neighbours(pixel, filter, chroma);
        if weight >= 1.0 {
            return RowPair { upper: upper + 1, lower: upper + 1, weight: 0 };
        }
        let lower = (upper + 1).min(span.len - 1);
        RowPair { upper, lower, weight: (weight * 32768.0).round().min(32767.0) as i16 }
    };
    (0..span.count).map(pair).collect()
}

/// Any number of neighbours for each pixel.
#[derive(Debug, Default)]
pub struct Taps {
    starts: Vec<usize>,
    offsets: Vec<usize>,
    weights: Vec<f32>,
    first: usize,
    end: usize,
}

impl Taps {
    /// Mean over the samples that a pixel covers where it covers more than one, else two neighbours.
    #[must_use]
    pub fn area(span: &Span) -> Self {
        let mut table = Self { offsets: vec![0], first: usize::MAX, ..Self::default() };
        for pixel in 0..span.count {
            let start = if span.step > 1.0 { table.cover(span, pixel) } else { table.between(span, pixel) };
            table.offsets.push(table.weights.len());
            table.starts.push(start);
            table.first = table.first.min(start);
            table.end = table.end.max(start + table.taps_of(pixel).len());
        }
        table.first = table.first.min(table.end);
        table
    }

    fn cover(&mut self, span: &Span, pixel: usize) -> usize {
        let len = span.len as f64;
        let begin = (span.origin + pixel as f64 * span.step).clamp(0.0, len - 1.0);
        let end = (span.origin + (pixel + 1) as f64 * span.step).clamp(begin, len).max(begin + 1e-6);
        let start = begin.floor() as usize;
        let stop = (end.ceil() as usize).clamp(start + 1, span.len);
        let total = end.min(stop as f64) - begin;
        for sample in start..stop {
            let overlap = (end.min((sample + 1) as f64) - begin.max(sample as f64)).max(0.0);
            self.weights.push((overlap / total) as f32);
        }
        start
    }

    fn between(&mut self, span: &Span, pixel: usize) -> usize {
        let (lower, weight) = span.neighbours(pixel, Filter::Bilinear, false);
        self.weights.push((1.0 - weight) as f32);
        if lower + 1 < span.len {
            self.weights.push(weight as f32);
        }
        lower
    }

    fn taps_of(&self, pixel: usize) -> &[f32] {
        &self.weights[self.offsets[pixel]..self.offsets[pixel + 1]]
    }

    /// First sample of a pixel and the weights from there on; they add up to 1.
    #[must_use]
    pub fn at(&self, pixel: usize) -> (usize, &[f32]) {
        (self.starts[pixel], self.taps_of(pixel))
    }

    /// First sample of the plane that is used.
    #[must_use]
    pub fn first(&self) -> usize {
        self.first
    }

    /// Samples from [`Self::first`] on that are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.end - self.first
    }

    /// Weighted sums over a row that begins with sample [`Self::first`].
    pub fn apply(&self, row: &[f32], out: &mut [f32]) {
        for (pixel, out) in out.iter_mut().enumerate().take(self.starts.len()) {
            let (start, weights) = self.at(pixel);
            let samples = &row[start - self.first..];
            *out = samples.iter().zip(weights).map(|(sample, weight)| sample * weight).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_indices_lie_in_the_plane() {
        for len in [1, 2, 3, 7, 100] {
            for (origin, step) in
                [(0.0, 1.0), (0.0, len as f64 / 16.0), (0.3, 0.05), (len as f64 - 0.2, 0.01)]
            {
                let span = Span { origin, step, count: 16, len };
                for filter in [Filter::Bilinear, Filter::Nearest] {
                    let lerp = Lerp::new(&span, filter, false);
                    assert!(lerp.first() + lerp.used() <= len);
                    for (index, weights) in lerp.indices().iter().zip(lerp.weights()) {
                        assert!((0..lerp.used() as i32).contains(index));
                        assert_eq!((weights & 0xffff) + (weights >> 16), LERP_ONE);
                        assert!(*index as usize + 1 < lerp.used() || weights >> 16 == 0);
                    }
                    for pair in row_pairs(&span, filter, false) {
                        assert!(pair.upper < len && pair.lower < len && pair.weight >= 0);
                    }
                }
                let taps = Taps::area(&span);
                for pixel in 0..16 {
                    let (start, weights) = taps.at(pixel);
                    assert!(start >= taps.first() && start + weights.len() <= len);
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{weights:?}");
                }
            }
        }
    }

    #[test]
    fn area_of_a_whole_factor_is_the_plain_mean() {
        let taps = Taps::area(&Span { origin: 0.0, step: 3.0, count: 4, len: 12 });
        assert_eq!(taps.at(1), (3, [1.0 / 3.0; 3].as_slice()));
    }
}
