//! The fence around asking libraries for their versions: ONNX Runtime's, which `ort` keeps to itself, and TensorRT's.
//!
//! In: the file of a library, or one that is loaded already. Out: its version, such as `1.31.1`; `unknown`, nothing or an
//! error where it does not say, or is not there.
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::CStr;
use std::path::Path;

use libloading::os::unix::{Library as Unix, RTLD_LAZY};
use libloading::{Library, Symbol};
use ort::sys::OrtApiBase;

/// The version of a library that `ort` has loaded.
pub(super) fn of(library: &Path) -> String {
    ask(library).unwrap_or_else(|_| "unknown".to_owned())
}

/// The version of any library.
///
/// # Errors
/// What the loader says, or that it is no ONNX Runtime.
pub(super) fn ask(library: &Path) -> Result<String, String> {
    // SAFETY: the library's initialisers run, unless `ort` has loaded it already. It is one that the administrator
    // named as the ONNX Runtime to use.
    let library = unsafe { Library::new(library) }.map_err(|error| {
        format!("does not load: {}", error.source().map_or_else(|| error.to_string(), ToString::to_string))
    })?;
    // SAFETY: this is the signature of the entry point in onnxruntime_c_api.h.
    let entry: Symbol<'_, unsafe extern "C" fn() -> *const OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.map_err(|_| "is no ONNX Runtime".to_owned())?;
    // SAFETY: the entry point takes nothing and gives a pointer to a table that lives as long as the library.
    let base = unsafe { entry().as_ref() }.ok_or("gives no table of its functions")?;
    // SAFETY: the function gives a string that ends with a zero and lives as long as the library, which outlives
    // the copy made of it here.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) };
    version.to_str().map(str::to_owned).map_err(|_| "has no version".to_owned())
}

/// For dlopen: give the library only where it is loaded already.
const RTLD_NOLOAD: i32 = 4;

/// The version of TensorRT where its library of that name or path is loaded: the number that it gives, such as `101303` for
/// 10.13.3.
pub(super) fn tensorrt(name: &Path) -> Option<String> {
    // SAFETY: with this flag nothing is loaded, so no initialiser runs; this only counts one more user.
    let library = unsafe { Unix::open(Some(name), RTLD_NOLOAD | RTLD_LAZY) }.ok()?;
    // SAFETY: this is the signature of the function in NvInferRuntimeBase.h.
    let version = unsafe { library.get::<unsafe extern "C" fn() -> i32>(b"getInferLibVersion") }.ok()?;
    // SAFETY: the function takes nothing and gives a number.
    Some(unsafe { version() }.to_string())
}
