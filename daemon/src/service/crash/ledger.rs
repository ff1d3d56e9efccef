//! The crashes that are remembered, and the rule by which a source is quarantined.
//!
//! In: the crashes of earlier lives; what was cleared or lifted. Out: who is quarantined, and who has to start apart
//! from the others; a file of JSON, replaced as a whole. Owned by [`super::Crashes`]. A disk that fails is an error; a
//! file that makes no sense is put aside, and forgotten: three more crashes are better than a box that does not start.
//!
//! # The rule
//!
//! - **Certain**: the thread that crashed worked for one source. The third such crash quarantines it.
//! - **Suspected**: the thread is nobody's. Those whose decoder was in its first ten seconds are suspects; where none
//!   was, those whose decoder was given a packet within the last fifth of a second. Suspicion alone quarantines only a
//!   source that is named by each of the last three crashes, and only where it is the one source of which that is true:
//!   of twenty streams that start together, none is punished for being there.
//! - Where several are named by each of the last three, nobody is quarantined; from the next start on they begin one
//!   after the other, ten seconds apart, so that the next crash finds one of them in its first seconds, alone.
//! - A source that decodes for an hour, added up over one life of the daemon, is cleared: it is named by no crash any
//!   more. One that is quarantined decodes nothing, so it stays so until its address changes or somebody lifts it.
//! - Crashes that a quarantine explains are taken out: they speak against nobody else.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Crash, Culprit};
use super::table::YOUNG;
use crate::durable;

/// Crashes that quarantine a source.
pub const STRIKES: usize = 3;
/// Crashes that are remembered at most; the oldest go first.
const CRASHES: usize = 64;
/// Sources that are remembered as quarantined at most; the oldest go first.
const QUARANTINED: usize = 1024;

/// A source that is not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Which.
    pub culprit: Culprit,
    /// The crashes, oldest first.
    pub crashes: Vec<Crash>,
}

/// What a stream is to know before its source starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may start; so many crashes name it.
    Fit(usize),
    /// It may start so long after the daemon: several are suspected together.
    Apart(Duration),
    /// It is not started.
    Quarantined(Quarantine),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    crashes: Vec<Crash>,
    quarantined: Vec<Quarantine>,
}

/// The book and its file.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    book: Book,
    /// Who starts how long after the daemon.
    apart: BTreeMap<(String, String), Duration>,
}

impl Culprit {
    fn key(&self) -> (String, String) {
        (self.stream.clone(), self.source.clone())
    }

    /// Whether both are the same source of the same stream.
    fn is(&self, other: &Self) -> bool {
        self.stream == other.stream && self.source == other.source
    }
}

impl Crash {
    fn names(&self, culprit: &Culprit) -> bool {
        self.sources.iter().any(|source| source.is(culprit))
    }
}

