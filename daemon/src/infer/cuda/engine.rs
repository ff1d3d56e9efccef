//! TensorRT's engines on disk: which there are, what each is for, whether it is whole.
//!
//! In: the cache folder; a [`Stamp`], which says what an engine must be made for. Out: the folder of an engine, its
//! [`EngineState`], and folders in which new ones are built. An engine lies in `engines/KEY`, its key being the SHA-256 of
//! its stamp, with `stamp.json` in it. It is built in a folder of another name, which is renamed when it is complete and
//! on the disk: a build that is killed leaves nothing that is taken for an engine. Whoever runs on an engine holds its
//! stamp's lock, and one that is held is not removed. Engines are machine code, so a folder that others may write to is
//! not used. Errors name the folder.

mod building;
mod stamp;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub(super) use building::Building;
pub use stamp::Stamp;

use crate::infer::InferError;

/// The file that says what an engine is for; written last.
const STAMP: &str = "stamp.json";
/// What that file is.
const SCHEMA: &str = "watchpost.engine/1";
/// Held while folders are made, renamed or removed.
const LOCK: &str = ".lock";
/// Held by whoever builds: one engine at a time.
const TURN: &str = ".turn";
/// What folders are called in which something is being built.
const BUILDING: &str = ".building-";
/// What folders with timings are called.
const TIMING: &str = "timing-";

/// An engine that was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    schema: String,
    /// What it is for.
    pub stamp: Stamp,
    /// Seconds that its build took.
    pub seconds: f64,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// Its files and their bytes.
    pub files: BTreeMap<String, u64>,
}

/// Somebody runs on an engine: as long as this lives, no process removes it.
#[derive(Debug)]
pub struct EngineInUse {
    _lock: File,
}

/// How it stands with the engine of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// It can be used.
    Fresh,
    /// There is one, and it is for something else or spoiled.
    Stale(String),
    /// There is none.
    Missing,
}

/// The folder with all engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engines {
    folder: PathBuf,
}

