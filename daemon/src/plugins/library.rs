//! The plugin files that there are: found, judged once for each content, and the winners of each name.
//!
//! In: the folders. Out: the catalogue that all streams use. Owned by the thread that watches the folders. A
//! file is judged when it has been still for a moment, so that one that is being written is left alone; what
//! it then says stays until it changes. A bad file never replaces a good one: the good one stays in use, and
//! the file's state says what is wrong. A file that is gone is missed for a moment, too: some tools remove the
//! old one before they write the new one. What cannot be read any more is not gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::folder::{self, FolderInfo, Look, Stamp, content, stamp};
use super::loaded::{self, Loaded};
use super::shared::{Catalogue, Shared};
use super::winners::{Candidate, Winners, log_changes};

/// After so much stillness a file that is not whole is no copy that goes on any more.
const STUCK: Duration = Duration::from_secs(10);
/// A file that is gone is missed for so many times the stillness after which one is read.
const MISSED: u32 = 5;

/// The plugin files.
pub(super) struct Library {
    shared: Arc<Shared>,
    folders: Vec<FolderInfo>,
    files: BTreeMap<PathBuf, Known>,
    /// Something about a folder was said already.
    looked: bool,
}

/// What is known of a file.
pub(super) struct Known {
    /// Which of the folders it lies in.
    pub rank: usize,
    pub good: Option<Arc<Loaded>>,
    pub error: Option<Error>,
    /// The file was judged as it is now.
    pub judged: bool,
    stamp: Stamp,
    /// When the file was first seen like this.
    since: Instant,
    /// Since when it is missed.
    gone: Option<Instant>,
    /// The error that was logged last, so that one and the same is not logged again and again.
    said: Option<String>,
}

/// What a scan found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Scan {
    /// The catalogue has changed.
    pub changed: bool,
    /// Some file was not yet still, or missed, for long enough.
    pub pending: bool,
}

impl Library {
    pub(super) fn new(shared: Arc<Shared>, folders: Vec<PathBuf>) -> Self {
        let folders =
            folders.into_iter().map(|folder| FolderInfo { folder, present: true, error: None }).collect();
        Self { shared, folders, files: BTreeMap::new(), looked: false }
    }

    /// Other folders from now on. What lies in them already is not being written: the next scan may judge it at once.
    pub(super) fn look_in(&mut self, folders: Vec<PathBuf>) {
        *self =
            Self { files: std::mem::take(&mut self.files), ..Self::new(Arc::clone(&self.shared), folders) };
    }

    /// Judges bad files once more: what they broke may be otherwise now.
    pub(super) fn again(&mut self) {
        for known in self.files.values_mut().filter(|known| known.error.is_some()) {
            known.judged = false;
        }
    }

    /// Looks at all folders, judges what has been still for `settle`, and brings the catalogue up to date.
    pub(super) fn scan(&mut self, settle: Duration) -> Scan {
        let mut scan = Scan::default();
        let (found, unreadable) = self.look(&mut scan);
        self.follow_renames(&found, &mut scan);
        self.forget_gone(&found, &unreadable, settle, &mut scan);
        let ready = self.due(&found, settle, &mut scan);
        for (path, verdict) in self.judge(&ready) {
            self.take(&path, verdict, &mut scan);
        }
        for (path, known) in &mut self.files {
            known.speak_up(path);
        }
        if scan.changed {
            self.publish();
        }
        scan
    }

