//! The sender's clock: at what running time a frame of a live source was really meant to be shown.
//!
//! In: the running time that the pipeline gives a frame, and the sender's own time of it (RTCP). Out: the running time
//! that keeps the sender's distances. One per connection; cannot fail.
//!
//! GStreamer's jitter buffer lets no time go backwards, but RTP carries B-frames in decoding order: their times are
//! held back to that of the frame before, and frames come out 0 and 80 ms apart in place of 40 and 40. The sender's
//! time of each frame is exact. Frames are only ever made later, so the least distance of both clocks over the last
//! frames is their true one; the window is short, as clocks drift.

use std::collections::VecDeque;

/// Frames that are remembered: more than a group of B-frames.
const WINDOW: usize = 50;
/// No frame is held back longer: the sender's clock has been set.
const LONGEST: i128 = 1_000_000_000;

/// Nanoseconds from the sender's clock to running time, as lately seen.
#[derive(Debug, Default)]
pub(super) struct SenderClock {
    distances: VecDeque<i128>,
}

impl SenderClock {
    /// The running time of a frame, nanoseconds. `sent`: the sender's time of it, where it says so.
    pub(super) fn refine(&mut self, running: Option<u64>, sent: Option<u64>) -> Option<u64> {
        let (Some(came), Some(sent)) = (running, sent) else { return running };
        let distance = i128::from(came) - i128::from(sent);
        if self.distances.iter().any(|known| (known - distance).abs() > LONGEST) {
            self.distances.clear();
        } else if self.distances.len() == WINDOW {
            self.distances.pop_front();
        }
        self.distances.push_back(distance);
        let least = self.distances.iter().min().copied().unwrap_or(0);
        u64::try_from(i128::from(sent) + least).ok().or(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn frames_held_back_come_out_evenly() {
        let mut clock = SenderClock::default();
        // Every fourth frame is in time, those before it are as late as it.
        let shown: Vec<u64> = (0..100)
            .map(|i| clock.refine(Some((i / 4 * 4 + 4) * 40 * MS), Some((1000 + i) * 40 * MS)).unwrap_or(0))
            .collect();
        for pair in shown[8..].windows(2) {
            assert_eq!(pair[1] - pair[0], 40 * MS);
        }
    }

    #[test]
    fn without_a_senders_time_nothing_changes() {
        let mut clock = SenderClock::default();
        assert_eq!(clock.refine(Some(7), None), Some(7));
        assert_eq!(clock.refine(None, Some(7)), None);
    }

    #[test]
    fn a_senders_clock_may_be_set() {
        let mut clock = SenderClock::default();
        for i in 0..100 {
            clock.refine(Some(i * 40 * MS), Some((9_000_000 + i * 40) * MS));
        }
        for hour in [3_600_000, 12_600_000, 9_000_000] {
            assert_eq!(clock.refine(Some(4000 * MS), Some(hour * MS)), Some(4000 * MS));
        }
    }
}
