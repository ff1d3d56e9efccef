//! When packets are to be decoded, found from when they are to be shown.
//!
//! In: video packets in the order in which they are decoded. Out: the same, a little later, each with its times in the file.
//! What sources say of decoding times is not used: over RTSP and in Matroska there are none, and at a stream's beginning
//! they lie before its time. Pure; a source that orders its pictures more wildly than any codec allows gets times that are
//! less even.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::flow::Packet;

/// Pictures that may be shown before one that is decoded before them: the most that H.264 and H.265 allow.
const DEPTH: usize = 16;

/// A packet with its times in the file, nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub packet: Packet,
    pub pts: u64,
    pub dts: u64,
}

/// Gives packets their times. The n-th picture is decoded when the n-th is shown, so much earlier that none is late.
pub(super) struct Timing {
    /// Stream time of the first picture.
    base: u64,
    /// Between a picture's place in the order of showing and its time, so that it is decoded before.
    delay: u64,
    pending: VecDeque<Packet>,
    /// Times of pictures to be shown, of those that came and whose decoding times were not given away.
    shown: BinaryHeap<Reverse<u64>>,
    next: u64,
}

impl Timing {
    /// For a file that begins with these video packets, the first of them a key frame.
    pub fn new<'a>(first: impl Iterator<Item = &'a Packet>) -> Self {
        let times: Vec<u64> = first.map(|packet| packet.pts).collect();
        let base = times.first().copied().unwrap_or(0);
        let times: Vec<u64> = times.into_iter().filter_map(|pts| pts.checked_sub(base)).collect();
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let late = sorted.iter().zip(&times).map(|(shown, pts)| shown.saturating_sub(*pts));
        let delay = late.max().unwrap_or(0);
        Self { base, delay, pending: VecDeque::new(), shown: BinaryHeap::new(), next: 0 }
    }

    /// Time in the file of something that is not reordered; `None`: it lies before the file's beginning.
    pub fn place(&self, pts: u64) -> Option<u64> {
        Some(pts.checked_sub(self.base)? + self.delay)
    }

    /// Takes a packet, and gives one that is due. Pictures that belong before the first one need some that are not there:
    /// they are left out.
    pub fn push(&mut self, packet: Packet) -> Option<Timed> {
        let shown = packet.pts.checked_sub(self.base)?;
        self.shown.push(Reverse(shown));
        self.pending.push_back(packet);
        if self.pending.len() > DEPTH { self.pop() } else { None }
    }

    /// The next one, where nothing more comes.
    pub fn pop(&mut self) -> Option<Timed> {
        let packet = self.pending.pop_front()?;
        let Reverse(shown) = self.shown.pop()?;
        let pts = self.place(packet.pts)?;
        let dts = shown.max(self.next);
        self.next = dts + 1;
        // What is decoded too late all the same is shown then.
        Some(Timed { packet, pts: pts.max(dts), dts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::PacketKind;

    fn packets(pts: &[u64]) -> Vec<Packet> {
        let of =
            |&pts: &u64| Packet { kind: PacketKind::Video, key: false, pts, dts: pts, data: vec![0].into() };
        pts.iter().map(of).collect()
    }

    /// (pts, dts) of all.
    fn timed(pts: &[u64]) -> Vec<(u64, u64)> {
        let all = packets(pts);
        let mut timing = Timing::new(all.iter());
        let mut found: Vec<Timed> = all.into_iter().filter_map(|packet| timing.push(packet)).collect();
        found.extend(std::iter::from_fn(|| timing.pop()));
        found.into_iter().map(|timed| (timed.pts, timed.dts)).collect()
    }

    #[test]
    fn pictures_in_order_are_decoded_when_they_are_shown() {
        assert_eq!(timed(&[1000, 1040, 1080]), [(0, 0), (40, 40), (80, 80)]);
    }

    #[test]
    fn reordered_pictures_are_decoded_evenly_and_in_time() {
        // I P B B P B B, with two before the first that need one that is not there.
        let found = timed(&[1000, 960, 1120, 1040, 1080, 1240, 1160, 1200]);
        assert_eq!(
            found,
            [(40, 0), (160, 40), (80, 80), (120, 120), (280, 160), (200, 200), (240, 240)],
            "each after the other, none after it is shown"
        );
    }

    #[test]
    fn a_long_stream_keeps_its_pace() {
        // A pyramid: every eighth picture first, then the middle ones.
        let order = [0, 8, 4, 2, 1, 3, 6, 5, 7];
        let pts: Vec<u64> = (0..40u64)
            .flat_map(|group| {
                order[usize::from(group > 0)..].iter().map(move |place| (group * 8 + place) * 40)
            })
            .collect();
        let found = timed(&pts);
        assert_eq!(found.len(), pts.len());
        assert!(found.windows(2).all(|pair| pair[1].1 - pair[0].1 == 40), "{found:?}");
        assert!(found.iter().all(|(pts, dts)| pts >= dts));
        let mut shown: Vec<u64> = found.iter().map(|(pts, _)| *pts).collect();
        shown.sort_unstable();
        assert!(shown.windows(2).all(|pair| pair[1] - pair[0] == 40));
    }
}
