//! What the handler of a fatal signal may look at: one slot a source at work, in memory that is there from the start.
//!
//! In: what [`super::Watch`] says of its source. Out: plain numbers and a line of text a slot, read without a lock and
//! without memory: the handler may have interrupted whoever holds one. Slots are taken in turn, so that one is not
//! used again at once. Where all are taken, a source goes without: a crash of it is blamed on nobody.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Sources at work at most.
pub(super) const SLOTS: usize = 512;
/// How many marks a slot has, one after the other.
const GENERATIONS: usize = 8;
/// Marks are from 1 to this.
pub(super) const MARKS: usize = SLOTS * GENERATIONS;
/// Bytes of a slot's text at most.
pub(super) const LINE: usize = 256;

/// A decoder counts as young for so long, in milliseconds.
pub(super) const YOUNG: u64 = 10_000;
/// A decoder that was given a packet within so many milliseconds counts as at work.
const AT_WORK: u64 = 200;

/// One source at work.
pub(super) struct Slot {
    taken: AtomicBool,
    /// Counts the decoders; the marks of threads that worked for an earlier one are void.
    generation: AtomicUsize,
    /// Even where the text is whole.
    version: AtomicU32,
    length: AtomicUsize,
    line: [AtomicU8; LINE],
    /// When its decoder was made, milliseconds of the monotonic clock; 0 where it has none.
    begun: AtomicU64,
    /// When a packet was last on its way to the decoder; 0 for never.
    packet: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// Where the search for a free slot begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The slot of this number.
pub(super) fn slot(index: usize) -> Option<&'static Slot> {
    TABLE.get(index)
}

/// The slot whose mark this is, unless it is void.
pub(super) fn marked(mark: usize) -> Option<usize> {
    let index = mark.checked_sub(1).filter(|index| *index < MARKS)? % SLOTS;
    (TABLE.get(index)?.mark(index) == mark).then_some(index)
}

/// The slots in use, with their numbers.
pub(super) fn taken() -> impl Iterator<Item = (usize, &'static Slot)> {
    TABLE.iter().enumerate().filter(|(_, slot)| slot.taken.load(Ordering::Acquire))
}

/// Takes a free slot.
pub(super) fn take() -> Option<(usize, &'static Slot)> {
    let from = NEXT.fetch_add(1, Ordering::Relaxed);
    (0..SLOTS).map(|step| from.wrapping_add(step) % SLOTS).find_map(|index| {
        let slot = &TABLE[index];
        let free = slot.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        free.then_some((index, slot))
    })
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            generation: AtomicUsize::new(0),
            version: AtomicU32::new(0),
            length: AtomicUsize::new(0),
            line: [const { AtomicU8::new(0) }; LINE],
            begun: AtomicU64::new(0),
            packet: AtomicU64::new(0),
        }
    }

    /// Sets the text; what is too long is cut off. One writer at a time: the owner of the slot.
    pub(super) fn describe(&self, text: &[u8]) {
        self.version.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::Release);
        let length = text.len().min(LINE);
        for (cell, byte) in self.line.iter().zip(text) {
            cell.store(*byte, Ordering::Relaxed);
        }
        self.length.store(length, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Copies the text and gives its length; none where it is just being written, or is empty.
    pub(super) fn text(&self, into: &mut [u8; LINE]) -> Option<usize> {
        let before = self.version.load(Ordering::Acquire);
        let length = self.length.load(Ordering::Relaxed).min(LINE);
        for (byte, cell) in into.iter_mut().zip(&self.line) {
            *byte = cell.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        let whole = before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before;
        (whole && length > 0).then_some(length)
    }

    /// A decoder was made.
    pub(super) fn begin(&self, now: u64) {
        self.begun.store(now.max(1), Ordering::Relaxed);
    }

    /// A packet is on its way to the decoder.
    pub(super) fn packet(&self, now: u64) {
        self.packet.store(now.max(1), Ordering::Relaxed);
    }

    /// The mark of threads that work for the source now; `index` is the slot's own.
    pub(super) fn mark(&self, index: usize) -> usize {
        1 + index + SLOTS * (self.generation.load(Ordering::Relaxed) % GENERATIONS)
    }

    /// There is no decoder any more, and no thread that works for the source.
    pub(super) fn idle(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.begun.store(0, Ordering::Relaxed);
        self.packet.store(0, Ordering::Relaxed);
    }

    /// Gives the slot back.
    pub(super) fn free(&self) {
        self.idle();
        self.describe(b"");
        self.taken.store(false, Ordering::Release);
    }

    /// Whether its decoder is in its first seconds.
    pub(super) fn is_young(&self, now: u64) -> bool {
        within(&self.begun, now, YOUNG)
    }

    /// Whether its decoder has just been given a packet.
    pub(super) fn is_at_work(&self, now: u64) -> bool {
        within(&self.packet, now, AT_WORK)
    }

    /// Whether packets have come within so many milliseconds.
    pub(super) fn had_packets(&self, now: u64, milliseconds: u64) -> bool {
        within(&self.packet, now, milliseconds)
    }
}

fn within(at: &AtomicU64, now: u64, milliseconds: u64) -> bool {
    let at = at.load(Ordering::Relaxed);
    at > 0 && now.saturating_sub(at) < milliseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_source_s_until_it_is_given_back() {
        let (first, slot) = take().unwrap();
        let (second, other) = take().unwrap();
        assert_ne!(first, second);
        slot.describe(b"one");
        other.describe(&[b'x'; LINE + 10]);
        let mut text = [0; LINE];
        assert_eq!(slot.text(&mut text).map(|length| text[..length].to_vec()), Some(b"one".to_vec()));
        assert_eq!(other.text(&mut text), Some(LINE));
        assert!(!slot.is_young(1000) && !slot.is_at_work(1000));
        slot.begin(1000);
        slot.packet(20_000);
        assert!(slot.is_young(1000 + YOUNG - 1) && !slot.is_young(1000 + YOUNG));
        assert!(slot.is_at_work(20_100) && !slot.is_at_work(21_000));
        slot.free();
        other.free();
        assert_eq!(slot.text(&mut text), None);
        assert!(!slot.is_young(1001));
    }

    #[test]
    fn a_mark_is_void_when_its_decoder_is_gone() {
        let (index, slot) = take().unwrap();
        let mark = slot.mark(index);
        assert!((1..=MARKS).contains(&mark));
        assert_eq!(marked(mark), Some(index));
        slot.idle();
        assert_eq!(marked(mark), None);
        assert_eq!(marked(slot.mark(index)), Some(index));
        slot.free();
        for none in [0, MARKS + 1, usize::MAX] {
            assert_eq!(marked(none), None);
        }
    }

    #[test]
    fn a_text_that_is_being_written_is_not_half_read() {
        let (_, slot) = take().unwrap();
        slot.version.fetch_add(1, Ordering::AcqRel);
        slot.length.store(3, Ordering::Relaxed);
        assert_eq!(slot.text(&mut [0; LINE]), None);
        slot.version.fetch_add(1, Ordering::AcqRel);
        slot.free();
    }
}