impl Ledger {
    /// Reads the book; an empty one where there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let book = match std::fs::read(path) {
            Ok(content) => match serde_json::from_slice(&content) {
                Ok(book) => book,
                Err(error) => {
                    let aside = path.with_extension("spoiled");
                    tracing::error!(path = %aside.display(), %error, "the book of crashes makes no sense; it is put aside, and none is remembered");
                    std::fs::rename(path, aside)?;
                    Book::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), book, apart: BTreeMap::new() })
    }

    /// Takes in the crashes of earlier lives, each once; gives those that blame somebody and are new.
    pub(super) fn take_in(&mut self, found: Vec<Crash>) -> io::Result<Vec<Crash>> {
        let known = |book: &Book, at| {
            let of_quarantined = book.quarantined.iter().flat_map(|quarantine| &quarantine.crashes);
            book.crashes.iter().chain(of_quarantined).any(|crash| crash.at == at)
        };
        let mut new = Vec::new();
        for crash in found {
            // A second reading, after a power cut between writing the book and emptying the record.
            if crash.sources.is_empty() || known(&self.book, crash.at) {
                continue;
            }
            new.push(crash.clone());
            self.book.crashes.push(crash);
            let excess = self.book.crashes.len().saturating_sub(CRASHES);
            self.book.crashes.drain(..excess);
            self.judge();
        }
        let together = self.book.common();
        if together.len() > 1 {
            let step = Duration::from_millis(YOUNG);
            let apart = together.iter().zip(0u32..);
            self.apart = apart.map(|(culprit, place)| (culprit.key(), step * place)).collect();
        }
        if !new.is_empty() {
            self.save()?;
        }
        Ok(new)
    }

    /// Quarantines whom the newest crash gives the third strike.
    fn judge(&mut self) {
        let Some(newest) = self.book.crashes.last() else { return };
        let mut guilty = None;
        if newest.certain
            && let Some(culprit) = newest.sources.first()
        {
            let strikes = self.book.crashes.iter().filter(|crash| crash.certain && crash.names(culprit));
            guilty = (strikes.count() >= STRIKES).then(|| culprit.clone());
        }
        let common = self.book.common();
        if let [alone] = common.as_slice() {
            guilty.get_or_insert_with(|| alone.clone());
        }
        let Some(culprit) = guilty else { return };
        let (crashes, others) =
            std::mem::take(&mut self.book.crashes).into_iter().partition(|crash| crash.names(&culprit));
        self.book.crashes = others;
        self.book.quarantined.retain(|old| !old.culprit.is(&culprit));
        self.book.quarantined.push(Quarantine { culprit, crashes });
        let excess = self.book.quarantined.len().saturating_sub(QUARANTINED);
        self.book.quarantined.drain(..excess);
    }

    /// What is known of a source.
    pub(super) fn verdict(&self, culprit: &Culprit) -> Verdict {
        if let Some(found) = self.book.quarantined.iter().find(|old| old.culprit.is(culprit)) {
            return Verdict::Quarantined(found.clone());
        }
        match self.apart.get(&culprit.key()) {
            Some(delay) => Verdict::Apart(*delay),
            None => Verdict::Fit(self.book.crashes.iter().filter(|crash| crash.names(culprit)).count()),
        }
    }

    /// Clears a source: no crash names it any more. Gives whether one did.
    pub(super) fn clear(&mut self, culprit: &Culprit) -> io::Result<bool> {
        self.forget(|found| found.is(culprit))
    }

    /// Clears all sources that a stream ever had, also quarantined ones. Gives whether one was.
    pub(super) fn lift(&mut self, stream: &str) -> io::Result<bool> {
        let before = self.book.quarantined.len();
        self.forget(|found| found.stream == stream)?;
        Ok(self.book.quarantined.len() < before)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no crash is remembered of a source that may start.
    pub(super) fn is_clean(&self) -> bool {
        self.book.crashes.is_empty()
    }

    fn forget(&mut self, which: impl Fn(&Culprit) -> bool) -> io::Result<bool> {
        let entries = |book: &Book| {
            book.quarantined.len() + book.crashes.iter().map(|crash| crash.sources.len()).sum::<usize>()
        };
        let before = entries(&self.book);
        self.book.quarantined.retain(|old| !which(&old.culprit));
        for crash in &mut self.book.crashes {
            crash.sources.retain(|source| !which(source));
        }
        self.book.crashes.retain(|crash| !crash.sources.is_empty());
        self.apart.retain(|(stream, source), _| {
            !which(&Culprit { stream: stream.clone(), source: source.clone(), decoder: String::new() })
        });
        let changed = entries(&self.book) != before;
        if changed {
            self.save()?;
        }
        Ok(changed)
    }

    /// Replaces the file; after a power cut the old or the new one is there.
    fn save(&self) -> io::Result<()> {
        let mut book = serde_json::to_vec_pretty(&self.book)?;
        book.push(b'\n');
        durable::replace(&self.path, &book, durable::Readers::None)
    }
}

impl Book {
    /// The sources that each of the last three crashes names; none where there are fewer.
    fn common(&self) -> Vec<Culprit> {
        let Some(from) = self.crashes.len().checked_sub(STRIKES) else { return Vec::new() };
        let last = &self.crashes[from..];
        let [first, others @ ..] = last else { return Vec::new() };
        let in_all = |culprit: &&Culprit| others.iter().all(|crash| crash.names(culprit));
        first.sources.iter().filter(in_all).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
