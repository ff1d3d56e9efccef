//! The shared test data: real videos, models and reference results that are not part of the project.
//!
//! Looked for in `WATCHPOST_TEST_DATA`, then in `../shared/data` beside the checkout. A test that needs it
//! calls [`data`] and returns where there is none; with `WATCHPOST_REQUIRE_DATA=1` that is a failure.

use std::path::{Path, PathBuf};

/// The repository's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.to_path_buf(), Path::to_path_buf)
}

/// The shared data's folder; `None`, said aloud under the test's name, where it is absent.
///
/// # Panics
/// Where `WATCHPOST_REQUIRE_DATA=1` and there is none.
#[must_use]
pub fn data(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("WATCHPOST_TEST_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared/data"));
    if folder.join("videos").is_dir() {
        return Some(folder);
    }
    let required = std::env::var("WATCHPOST_REQUIRE_DATA").is_ok_and(|value| value == "1");
    assert!(!required, "{test}: shared data required, but {} has no videos/", folder.display());
    eprintln!("SKIPPED {test}: needs the shared data; set WATCHPOST_TEST_DATA to its folder");
    None
}
