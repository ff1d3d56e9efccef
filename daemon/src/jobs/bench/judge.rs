//! Whether a box holds so many streams: judged by what the streams did in a while, not by how busy it was.
//!
//! In: [`Counts`] of all streams. Out: what went wrong, in words; nothing where the box holds them. Pure.

use serde::Serialize;

/// What the streams did.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Counts {
    /// Frames a second of the video.
    pub rate: f64,
    /// How long they were looked at, seconds.
    pub seconds: f64,
    /// Frames that each stream has done.
    pub frames: Vec<u64>,
    /// Frames that a model was to see and did not, because too much was in flight.
    pub skipped: u64,
    /// Frames that the sources let go.
    pub dropped: u64,
    /// Pictures that were to be encoded and were not.
    pub not_encoded: u64,
    /// Milliseconds from source to end, in the mean: of the first half and of the last.
    pub latency_ms: (f64, f64),
}

/// Share of the frames that may be missing: clocks of cameras are not exact either.
const MISSING: f64 = 0.02;
/// The same of a single stream, and frames at the edges of the time.
const MISSING_OF_ONE: f64 = 0.1;
const EDGE: f64 = 1.0;
/// Share of the frames that may be skipped, dropped, or not encoded.
const LEFT_OUT: f64 = 0.01;
/// Frames by which the mean latency may grow from the first half to the last.
const GROWTH: f64 = 2.0;
/// With more than this missing or left out, no further try is needed.
const HOPELESS: f64 = 0.1;

impl Counts {
    /// Frames of one stream in the time.
    fn wanted(&self) -> f64 {
        self.rate * self.seconds
    }

    /// Frames that all have done.
    fn done(&self) -> u64 {
        self.frames.iter().sum()
    }

    /// Share of all frames that did not come.
    fn missing(&self) -> f64 {
        let wanted = self.wanted() * self.frames.len() as f64;
        let edges = EDGE * self.frames.len() as f64;
        ((wanted - edges - self.done() as f64) / wanted.max(1.0)).max(0.0)
    }

    /// Share of so many of the frames that were done.
    fn share(&self, count: u64) -> f64 {
        count as f64 / self.done().max(1) as f64
    }

    /// What went wrong; `None`: the box holds these streams.
    #[must_use]
    pub fn judge(&self) -> Option<String> {
        let wanted = self.wanted();
        let least = self.frames.iter().min().copied().unwrap_or(0);
        if self.missing() > MISSING {
            let all = wanted * self.frames.len() as f64;
            return Some(format!("{} of {all:.0} frames were done in time", self.done()));
        }
        if (least as f64) < wanted * (1.0 - MISSING_OF_ONE) - EDGE {
            return Some(format!("one stream did {least} of {wanted:.0} frames in time"));
        }
        for (count, what) in [
            (self.skipped, "were not inferred"),
            (self.dropped, "were dropped by their sources"),
            (self.not_encoded, "were not encoded"),
        ] {
            if self.share(count) > LEFT_OUT {
                return Some(format!("{count} of {} frames {what}", self.done()));
            }
        }
        let (first, last) = self.latency_ms;
        if last - first > GROWTH * 1000.0 / self.rate.max(1e-3) {
            return Some(format!("frames took {first:.0} ms at first and {last:.0} ms at last"));
        }
        None
    }

    /// Whether so much went wrong that it was no hiccup.
    #[must_use]
    pub fn hopeless(&self) -> bool {
        let left_out = self.skipped + self.dropped + self.not_encoded;
        self.missing() > HOPELESS || self.share(left_out) > HOPELESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let frames = vec![250, 250, 249, 251];
        Counts { rate: 25.0, seconds: 10.0, frames, latency_ms: (45.0, 47.0), ..Counts::default() }
    }

    #[test]
    fn streams_that_keep_up_are_held() {
        assert_eq!(counts().judge(), None);
        let edges =
            Counts { frames: vec![247; 4], skipped: 2, dropped: 1, latency_ms: (45.0, 110.0), ..counts() };
        assert_eq!(edges.judge(), None);
        // A short look: the frame at its edge does not count.
        let short = Counts { seconds: 0.4, frames: vec![9, 10], ..counts() };
        assert_eq!(short.judge(), None);
    }

    #[test]
    fn each_way_of_not_keeping_up_is_told_of() {
        for (counts, expected) in [
            (Counts { frames: vec![240; 4], ..counts() }, "960 of 1000 frames"),
            (Counts { frames: vec![260, 260, 260, 215], ..counts() }, "one stream did 215"),
            (Counts { skipped: 11, ..counts() }, "not inferred"),
            (Counts { dropped: 11, ..counts() }, "dropped"),
            (Counts { not_encoded: 11, ..counts() }, "not encoded"),
            (Counts { latency_ms: (45.0, 130.0), ..counts() }, "130 ms at last"),
            (Counts { frames: vec![], ..counts() }, "one stream"),
        ] {
            let why = counts.judge().unwrap();
            assert!(why.contains(expected), "{why}, expected {expected}");
            assert!(!counts.hopeless(), "{counts:?}");
        }
    }

    #[test]
    fn much_too_much_is_no_hiccup() {
        assert!(Counts { frames: vec![200; 4], ..counts() }.hopeless());
        assert!(Counts { skipped: 300, ..counts() }.hopeless());
    }
}
