//! Which frames a model sees: `every:N` counts frames, `fps:X` goes by stream time.
//!
//! In: each frame's pts, in order. Out: yes or no. Nothing fails.

use crate::config::settings::Sample;

/// Decides for one model of one stream.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    rule: Sample,
    frames: u32,
    due: Option<u64>,
}

impl Sampler {
    /// A sampler; no rule means every frame.
    pub(super) fn new(rule: Option<Sample>) -> Self {
        Self { rule: rule.unwrap_or(Sample::Every(1)), frames: 0, due: None }
    }

    /// Whether the frame at `pts` (nanoseconds) is one that the model shall see.
    pub(super) fn wants(&mut self, pts: u64) -> bool {
        match self.rule {
            Sample::Every(n) => {
                let wanted = self.frames == 0;
                self.frames = (self.frames + 1) % n;
                wanted
            }
            Sample::Fps(rate) => {
                let period = (1e9 / rate) as u64;
                // A tenth of a period early is on time: rates such as 10 of 25 do not divide evenly.
                let slack = period / 10;
                match self.due {
                    Some(due) if pts + slack < due => false,
                    // On from the due time, not from the frame's, so that the mean rate is kept; but never
                    // catching up in a burst after a hole.
                    Some(due) if pts < due + period => {
                        self.due = Some(due + period);
                        true
                    }
                    _ => {
                        self.due = Some(pts + period);
                        true
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: Sample, rate: u64, seconds: u64) -> usize {
        let mut sampler = Sampler::new(Some(rule));
        (0..rate * seconds).filter(|index| sampler.wants(index * 1_000_000_000 / rate)).count()
    }

    #[test]
    fn every_counts_frames_from_the_first() {
        let mut sampler = Sampler::new(Some(Sample::Every(3)));
        let seen: Vec<bool> = (0..7).map(|index| sampler.wants(index)).collect();
        assert_eq!(seen, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn the_mean_rate_is_kept_where_it_does_not_divide_the_stream_s() {
        assert_eq!(count(Sample::Fps(10.0), 25, 10), 100);
        assert_eq!(count(Sample::Fps(8.0), 30, 10), 80);
        assert_eq!(count(Sample::Fps(7.0), 25, 100), 700);
    }

    #[test]
    fn a_faster_rule_than_the_stream_sees_every_frame() {
        assert_eq!(count(Sample::Fps(60.0), 25, 4), 100);
    }

    #[test]
    fn a_hole_is_not_caught_up() {
        let mut sampler = Sampler::new(Some(Sample::Fps(1.0)));
        assert!(sampler.wants(0));
        assert!(sampler.wants(60_000_000_000));
        assert!(!sampler.wants(60_040_000_000));
        assert!(!sampler.wants(60_500_000_000));
        assert!(sampler.wants(61_000_000_000));
    }
}