impl Engines {
    /// Those below a cache folder (`paths.cache`), which need not be there yet.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { folder: cache.join("engines") }
    }

    /// Where the engine of a stamp lies, or would.
    #[must_use]
    pub fn folder(&self, stamp: &Stamp) -> PathBuf {
        self.folder.join(stamp.key())
    }

    /// How it stands with the engine of a stamp.
    #[must_use]
    pub fn state(&self, stamp: &Stamp) -> EngineState {
        let folder = self.folder(stamp);
        match read(&folder) {
            Some(engine) if engine.stamp == *stamp => {
                match trusted(&folder).and_then(|()| engine.whole(&folder)) {
                    Ok(()) => EngineState::Fresh,
                    Err(why) => EngineState::Stale(why),
                }
            }
            _ => {
                let others = self.list().into_iter().filter(|engine| engine.stamp.model == stamp.model);
                let differences = others.map(|engine| engine.stamp.differences(stamp));
                match differences.min_by_key(Vec::len) {
                    Some(differences) => EngineState::Stale(differences.join("; ")),
                    None => EngineState::Missing,
                }
            }
        }
    }

    /// All engines that say what they are for.
    #[must_use]
    pub fn list(&self) -> Vec<Engine> {
        let mut engines: Vec<Engine> = self
            .entries("")
            .filter_map(|(name, path)| read(&path).filter(|e| e.stamp.key() == name))
            .collect();
        engines.sort_by(|a, b| (&a.stamp.model, a.built).cmp(&(&b.stamp.model, b.built)));
        engines
    }

    /// Says that somebody runs on the engine of a stamp, and notes the time.
    ///
    /// # Errors
    /// Where there is none.
    pub fn hold(&self, stamp: &Stamp) -> Result<EngineInUse, InferError> {
        let folder = self.folder(stamp);
        let held = (|| -> Result<File, InferError> {
            // Whoever removes engines holds this one.
            let _lock = self.lock()?;
            let held = File::open(folder.join(STAMP)).map_err(|why| self.failed(why))?;
            held.lock_shared().map_err(|why| self.failed(why))?;
            Ok(held)
        })()?;
        if let Err(error) = held.set_modified(SystemTime::now()) {
            tracing::debug!(folder = %folder.display(), %error, "an engine does not know when it was used");
        }
        Ok(EngineInUse { _lock: held })
    }

    /// Whether somebody runs on an engine, in this process or another.
    #[must_use]
    pub fn in_use(&self, engine: &Engine) -> bool {
        File::open(self.folder(&engine.stamp).join(STAMP)).is_ok_and(|stamp| stamp.try_lock().is_err())
    }

    /// When an engine was used last, or built.
    #[must_use]
    pub fn used(&self, engine: &Engine) -> Option<SystemTime> {
        fs::metadata(self.folder(&engine.stamp).join(STAMP)).and_then(|stamp| stamp.modified()).ok()
    }

    /// How long the engine of a stamp may take to build: as long as the last one of this model did, where there was one.
    #[must_use]
    pub fn expected(&self, stamp: &Stamp) -> Option<Duration> {
        let like = |engine: &Engine| {
            let other = &engine.stamp;
            (other.same_place(stamp), other.graph == stamp.graph, engine.built)
        };
        let engines = self.list().into_iter().filter(|engine| engine.stamp.model == stamp.model);
        let seconds = engines.max_by_key(like)?.seconds;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Removes the engines that are not kept: of models that are configured no more, of GPUs that are gone. What somebody
    /// runs on or builds stays. Gives those that went.
    ///
    /// # Errors
    /// Where a folder cannot be removed.
    pub fn prune(&self, keep: impl Fn(&Engine) -> bool) -> Result<Vec<Engine>, InferError> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        self.sweep();
        self.remove(|engine| !keep(engine))
    }

    /// The right to build, until the file is dropped; `None` while somebody else builds, in this process or another. Two
    /// builds at a time would disturb each other's timings, by which TensorRT chooses, and want twice the memory.
    pub(super) fn turn(&self) -> Result<Option<File>, InferError> {
        self.make()?;
        let turn = File::create(self.folder.join(TURN)).map_err(|why| self.failed(why))?;
        match turn.try_lock() {
            Ok(()) => Ok(Some(turn)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(why)) => Err(self.failed(why)),
        }
    }

    /// A folder in which an engine can be built. What builds that were killed have left behind goes.
    pub(super) fn begin(&self, stamp: &Stamp) -> Result<Building, InferError> {
        self.make()?;
        let _lock = self.lock()?;
        self.sweep();
        Building::new(self, stamp).map_err(|why| self.failed(why))
    }

    /// Makes the folder of all engines.
    fn make(&self) -> Result<(), InferError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|why| self.failed(why))?;
        trusted(&self.folder).map_err(|why| self.failed(io::Error::other(why)))
    }

    /// Removes what builds that were killed have left behind. The lock must be held.
    fn sweep(&self) {
        for (_, path) in self.entries(BUILDING) {
            // Whoever builds there holds its lock.
            let left = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
            if !left {
                let removed = fs::remove_dir_all(&path);
                tracing::info!(folder = %path.display(), ok = removed.is_ok(), "an unfinished engine is removed");
            }
        }
    }

    /// Removes engines that nobody runs on; gives those. The lock must be held.
    fn remove(&self, which: impl Fn(&Engine) -> bool) -> Result<Vec<Engine>, InferError> {
        let gone: Vec<Engine> =
            self.list().into_iter().filter(|engine| which(engine) && !self.in_use(engine)).collect();
        for engine in &gone {
            let folder = self.folder(&engine.stamp);
            // Without its stamp it is no engine any more, whatever of it is left.
            let removed = fs::remove_file(folder.join(STAMP)).and_then(|()| fs::remove_dir_all(&folder));
            removed.map_err(|why| InferError::Cache { folder, why })?;
        }
        let timings: Vec<String> = self.list().iter().map(|engine| engine.stamp.timing()).collect();
        for (name, path) in self.entries(TIMING) {
            if !timings.contains(&name) {
                fs::remove_dir_all(&path).map_err(|why| InferError::Cache { folder: path, why })?;
            }
        }
        Ok(gone)
    }

    /// Folders whose names begin so; with nothing given, those of engines.
    fn entries(&self, prefix: &'static str) -> impl Iterator<Item = (String, PathBuf)> + use<> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name().into_string().ok()?;
            let named = if prefix.is_empty() { name.len() == 64 } else { name.starts_with(prefix) };
            (named && entry.path().is_dir()).then(|| (name, entry.path()))
        })
    }

    /// Waits for whoever makes or removes folders, which takes no time.
    fn lock(&self) -> Result<File, InferError> {
        let file = File::create(self.folder.join(LOCK)).map_err(|why| self.failed(why))?;
        file.lock().map_err(|why| self.failed(why))?;
        Ok(file)
    }

    fn failed(&self, why: io::Error) -> InferError {
        InferError::Cache { folder: self.folder.clone(), why }
    }
}

impl Engine {
    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// Whether all its files are as they were left.
    fn whole(&self, folder: &Path) -> Result<(), String> {
        for (name, bytes) in &self.files {
            match fs::metadata(folder.join(name)) {
                Ok(found) if found.len() == *bytes => {}
                Ok(found) => return Err(format!("{name} has {} bytes; {bytes} were written", found.len())),
                Err(why) => return Err(format!("{name}: {why}")),
            }
        }
        Ok(())
    }
}

/// What a folder's stamp says.
fn read(folder: &Path) -> Option<Engine> {
    let text = fs::read(folder.join(STAMP)).ok()?;
    serde_json::from_slice(&text).ok().filter(|engine: &Engine| engine.schema == SCHEMA)
}

/// Whether a folder is ours, and nobody else may write to it.
fn trusted(folder: &Path) -> Result<(), String> {
    let found = fs::metadata(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("{} belongs to another user", folder.display()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("others may write to {}", folder.display()));
    }
    Ok(())
}
