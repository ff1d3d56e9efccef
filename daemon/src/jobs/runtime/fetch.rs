//! `watchpost runtime fetch`: a runtime out of pinned archives.
//!
//! In: a name, where the archives are. Out: a runtime in the store, whole, or an error that says what to do. Archives
//! come one after the other, and each is thrown away once its libraries are out of it. What is finished is kept in the
//! unfinished runtime's folder, so that the same command goes on there after whatever ended this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::download::download;
use super::manifest::{Archive, Manifest};
use super::record::{FileRecord, Kind, Record};
use super::source::Source;
use super::store::{Lock, Store, sync};
use super::unpack::unpack;
use super::{progress, space};
use crate::infer::LIBRARY;

/// Arguments of `watchpost runtime fetch`.
#[derive(Debug, Clone, clap::Args)]
pub struct FetchArgs {
    /// Which runtime; default: the manifest's default (`watchpost runtime list` shows them)
    pub name: Option<String>,
    /// Where the archives are: a package index, or a folder with them; https://…, http://… or file:///FOLDER; default:
    /// `runtime.from` of the configuration
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Manifest with pinned archives, instead of the one in this program
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Use it from the next start of the service on
    #[arg(long = "use")]
    pub use_: bool,
    /// Fetch it anew where it is there already
    #[arg(long)]
    pub replace: bool,
    /// Give up where nothing comes for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// What was done with an archive, beside what was taken out of it.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    archive: Archive,
    files: Vec<FileRecord>,
}

/// Fetches a runtime; gives its record.
///
/// # Errors
/// Where it is not known, there is no room, an archive does not come or is not the pinned one, or the folder cannot be
/// written.
pub fn fetch(store: &Store, args: &FetchArgs, configured: Option<&str>) -> anyhow::Result<Record> {
    let manifest = Manifest::load(args.manifest.as_deref())?;
    let name = args.name.as_deref().unwrap_or(&manifest.default);
    let (runtime, archives) = manifest.get(name)?;
    let from = args.from.as_deref().or(configured).context(
        "where are the archives? Say it by --from, or by `runtime.from` in the configuration: the address of a Python \
         package index (the one that pip asks: its `index-url`), or of a folder with the archives, https://…, http://… \
         or file:///FOLDER",
    )?;
    let mut source = Source::new(from, Duration::from_secs(args.timeout))?;
    let lock = store.lock()?;
    if store.path(name).is_dir() && !args.replace {
        eprintln!(
            "runtime {name} is there already (`watchpost runtime verify {name}` checks it; --replace fetches it anew)"
        );
        return store.record(name);
    }
    let unfinished = Unfinished::open(store, &lock, name)?;
    space::ensure_free(store.folder(), unfinished.room(&archives))?;
    let mut files: Vec<FileRecord> = Vec::new();
    for (index, archive) in archives.iter().enumerate() {
        let what = format!("[{}/{}] {}", index + 1, archives.len(), archive.file);
        let got = unfinished.get(archive, &what, &mut source)?;
        for file in &got {
            let other = files.iter().find(|other| other.name == file.name);
            if let Some(other) = other {
                anyhow::bail!("{} and {} both hold {}", other.from.display(), archive.file, file.name);
            }
        }
        files.extend(got);
    }
    let record = Record::new(name, &runtime.onnxruntime, Kind::Fetched, files);
    unfinished.finish(store, &lock, &record)?;
    Ok(record)
}

/// A runtime that is being fetched.
struct Unfinished {
    folder: PathBuf,
    files: PathBuf,
}

impl Unfinished {
    fn open(store: &Store, lock: &Lock, name: &str) -> anyhow::Result<Self> {
        let folder = store.partial(lock, name)?;
        let files = folder.join("files");
        if files.symlink_metadata().is_err() {
            std::fs::create_dir(&files).with_context(|| format!("{} cannot be made", files.display()))?;
        }
        ensure!(files.symlink_metadata()?.is_dir(), "{} is no folder", files.display());
        Ok(Self { folder, files })
    }

    /// Bytes that are still to be written at most at one time.
    fn room(&self, archives: &[&Archive]) -> u64 {
        let (mut kept, mut most) = (0u64, 0);
        for archive in archives.iter().filter(|archive| self.done(archive).is_none()) {
            let there = self.part(archive).metadata().map_or(0, |found| found.len());
            let here = archive.size.saturating_sub(there).saturating_add(archive.unpacked);
            most = most.max(kept.saturating_add(here));
            kept = kept.saturating_add(archive.unpacked);
        }
        most
    }

    fn part(&self, archive: &Archive) -> PathBuf {
        self.folder.join(format!("{}.part", archive.file))
    }

    fn mark(&self, archive: &Archive) -> PathBuf {
        self.folder.join(format!("{}.done", archive.file))
    }

    /// What an earlier try took out of this very archive.
    fn done(&self, archive: &Archive) -> Option<Vec<FileRecord>> {
        let done: Done = serde_json::from_slice(&std::fs::read(self.mark(archive)).ok()?).ok()?;
        let whole = |file: &FileRecord| {
            self.files
                .join(&file.name)
                .symlink_metadata()
                .is_ok_and(|found| found.is_file() && found.len() == file.size)
        };
        (done.archive == *archive && done.files.iter().all(whole)).then_some(done.files)
    }

    /// The archive's libraries, in `files`.
    fn get(&self, archive: &Archive, what: &str, source: &mut Source) -> anyhow::Result<Vec<FileRecord>> {
        if let Some(files) = self.done(archive) {
            return Ok(files);
        }
        let part = self.part(archive);
        let bar = progress::bar(what, archive.size);
        let result = download(source, archive, &part, &bar);
        bar.finish_and_clear();
        result?;
        let files = unpack(archive, &part, &self.files)?;
        // The libraries are on disk; now that they are is, and only then does the archive go.
        let done = serde_json::to_vec(&Done { archive: archive.clone(), files: files.clone() })?;
        write(&self.mark(archive), &done)
            .and_then(|()| sync(&self.files))
            .and_then(|()| sync(&self.folder))
            .and_then(|()| std::fs::remove_file(&part))
            .with_context(|| format!("{} cannot be written", self.folder.display()))?;
        Ok(files)
    }

    /// Makes it a runtime.
    fn finish(self, store: &Store, lock: &Lock, record: &Record) -> anyhow::Result<()> {
        // What an earlier manifest left is none of this runtime's.
        for entry in std::fs::read_dir(&self.files)? {
            let entry = entry?;
            if !record.files.iter().any(|file| entry.file_name() == file.name.as_str()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        link_library(&self.files, record)?;
        store.place(lock, &self.files, record)?;
        std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    super::unpack::copy(&mut &*content, path, |_| ()).map(drop)
}

/// Archives hold `libonnxruntime.so.1.31.1`; it is loaded as `libonnxruntime.so`.
fn link_library(folder: &Path, record: &Record) -> anyhow::Result<()> {
    if record.files.iter().any(|file| file.name == LIBRARY) {
        return Ok(());
    }
    let named = format!("{LIBRARY}.{}", record.onnxruntime);
    ensure!(
        record.files.iter().any(|file| file.name == named),
        "runtime {}: its archives hold neither {LIBRARY} nor {named}; the manifest does not fit them",
        record.name
    );
    let link = folder.join(LIBRARY);
    std::os::unix::fs::symlink(&named, &link).with_context(|| format!("{} cannot be made", link.display()))
}
