//! How long a lost source waits before it tries again: exponential, with jitter. Pure but for its random seed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from half a second to half a minute, each scattered by ±20 % so that many sources on one
/// dead switch do not come back in one burst.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let base = FIRST.saturating_mul(1 << self.attempt.min(10)).min(LONGEST);
        self.attempt = self.attempt.saturating_add(1);
        // RandomState is seeded by the system anew for each map: enough randomness for a wait.
        let scatter = (RandomState::new().hash_one(self.attempt) % 4001) as f64 / 10_000.0 - 0.2;
        base.mul_f64(1.0 + scatter)
    }

    /// Frames have come steadily: the next loss starts at the first wait.
    pub(super) fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_half_a_minute_and_starts_over() {
        let mut backoff = Backoff::default();
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            let wait = backoff.next().as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&wait), "{wait} for {expected}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST.mul_f64(1.2));
    }

    #[test]
    fn scatters() {
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| Backoff::default().next()).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
