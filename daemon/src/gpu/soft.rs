//! Tests on the software CUDA driver: each is run again as a process of its own, which sees one software GPU.
//!
//! In: `target/cuda`, made by `make soft-driver`. Out: whether this process is that child; the driver's books; its memory,
//! read and written by the driver's own copies, since host code that follows an address of the device faults. The child
//! has a fresh GStreamer registry, in a folder that goes with it. A test fails where the driver has not been built.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::{result, sys};
use libloading::Library;
use serde_json::Value;

use super::gst::CudaContext;

/// Names the test that a child runs.
const CHILD: &str = "WATCHPOST_SOFT_TEST";

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/cuda"))
}

/// The folder of the elements that stand for NVDEC and NVENC, for `GST_PLUGIN_PATH`; without it there is neither.
pub fn codecs() -> String {
    folder().join("codecs").display().to_string()
}

/// The driver's folder, for `LD_LIBRARY_PATH`.
pub fn libraries() -> String {
    folder().display().to_string()
}

/// That and the folder of a library of encoders that gives sessions and encodes nothing, for `LD_LIBRARY_PATH`.
pub fn encode() -> String {
    format!("{}:{}", libraries(), folder().join("encode").display())
}

/// Whether this process is the child that runs the test `module::name`. Otherwise runs it there, with some more in the
/// environment, and fails where it fails. `module` is `module_path!()`.
///
/// # Panics
/// Where the child fails, or the driver has not been built.
pub fn child(module: &str, name: &str, environment: &[(&str, &str)]) -> bool {
    let test = format!("{}::{name}", module.split_once("::").unwrap().1);
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return true;
    }
    let folder = folder();
    assert!(
        folder.join("libcuda.so.1").is_file(),
        "the software driver is not built: run `make soft-driver`"
    );
    let registry = tempfile::TempDir::new().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture", "--test-threads=1"])
        .env(CHILD, &test)
        .env("LD_LIBRARY_PATH", &folder)
        .env("GST_REGISTRY", registry.path().join("registry"))
        .env("GST_REGISTRY_FORK", "no")
        .env("WATCHPOST_SOFT_KERNELS", folder.join("kernels.so"))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} on the software driver: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "no test {test}:\n{text}");
    false
}

/// The context retained last.
static PRIMARY: AtomicU64 = AtomicU64::new(0);

/// Makes it this thread's current one: a plugin of GStreamer's that is loaded leaves another one.
fn make_current() {
    let context = PRIMARY.load(Ordering::Relaxed) as sys::CUcontext;
    // SAFETY: a context, or none; the driver says where it is gone.
    unsafe { result::ctx::set_current(context) }.unwrap();
}

/// The primary context of the first GPU, held.
pub struct Primary {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: a context is used by any thread that makes it its current one.
unsafe impl Send for Primary {}
// SAFETY: as above.
unsafe impl Sync for Primary {}

impl Primary {
    /// Retains it.
    pub fn retain() -> Arc<Self> {
        result::init().unwrap();
        let device = result::device::get(0).unwrap();
        // SAFETY: the device was just given by the driver.
        let context = unsafe { result::primary_ctx::retain(device) }.unwrap();
        PRIMARY.store(context as u64, Ordering::Relaxed);
        Arc::new(Self { device, context })
    }

    /// As GStreamer knows it.
    pub fn wrap(self: &Arc<Self>) -> Arc<CudaContext> {
        let owner: Arc<dyn Any + Send + Sync> = self.clone();
        // SAFETY: the context is the primary one of device 0, and held by the owner.
        unsafe { CudaContext::wrap(self.context, 0, owner) }.unwrap()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: retained once, released once.
        unsafe { result::primary_ctx::release(self.device) }.unwrap();
    }
}

/// Bytes of the device.
pub fn read(address: u64, len: usize) -> Vec<u8> {
    make_current();
    let mut bytes = vec![0; len];
    // SAFETY: the driver checks that the range lies in one live allocation.
    unsafe { result::memcpy_dtoh_sync(&mut bytes, address) }.unwrap();
    bytes
}

/// Writes bytes of the device.
pub fn write(address: u64, bytes: &[u8]) {
    make_current();
    // SAFETY: as above.
    unsafe { result::memcpy_htod_sync(address, bytes) }.unwrap();
}

fn driver() -> Library {
    // SAFETY: the driver is loaded already; it has no initialisers.
    unsafe { Library::new("libcuda.so.1") }.unwrap()
}

/// The driver's books.
pub fn books() -> Value {
    let driver = driver();
    // SAFETY: tests/cuda/books.c; the text is valid until this thread's next report.
    let text = unsafe {
        let report = driver.get::<unsafe extern "C" fn() -> *const c_char>(b"wpSoftReport").unwrap();
        CStr::from_ptr(report()).to_str().unwrap().to_owned()
    };
    serde_json::from_str(&text).unwrap()
}

/// Things of a kind that are alive: `contexts`, `streams`, `allocations`, ...
pub fn alive(kind: &str) -> i64 {
    books()[kind]["alive"].as_i64().unwrap()
}

/// Injects faults, such as `cuMemAllocPitch:2+=2`; none with an empty text.
pub fn fail(faults: &str) {
    let driver = driver();
    let text = std::ffi::CString::new(faults).unwrap();
    // SAFETY: tests/cuda/faults.c; the text is read before it returns.
    unsafe {
        let fail = driver.get::<unsafe extern "C" fn(*const c_char)>(b"wpSoftFail").unwrap();
        fail(text.as_ptr());
    }
}

/// Memory of the host's that the driver knows.
pub struct Registered(u64);

impl Registered {
    /// Tells the driver of memory that begins at a page.
    ///
    /// # Panics
    /// Where the driver refuses it.
    pub fn new(address: u64, len: usize) -> Self {
        // SAFETY: the memory is the caller's, and outlives this.
        unsafe { sys::cuMemHostRegister_v2(address as *mut _, len, 0) }.result().unwrap();
        Self(address)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: told by `new`. What the driver says comes too late for the test.
        let _ = unsafe { sys::cuMemHostUnregister(self.0 as *mut _) };
    }
}
