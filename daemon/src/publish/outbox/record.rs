//! The outbox's file format: records with a length and a checksum, one after the other.
//!
//! In: [`Record`]s, or bytes of a segment file. Out: bytes, or the records in them. Pure; damage is no
//! error: [`scan`] finds the next whole record and says how much it had to skip.
//!
//! ```text
//! magic   4 bytes  FE C0 57 50   (FE never occurs in UTF-8, so no payload looks like a record)
//! crc     u32 LE   CRC-32 (IEEE) of everything after it
//! length  u32 LE   bytes after it
//! position, epoch, seq   u64 LE each
//! topic length           u16 LE
//! topic, payload
//! ```

use std::sync::Arc;

const MAGIC: [u8; 4] = [0xFE, 0xC0, 0x57, 0x50];
/// Magic, crc, length.
const HEADER: usize = 12;
/// Position, epoch, seq, topic length.
const FIXED: usize = 26;
/// No record is larger, so a damaged length is seen as one.
pub(super) const LARGEST: usize = 64 << 20;

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the outbox; grows by one with each record, over restarts.
    pub position: u64,
    /// The daemon's start that it belongs to.
    pub epoch: u64,
    /// Its number in that epoch.
    pub seq: u64,
    /// Topic.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Arc<[u8]>,
}

impl Record {
    /// Bytes it takes on disk.
    pub(super) fn size(&self) -> usize {
        HEADER + FIXED + self.topic.len() + self.payload.len()
    }

    /// Appends its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.size());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&((self.size() - HEADER) as u32).to_le_bytes());
        for number in [self.position, self.epoch, self.seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.topic.len() as u16).to_le_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(&self.payload);
        let crc = crc32fast::hash(&out[start + 8..]).to_le_bytes();
        out[start + 4..start + 8].copy_from_slice(&crc);
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What stands at the start of some bytes.
enum Front {
    Record(Record, usize),
    /// The beginning of a record of so many bytes that goes on after the end.
    Cut(usize),
    Damaged,
}

fn front(bytes: &[u8]) -> Front {
    if bytes.len() < HEADER {
        let magic = bytes.len().min(4);
        return if bytes[..magic] == MAGIC[..magic] { Front::Cut(HEADER) } else { Front::Damaged };
    }
    let length = u32::from_le_bytes(number(bytes, 8).unwrap_or_default()) as usize;
    if bytes[..4] != MAGIC || !(FIXED..=LARGEST).contains(&length) {
        return Front::Damaged;
    }
    let size = HEADER + length;
    if bytes.len() < size {
        return Front::Cut(size);
    }
    let crc = u32::from_le_bytes(number(bytes, 4).unwrap_or_default());
    if crc32fast::hash(&bytes[8..size]) != crc {
        return Front::Damaged;
    }
    parse(&bytes[HEADER..size]).map_or(Front::Damaged, |record| Front::Record(record, size))
}

fn parse(body: &[u8]) -> Option<Record> {
    let topic_length = u16::from_le_bytes(number(body, 24)?) as usize;
    let topic = std::str::from_utf8(body.get(FIXED..FIXED + topic_length)?).ok()?;
    Some(Record {
        position: u64::from_le_bytes(number(body, 0)?),
        epoch: u64::from_le_bytes(number(body, 8)?),
        seq: u64::from_le_bytes(number(body, 16)?),
        topic: topic.into(),
        payload: body.get(FIXED + topic_length..)?.into(),
    })
}

/// What [`scan`] found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scan {
    /// Whole records, in order.
    pub records: Vec<Record>,
    /// Bytes up to the end of the last whole record.
    pub valid: usize,
    /// Damaged places between whole records.
    pub damaged: u64,
    /// Bytes needed to read on, where the bytes end within a record that began well; 0 otherwise.
    pub wanted: usize,
}

/// Reads all whole records in `bytes`, and skips damaged ones.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut at = 0;
    let mut skipping = false;
    while at < bytes.len() {
        match front(&bytes[at..]) {
            Front::Record(record, size) => {
                found.damaged += u64::from(skipping);
                skipping = false;
                found.records.push(record);
                at += size;
                found.valid = at;
                continue;
            }
            // A length may be damaged, too: only where nothing whole follows is this the torn end.
            Front::Cut(size) if !skipping => found.wanted = at + size,
            Front::Cut(_) | Front::Damaged => {}
        }
        skipping = true;
        let next = bytes[at + 1..].windows(4).position(|four| four == MAGIC);
        match next {
            Some(distance) => at += 1 + distance,
            None => break,
        }
    }
    if !skipping || found.wanted < found.valid {
        found.wanted = 0;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(position: u64, size: usize) -> Record {
        let payload = vec![b'x'; size].into();
        Record { position, epoch: 3, seq: position + 10, topic: "watchpost/b/events/é".into(), payload }
    }

    fn bytes(records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|record| record.write(&mut out));
        out
    }

    #[test]
    fn whole_records_come_back() {
        let records = [record(0, 0), record(1, 5), record(2, 70_000)];
        let written = bytes(&records);
        assert_eq!(written.len(), records.iter().map(Record::size).sum::<usize>());
        let found = scan(&written);
        assert_eq!((found.records.as_slice(), found.valid), (records.as_slice(), written.len()));
        assert_eq!((found.damaged, found.wanted), (0, 0));
    }

    #[test]
    fn a_torn_end_loses_only_the_torn_record_wherever_it_is_torn() {
        let records = [record(0, 40), record(1, 40)];
        let written = bytes(&records);
        for cut in records[0].size()..written.len() {
            let found = scan(&written[..cut]);
            assert_eq!(found.records, records[..1], "cut at {cut}");
            assert_eq!((found.valid, found.damaged), (records[0].size(), 0), "cut at {cut}");
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_loses_only_its_record() {
        let records = [record(0, 30), record(1, 30), record(2, 30)];
        let written = bytes(&records);
        let second = records[0].size()..records[0].size() + records[1].size();
        for at in second {
            for bit in 0..8 {
                let mut damaged = written.clone();
                damaged[at] ^= 1 << bit;
                let found = scan(&damaged);
                assert_eq!(found.records, [records[0].clone(), records[2].clone()], "byte {at} bit {bit}");
                assert_eq!((found.damaged, found.valid, found.wanted), (1, written.len(), 0));
            }
        }
    }

    #[test]
    fn a_part_of_a_large_record_says_how_much_it_wants() {
        let records = [record(0, 10), record(1, 5000)];
        let written = bytes(&records);
        assert_eq!(scan(&written[..1000]).wanted, written.len());
    }
}
