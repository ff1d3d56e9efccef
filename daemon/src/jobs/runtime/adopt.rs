//! `watchpost runtime adopt`: a runtime out of libraries that are on this machine already.
//!
//! In: folders: a Python environment, a folder of CUDA's toolkit, /usr/lib. Out: a runtime in the store, links or
//! copies, with what each was when it was adopted, and what is missing for which provider. Which libraries are needed
//! is read from the libraries themselves. A folder without ONNX Runtime is an error; a missing provider is said.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::manifest::check_name;
use super::progress;
use super::record::{FileRecord, Kind, Record, hash};
use super::store::Store;
use super::{space, unpack};
use crate::infer::libraries::{Library, Needs, Shelf};
use crate::infer::{LIBRARY, Provider, version_of};

/// How deep folders are looked through: `lib/python3.11/site-packages/nvidia/cudnn/lib` in an environment.
const DEPTH: usize = 8;

/// Arguments of `watchpost runtime adopt`.
#[derive(Debug, Clone, clap::Args)]
pub struct AdoptArgs {
    /// Folders to look through, the folders in them too; an earlier one wins
    #[arg(required = true, value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Name of the runtime; default: ONNX Runtime's version and "-adopted"
    #[arg(long)]
    pub name: Option<String>,
    /// Copy the libraries instead of linking to them
    #[arg(long)]
    pub copy: bool,
    /// Use it from the next start of the service on
    #[arg(long = "use")]
    pub use_: bool,
    /// Replace the runtime of that name
    #[arg(long)]
    pub replace: bool,
}

/// Adopts libraries; gives the runtime's record.
///
/// # Errors
/// Where no folder has an ONNX Runtime that can be used, or the store cannot be written.
pub fn adopt(store: &Store, args: &AdoptArgs) -> anyhow::Result<Record> {
    let mut folders = Vec::new();
    for folder in &args.folders {
        let found = folder.canonicalize().with_context(|| format!("{}: cannot be read", folder.display()))?;
        ensure!(found.is_dir(), "{} is no folder", folder.display());
        folders.push(found);
    }
    let shelf = Shelf::new(&folders, DEPTH);
    let library = find_library(&shelf, &args.folders)?;
    let version = version_of(&library).map_err(|why| anyhow::anyhow!("{} {why}", library.display()))?;
    let name = args.name.clone().unwrap_or_else(|| format!("{version}-adopted"));
    check_name(&name)?;
    let lock = store.lock()?;
    ensure!(
        args.replace || !store.path(&name).exists(),
        "there is a runtime {name} already; give this one another name (--name), or replace that one (--replace)"
    );
    let wanted = collect(&library, &shelf);
    let inside = store.path(&name);
    if let Some((_, file)) = wanted.iter().find(|(_, file)| file.starts_with(&inside)) {
        bail!(
            "{} is a file of runtime {name} itself; give the new one another name (--name)",
            file.display()
        );
    }
    let bytes = wanted.iter().map(|(_, file)| file.metadata().map_or(0, |found| found.len())).sum();
    if args.copy {
        space::ensure_free(store.folder(), bytes)?;
    }
    let workshop = store.workshop(&lock, &name)?;
    let bar = progress::bar(if args.copy { "copying" } else { "reading" }, bytes);
    let mut files = Vec::new();
    for (name, from) in wanted {
        let path = workshop.join(&name);
        let made = if args.copy {
            std::fs::File::open(&from)
                .and_then(|mut file| unpack::copy(&mut file, &path, |bytes| bar.inc(bytes)))
        } else {
            std::os::unix::fs::symlink(&from, &path).and_then(|()| hash(&from, |bytes| bar.inc(bytes)))
        };
        let (sha256, size) =
            made.with_context(|| format!("{} cannot be adopted as {}", from.display(), path.display()))?;
        files.push(FileRecord { name, sha256, size, from });
    }
    bar.finish_and_clear();
    let kind = if args.copy { Kind::Copied } else { Kind::Linked };
    let record = Record::new(&name, &version, kind, files);
    store.place(&lock, &workshop, &record)?;
    Ok(record)
}

/// ONNX Runtime's library: of the folder that comes first, under its most exact name.
fn find_library(shelf: &Shelf, folders: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let mut names: Vec<&str> = shelf.names(LIBRARY).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let found: Vec<PathBuf> = names.iter().filter_map(|name| Some(shelf.find(name)?.0)).collect();
    // The order of folders counts before the name: with a second version further on, the first is meant.
    let first = folders
        .iter()
        .filter_map(|folder| folder.canonicalize().ok())
        .find_map(|folder| found.iter().find(|file| file.starts_with(&folder)));
    match first {
        Some(file) => Ok(file.clone()),
        None => {
            let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            bail!(
                "no {LIBRARY} for this machine in {}; it lies in `onnxruntime/capi` of a Python environment, say",
                folders.join(", ")
            )
        }
    }
}

/// Names in the runtime, and the files: ONNX Runtime, its providers beside it, and all that those need and the folders
/// have. Links are followed, so that an update of one of several names is noticed.
fn collect(library: &Path, shelf: &Shelf) -> Vec<(String, PathBuf)> {
    let home = library.parent().unwrap_or(Path::new("/"));
    let real = library.canonicalize().ok().and_then(|file| Some(file.parent()?.to_path_buf()));
    let mut wanted = vec![(LIBRARY.to_owned(), library.to_path_buf())];
    let mut roots = vec![library.to_path_buf()];
    for name in Provider::TensorRt.libraries() {
        let places = [Some(home), real.as_deref()];
        let beside = places.into_iter().flatten().map(|folder| folder.join(name));
        if let Some(file) = beside.into_iter().find(|file| Library::read(file).is_some()) {
            wanted.push(((*name).to_owned(), file.clone()));
            roots.push(file);
        }
    }
    for (name, file) in Needs::of(&roots, shelf).found {
        if !system(&name) && !wanted.iter().any(|(other, _)| *other == name) {
            wanted.push((name, file));
        }
    }
    for (_, file) in &mut wanted {
        if let Ok(real) = file.canonicalize() {
            *file = real;
        }
    }
    wanted
}

/// Libraries that belong to the system and its driver and are never carried about: another copy of them in a process
/// does harm.
fn system(name: &str) -> bool {
    const OWN: &[&str] = &[
        "ld-linux",
        "libc.so",
        "libm.so",
        "libdl.so",
        "librt.so",
        "libpthread.so",
        "libstdc++.so",
        "libgcc_s.so",
        "libz.so",
        "libcuda.so",
        "libnvidia-",
    ];
    OWN.iter().any(|own| name.starts_with(own))
}
