//! Which boxes may overlap a given one: an index by columns of the picture.
//!
//! In: spans across, from left to right edge, by number. Out: the numbers of all spans that may meet another one, in
//! order, and some that do not: who asks looks closer. Owned by the tracker, which fills it anew in each step; nothing
//! fails. Of fifty people in a picture each is near three or four: looking at all others for each was half the
//! tracker's time.

/// Columns that the spans are put into.
const COLUMNS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Nearby {
    left: f32,
    /// Columns a pixel.
    scale: f32,
    /// Words of a column.
    words: usize,
    /// A bit for each span, by column.
    bits: Vec<u64>,
}

impl Nearby {
    /// Takes these spans, numbered from 0, in place of those before.
    pub fn fill(&mut self, spans: impl Iterator<Item = (f32, f32)> + Clone) {
        let (mut left, mut right, mut count) = (f32::MAX, f32::MIN, 0);
        for (from, to) in spans.clone() {
            left = if from < left { from } else { left };
            right = if to > right { to } else { right };
            count += 1;
        }
        (self.left, self.scale) =
            (left, COLUMNS as f32 / if right - left > 1.0 { right - left } else { 1.0 });
        self.words = usize::div_ceil(count, 64);
        self.bits.clear();
        self.bits.resize(COLUMNS * self.words, 0);
        spans.enumerate().for_each(|(number, span)| self.add(number, span));
    }

    /// Puts a span that has moved also where it is now.
    pub fn add(&mut self, number: usize, span: (f32, f32)) {
        let (first, last) = self.columns(span);
        for column in first..=last {
            self.bits[column * self.words + number / 64] |= 1 << (number % 64);
        }
    }

    /// Whether `is` holds for one of those that may meet this span.
    pub fn any(&self, span: (f32, f32), mut is: impl FnMut(usize) -> bool) -> bool {
        let (first, last) = self.columns(span);
        for word in 0..self.words {
            let mut bits =
                (first..=last).fold(0, |bits, column| bits | self.bits[column * self.words + word]);
            while bits != 0 {
                if is(word * 64 + bits.trailing_zeros() as usize) {
                    return true;
                }
                bits &= bits - 1;
            }
        }
        false
    }

    /// Calls `with` for each of those that may meet this span.
    pub fn each(&self, span: (f32, f32), mut with: impl FnMut(usize)) {
        self.any(span, |number| {
            with(number);
            false
        });
    }

    /// First and last column; what lies beyond the index counts to its edge.
    fn columns(&self, (from, to): (f32, f32)) -> (usize, usize) {
        // A cast to an integer saturates, and makes 0 of what is below.
        let column = |x: f32| (((x - self.left) * self.scale) as usize).min(COLUMNS - 1);
        (column(from), column(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::testing::Rng;

    #[test]
    fn whoever_meets_is_found_in_order() {
        let mut rng = Rng::new(3);
        let mut nearby = Nearby::default();
        for count in [0, 1, 2, 63, 64, 65, 300] {
            let mut span = || {
                let from = rng.unit() * 1000.0 - 100.0;
                (from, from + rng.unit() * 80.0)
            };
            let mut spans: Vec<(f32, f32)> = (0..count).map(|_| span()).collect();
            nearby.fill(spans.iter().copied());
            for (number, moved) in spans.iter_mut().enumerate().step_by(3) {
                *moved = span();
                nearby.add(number, *moved);
            }
            for _ in 0..100 {
                let asked = span();
                let mut found = Vec::new();
                nearby.each(asked, |number| found.push(number));
                assert!(found.is_sorted() && found.len() <= count);
                let meets = |(from, to): (f32, f32)| from < asked.1 && asked.0 < to;
                for (number, _) in spans.iter().enumerate().filter(|(_, span)| meets(**span)) {
                    assert!(found.contains(&number), "{number} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_crowd_is_told_apart() {
        let mut nearby = Nearby::default();
        nearby.fill((0..50).map(|n| (n as f32 * 25.0, n as f32 * 25.0 + 40.0)));
        let mut found = 0;
        nearby.each((600.0, 640.0), |_| found += 1);
        assert!(found <= 6, "{found} of 50 looked at");
    }
}
