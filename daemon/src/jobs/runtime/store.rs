//! The folder with the runtimes of this box: `paths.state`/runtime.
//!
//! In: names, folders that were made ready. Out: runtimes that are there as a whole or not at all, and the link
//! `current` to the one in use. Whoever changes something holds the [`Lock`]. What a crash leaves behind begins with a
//! dot, is used by nobody, and goes when the next command takes the lock; unfinished downloads stay, to be continued.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::manifest::check_name;
use super::record::{Kind, Record};
use crate::infer::{CURRENT, RUNTIMES};

/// Unfinished downloads, continued by the next fetch.
const PARTIAL: &str = ".partial-";
/// What is being made or removed; of no use after a crash.
const PASSING: &[&str] = &[".adopting-", ".removing-", ".current-"];

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// Held while something is changed; let go when it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock is the open file's")] File);

impl Store {
    /// The runtimes below a state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join(RUNTIMES) }
    }

    /// The folder; it may not exist yet.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a runtime of that name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder, and keeps other commands from changing it. Clears away what a crash left behind.
    ///
    /// # Errors
    /// Where the folder cannot be written, or another command is at work on it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        make_folder(&self.folder, true).map_err(|error| self.not_writable(&error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o644)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.folder.join(".lock"))
            .map_err(|error| self.not_writable(&error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another `watchpost runtime` is changing {}; wait until it is done", self.folder.display());
        }
        for name in self.names()?.iter().filter(|name| PASSING.iter().any(|begin| name.starts_with(begin))) {
            let path = self.folder.join(name);
            let gone = if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            gone.with_context(|| format!("cannot clear away {}", path.display()))?;
        }
        Ok(Lock(file))
    }

    fn not_writable(&self, error: &std::io::Error) -> anyhow::Error {
        let folder = self.folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let owner = folder.metadata().map_or(0, |found| found.uid());
        let hint = match error.kind() {
            ErrorKind::PermissionDenied if owner == 0 => "run this as root".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("run this as root, or as the user {owner} that it belongs to")
            }
            _ => "`paths.state` says where it is".to_owned(),
        };
        anyhow::anyhow!("{} cannot be written: {error}; {hint}", self.folder.display())
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => bail!("{} cannot be read: {error}", self.folder.display()),
        };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the runtimes that are there.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn installed(&self) -> anyhow::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| {
            !name.starts_with('.')
                && name != CURRENT
                && self.path(name).symlink_metadata().is_ok_and(|f| f.is_dir())
        });
        Ok(names)
    }

    /// Names of the runtimes whose download is unfinished.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn unfinished(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.names()?.iter().filter_map(|name| name.strip_prefix(PARTIAL)).map(str::to_owned).collect())
    }

    /// The record of a runtime.
    ///
    /// # Errors
    /// Where there is no such runtime, or its record cannot be read.
    pub fn record(&self, name: &str) -> anyhow::Result<Record> {
        check_name(name)?;
        if !self.path(name).is_dir() {
            let known = self.installed()?;
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!("no runtime \"{name}\" in {}; there are: {known}", self.folder.display());
        }
        Record::read(&self.path(name))
    }

    /// The runtime that is in use.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        let target = self.folder.join(CURRENT).read_link().ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Makes a runtime the one in use, or none. The link is replaced in one step.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn set_current(&self, _lock: &Lock, name: Option<&str>) -> anyhow::Result<()> {
        let link = self.folder.join(CURRENT);
        let done = match name {
            Some(name) => {
                let next = self.folder.join(".current-next");
                std::os::unix::fs::symlink(name, &next).and_then(|()| std::fs::rename(&next, &link))
            }
            None => match std::fs::remove_file(&link) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        done.and_then(|()| sync(&self.folder)).map_err(|error| self.not_writable(&error))
    }

    /// Folder of an unfinished download; made where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be made, or something else is in its place.
    pub fn partial(&self, _lock: &Lock, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(format!("{PARTIAL}{name}"));
        make_folder(&folder, false).map_err(|error| self.not_writable(&error))?;
        Ok(folder)
    }

    /// An empty folder to make a runtime in.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn workshop(&self, _lock: &Lock, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(format!(".adopting-{name}"));
        make_folder(&folder, false).map_err(|error| self.not_writable(&error))?;
        Ok(folder)
    }

    /// Writes the record into a folder that is ready, brings it to disk, and makes it the runtime of its name in one
    /// step; one that was there before goes.
    ///
    /// # Errors
    /// Where that fails; the folder then stays where it is.
    pub fn place(&self, lock: &Lock, ready: &Path, record: &Record) -> anyhow::Result<()> {
        let write = || {
            std::fs::write(ready.join(super::record::FILE), serde_json::to_vec_pretty(record)?)?;
            for entry in std::fs::read_dir(ready)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    // Whatever this user's mask is, the service reads them.
                    std::fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
                    File::open(entry.path())?.sync_all()?;
                }
            }
            std::fs::set_permissions(ready, Permissions::from_mode(0o755))?;
            sync(ready)?;
            let place = self.path(&record.name);
            if place.exists() {
                renameat_with(CWD, ready, CWD, &place, RenameFlags::EXCHANGE)?;
                sync(&self.folder)?;
                std::fs::rename(ready, self.folder.join(format!(".removing-{}", record.name)))?;
            } else {
                std::fs::rename(ready, &place)?;
            }
            sync(&self.folder)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot put runtime {} in place", record.name))?;
        self.sweep(lock, &record.name)
    }

    /// Removes a runtime, or what there is of an unfinished download.
    ///
    /// # Errors
    /// Where there is neither, it is in use, or another runtime links to its files.
    pub fn remove(&self, lock: &Lock, name: &str) -> anyhow::Result<()> {
        check_name(name)?;
        let unfinished = self.folder.join(format!("{PARTIAL}{name}"));
        if !self.path(name).is_dir() && unfinished.is_dir() {
            return std::fs::remove_dir_all(&unfinished).with_context(|| unfinished.display().to_string());
        }
        if !self.path(name).is_dir() {
            self.record(name)?;
        }
        ensure!(
            self.current().as_deref() != Some(name),
            "runtime {name} is in use; `watchpost runtime use` another one, or `system`, first"
        );
        let folder = self.path(name).canonicalize()?;
        for other in self.installed()?.iter().filter(|other| *other != name) {
            let record = Record::read(&self.path(other));
            let leans = record.is_ok_and(|record| {
                record.kind == Kind::Linked && record.files.iter().any(|file| file.from.starts_with(&folder))
            });
            ensure!(!leans, "runtime {other} links to files of {name}; remove {other} first");
        }
        let passing = self.folder.join(format!(".removing-{name}"));
        std::fs::rename(&folder, &passing)
            .and_then(|()| sync(&self.folder))
            .map_err(|error| self.not_writable(&error))?;
        self.sweep(lock, name)?;
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| unfinished.display().to_string())
            }
            _ => Ok(()),
        }
    }

    fn sweep(&self, _lock: &Lock, name: &str) -> anyhow::Result<()> {
        let passing = self.folder.join(format!(".removing-{name}"));
        match std::fs::remove_dir_all(&passing) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot clear away {}", passing.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a folder that everybody may read, and those above it. Root may be at work in a folder that belongs to the
/// service: a link in its place must be the administrator's own, where one may be there at all.
fn make_folder(folder: &Path, link: bool) -> std::io::Result<()> {
    if folder.symlink_metadata().is_err() {
        DirBuilder::new().recursive(true).create(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let found = folder.symlink_metadata()?;
    let trusted = found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() || (link && trusted && folder.is_dir()) {
        return Ok(());
    }
    Err(std::io::Error::new(ErrorKind::NotADirectory, format!("{} is no folder", folder.display())))
}

/// Brings a folder's entries to disk.
pub fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