    /// The files in the folders, each with its folder's rank, and the ranks of folders that cannot be read.
    fn look(&mut self, scan: &mut Scan) -> (BTreeMap<PathBuf, usize>, BTreeSet<usize>) {
        let (mut found, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        let first = !std::mem::replace(&mut self.looked, true);
        for (rank, info) in self.folders.iter_mut().enumerate() {
            let mut now = FolderInfo { folder: info.folder.clone(), present: true, error: None };
            match folder::look(&info.folder) {
                Look::Files(files) => found.extend(files.into_iter().map(|file| (file, rank))),
                Look::Missing => now.present = false,
                Look::Unreadable(error) => {
                    unreadable.insert(rank);
                    now.error = Some(error);
                }
            }
            if now == *info && !first {
                continue;
            }
            let path = now.folder.display();
            match (&now.error, now.present) {
                (Some(error), _) => {
                    tracing::error!(%path, "the plugin folder {path} cannot be read: {error}; what was loaded from it stays in use");
                }
                (None, false) => {
                    tracing::info!(%path, "the plugin folder {path} is not there; it is looked for");
                }
                (None, true) if !first => tracing::info!(%path, "the plugin folder {path} can be read"),
                (None, true) => {}
            }
            *info = now;
            scan.changed = true;
        }
        (found, unreadable)
    }

    /// A file that is gone from one name and there under another is the same plugin all along, also where it
    /// took the place of another.
    fn follow_renames(&mut self, found: &BTreeMap<PathBuf, usize>, scan: &mut Scan) {
        let gone: Vec<_> = self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for old in gone {
            let Some(known) = self.files.get(&old) else { continue };
            let was = content(known.stamp);
            let moved = |path: &Path| {
                let replaced = self.files.get(path);
                was.is_some()
                    && content(stamp(path)) == was
                    // What is good comes along over another file; what is bad must not push out what is good.
                    && replaced.is_none_or(|there| content(there.stamp) != was && known.error.is_none())
            };
            let Some((new, rank)) = found.iter().find(|(path, _)| moved(path)) else { continue };
            let Some(mut known) = self.files.remove(&old) else { continue };
            (known.stamp, known.rank, known.gone) = (stamp(new), *rank, None);
            scan.changed |= known.judged;
            self.files.insert(new.clone(), known);
        }
    }

    fn forget_gone(
        &mut self,
        found: &BTreeMap<PathBuf, usize>,
        unreadable: &BTreeSet<usize>,
        settle: Duration,
        scan: &mut Scan,
    ) {
        self.files.retain(|path, known| {
            if found.contains_key(path) || unreadable.contains(&known.rank) {
                known.gone = None;
                return true;
            }
            let since = *known.gone.get_or_insert_with(Instant::now);
            if since.elapsed() < settle * MISSED {
                scan.pending = true;
                return true;
            }
            let plugin = known.good.as_ref().map(|good| good.descriptor.name.as_str());
            tracing::info!(path = %path.display(), plugin, "a plugin's file is gone");
            scan.changed = true;
            false
        });
    }

    /// The files that have been still for long enough.
    fn due(&mut self, found: &BTreeMap<PathBuf, usize>, settle: Duration, scan: &mut Scan) -> Vec<PathBuf> {
        let mut ready = Vec::new();
        for (path, rank) in found {
            let stamp = stamp(path);
            let known = self.files.entry(path.clone()).or_insert_with(|| Known {
                rank: *rank,
                stamp,
                since: Instant::now(),
                judged: false,
                gone: None,
                good: None,
                error: None,
                said: None,
            });
            // The folders may have changed their places.
            known.rank = *rank;
            if known.stamp != stamp {
                (known.stamp, known.since, known.judged) = (stamp, Instant::now(), false);
            }
            if !known.judged && known.since.elapsed() >= settle {
                ready.push(path.clone());
            } else {
                scan.pending |= !known.judged;
            }
        }
        ready
    }

    /// Reads and checks files, as many at once as there are cores: each compiles in a process with one thread.
    fn judge(&self, paths: &[PathBuf]) -> Vec<(PathBuf, Result<Arc<Loaded>, Error>)> {
        let one = |path: &PathBuf| (path.clone(), self.verdict(path));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if paths.len() < 2 || cores < 2 {
            return paths.iter().map(one).collect();
        }
        std::thread::scope(|scope| {
            let share = paths.len().div_ceil(cores);
            let workers: Vec<_> = paths
                .chunks(share)
                .map(|part| scope.spawn(|| part.iter().map(one).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
        })
    }

    fn verdict(&self, path: &Path) -> Result<Arc<Loaded>, Error> {
        let bytes = loaded::read(path, self.shared.limits.get().0.file_mib)?;
        if let Some(missing) = folder::cut_off(&bytes) {
            return Err(Error::NotWhole { file: path.to_owned(), missing });
        }
        if let Some(good) = self.files.get(path).and_then(|known| known.good.as_ref())
            && good.hash == loaded::hash(&bytes)
        {
            return Ok(Arc::clone(good));
        }
        Loaded::new(&self.shared, path, &bytes).map(Arc::new)
    }

    fn take(&mut self, path: &Path, verdict: Result<Arc<Loaded>, Error>, scan: &mut Scan) {
        let Some(known) = self.files.get_mut(path) else { return };
        if stamp(path) != known.stamp {
            // It changed while it was read.
            scan.pending = true;
            return;
        }
        known.judged = true;
        scan.changed = true;
        match verdict {
            Ok(good) => {
                let descriptor = &good.descriptor;
                let same = known.good.as_ref().is_some_and(|old| old.hash == good.hash);
                if !same || known.said.is_some() {
                    tracing::info!(path = %path.display(), plugin = descriptor.name, version = descriptor.version, "loaded a plugin");
                }
                (known.good, known.error, known.said) = (Some(good), None, None);
            }
            Err(error) => known.error = Some(error),
        }
    }

    /// Makes what is known the catalogue that everybody sees.
    fn publish(&mut self) {
        let good = self.files.iter().filter_map(|(path, known)| Candidate::of(path, known));
        let winners = Winners::among(good);
        let last = self.folders.len().saturating_sub(1);
        // A file that nobody has looked at yet is no news.
        let looked = self.files.iter().filter(|(_, known)| known.judged || known.good.is_some());
        let infos: Vec<_> = looked.map(|(path, known)| winners.info(path, known, last)).collect();
        let catalogue = Catalogue { plugins: winners.plugins(), infos, folders: self.folders.clone() };
        let mut current = self.shared.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        log_changes(&current, &catalogue);
        *current = catalogue;
    }
}

impl Known {
    /// Logs what is wrong with the file, once. A file that is not whole may be on its way: nothing is wrong until it has
    /// been still for long.
    fn speak_up(&mut self, path: &Path) {
        let Some(error) = self.error.as_ref().filter(|_| self.judged) else { return };
        if error.may_pass() && self.since.elapsed() < STUCK {
            return;
        }
        let text = error.to_string();
        if self.said.as_ref() == Some(&text) {
            return;
        }
        let kept =
            if self.good.is_some() { "; the plugin that was loaded from it before stays in use" } else { "" };
        tracing::error!(path = %path.display(), "{text}{kept}");
        self.said = Some(text);
    }
}
