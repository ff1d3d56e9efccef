//! Crashes of the whole process, remembered: which source's decoder was it, and how often?
//!
//! In: what each source at work says through its [`Watch`]; the fatal signal. Out: a record under
//! `paths.state/crashes`, and at the next start a [`Verdict`] on each source: fit, or quarantined after the third
//! crash. `ledger.rs` has the rule. Owned by `app`. A folder that cannot be used is an error at the start; afterwards
//! nothing here fails but into the log.
//!
//! ```text
//!  thread of a source ─▶ Watch::enter, inside ─▶ mark (signal.rs) ─╮
//!  packet, decoder    ─▶ Watch ─▶ slot (table.rs) ─▶ SIGSEGV ... ──┴▶ crashes/record ─▶ next start:
//!                                                   (signal.rs, record.rs)   crashes/ledger.json ─▶ verdict
//! ```
//!
//! Only the address's hash goes to disk, and what is hashed is the address as it is shown, without credentials: a new
//! password is no new source.

mod ledger;
mod record;
mod signal;
mod table;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use sha2::{Digest, Sha256};

pub use ledger::{Quarantine, STRIKES, Verdict};
pub use record::{Crash, Culprit};
pub use signal::{blameless, pardon};

use ledger::Ledger;

/// Decoding for so long clears a source.
const HEALTHY: Duration = Duration::from_secs(3600);
/// How often it is looked how long sources have decoded.
const LOOK: Duration = Duration::from_secs(60);
/// Bytes set aside for the record: a full disk hides no crash.
const ROOM: u64 = 64 << 10;

/// What can go wrong with the memory of crashes.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The folder or a file in it.
    #[error("crashes cannot be remembered in {path}: {source}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The handler.
    #[error("fatal signals cannot be handled: {0}")]
    Handler(io::Error),
}

/// The memory of crashes, and the sources at work.
#[derive(Debug)]
pub struct Crashes {
    began: Instant,
    inner: Mutex<Inner>,
    /// That the table is full was said.
    full: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    live: Vec<Live>,
    looked: Duration,
}

/// A source that works, or did.
#[derive(Debug)]
struct Live {
    culprit: Culprit,
    watch: Weak<Watch>,
    /// How long it has decoded in this life of the daemon.
    decoded: Duration,
}

/// A source at work: what its threads say of themselves. Dropped when none of them is left.
#[derive(Debug)]
pub struct Watch {
    culprit: Culprit,
    slot: Option<usize>,
}

impl Crashes {
    /// Takes in what earlier lives left in `folder`, and gives their crashes that are new. From now on a crash of this
    /// process is recorded there. To be called before wasmtime's first engine, once a process.
    ///
    /// # Errors
    /// Where the folder cannot be used, or the handler cannot be installed.
    pub fn start(folder: &Path) -> Result<(Self, Vec<Crash>), CrashError> {
        let (crashes, new, record) = Self::open(folder)?;
        signal::install(record).map_err(CrashError::Handler)?;
        Ok((crashes, new))
    }

