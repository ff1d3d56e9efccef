//! The outbox's records on disk: append-only segment files, a cursor that reads them, a mark up to which
//! they are acknowledged.
//!
//! In: batches of records to append, acknowledgements. Out: records in order from the cursor. Owned by the
//! outbox's thread; all disk input and output of the outbox is here. Files that end in the middle of a
//! record are cut back, damaged records are skipped and counted. A disk that is full or fails: records stay
//! in memory, bounded, and go to disk as soon as it takes them again. Over its limit the oldest go first.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::record::{LARGEST, Record, scan};

/// Bytes of records kept in memory while the disk takes none.
const MEMORY_BYTES: usize = 8 << 20;
/// Bytes read from a segment at a time.
const CHUNK: usize = 1 << 20;
/// How long the disk is left alone after it failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    last: u64,
    bytes: u64,
}

/// Where in a segment the cursor is, so that reading on does not start over.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    limit: u64,
    segments: VecDeque<Segment>,
    /// The newest segment's file, where it may still grow.
    active: Option<File>,
    /// After all of `segments`: what the disk did not take.
    memory: VecDeque<Record>,
    memory_bytes: usize,
    /// The records appended last, so that a receiver that keeps up costs no reading.
    recent: Vec<Record>,
    next: u64,
    cursor: u64,
    place: Option<Place>,
    /// Ranges dropped unsent since the last rewind; they are in `dropped` already.
    counted: Vec<(u64, u64)>,
    /// Everything before it is acknowledged.
    acked: u64,
    acked_file: Option<File>,
    acked_stored: u64,
    failed: Option<(String, Instant)>,
    /// False: the folder could not be read, so nothing is written there before the next start.
    usable: bool,
    /// Records synced to disk.
    pub durable: u64,
    /// Records dropped unsent.
    pub dropped: u64,
    /// Damaged places found.
    pub corrupt: u64,
}

impl Store {
    /// Opens the folder, makes it where there is none, and reads what an earlier start left. Never fails:
    /// without a usable folder everything stays in memory, and [`Store::error`] says why.
    pub fn open(folder: &Path, limit: u64) -> Self {
        let mut store = Self {
            folder: folder.to_owned(),
            limit,
            segments: VecDeque::new(),
            active: None,
            memory: VecDeque::new(),
            memory_bytes: 0,
            recent: Vec::new(),
            next: 0,
            cursor: 0,
            place: None,
            counted: Vec::new(),
            acked: 0,
            acked_file: None,
            acked_stored: 0,
            failed: None,
            usable: true,
            durable: 0,
            dropped: 0,
            corrupt: 0,
        };
        if let Err(error) = store.recover() {
            store.usable = false;
            store.fail(&format!("cannot open {}: {error}; set right, then restart", folder.display()));
        }
        store
    }

