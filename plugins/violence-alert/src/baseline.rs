//! A single threshold: what the alert logic is measured against. Not for use.
//!
//! In: scores. Out: begin when a score reaches the threshold, end when one falls below it; nothing else.

use crate::Score;

/// One threshold, no memory but whether it is above.
#[derive(Debug, Clone, Default)]
pub struct SingleThreshold {
    above: bool,
}

impl SingleThreshold {
    /// Takes a score; `Some(true)`: an alert begins, `Some(false)`: it ends.
    pub fn score(&mut self, score: &Score, threshold: f32) -> Option<bool> {
        let above = score.value >= threshold;
        (std::mem::replace(&mut self.above, above) != above).then_some(above)
    }
}
