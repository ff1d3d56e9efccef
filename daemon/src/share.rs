//! Where the shipped plugins, models and libraries lie: installed, or in a build tree.
//!
//! In: the path of the running binary. Out: a folder with `plugins/` and `models/`. Nothing fails: without one the
//! configuration's own folders remain.

use std::path::{Path, PathBuf};

/// `WATCHPOST_SHARE`; `../lib/watchpost` beside an installed binary; `../dist` beside one that was just built.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("WATCHPOST_SHARE") {
        return Some(named.into());
    }
    let binary = std::env::current_exe().ok()?;
    let up = binary.parent()?.parent()?;
    [up.join("lib/watchpost"), up.join("dist"), PathBuf::from("/usr/lib/watchpost")]
        .into_iter()
        .find(|folder| has(folder))
}

fn has(folder: &Path) -> bool {
    folder.join("plugins").is_dir()
}
