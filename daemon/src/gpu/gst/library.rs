//! The functions of libgstcuda-1.0, and which version of GStreamer has which.
//!
//! In: the system's `libgstcuda-1.0.so.0`. Out: [`Functions`], loaded once a process and never unloaded (GStreamer's
//! plugin is linked to the same library, and its types are registered for good). Fails with [`NoCudaMemory`].
//!
//! There is no crate to link to: a daemon that is linked to the library would not start on a box without it. What
//! differs by version, from 1.22 to 1.28:
//!
//! - since 1.22: everything in [`Functions`] but `streams`. Decoders synchronise before they hand a buffer on.
//! - since 1.24: [`StreamFunctions`]. Memory belongs to a stream, and whoever reads it waits for that stream.
//! - `gst_cuda_allocator_alloc` got another argument in 1.24 under the same name: it is not used; the pool is.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::LazyLock;

use gstreamer as gst;
use gstreamer::ffi::{GstBufferPool, GstContext, GstMemory, GstObject, GstStructure};
use gstreamer::glib::ffi::gboolean;
use libloading::{Library, Symbol};

/// The name that all versions up to now have.
const LIBRARY: &str = "libgstcuda-1.0.so.0";

/// Why GStreamer cannot use CUDA memory here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCudaMemory {
    /// GStreamer itself does not start.
    #[error("GStreamer does not start: {0}")]
    Gstreamer(String),
    /// The library is not installed.
    #[error(
        "GStreamer's CUDA library is not there ({0}); install libgstreamer-plugins-bad1.0-0, 1.22 or newer"
    )]
    NoLibrary(String),
    /// The library lacks a function.
    #[error("{LIBRARY} has no function {0}; GStreamer 1.22 or newer is needed")]
    NoFunction(&'static str),
    /// The library finds no driver.
    #[error("GStreamer's CUDA library does not load the NVIDIA driver (libcuda.so.1)")]
    NoDriver,
    /// The library does not take the context.
    #[error("GStreamer's CUDA library refuses the context of GPU {0}")]
    NoContext(u32),
}

/// A `GstCudaStream`; only pointers to it exist here.
#[repr(C)]
pub(super) struct GstCudaStream(c_void);

/// What every version has.
pub(super) struct Functions {
    load_library: unsafe extern "C" fn() -> gboolean,
    memory_init_once: unsafe extern "C" fn(),
    /// Context, device; gives a new reference, or null.
    pub context_new_wrapped: unsafe extern "C" fn(*mut c_void, i32) -> *mut GstObject,
    /// The `CUcontext` of a context object.
    pub context_get_handle: unsafe extern "C" fn(*mut GstObject) -> *mut c_void,
    /// A context object as a `GstContext`, a new one.
    pub context_new_cuda_context: unsafe extern "C" fn(*mut GstObject) -> *mut GstContext,
    /// Whether memory is CUDA memory.
    pub is_cuda_memory: unsafe extern "C" fn(*mut GstMemory) -> gboolean,
    /// A new pool for a context object.
    pub buffer_pool_new: unsafe extern "C" fn(*mut GstObject) -> *mut GstBufferPool,
    /// Since 1.24.
    pub streams: Option<StreamFunctions>,
}

/// What came with 1.24: all of them, or none.
pub(super) struct StreamFunctions {
    /// The stream of CUDA memory, still the memory's; null for the default stream.
    pub memory_get_stream: unsafe extern "C" fn(*mut GstMemory) -> *mut GstCudaStream,
    /// A new stream of a context object, or null.
    pub stream_new: unsafe extern "C" fn(*mut GstObject) -> *mut GstCudaStream,
    /// The `CUstream` of a stream; null of null.
    pub stream_get_handle: unsafe extern "C" fn(*mut GstCudaStream) -> *mut c_void,
    /// Gives a reference back.
    pub stream_unref: unsafe extern "C" fn(*mut GstCudaStream),
    /// Makes a pool's memory belong to a stream.
    pub pool_config_set_stream: unsafe extern "C" fn(*mut GstStructure, *mut GstCudaStream),
}

static FUNCTIONS: LazyLock<Result<Functions, NoCudaMemory>> = LazyLock::new(|| open(LIBRARY));

/// The library's functions, once it has found the driver.
pub(super) fn functions() -> Result<&'static Functions, NoCudaMemory> {
    FUNCTIONS.as_ref().map_err(Clone::clone)
}

/// Loads a library by its file name.
pub(super) fn open(name: &str) -> Result<Functions, NoCudaMemory> {
    gst::init().map_err(|error| NoCudaMemory::Gstreamer(error.to_string()))?;
    // SAFETY: GStreamer's library has no initialisers but GObject's type registration, which any thread may do.
    let library =
        unsafe { Library::new(name) }.map_err(|error| NoCudaMemory::NoLibrary(error.to_string()))?;
    let functions = find(&library)?;
    // Unloading would pull the types from under GObject: the library stays for as long as the process.
    let _: &'static Library = Box::leak(Box::new(library));
    // SAFETY: takes nothing, may be called any number of times, and after GStreamer's initialisation.
    if unsafe { (functions.load_library)() } == 0 {
        return Err(NoCudaMemory::NoDriver);
    }
    // SAFETY: as above.
    unsafe { (functions.memory_init_once)() };
    Ok(functions)
}

fn find(library: &Library) -> Result<Functions, NoCudaMemory> {
    /// The function of a name, of the type that it is stored as.
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the type is that of the function in GStreamer's headers from 1.22 to 1.28, written down above.
            let found: Result<Symbol<'_, _>, _> = unsafe { library.get($name.as_bytes()) };
            found.map(|symbol| *symbol).map_err(|_| NoCudaMemory::NoFunction($name))
        }};
    }
    let streams = || -> Result<StreamFunctions, NoCudaMemory> {
        Ok(StreamFunctions {
            memory_get_stream: function!("gst_cuda_memory_get_stream")?,
            stream_new: function!("gst_cuda_stream_new")?,
            stream_get_handle: function!("gst_cuda_stream_get_handle")?,
            stream_unref: function!("gst_cuda_stream_unref")?,
            pool_config_set_stream: function!("gst_buffer_pool_config_set_cuda_stream")?,
        })
    };
    Ok(Functions {
        load_library: function!("gst_cuda_load_library")?,
        memory_init_once: function!("gst_cuda_memory_init_once")?,
        context_new_wrapped: function!("gst_cuda_context_new_wrapped")?,
        context_get_handle: function!("gst_cuda_context_get_handle")?,
        context_new_cuda_context: function!("gst_context_new_cuda_context")?,
        is_cuda_memory: function!("gst_is_cuda_memory")?,
        buffer_pool_new: function!("gst_cuda_buffer_pool_new")?,
        streams: streams().ok(),
    })
}
