//! The fence around loading libraries before whoever needs them asks for them.
//!
//! In: files or names. Out: libraries that stay loaded as long as the process, found by their names from then on. So
//! ONNX Runtime's providers find CUDA, cuDNN and TensorRT in a folder that no search path names. What the loader says
//! against a library comes back as text.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

/// What was loaded stays: code of it may run at any time.
static HELD: Mutex<BTreeMap<OsString, Library>> = Mutex::new(BTreeMap::new());

/// Loads a library for the whole process; one that is loaded already stays as it is.
///
/// # Errors
/// What the loader says.
pub(super) fn hold(file: &OsStr) -> Result<(), String> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if !held.contains_key(file) {
        // SAFETY: the library's initialisers run. The file is one of those that ONNX Runtime's own provider would have
        // the loader load by name a moment later; it is loaded no sooner than a provider that needs it is wanted.
        let opened = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) };
        held.insert(file.to_owned(), opened.map_err(|error| words(&error))?);
    }
    Ok(())
}

/// Whether the system's loader finds a library by its name alone, such as `libcuda.so.1`. It stays loaded.
///
/// # Errors
/// What the loader says.
pub fn loads(name: &str) -> Result<(), String> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if !held.contains_key(OsStr::new(name)) {
        // SAFETY: the library's initialisers run; it is one of the system's own, which any program that needs it loads.
        let opened = unsafe { Library::open(Some(name), RTLD_LAZY | RTLD_LOCAL) };
        held.insert(name.into(), opened.map_err(|error| words(&error))?);
    }
    Ok(())
}

/// The loader's own words, which name the library.
fn words(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
