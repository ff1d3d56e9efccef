//! The last seconds of a source's compressed packets, video and audio, for recording without re-encoding.
//!
//! In: packets from the streaming threads. Out: [`Clip`]s that begin at a key frame, with the caps that a muxer
//! needs. Bounded by time and by bytes; held by the source and by whoever has the handle. Cannot fail: a group
//! of pictures that alone is beyond the bounds is dropped, and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::flow::{Packet, PacketKind, Packets, Part, Track};

/// Packets in the order in which they came, beginning at a video key frame.
#[derive(Debug, Clone, Default)]
pub struct Clip {
    /// The video's caps; `None` where there is nothing.
    pub video: Option<Track>,
    /// The audio's caps, where there is audio.
    pub audio: Option<Track>,
    /// The packets; times are on the clock of the frames' pts.
    pub packets: Vec<Packet>,
}

/// A handle to a source's ring. Clones share it; it outlives the source.
#[derive(Debug, Clone)]
pub struct PacketRing(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    packets: VecDeque<Packet>,
    /// Position of the first of them: how many were there before.
    first: u64,
    video: Option<Track>,
    audio: Option<Track>,
    bytes: usize,
    dropped: u64,
    span: u64,
    max_bytes: usize,
}

impl PacketRing {
    /// A ring of `span` and `max_bytes`; a `span` of zero keeps nothing.
    pub(super) fn new(span: Duration, max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring {
            packets: VecDeque::new(),
            first: 0,
            video: None,
            audio: None,
            bytes: 0,
            dropped: 0,
            span: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
            max_bytes,
        })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether packets are kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.lock().span > 0
    }

    /// The caps of a track are known. Other caps than before: what was kept does not fit with what comes, and goes.
    pub(super) fn set_track(&self, track: Track) {
        let mut ring = self.lock();
        let slot = match track.kind {
            PacketKind::Video => &mut ring.video,
            PacketKind::Audio => &mut ring.audio,
        };
        if slot.as_ref().is_some_and(|before| *before != track) {
            *slot = Some(track);
            ring.clear();
        } else {
            *slot = Some(track);
        }
    }

    /// Adds a packet.
    pub(super) fn push(&self, packet: Packet) {
        let mut ring = self.lock();
        if ring.packets.is_empty() && !(packet.kind == PacketKind::Video && packet.key) {
            return;
        }
        ring.bytes += packet.data.len();
        ring.packets.push_back(packet);
        ring.trim();
    }

    /// All packets from the last video key frame at or before `pts` (nanoseconds of stream time), or from the
    /// oldest one there is.
    #[must_use]
    pub fn since(&self, pts: u64) -> Clip {
        let Part { video, audio, packets, .. } = Packets::since(self, pts);
        Clip { video, audio, packets }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Packets dropped because a group of pictures alone was beyond the bounds.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Stream time from the first to the last video packet.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::from_nanos(self.lock().held())
    }
}

impl Packets for PacketRing {
    fn since(&self, pts: u64) -> Part {
        let ring = self.lock();
        let is_key = |p: &&Packet| p.kind == PacketKind::Video && p.key;
        let begin = ring
            .packets
            .iter()
            .enumerate()
            .rfind(|(i, p)| is_key(p) && (*i == 0 || p.pts <= pts))
            .map_or(0, |(i, _)| i);
        ring.part(begin)
    }

    fn after(&self, position: u64) -> Part {
        let ring = self.lock();
        let skip = position.saturating_sub(ring.first);
        Part { lost: position < ring.first, ..ring.part(usize::try_from(skip).unwrap_or(usize::MAX)) }
    }
}

impl Ring {
    /// The packets from an index on.
    fn part(&self, begin: usize) -> Part {
        Part {
            video: self.video.clone(),
            audio: self.audio.clone(),
            packets: self.packets.iter().skip(begin).cloned().collect(),
            next: self.first + self.packets.len() as u64,
            lost: false,
        }
    }

    fn clear(&mut self) {
        self.first += self.packets.len() as u64;
        self.packets.clear();
        self.bytes = 0;
    }

    fn held(&self) -> u64 {
        let newest = self.packets.iter().rev().find(|p| p.kind == PacketKind::Video).map_or(0, |p| p.pts);
        newest.saturating_sub(self.packets.front().map_or(0, |p| p.pts))
    }