    /// A memory to which this process adds nothing, for jobs that run streams: it has no handler.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn without_handler(folder: &Path) -> Result<Self, CrashError> {
        Self::open(folder).map(|(crashes, ..)| crashes)
    }

    /// All of it but the handler, with the file that it would write to.
    fn open(folder: &Path) -> Result<(Self, Vec<Crash>, File), CrashError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CrashError::State { path, source }
        };
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join("record");
        // Appended to only by this process: another daemon on this state is refused by the control socket.
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut record = opened.map_err(at(&path))?;
        let mut content = Vec::new();
        record.read_to_end(&mut content).map_err(at(&path))?;
        let found = record::parse(&content);
        let nobodys: Vec<Crash> = found.iter().filter(|crash| crash.sources.is_empty()).cloned().collect();
        let book = folder.join("ledger.json");
        let mut ledger = Ledger::open(&book).map_err(at(&book))?;
        let mut new = ledger.take_in(found).map_err(at(&book))?;
        new.extend(nobodys);
        record.set_len(0).map_err(at(&path))?;
        // A file system that cannot set room aside is no reason to go without.
        let _ = fallocate(&record, FallocateFlags::KEEP_SIZE, 0, ROOM);
        let inner = Inner { ledger, live: Vec::new(), looked: Duration::ZERO };
        Ok((
            Self { began: Instant::now(), inner: Mutex::new(inner), full: AtomicBool::new(false) },
            new,
            record,
        ))
    }

    /// What is known of a stream's source; `address` as it is shown, without credentials.
    #[must_use]
    pub fn verdict(&self, stream: &str, address: &str) -> Verdict {
        match self.lock().ledger.verdict(&culprit(stream, address)) {
            // What is left of it.
            Verdict::Apart(delay) => Verdict::Apart(delay.saturating_sub(self.began.elapsed())),
            verdict => verdict,
        }
    }

    /// A source is about to begin its work.
    #[must_use]
    pub fn watch(&self, stream: &str, address: &str) -> Arc<Watch> {
        let culprit = culprit(stream, address);
        let slot = table::take().map(|(index, _)| index);
        if slot.is_none() && !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                stream,
                most = table::SLOTS,
                "too many sources: a crash of this one's decoder is blamed on nobody"
            );
        }
        let watch = Arc::new(Watch { culprit: culprit.clone(), slot });
        watch.decoding("");
        watch.idle();
        let mut inner = self.lock();
        match inner.live.iter_mut().find(|live| live.culprit == culprit) {
            // It has run before: what it decoded then counts.
            Some(live) => live.watch = Arc::downgrade(&watch),
            None => {
                let live = Live { culprit, watch: Arc::downgrade(&watch), decoded: Duration::ZERO };
                inner.live.push(live);
            }
        }
        drop(inner);
        watch
    }

    /// Clears all sources that a stream ever had. Gives whether one of them was quarantined.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn lift(&self, stream: &str) -> Result<bool, CrashError> {
        let mut inner = self.lock();
        let lifted = inner.ledger.lift(stream);
        lifted.map_err(|source| CrashError::State { path: inner.ledger.path().to_owned(), source })
    }

    /// Clears the sources that have decoded for long; to be called now and then.
    pub fn see_to(&self) {
        self.look(self.began.elapsed(), signal::now());
    }

    /// `elapsed` is since the start, `now` the monotonic clock in milliseconds.
    fn look(&self, elapsed: Duration, now: u64) {
        let mut inner = self.lock();
        let passed = elapsed.saturating_sub(inner.looked);
        if passed < LOOK {
            return;
        }
        inner.looked = elapsed;
        let Inner { ledger, live, .. } = &mut *inner;
        for Live { culprit, watch, decoded } in live {
            let slot = watch.upgrade().and_then(|watch| table::slot(watch.slot?));
            if !slot.is_some_and(|slot| slot.had_packets(now, LOOK.as_millis() as u64)) {
                continue;
            }
            *decoded += passed;
            if *decoded < HEALTHY || ledger.is_clean() {
                continue;
            }
            match ledger.clear(culprit) {
                Ok(true) => tracing::info!(stream = %culprit.stream,
                    "its source has decoded for an hour: its crashes are forgotten"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "crashes cannot be forgotten on disk"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// This thread begins to work for the source.
    pub fn enter(&self) {
        signal::enter(self.mark());
    }

    /// This thread works for nobody any more.
    pub fn leave(&self) {
        signal::enter(None);
    }

    /// This thread goes into the decoder: what it starts there are the decoder's threads.
    pub fn inside(&self) {
        signal::hand_down(self.mark());
    }

    /// This thread is before the decoder again.
    pub fn outside(&self) {
        if signal::hands_down() {
            signal::hand_down(None);
        }
    }

    fn mark(&self) -> Option<usize> {
        let index = self.slot?;
        table::slot(index).map(|slot| slot.mark(index))
    }

    /// A decoder was made.
    pub fn decoding(&self, decoder: &str) {
        let Some(slot) = self.slot.and_then(table::slot) else { return };
        let decoder = decoder.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(48).collect();
        let culprit = Culprit { decoder, ..self.culprit.clone() };
        slot.describe(&serde_json::to_vec(&culprit).unwrap_or_default());
        slot.begin(signal::now());
    }

    /// A packet is on its way to the decoder.
    pub fn packet(&self) {
        if let Some(slot) = self.slot.and_then(table::slot) {
            slot.packet(signal::now());
        }
    }

    /// There is no decoder any more, and no thread that works for the source.
    pub fn idle(&self) {
        if let Some(slot) = self.slot.and_then(table::slot) {
            slot.idle();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.and_then(table::slot) {
            slot.free();
        }
    }
}

fn culprit(stream: &str, address: &str) -> Culprit {
    let mut hash = Sha256::new();
    hash.update(stream.as_bytes());
    hash.update([0]);
    hash.update(address.as_bytes());
    let source = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Culprit { stream: stream.to_owned(), source, decoder: String::new() }
}

#[cfg(test)]
mod tests;
