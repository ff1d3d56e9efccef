//! The fence around asking libraries for their versions: ONNX Runtime's, which `ort` keeps to itself, and TensorRT's.
//!
//! In: libraries that are loaded already. Out: their versions, such as `1.31.1`; `unknown` or nothing where one does not
//! say, or is not there.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;

use libloading::os::unix::{Library as Unix, RTLD_LAZY};
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

/// TensorRT's libraries that ONNX Runtime may have loaded, the newest first.
const TENSORRT: [&str; 3] = ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8"];

/// For dlopen: give the library only where it is loaded already.
const RTLD_NOLOAD: i32 = 4;

/// The version of TensorRT where ONNX Runtime has loaded it: the number that its library gives, such as `101303` for
/// 10.13.3.
pub(super) fn tensorrt() -> Option<String> {
    TENSORRT.iter().find_map(|name| {
        // SAFETY: with this flag nothing is loaded, so no initialiser runs; this only counts one more user.
        let library = unsafe { Unix::open(Some(*name), RTLD_NOLOAD | RTLD_LAZY) }.ok()?;
        // SAFETY: this is the signature of the function in NvInferRuntimeBase.h.
        let version = unsafe { library.get::<unsafe extern "C" fn() -> i32>(b"getInferLibVersion") }.ok()?;
        // SAFETY: the function takes nothing and gives a number.
        Some(unsafe { version() }.to_string())
    })
}
