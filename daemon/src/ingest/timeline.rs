//! From a pipeline's running times to stream time: from 0, never back, going on over reconnects and loops.
//!
//! In: the running times of packets and decoded frames (absent in some raw streams, wild in damaged files).
//! Out: stream times in nanoseconds. One per source, used by one session after the other; cannot fail.

use std::collections::VecDeque;
use std::time::Instant;

/// Forward jumps beyond this are damage, not a pause.
const WILD_JUMP: u64 = 24 * 3600 * 1_000_000_000;
/// A step back beyond this is a new time base, not frames out of order.
const STEP_BACK: u64 = 500_000_000;
/// Duration of a frame until something better is known.
const DEFAULT_DURATION: u64 = 40_000_000;

/// Distances between frames that are remembered.
const DISTANCES: usize = 9;

/// A source's clock.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Added to a running time of this session; none until a key packet or a frame has come.
    offset: Option<i128>,
    /// Stream time of the last frame, and when it came.
    last: Option<(u64, Instant)>,
    /// Nanoseconds of a frame, as the stream says.
    duration: u64,
    /// The last distances between frames, as they came.
    distances: VecDeque<u64>,
    /// Whether time outside counts where a session begins (live) or not (a file that starts over).
    outside: bool,
    /// Frames of this session.
    frames: u64,
    /// Last running time that a packet without one was given.
    untimed_packet: Option<u64>,
}

impl Timeline {
    /// A clock at 0. `live`: time without frames between sessions counts.
    pub(super) fn new(live: bool) -> Self {
        Self {
            offset: None,
            last: None,
            duration: DEFAULT_DURATION,
            distances: VecDeque::with_capacity(DISTANCES),
            outside: live,
            frames: 0,
            untimed_packet: None,
        }
    }

    /// A new session begins: its running times have nothing to do with those before.
    pub(super) fn begin_session(&mut self) {
        self.offset = None;
        self.frames = 0;
        self.untimed_packet = None;
    }

    /// The nominal duration of a frame is known.
    pub(super) fn set_rate(&mut self, numerator: u32, denominator: u32) {
        if numerator > 0 && denominator > 0 {
            let duration = 1_000_000_000 * u64::from(denominator) / u64::from(numerator);
            if (100_000..=10_000_000_000).contains(&duration) {
                self.duration = duration;
                if self.distances.is_empty() {
                    self.distances.extend([duration; 3]);
                }
            }
        }
    }

    /// Nanoseconds from frame to frame as they have come lately: what the stream says may be missing or wrong.
    pub(super) fn typical(&self) -> u64 {
        let mut sorted: Vec<u64> = self.distances.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(self.duration)
    }

    /// Where this session's first picture lies.
    fn base(&self, now: Instant) -> u64 {
        match self.last {
            None => 0,
            Some((pts, at)) => {
                let away = if self.outside { now.saturating_duration_since(at).as_nanos() as u64 } else { 0 };
                pts + away.max(self.duration)
            }
        }
    }

    /// Stream times (pts, dts) of a video packet; none before the first key packet.
    pub(super) fn video_packet(
        &mut self,
        pts: Option<u64>,
        dts: Option<u64>,
        key: bool,
        now: Instant,
    ) -> Option<(u64, u64)> {
        let running = match pts.or(dts) {
            Some(time) => time,
            None => self.untimed_packet.map_or(0, |before| before + self.duration),
        };
        self.untimed_packet = Some(running);
        if self.offset.is_none() {
            if !key {
                return None;
            }
            self.offset = Some(i128::from(self.base(now)) - i128::from(running));
        }
        Some((self.shift(running)?, self.shift(dts.unwrap_or(running).min(running))?))
    }

    /// Stream time of an audio packet; none before the first video key packet.
    pub(super) fn audio_packet(&self, running: Option<u64>) -> Option<u64> {
        let time = i128::from(running?) + self.offset?;
        u64::try_from(time).ok()
    }

    fn shift(&self, running: u64) -> Option<u64> {
        Some(u64::try_from((i128::from(running) + self.offset?).max(0)).unwrap_or(u64::MAX / 2))
    }

    /// Stream time of the next decoded frame, always beyond the one before.
    pub(super) fn frame(&mut self, running: Option<u64>, now: Instant) -> u64 {
        let first = self.frames == 0;
        self.frames += 1;
        let next = self.last.map(|(pts, _)| pts + self.duration);
        let wanted = match running {
            Some(running) => {
                if self.offset.is_none() {
                    self.offset = Some(i128::from(self.base(now)) - i128::from(running));
                }
                self.shift(running)
            }
            None if first => Some(self.base(now)),
            None => next,
        };
        let pts = match (wanted, self.last) {
            (Some(wanted), None) => wanted.min(WILD_JUMP),
            (None, None) => 0,
            (wanted, Some((last, _))) => {
                let next = last + self.duration;
                let wanted = wanted.unwrap_or(next);
                if wanted > last + WILD_JUMP || wanted + STEP_BACK < last {
                    // Another time base: go on from here, for this frame and those after it.
                    if let (Some(offset), Some(_)) = (self.offset.as_mut(), running) {
                        *offset += i128::from(next) - i128::from(wanted);
                    }
                    next
                } else if wanted <= last {
                    // Out of order or twice the same: squeezed in, without moving those after it.
                    last + 1000
                } else {
                    wanted
                }
            }
        };
        if let Some((last, _)) = self.last
            && !first
        {
            if self.distances.len() == DISTANCES {
                self.distances.pop_front();
            }
            self.distances.push_back(pts - last);
        }
        self.last = Some((pts, now));
        pts
    }
}

