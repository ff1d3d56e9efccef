//! One GPU of this process: its primary context, its kernels, and whether it is lost.
//!
//! In: an index. Out: a [`Device`], cheap to clone, that streams and memory are made of. The primary context is the one
//! that cudarc, GStreamer (wrapped) and ONNX Runtime share; it is retained once and released when the last clone goes.
//! Every call of the driver goes through [`Device::call`], which makes the context current on the calling thread and
//! remembers an error after which nothing works any more: then every later call fails with that same error, at once.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{self, CUresult};

use super::error::GpuError;
use super::gst::{CudaContext, NoCudaMemory};
use super::kernels;

/// One GPU of this process.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    index: u32,
    device: sys::CUdevice,
    context: sys::CUcontext,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    lost: OnceLock<GpuError>,
    /// Who is told of it.
    when_lost: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

// SAFETY: the handles are the driver's, which may be used from any thread while they live; they live as long as this.
unsafe impl Send for Inner {}
// SAFETY: as above; nothing here is changed after it was made, but for the `OnceLock`.
unsafe impl Sync for Inner {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.0.index)
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Device {
    /// Retains the GPU's primary context and loads the kernels. [`super::probe`] must have found the driver.
    ///
    /// # Errors
    /// What the driver refuses: no such GPU, no memory for a context, PTX that it cannot compile.
    pub fn open(index: u32) -> Result<Self, GpuError> {
        let check = |call, result| match result {
            CUresult::CUDA_SUCCESS => Ok(()),
            other => Err(GpuError::of(index, call, other)),
        };
        let mut device = 0;
        // SAFETY: writes one number to where it is told.
        check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, index.cast_signed()) })?;
        let mut context = std::ptr::null_mut();
        // SAFETY: the device was just given; the context is released when `Inner` is dropped.
        check("cuDevicePrimaryCtxRetain", unsafe {
            sys::cuDevicePrimaryCtxRetain(&raw mut context, device)
        })?;
        // From here on, dropping releases what there is.
        let mut inner = Inner {
            index,
            device,
            context,
            modules: Vec::new(),
            functions: HashMap::new(),
            lost: OnceLock::new(),
            when_lost: OnceLock::new(),
        };
        inner.load()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Index, as in the configuration.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.0.index
    }

    /// Handle of the primary context.
    #[must_use]
    pub fn context(&self) -> sys::CUcontext {
        self.0.context
    }

    /// GStreamer's object for the primary context, the same for all pipelines.
    ///
    /// # Errors
    /// Where GStreamer does not start or has no CUDA library.
    pub fn gstreamer(&self) -> Result<Arc<CudaContext>, NoCudaMemory> {
        // SAFETY: the context is this device's, and is retained for as long as the clone that goes with it.
        unsafe { CudaContext::wrap(self.0.context, self.0.index, Arc::new(self.clone())) }
    }

    /// The error after which nothing works any more, once it came.
    #[must_use]
    pub fn lost(&self) -> Option<&GpuError> {
        self.0.lost.get()
    }

    /// Has somebody told when the device is lost, at once, on the thread whose call found it out. The first to ask is told.
    pub fn when_lost(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.when_lost.set(Box::new(tell));
    }

    /// Calls the driver with the context current.
    pub(super) fn call(&self, name: &'static str, call: impl FnOnce() -> CUresult) -> Result<(), GpuError> {
        self.0.call(name, call)
    }

    /// As [`Self::call`], also on a lost device, for what gives something back: there is nobody to tell of a failure.
    pub(super) fn release(&self, name: &'static str, call: impl FnOnce() -> CUresult) {
        self.0.release(name, call);
    }

    /// A kernel by its name.
    pub(super) fn function(&self, name: &'static str) -> Result<sys::CUfunction, GpuError> {
        let found = self.0.functions.get(name).copied();
        found.ok_or_else(|| GpuError::of(self.0.index, "cuModuleGetFunction", CUresult::CUDA_ERROR_NOT_FOUND))
    }
}

impl Inner {
    fn load(&mut self) -> Result<(), GpuError> {
        for module in kernels::ALL {
            let ptx = CString::new(module.ptx).unwrap_or_default();
            let mut handle = std::ptr::null_mut();
            self.call("cuModuleLoadData", || {
                // SAFETY: the text ends with a zero byte and is only read during the call.
                unsafe { sys::cuModuleLoadData(&raw mut handle, ptx.as_ptr().cast()) }
            })?;
            self.modules.push(handle);
            for name in module.kernels {
                let c_name = CString::new(*name).unwrap_or_default();
                let mut function = std::ptr::null_mut();
                self.call("cuModuleGetFunction", || {
                    // SAFETY: the module was just loaded; the name ends with a zero byte.
                    unsafe { sys::cuModuleGetFunction(&raw mut function, handle, c_name.as_ptr()) }
                })?;
                self.functions.insert(name, function);
            }
        }
        Ok(())
    }

    fn call(&self, name: &'static str, call: impl FnOnce() -> CUresult) -> Result<(), GpuError> {
        if let Some(lost) = self.lost.get() {
            return Err(lost.clone());
        }
        // SAFETY: the context is retained as long as this lives.
        let mut outcome = ("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) });
        if outcome.1 == CUresult::CUDA_SUCCESS {
            outcome = (name, call());
        }
        if outcome.1 == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let error = GpuError::of(self.index, outcome.0, outcome.1);
        if error.is_sticky() {
            // Another thread may have been first: its error is the cause then.
            if self.lost.set(error.clone()).is_ok()
                && let Some(tell) = self.when_lost.get()
            {
                tell();
            }
            return Err(self.lost.get().cloned().unwrap_or(error));
        }
        Err(error)
    }

    fn release(&self, name: &'static str, call: impl FnOnce() -> CUresult) {
        // SAFETY: as in `call`.
        let current = unsafe { sys::cuCtxSetCurrent(self.context) };
        for (name, result) in [("cuCtxSetCurrent", current), (name, call())] {
            if result != CUresult::CUDA_SUCCESS && self.lost.get().is_none() {
                let error = GpuError::of(self.index, name, result);
                tracing::warn!(%error, "the GPU does not take something back");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for module in std::mem::take(&mut self.modules) {
            // SAFETY: loaded by `load`, and nobody holds a function of it but this.
            self.release("cuModuleUnload", || unsafe { sys::cuModuleUnload(module) });
        }
        // SAFETY: no context is current on this thread then; the retained one is given back once.
        unsafe { sys::cuCtxSetCurrent(std::ptr::null_mut()) };
        // SAFETY: as above.
        let result = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
        if result != CUresult::CUDA_SUCCESS && self.lost.get().is_none() {
            let error = GpuError::of(self.index, "cuDevicePrimaryCtxRelease", result);
            tracing::warn!(%error, "the GPU's context is not released");
        }
    }
}
