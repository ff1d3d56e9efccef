//! The daemon's CUDA context as GStreamer knows it: one object for all pipelines of a GPU.
//!
//! In: the primary context of a GPU, and whoever keeps it. Out: a [`CudaContext`] that pipelines are given before they
//! start, so that no element makes a context of its own. Whoever wraps the same context again gets the same object. The
//! primary context is kept for as long as any of GStreamer's buffers needs it. Fails where the library is missing or
//! refuses.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::sys::CUcontext;
use gstreamer as gst;
use gstreamer::glib::translate::{ToGlibPtr, from_glib_full};
use gstreamer::prelude::*;

use super::library::{Functions, NoCudaMemory, functions};

/// A GPU's primary context, wrapped once.
pub struct CudaContext {
    /// The `GstCudaContext`.
    object: gst::Object,
    context: gst::Context,
    functions: &'static Functions,
    device: u32,
}

impl std::fmt::Debug for CudaContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaContext(GPU {})", self.device)
    }
}

/// The contexts that live: GStreamer compares objects, so there must be one for each `CUcontext`.
static CONTEXTS: Mutex<Vec<Weak<CudaContext>>> = Mutex::new(Vec::new());

impl CudaContext {
    /// Whether GStreamer can use CUDA memory at all.
    ///
    /// # Errors
    /// Why not.
    pub fn available() -> Result<(), NoCudaMemory> {
        functions().map(drop)
    }

    /// Wraps a context, the one of the device with this index; the same object for the same context.
    ///
    /// `owner` is dropped when neither a pipeline nor a buffer of GStreamer's needs the context any more, which may be
    /// long after the [`CudaContext`] has gone, and on any thread.
    ///
    /// # Errors
    /// Where GStreamer has no CUDA library, or the library refuses the context.
    ///
    /// # Safety
    /// `context` is a context of the device `device`, and lives for as long as `owner`.
    pub unsafe fn wrap(
        context: CUcontext,
        device: u32,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Arc<Self>, NoCudaMemory> {
        let functions = functions()?;
        let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.retain(|known| known.strong_count() > 0);
        let known = contexts.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.into_iter().find(|known| known.handle() == context as u64) {
            return Ok(known);
        }
        let refused = NoCudaMemory::NoContext(device);
        let ordinal = i32::try_from(device).map_err(|_| refused.clone())?;
        // SAFETY: the caller vouches for the context; the library checks the device's number with the driver.
        let pointer = unsafe { (functions.context_new_wrapped)(context.cast::<c_void>(), ordinal) };
        if pointer.is_null() {
            return Err(refused);
        }
        // SAFETY: a GstCudaContext is a GstObject, and the reference is ours.
        let object: gst::Object = unsafe { from_glib_full(pointer) };
        // Runs when the last of GStreamer's references is dropped.
        object.add_weak_ref_notify(move || drop(owner));
        // SAFETY: the object is one; what comes is a new context with a reference of its own to it.
        let context = unsafe { from_glib_full((functions.context_new_cuda_context)(pointer)) };
        let wrapped = Arc::new(Self { object, context, functions, device });
        contexts.push(Arc::downgrade(&wrapped));
        Ok(wrapped)
    }

    /// Index of the GPU.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.device
    }

    /// The `CUcontext`, as a number.
    #[must_use]
    pub fn handle(&self) -> u64 {
        // SAFETY: the object is a GstCudaContext.
        unsafe { (self.functions.context_get_handle)(self.raw()) as u64 }
    }

    /// Whether memory belongs to streams, and its reader waits for them (GStreamer 1.24 and newer). Before that, decoders
    /// wait before they hand a buffer on, and whoever renders waits before an encoder gets one.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        self.functions.streams.is_some()
    }

    /// Gives the context to a pipeline, and with it to all elements that are in it or come into it. To be called before the
    /// pipeline leaves NULL: an element that has a context keeps it.
    pub fn give(&self, pipeline: &gst::Pipeline) {
        pipeline.set_context(&self.context);
    }

    /// Gives the context to an element outside a pipeline.
    pub fn give_element(&self, element: &gst::Element) {
        element.set_context(&self.context);
    }

    /// Answers an element that asks for a CUDA context; false where a message is none of that kind. To be called on the
    /// thread that posts the message: a bus's sync handler.
    pub fn answer(&self, message: &gst::MessageRef) -> bool {
        let gst::MessageView::NeedContext(wanted) = message.view() else { return false };
        if wanted.context_type() != super::CONTEXT {
            return false;
        }
        let Some(element) = message.src().and_then(|source| source.downcast_ref::<gst::Element>()) else {
            return false;
        };
        element.set_context(&self.context);
        true
    }

    pub(super) fn functions(&self) -> &'static Functions {
        self.functions
    }

    /// The `GstCudaContext`; lives for as long as `self`.
    pub(super) fn raw(&self) -> *mut gst::ffi::GstObject {
        self.object.to_glib_none().0
    }
}