    fn recover(&mut self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.folder.join("acked");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = [0; 12];
        if file.read_exact_at(&mut bytes, 0).is_ok() {
            let (mark, crc) = bytes.split_at(8);
            if crc32fast::hash(mark).to_le_bytes() == crc {
                self.acked = u64::from_le_bytes(mark.try_into().unwrap_or_default());
            }
        }
        self.acked_file = Some(file);
        self.acked_stored = self.acked;
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            self.recover_segment(path)?;
        }
        self.next = self.segments.back().map_or(0, |segment| segment.last + 1).max(self.acked);
        // What is missing before the oldest record was dropped or damaged, and counted, at its time.
        self.acked = self.acked.max(self.segments.front().map_or(self.next, |segment| segment.first));
        self.cursor = self.acked;
        self.forget_acked();
        Ok(())
    }

    fn recover_segment(&mut self, path: PathBuf) -> io::Result<()> {
        let bytes = std::fs::read(&path)?;
        let found = scan(&bytes);
        self.corrupt += found.damaged;
        if found.valid < bytes.len() {
            tracing::warn!(
                path = %path.display(), bytes = bytes.len() - found.valid,
                "the outbox's file ends in the middle of a record; cut back to the last whole one"
            );
            OpenOptions::new().write(true).open(&path)?.set_len(found.valid as u64)?;
        }
        if found.damaged > 0 {
            tracing::error!(
                path = %path.display(), records = found.damaged,
                "the outbox's file is damaged; skipped to the next whole record"
            );
        }
        let newest = self.segments.back().map(|segment| segment.last);
        match (found.records.first(), found.records.last()) {
            (Some(first), Some(last)) if newest.is_none_or(|newest| newest < last.position) => {
                let first = newest.map_or(first.position, |newest| first.position.max(newest + 1));
                let last = last.position;
                self.segments.push_back(Segment { path, first, last, bytes: found.valid as u64 });
                Ok(())
            }
            // Nothing whole in it, or nothing that an earlier file does not have.
            _ => std::fs::remove_file(&path),
        }
    }

    /// Keeps at most `bytes` on disk from now on.
    pub fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
        self.bound_disk();
    }

    /// Gives each record its position and makes all durable with one sync; in memory where the disk fails.
    pub fn append(&mut self, records: Vec<Record>) {
        let mut batch = Vec::with_capacity(records.len());
        for mut record in records {
            if record.size() > LARGEST || record.size() as u64 > self.limit {
                self.dropped += 1;
                tracing::error!(
                    topic = &*record.topic,
                    bytes = record.size(),
                    limit = self.limit,
                    "an event is larger than mqtt.outbox_bytes allows; dropped"
                );
                continue;
            }
            record.position = self.next;
            self.next += 1;
            batch.push(record);
        }
        self.memory_bytes += batch.iter().map(Record::size).sum::<usize>();
        self.memory.extend(batch);
        self.store_memory();
    }

    /// Moves what is in memory to disk, where the disk takes it.
    pub fn store_memory(&mut self) {
        let resting = self.failed.as_ref().is_some_and(|(_, when)| when.elapsed() < RETRY);
        if self.memory.is_empty() || resting || !self.usable {
            self.bound_memory();
            return;
        }
        while !self.memory.is_empty() {
            match self.store_some() {
                Ok(()) if self.failed.is_some() => {
                    self.failed = None;
                    tracing::info!("the outbox's disk works again; events are durable");
                }
                Ok(()) => {}
                Err(error) => {
                    self.active = None;
                    self.fail(&format!("cannot write to {}: {error}", self.folder.display()));
                    self.bound_memory();
                    return;
                }
            }
        }
        self.bound_disk();
    }

    /// Appends as many records as fit the active segment, and syncs it.
    fn store_some(&mut self) -> io::Result<()> {
        let size = (self.limit / 8).clamp(1, 8 << 20);
        if self.segments.back().is_some_and(|segment| segment.bytes >= size) {
            self.active = None;
        }
        let Some(first) = self.memory.front().map(|record| record.position) else { return Ok(()) };
        if self.active.is_none() {
            let path = self.folder.join(format!("{first:020}.seg"));
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            File::open(&self.folder)?.sync_all()?;
            self.active = Some(file);
            self.segments.push_back(Segment { path, first, last: first, bytes: 0 });
        }
        let (Some(file), Some(segment)) = (&self.active, self.segments.back_mut()) else { return Ok(()) };
        let mut bytes = Vec::new();
        let mut count = 0;
        for record in &self.memory {
            if count > 0 && segment.bytes + bytes.len() as u64 >= size {
                break;
            }
            record.write(&mut bytes);
            count += 1;
        }
        let written = file.write_all_at(&bytes, segment.bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Whatever part of it is in the file must not come back beside the copy in memory.
            let _ = file.set_len(segment.bytes);
            if segment.bytes == 0 {
                let _ = std::fs::remove_file(&segment.path);
                self.segments.pop_back();
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        segment.last = self.memory[count - 1].position;
        self.memory_bytes -= bytes.len();
        self.durable += count as u64;
        self.recent = self.memory.drain(..count).collect();
        Ok(())
    }

    fn bound_memory(&mut self) {
        while self.memory_bytes > MEMORY_BYTES
            && let Some(record) = self.memory.pop_front()
        {
            self.memory_bytes -= record.size();
            // One before the cursor is on its way; `rewind` counts it should it not arrive.
            self.dropped += u64::from(record.position >= self.cursor);
        }
    }

    fn bound_disk(&mut self) {
        while self.bytes() > self.limit
            && let Some(segment) = self.segments.pop_front()
        {
            if self.segments.is_empty() {
                self.active = None;
            }
            let _ = std::fs::remove_file(&segment.path);
            // Those before the cursor are on their way; `rewind` counts them should they not arrive.
            let (first, end) = (segment.first.max(self.cursor), segment.last + 1);
            let unsent = end.saturating_sub(first);
            self.cursor = self.cursor.max(end);
            if unsent > 0 {
                self.dropped += unsent;
                self.counted.push((first, end));
                tracing::warn!(
                    events = unsent,
                    "the outbox is full (mqtt.outbox_bytes); oldest events dropped"
                );
            }
        }
    }

    /// Records from the cursor on, at most about `bytes` of them, and moves the cursor behind them.
    pub fn read(&mut self, bytes: usize) -> Vec<Record> {
        let mut out: Vec<Record> = Vec::new();
        let mut size = 0;
        while size < bytes && self.cursor < self.next {
            let more = self.read_some(bytes - size);
            if more.is_empty() {
                break;
            }
            size += more.iter().map(Record::size).sum::<usize>();
            out.extend(more);
        }
        out
    }

    fn read_some(&mut self, bytes: usize) -> Vec<Record> {
        let cursor = self.cursor;
        let in_memory = |records: &mut dyn Iterator<Item = &Record>| {
            let mut size = 0;
            let fits = |record: &&Record| {
                size += record.size();
                size <= bytes || size == record.size()
            };
            records.filter(|record| record.position >= cursor).take_while(fits).cloned().collect::<Vec<_>>()
        };
        let recent = self.recent.first().is_some_and(|first| first.position <= cursor);
        let mut found = if recent { in_memory(&mut self.recent.iter()) } else { Vec::new() };
        if found.is_empty() {
            found = self.read_disk();
        }
        if found.is_empty() {
            found = in_memory(&mut self.memory.iter());
        }
        if let Some(last) = found.last() {
            self.cursor = last.position + 1;
        }
        found
    }

    fn read_disk(&mut self) -> Vec<Record> {
        loop {
            let cursor = self.cursor;
            let Some(segment) = self.segments.iter().find(|segment| segment.last >= cursor) else {
                return Vec::new();
            };
            let offset = match self.place {
                Some(place) if place.segment == segment.first => place.offset,
                _ => 0,
            };
            let last = segment.last;
            match read_chunk(segment, offset) {
                Ok((records, read)) => {
                    self.place = Some(Place { segment: segment.first, offset: offset + read });
                    let records: Vec<_> = records.into_iter().filter(|r| r.position >= cursor).collect();
                    if !records.is_empty() {
                        return records;
                    }
                    if read > 0 {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::error!(
                        path = %segment.path.display(), %error,
                        "cannot read the outbox's file; its events are lost"
                    );
                }
            }
            self.corrupt += 1;
            self.cursor = last + 1;
        }
    }

    /// Back to the oldest record that is not acknowledged: the connection is gone, and what was under way
    /// may not have arrived.
    pub fn rewind(&mut self) {
        let available = self.oldest().max(self.acked);
        let lost = available.min(self.cursor).saturating_sub(self.acked);
        let counted = self.counted.drain(..).map(|(first, end)| end.saturating_sub(first.max(self.acked)));
        self.dropped += lost.saturating_sub(counted.sum());
        self.acked = available;
        self.cursor = available;
        self.place = None;
    }

    /// The oldest record still kept.
    fn oldest(&self) -> u64 {
        let on_disk = self.segments.front().map(|segment| segment.first);
        on_disk.or_else(|| self.memory.front().map(|record| record.position)).unwrap_or(self.next)
    }

    /// Everything before `position` has arrived.
    pub fn ack(&mut self, position: u64) {
        if position > self.acked {
            self.acked = position.min(self.next);
            self.forget_acked();
        }
    }

    fn forget_acked(&mut self) {
        while self.segments.front().is_some_and(|segment| segment.last < self.acked)
            && (self.segments.len() > 1 || self.active.is_none())
        {
            if let Some(segment) = self.segments.pop_front() {
                let _ = std::fs::remove_file(&segment.path);
            }
        }
        while self.memory.front().is_some_and(|record| record.position < self.acked) {
            self.memory_bytes -= self.memory.pop_front().map_or(0, |record| record.size());
        }
    }

    /// Writes the mark down. Not synced: an older one only means that some records are sent twice.
    pub fn store_acked(&mut self) {
        if self.acked == self.acked_stored {
            return;
        }
        if let Some(file) = &self.acked_file {
            let mark = self.acked.to_le_bytes();
            let bytes = [mark.as_slice(), &crc32fast::hash(&mark).to_le_bytes()].concat();
            if file.write_all_at(&bytes, 0).is_ok() {
                self.acked_stored = self.acked;
            }
        }
    }

    fn fail(&mut self, error: &str) {
        if self.failed.is_none() {
            tracing::error!(error, "the outbox's disk fails; events are kept in memory only");
        }
        self.failed = Some((error.to_owned(), Instant::now()));
    }

    /// Why records are kept in memory only; `None` while the disk takes them.
    pub fn error(&self) -> Option<&str> {
        self.failed.as_ref().map(|(error, _)| error.as_str())
    }

    /// Whether some records are waiting for the disk to work again.
    pub fn waits_for_disk(&self) -> bool {
        self.usable && !self.memory.is_empty()
    }

    /// Everything before it is acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Records that are not acknowledged.
    pub fn pending(&self) -> u64 {
        self.next - self.acked.max(self.oldest())
    }

    /// Whether there is something behind the cursor.
    pub fn has_more(&self) -> bool {
        self.cursor < self.next
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Records of a segment from `offset` on, and how many bytes they take.
fn read_chunk(segment: &Segment, offset: u64) -> io::Result<(Vec<Record>, u64)> {
    let file = File::open(&segment.path)?;
    let rest = segment.bytes.saturating_sub(offset) as usize;
    let mut wanted = CHUNK.min(rest);
    loop {
        let mut bytes = vec![0; wanted];
        file.read_exact_at(&mut bytes, offset)?;
        let found = scan(&bytes);
        if found.records.is_empty() && wanted < rest {
            wanted = found.wanted.max(wanted * 2).min(rest);
            continue;
        }
        return Ok((found.records, if wanted == rest { rest } else { found.valid } as u64));
    }
}