/// Nanoseconds of stream time that are missing between two frames: all beyond one frame's duration, where the
/// distance is more than three frames and half a second, or where a connection was made anew between them.
pub(super) fn gap(before: Option<u64>, pts: u64, duration: u64, reconnected: bool) -> u64 {
    let Some(before) = before else { return 0 };
    let distance = pts.saturating_sub(before);
    if reconnected || distance > (3 * duration).max(500_000_000) {
        distance.saturating_sub(duration)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn starts_at_zero_with_the_first_key_packet() {
        let mut time = Timeline::new(true);
        let now = Instant::now();
        assert_eq!(time.video_packet(Some(5000 * MS), None, false, now), None);
        assert_eq!(time.audio_packet(Some(5010 * MS)), None);
        let key = time.video_packet(Some(5040 * MS), Some(5000 * MS), true, now);
        assert_eq!(key, Some((0, 0)));
        assert_eq!(time.audio_packet(Some(5050 * MS)), Some(10 * MS));
        assert_eq!(time.frame(Some(5040 * MS), now), 0);
        assert_eq!(time.frame(Some(5080 * MS), now), 40 * MS);
    }

    #[test]
    fn goes_on_over_loops_and_reconnects() {
        let now = Instant::now();
        let mut file = Timeline::new(false);
        assert_eq!(
            (0..3).map(|i| file.frame(Some(i * 40 * MS), now)).collect::<Vec<_>>(),
            [0, 40 * MS, 80 * MS]
        );
        file.begin_session();
        assert_eq!(file.frame(Some(0), now + Duration::from_secs(9)), 120 * MS);

        let mut live = Timeline::new(true);
        live.frame(Some(7 * MS), now);
        live.begin_session();
        let back = live.frame(Some(3 * MS), now + Duration::from_secs(9));
        assert_eq!(back, 9000 * MS);
        assert_eq!(gap(Some(0), back, 40 * MS, true), 8960 * MS);
    }

    #[test]
    fn never_goes_back() {
        let now = Instant::now();
        let mut time = Timeline::new(false);
        let wild = [0, 80, 40, 120, 50_000, 160, 200, 4_000_000_000, 240, 240, 280];
        let pts: Vec<u64> = wild.iter().map(|ms| time.frame(Some(ms * MS), now)).collect();
        assert!(pts.windows(2).all(|w| w[1] > w[0]), "{pts:?}");
        assert!(*pts.last().unwrap() < 51_000 * MS, "{pts:?}");
    }

    #[test]
    fn frames_without_times_come_at_the_nominal_rate() {
        let now = Instant::now();
        let mut time = Timeline::new(false);
        time.set_rate(50, 1);
        assert_eq!((0..3).map(|_| time.frame(None, now)).collect::<Vec<_>>(), [0, 20 * MS, 40 * MS]);
        let mut packets = Timeline::new(false);
        packets.set_rate(50, 1);
        let times: Vec<_> =
            (0..3).map(|i| packets.video_packet(None, None, i == 0, now).unwrap().0).collect();
        assert_eq!(times, [0, 20 * MS, 40 * MS]);
    }

    #[test]
    fn the_typical_distance_is_what_comes_whatever_the_stream_says() {
        let now = Instant::now();
        let mut time = Timeline::new(true);
        time.set_rate(25, 1);
        assert_eq!(time.typical(), 40 * MS);
        let mut before = None;
        let mut gaps = Vec::new();
        for second in [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22] {
            let typical = time.typical();
            let pts = time.frame(Some(second * 1000 * MS), now);
            gaps.push(gap(before, pts, typical, false) / (1000 * MS));
            before = Some(pts);
        }
        assert_eq!(gaps[5..], [0, 0, 0, 12, 0, 0], "one frame a second is no row of gaps: {gaps:?}");
    }

    #[test]
    fn a_gap_is_more_than_three_frames_and_half_a_second() {
        assert_eq!(gap(None, 9000 * MS, 40 * MS, true), 0);
        assert_eq!(gap(Some(0), 400 * MS, 40 * MS, false), 0);
        assert_eq!(gap(Some(0), 600 * MS, 40 * MS, false), 560 * MS);
        assert_eq!(gap(Some(0), 2500 * MS, 1000 * MS, false), 0);
        assert_eq!(gap(Some(0), 50 * MS, 40 * MS, true), 10 * MS);
    }
}
