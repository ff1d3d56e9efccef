//! The fence around asking ONNX Runtime's library for its version, which `ort` keeps to itself.
//!
//! In: the file of a library that is loaded already. Out: its version, such as `1.31.1`; `unknown` where it does
//! not say.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;

use libloading::{Library, Symbol};
use ort::sys::OrtApiBase;

/// The version of a library that `ort` has loaded.
pub(super) fn of(library: &Path) -> String {
    read(library).unwrap_or_else(|| "unknown".to_owned())
}

fn read(library: &Path) -> Option<String> {
    // SAFETY: the library is loaded already, so no initialiser runs; this only counts one more user of it.
    let library = unsafe { Library::new(library) }.ok()?;
    // SAFETY: this is the signature of the entry point in onnxruntime_c_api.h, and `ort` has found it there.
    let entry: Symbol<'_, unsafe extern "C" fn() -> *const OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.ok()?;
    // SAFETY: the entry point takes nothing and gives a pointer to a table that lives as long as the library.
    let base = unsafe { entry().as_ref() }?;
    // SAFETY: the function gives a string that ends with a zero and lives as long as the library, which outlives
    // the copy made of it here.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) };
    Some(version.to_str().ok()?.to_owned())
}
