//! Work on a GPU, in order: copies, kernels, and what waits for what.
//!
//! In: addresses that the caller owns until the work is done. Out: the work, queued. A [`Stream`] is owned by a worker
//! or a model's thread; an [`Event`] marks a place in one, for others to wait for. Copies between host and GPU are
//! counted by the [`Meter`] that the caller names: there is no other way to make one. Fails with what the driver says;
//! an error of earlier work may come with a later call.
#![allow(unsafe_code)]

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUresult};

use super::block::{Plain, bytes};
use super::device::Device;
use super::error::GpuError;
use crate::telemetry::Counter;

/// Counts the copies of one edge between host and GPU.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Frames, tables or whatever the edge copies.
    pub copies: Counter,
    /// Their bytes.
    pub bytes: Counter,
}

/// Rows of bytes in memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Address of the first.
    pub address: u64,
    /// Bytes from one to the next.
    pub pitch: usize,
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
pub struct Argument<'a>(&'a [u8]);

/// An argument of a kernel: a value, which the driver copies when the kernel is launched.
pub fn argument<T: Plain>(value: &T) -> Argument<'_> {
    Argument(bytes(std::slice::from_ref(value)))
}

/// Work in order.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    raw: sys::CUstream,
}

// SAFETY: the driver takes a stream's handle on any thread.
unsafe impl Send for Stream {}
// SAFETY: as above; work of two threads on one stream has some order.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream that does not wait for the default one.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(device: &Device) -> Result<Self, GpuError> {
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one handle to where it is told.
        device.call("cuStreamCreate", || unsafe { sys::cuStreamCreate(&raw mut raw, flags) })?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Whose it is.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its handle, for others that use the same driver.
    #[must_use]
    pub fn handle(&self) -> u64 {
        self.raw as u64
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the stream lives as long as this.
        self.device.call("cuStreamSynchronize", || unsafe { sys::cuStreamSynchronize(self.raw) })
    }

    /// Later work waits for what was marked.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait(&self, event: &Event) -> Result<(), GpuError> {
        // SAFETY: both live as long as their owners; the driver keeps what it needs of the event.
        self.device.call("cuStreamWaitEvent", || unsafe { sys::cuStreamWaitEvent(self.raw, event.raw, 0) })
    }

    /// Later work waits for what another's stream holds now, by its handle.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait_for(&self, handle: u64, event: &Event) -> Result<(), GpuError> {
        event.record_on(handle as sys::CUstream)?;
        self.wait(event)
    }

    /// Rows from host to GPU. The host's may be used again after the call where they are no pinned memory; until the
    /// copy is done they must not be freed, for drivers may read them late.
    ///
    /// # Errors
    /// What the driver says; rows shorter than `width`.
    pub fn upload(
        &self,
        meter: &Meter,
        to: Rows,
        from: &[u8],
        pitch: usize,
        width: usize,
        rows: usize,
    ) -> Result<(), GpuError> {
        if from.len() < pitch * rows.saturating_sub(1) + width || pitch < width || to.pitch < width {
            return Err(self.invalid("cuMemcpy2DAsync"));
        }
        let copy = sys::CUDA_MEMCPY2D {
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            srcHost: from.as_ptr().cast(),
            srcPitch: pitch,
            ..to_device(to, width, rows)
        };
        self.copy_rows(&copy)?;
        meter.bytes.add((width * rows) as u64);
        Ok(())
    }

    /// Rows from GPU to host, which hold them after the stream was waited for.
    ///
    /// # Errors
    /// What the driver says; rows shorter than `width`.
    pub fn download(
        &self,
        meter: &Meter,
        to: &mut [u8],
        pitch: usize,
        from: Rows,
        width: usize,
        rows: usize,
    ) -> Result<(), GpuError> {
        if to.len() < pitch * rows.saturating_sub(1) + width || pitch < width || from.pitch < width {
            return Err(self.invalid("cuMemcpy2DAsync"));
        }
        let copy = sys::CUDA_MEMCPY2D {
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcDevice: from.address,
            srcPitch: from.pitch,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            dstHost: to.as_mut_ptr().cast(),
            dstPitch: pitch,
            WidthInBytes: width,
            Height: rows,
            ..none()
        };
        self.copy_rows(&copy)?;
        meter.bytes.add((width * rows) as u64);
        Ok(())
    }

    /// Rows from one place on the GPU to another.
    ///
    /// # Errors
    /// What the driver says; rows shorter than `width`.
    pub fn copy(&self, to: Rows, from: Rows, width: usize, rows: usize) -> Result<(), GpuError> {
        if rows > 1 && (from.pitch < width || to.pitch < width) {
            return Err(self.invalid("cuMemcpy2DAsync"));
        }
        let copy = sys::CUDA_MEMCPY2D {
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcDevice: from.address,
            srcPitch: from.pitch,
            ..to_device(to, width, rows)
        };
        self.copy_rows(&copy)
    }

    /// Bytes on the GPU become zero.
    ///
    /// # Errors
    /// What the driver says.
    pub fn clear(&self, address: u64, bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller owns the memory until the work is done.
        self.device.call("cuMemsetD8Async", || unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.raw) })
    }

    /// Launches a kernel for at least as many threads along x, y and z: kernels leave alone those beyond. The arguments
    /// are those that `super::kernels` names for it.
    ///
    /// # Errors
    /// What the driver says; no such kernel.
    pub fn launch(
        &self,
        kernel: &'static str,
        threads: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Result<(), GpuError> {
        let function = self.device.function(kernel)?;
        let [x, y, z] = threads;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let block = if y == 1 { [128, 1] } else { [32, 4] };
        let mut params: Vec<*mut c_void> =
            arguments.iter().map(|argument| argument.0.as_ptr().cast_mut().cast()).collect();
        self.device.call("cuLaunchKernel", || {
            // SAFETY: function and stream are of this device; the arguments are the kernel's, as its users in this
            // crate take them from `kernels` and `params`, and are copied during the call.
            unsafe {
                sys::cuLaunchKernel(
                    function,
                    x.div_ceil(block[0]),
                    y.div_ceil(block[1]),
                    z,
                    block[0],
                    block[1],
                    1,
                    0,
                    self.raw,
                    params.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            }
        })
    }

    fn copy_rows(&self, copy: &sys::CUDA_MEMCPY2D) -> Result<(), GpuError> {
        if copy.WidthInBytes == 0 || copy.Height == 0 {
            return Ok(());
        }
        // SAFETY: the description is read during the call; the ranges on the host were checked by the callers, and who
        // calls them owns both ends until the work is done.
        self.device.call("cuMemcpy2DAsync", || unsafe { sys::cuMemcpy2DAsync_v2(copy, self.raw) })
    }

    fn invalid(&self, call: &'static str) -> GpuError {
        GpuError::of(self.device.index(), call, CUresult::CUDA_ERROR_INVALID_VALUE)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed once. What it still has to do is done first, so that memory that is
        // freed after it is not in use.
        self.device.release("cuStreamSynchronize", || unsafe { sys::cuStreamSynchronize(self.raw) });
        // SAFETY: as above.
        self.device.release("cuStreamDestroy", || unsafe { sys::cuStreamDestroy_v2(self.raw) });
    }
}

fn none() -> sys::CUDA_MEMCPY2D {
    sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: 0,
        dstArray: std::ptr::null_mut(),
        dstPitch: 0,
        WidthInBytes: 0,
        Height: 0,
    }
}

