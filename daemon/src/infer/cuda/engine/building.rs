//! A folder in which an engine is being built.
//!
//! In: a stamp; whatever TensorRT writes into the folder. Out: an engine that can be used, in one step, or nothing.
//! Owned by the build; dropped before it is complete, its folder goes. Errors name the folder.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::{BUILDING, Engine, Engines, LOCK, SCHEMA, STAMP, Stamp};
use crate::config::settings::Precision;
use crate::infer::InferError;
use crate::infer::cuda::precision::Calibration;

/// A folder in which an engine is being built.
#[derive(Debug)]
pub(in crate::infer::cuda) struct Building {
    engines: Engines,
    stamp: Stamp,
    folder: TempDir,
    /// Says that somebody builds here.
    _lock: File,
}

impl Building {
    /// Makes the folder. The engines' lock must be held.
    pub(super) fn new(engines: &Engines, stamp: &Stamp) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(BUILDING)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&engines.folder)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        // What TensorRT has learnt of this GPU with other models makes the build shorter.
        copy_timings(&engines.folder.join(stamp.timing()), folder.path())?;
        Ok(Self { engines: engines.clone(), stamp: stamp.clone(), folder, _lock: lock })
    }

    /// Where to build.
    pub(in crate::infer::cuda) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts the calibration table of a model's folder, where it is wanted, where TensorRT looks for it.
    pub(in crate::infer::cuda) fn calibrate(
        &self,
        model: &Path,
        precision: Option<Precision>,
    ) -> Result<(), InferError> {
        if let Some(table) = Calibration::wanted(model, precision)? {
            let copied = fs::copy(&table.file, self.folder().join(table.name));
            copied.map_err(|why| InferError::Cache { folder: self.folder().to_owned(), why })?;
        }
        Ok(())
    }

    /// Makes it the engine of its stamp; older ones of the same model on such a GPU go.
    pub(in crate::infer::cuda) fn complete(self, took: Duration) -> Result<Engine, InferError> {
        let failed = |why| InferError::Cache { folder: self.folder.path().to_owned(), why };
        let mut engine = Engine {
            schema: SCHEMA.to_owned(),
            stamp: self.stamp.clone(),
            seconds: took.as_secs_f64(),
            built: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            files: Default::default(),
        };
        let timings = self.engines.folder.join(self.stamp.timing());
        let lock = self.engines.lock()?;
        for entry in fs::read_dir(self.folder()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_timing(&name) {
                keep_timing(&entry.path(), &timings).map_err(failed)?;
            } else if !name.starts_with('.') && entry.path().is_file() {
                let file = File::open(entry.path()).map_err(failed)?;
                file.sync_all().map_err(failed)?;
                engine.files.insert(name, file.metadata().map_err(failed)?.len());
            }
        }
        if !engine.files.keys().any(|name| name.ends_with(".engine")) {
            let why = "TensorRT took no part of the graph, and left no engine".to_owned();
            return Err(InferError::Engine { model: self.stamp.model.clone(), why });
        }
        self.publish(&engine).map_err(failed)?;
        let stamp = &self.stamp;
        let key = stamp.key();
        if let Err(error) =
            self.engines.remove(|other| other.stamp.same_place(stamp) && other.stamp.key() != key)
        {
            tracing::warn!(%error, "an old engine stays");
        }
        drop(lock);
        Ok(engine)
    }

    fn publish(&self, engine: &Engine) -> io::Result<()> {
        let mut stamp = File::create(self.folder().join(STAMP))?;
        stamp.write_all(&serde_json::to_vec_pretty(engine)?)?;
        stamp.sync_all()?;
        fs::remove_file(self.folder().join(LOCK))?;
        File::open(self.folder())?.sync_all()?;
        let place = self.engines.folder(&self.stamp);
        if place.exists() {
            // A spoiled one.
            fs::remove_dir_all(&place)?;
        }
        // What the temporary folder removes when it is dropped is gone by then.
        fs::rename(self.folder(), &place)?;
        File::open(&self.engines.folder)?.sync_all()
    }
}

fn is_timing(name: &str) -> bool {
    name.ends_with(".timing")
}

fn copy_timings(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if is_timing(&name.to_string_lossy()) {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

/// Moves timings beside the engines, where the next build finds them.
fn keep_timing(file: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::rename(file, folder.join(file.file_name().unwrap_or_default()))
}