    /// Drops groups of pictures from the front: such as are not needed to reach `span` back, and such as are
    /// beyond the bytes.
    fn trim(&mut self) {
        loop {
            let newest = self.packets.back().map_or(0, |p| p.pts);
            let second = self
                .packets
                .iter()
                .enumerate()
                .skip(1)
                .find(|(_, p)| p.kind == PacketKind::Video && p.key)
                .map(|(i, p)| (i, p.pts));
            let too_big = self.bytes > self.max_bytes;
            match second {
                Some((index, pts)) if too_big || newest.saturating_sub(pts) >= self.span => {
                    let gone: usize = self.packets.drain(..index).map(|p| p.data.len()).sum();
                    self.bytes -= gone;
                    self.first += index as u64;
                }
                None if too_big => {
                    self.dropped += self.packets.len() as u64;
                    self.clear();
                    return;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn packet(kind: PacketKind, second: u64, key: bool, len: usize) -> Packet {
        Packet { kind, key, pts: second * SECOND, dts: second * SECOND, data: vec![0; len].into() }
    }

    /// A frame a second, a key frame each fifth, audio beside it.
    fn filled(ring: &PacketRing, seconds: u64) {
        for second in 0..seconds {
            ring.push(packet(PacketKind::Video, second, second % 5 == 0, 100));
            ring.push(packet(PacketKind::Audio, second, true, 10));
        }
    }

    #[test]
    fn keeps_whole_groups_that_reach_back_far_enough() {
        let ring = PacketRing::new(Duration::from_secs(10), 1 << 20);
        filled(&ring, 33);
        let clip = ring.since(0);
        assert_eq!((clip.packets[0].kind, clip.packets[0].pts), (PacketKind::Video, 20 * SECOND));
        assert!(clip.packets[0].key);
        assert!(ring.span() >= Duration::from_secs(10));
        assert_eq!(ring.bytes(), clip.packets.iter().map(|p| p.data.len()).sum::<usize>());
    }

    #[test]
    fn since_begins_at_the_key_frame_before() {
        let ring = PacketRing::new(Duration::from_secs(30), 1 << 20);
        filled(&ring, 20);
        assert_eq!(ring.since(13 * SECOND).packets[0].pts, 10 * SECOND);
        assert_eq!(ring.since(99 * SECOND).packets[0].pts, 15 * SECOND);
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_learns_what_it_missed() {
        let ring = PacketRing::new(Duration::from_secs(10), 1 << 20);
        filled(&ring, 12);
        let first = Packets::since(&ring, 7 * SECOND);
        assert_eq!((first.packets[0].pts, first.packets.len(), first.lost), (5 * SECOND, 14, false));
        assert!(ring.after(first.next).packets.is_empty());
        ring.push(packet(PacketKind::Video, 12, false, 100));
        let more = ring.after(first.next);
        assert_eq!((more.packets.len(), more.packets[0].pts, more.lost), (1, 12 * SECOND, false));
        filled(&ring, 40);
        assert!(ring.after(more.next).lost, "thirty seconds later that is gone");
        let next = ring.after(0).next;
        ring.set_track(Track { kind: PacketKind::Video, caps: "a".into() });
        ring.set_track(Track { kind: PacketKind::Video, caps: "b".into() });
        let other = ring.after(next);
        assert_eq!((other.packets.len(), other.lost, other.next), (0, false, next));
    }

    #[test]
    fn bytes_are_bounded_even_within_one_group() {
        let ring = PacketRing::new(Duration::from_secs(1000), 500);
        filled(&ring, 40);
        assert!(ring.bytes() <= 500);
        for second in 0..20 {
            ring.push(packet(PacketKind::Video, 100 + second, second == 0, 100));
            assert!(ring.bytes() <= 500);
        }
        assert!(ring.dropped() > 0);
        assert!(ring.since(0).packets.is_empty(), "waits for the next key frame");
        ring.push(packet(PacketKind::Video, 200, true, 100));
        assert_eq!(ring.since(0).packets.len(), 1);
    }

    #[test]
    fn begins_at_a_video_key_frame_and_starts_over_with_other_caps() {
        let ring = PacketRing::new(Duration::from_secs(10), 1 << 20);
        ring.set_track(Track { kind: PacketKind::Video, caps: "a".into() });
        ring.push(packet(PacketKind::Audio, 0, true, 1));
        ring.push(packet(PacketKind::Video, 0, false, 1));
        assert!(ring.since(0).packets.is_empty());
        ring.push(packet(PacketKind::Video, 1, true, 1));
        ring.set_track(Track { kind: PacketKind::Video, caps: "a".into() });
        assert_eq!(ring.since(0).packets.len(), 1);
        ring.set_track(Track { kind: PacketKind::Video, caps: "b".into() });
        assert!(ring.since(0).packets.is_empty());
    }
}