fn to_device(to: Rows, width: usize, rows: usize) -> sys::CUDA_MEMCPY2D {
    sys::CUDA_MEMCPY2D {
        dstDevice: to.address,
        dstPitch: to.pitch,
        WidthInBytes: width,
        Height: rows,
        ..none()
    }
}

/// A place in a stream's work.
#[derive(Debug)]
pub struct Event {
    device: Device,
    raw: sys::CUevent,
}

// SAFETY: the driver takes an event's handle on any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that marks nothing yet: who waits for it goes on at once.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(device: &Device) -> Result<Self, GpuError> {
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: writes one handle to where it is told.
        device.call("cuEventCreate", || unsafe { sys::cuEventCreate(&raw mut raw, flags) })?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Marks what the stream holds now.
    ///
    /// # Errors
    /// What the driver says.
    pub fn record(&self, stream: &Stream) -> Result<(), GpuError> {
        self.record_on(stream.raw)
    }

    /// Whether what it marks is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn is_done(&self) -> Result<bool, GpuError> {
        let mut done = true;
        self.device.call("cuEventQuery", || {
            // SAFETY: the event lives as long as this.
            let result = unsafe { sys::cuEventQuery(self.raw) };
            done = result != CUresult::CUDA_ERROR_NOT_READY;
            if done { result } else { CUresult::CUDA_SUCCESS }
        })?;
        Ok(done)
    }

    /// Waits until what it marks is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the event lives as long as this.
        self.device.call("cuEventSynchronize", || unsafe { sys::cuEventSynchronize(self.raw) })
    }

    fn record_on(&self, stream: sys::CUstream) -> Result<(), GpuError> {
        // SAFETY: the event lives as long as this; the stream is the caller's.
        self.device.call("cuEventRecord", || unsafe { sys::cuEventRecord(self.raw, stream) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed once; the driver waits by itself with what is not done yet.
        self.device.release("cuEventDestroy", || unsafe { sys::cuEventDestroy_v2(self.raw) });
    }
}
