//! The plugin files that there are: found, judged once for each content, and the winners of each name.
//!
//! In: the folders. Out: the catalogue that all streams use. Owned by the thread that watches the folders. A
//! file is judged when it has been still for a moment, so that one that is being written is left alone; what
//! it then says stays until it changes. A bad file never replaces a good one: the good one stays in use, and
//! the file's state says what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::loaded::{self, Loaded};
use super::shared::{Catalogue, Shared};
use super::status::{PluginInfo, PluginState};

/// The plugin files.
pub(super) struct Library {
    shared: Arc<Shared>,
    folders: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Known>,
    /// This scan found a file under another name.
    renamed: bool,
}

/// What is known of a file.
struct Known {
    stamp: Stamp,
    /// When the file was first seen like this.
    since: Instant,
    /// The file was judged as it is now.
    judged: bool,
    good: Option<Arc<Loaded>>,
    error: Option<Error>,
}

/// Tells one content of a file from another; `None`: it cannot be looked at.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64, u32)>;

/// What a scan found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Scan {
    /// The catalogue has changed.
    pub changed: bool,
    /// Some file was not yet still for long enough.
    pub pending: bool,
}

impl Library {
    pub(super) fn new(shared: Arc<Shared>, folders: Vec<PathBuf>) -> Self {
        Self { shared, folders, files: BTreeMap::new(), renamed: false }
    }

    /// Other folders from now on. What lies in them already is not being written: the next scan may judge it at once.
    pub(super) fn look_in(&mut self, folders: Vec<PathBuf>) {
        self.folders = folders;
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
        self.renamed = false;
        let found: BTreeSet<PathBuf> = self.folders.iter().flat_map(|folder| plugin_files(folder)).collect();
        self.follow_renames(&found);
        self.files.retain(|path, known| {
            let stays = found.contains(path);
            if !stays {
                tracing::info!(path = %path.display(), plugin = known.good.as_ref().map(|good| good.descriptor.name.as_str()),
                    "a plugin's file is gone");
                scan.changed = true;
            }
            stays
        });
        scan.changed |= self.renamed;
        let mut ready = Vec::new();
        for path in found {
            let stamp = stamp(&path);
            let known = self.files.entry(path.clone()).or_insert_with(|| Known {
                stamp,
                since: Instant::now(),
                judged: false,
                good: None,
                error: None,
            });
            if known.stamp != stamp {
                (known.stamp, known.since, known.judged) = (stamp, Instant::now(), false);
            }
            if !known.judged && known.since.elapsed() >= settle {
                ready.push(path);
            } else {
                scan.pending |= !known.judged;
            }
        }
        for (path, verdict) in self.judge(&ready) {
            let Some(known) = self.files.get_mut(&path) else { continue };
            if stamp(&path) != known.stamp {
                // It changed while it was read.
                scan.pending = true;
                continue;
            }
            known.judged = true;
            scan.changed = true;
            match verdict {
                Ok(good) => {
                    let descriptor = &good.descriptor;
                    tracing::info!(path = %path.display(), plugin = descriptor.name, version = descriptor.version, "loaded a plugin");
                    (known.good, known.error) = (Some(good), None);
                }
                Err(error) => {
                    let kept = known.good.is_some();
                    let kept =
                        if kept { "; the plugin that was loaded from it before stays in use" } else { "" };
                    tracing::error!(path = %path.display(), "{error}{kept}");
                    known.error = Some(error);
                }
            }
        }
        if scan.changed {
            let catalogue = self.catalogue();
            *self.shared.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
        }
        scan
    }

    /// A file that is gone from one name and there under another is the same plugin all along.
    fn follow_renames(&mut self, found: &BTreeSet<PathBuf>) {
        let same =
            |stamp: Stamp| stamp.map(|(dev, ino, size, mtime, nanos, ..)| (dev, ino, size, mtime, nanos));
        let gone: Vec<_> = self.files.keys().filter(|path| !found.contains(*path)).cloned().collect();
        for old in gone {
            let was = self.files.get(&old).and_then(|known| same(known.stamp));
            let new = found
                .iter()
                .find(|new| was.is_some() && !self.files.contains_key(*new) && same(stamp(new)) == was);
            if let (Some(new), Some(mut known)) = (new, new.and_then(|_| self.files.remove(&old))) {
                known.stamp = stamp(new);
                self.renamed |= known.judged;
                self.files.insert(new.clone(), known);
            }
        }
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
        if let Some(good) = self.files.get(path).and_then(|known| known.good.as_ref())
            && good.hash == loaded::hash(&bytes)
        {
            return Ok(Arc::clone(good));
        }
        Loaded::new(&self.shared, path, &bytes).map(Arc::new)
    }

    /// Of each name the winner: a later folder before an earlier one, in one folder the first by file name.
    fn catalogue(&self) -> Catalogue {
        let mut winners: BTreeMap<String, (usize, Arc<Loaded>)> = BTreeMap::new();
        let rank =
            |path: &Path| self.folders.iter().rposition(|folder| path.parent() == Some(folder)).unwrap_or(0);
        for (path, known) in &self.files {
            let Some(good) = &known.good else { continue };
            let (name, rank) = (&good.descriptor.name, rank(path));
            if winners.get(name).is_none_or(|(best, _)| rank > *best) {
                winners.insert(name.clone(), (rank, Arc::clone(good)));
            }
        }
        // A file that nobody has looked at yet is no news.
        let looked = self.files.iter().filter(|(_, known)| known.judged || known.good.is_some());
        let infos = looked.map(|(path, known)| info(path, known, &winners)).collect();
        Catalogue { plugins: winners.into_iter().map(|(name, (_, good))| (name, good)).collect(), infos }
    }
}

fn info(path: &Path, known: &Known, winners: &BTreeMap<String, (usize, Arc<Loaded>)>) -> PluginInfo {
    let mut error = known.error.as_ref().map(ToString::to_string);
    let Some(good) = &known.good else {
        return PluginInfo {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            version: String::new(),
            summary: String::new(),
            file: path.to_owned(),
            hash: String::new(),
            state: PluginState::Bad,
            error,
            events: Vec::new(),
            states: Vec::new(),
            cameras: Vec::new(),
            commands: Vec::new(),
            config_schema: serde_json::Value::Bool(true),
        };
    };
    let descriptor = &good.descriptor;
    let winner = winners.get(&descriptor.name).map(|(_, winner)| winner);
    let wins = winner.is_some_and(|winner| Arc::ptr_eq(winner, good));
    if let (false, None, Some(winner)) = (wins, &error, winner) {
        error = Some(format!("{} has the same name and wins", winner.file.display()));
    }
    PluginInfo {
        name: descriptor.name.clone(),
        version: descriptor.version.clone(),
        summary: descriptor.summary.clone(),
        file: path.to_owned(),
        hash: good.hash.clone(),
        state: if wins { PluginState::Ready } else { PluginState::Shadowed },
        error,
        events: descriptor.events.clone(),
        states: descriptor.states.clone(),
        cameras: descriptor.cameras.iter().map(|(name, _)| name.clone()).collect(),
        commands: descriptor.commands.clone(),
        config_schema: descriptor.schema.clone(),
    }
}

/// The files in a folder that want to be plugins. Hidden ones are what tools write before they rename.
fn plugin_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let wanted = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|extension| extension == "wasm") && !hidden && !path.is_dir()
    };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(wanted).collect()
}

fn stamp(path: &Path) -> Stamp {
    let m = fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.mode()))
}
