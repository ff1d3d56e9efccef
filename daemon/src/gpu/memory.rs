//! Video memory, and host memory that the GPU reaches.
//!
//! In: a [`Device`] and a size. Out: a [`Buffer`] (only the GPU follows its address) or [`Pinned`] memory (both do; what
//! the GPU writes there is to be read after its stream was waited for). Freed when dropped: whoever drops one has waited
//! for the work that uses it. Fails where there is no memory left.
#![allow(unsafe_code)]

use cudarc::driver::sys;

use super::block::{Plain, bytes};
use super::device::Device;
use super::error::GpuError;

/// Video memory.
#[derive(Debug)]
pub struct Buffer {
    device: Device,
    address: u64,
    len: usize,
}

impl Buffer {
    /// So many bytes, at least one, of whatever was there before.
    ///
    /// # Errors
    /// Where there is no video memory left.
    pub fn new(device: &Device, len: usize) -> Result<Self, GpuError> {
        let len = len.max(1);
        let mut address = 0;
        // SAFETY: writes one number to where it is told.
        device.call("cuMemAlloc", || unsafe { sys::cuMemAlloc_v2(&raw mut address, len) })?;
        Ok(Self { device: device.clone(), address, len })
    }

    /// Its address on the GPU.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a buffer has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for so many bytes; what was there is lost where there was too little.
    ///
    /// # Errors
    /// As [`Self::new`]; then it is as it was.
    pub fn reserve(&mut self, len: usize) -> Result<(), GpuError> {
        if self.len < len {
            *self = Self::new(&self.device, len)?;
        }
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let address = self.address;
        // SAFETY: given by `cuMemAlloc`, and freed once.
        self.device.release("cuMemFree", || unsafe { sys::cuMemFree_v2(address) });
    }
}

/// Host memory that the GPU reaches over the bus, at an address of its own.
#[derive(Debug)]
pub struct Pinned {
    device: Device,
    host: std::ptr::NonNull<u8>,
    address: u64,
    len: usize,
}

// SAFETY: plain memory, owned by this alone; the GPU's work on it is its owner's to order.
unsafe impl Send for Pinned {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Pinned {}

/// Reached by every context of the process, and mapped for the GPU.
const FLAGS: u32 = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;

impl Pinned {
    /// So many bytes, at least one, all zero.
    ///
    /// # Errors
    /// Where the system locks no more memory.
    pub fn new(device: &Device, len: usize) -> Result<Self, GpuError> {
        let len = len.max(1);
        let mut host = std::ptr::null_mut();
        // SAFETY: writes one pointer to where it is told.
        device.call("cuMemHostAlloc", || unsafe { sys::cuMemHostAlloc(&raw mut host, len, FLAGS) })?;
        let Some(host) = std::ptr::NonNull::new(host.cast::<u8>()) else {
            return Err(GpuError::of(device.index(), "cuMemHostAlloc", sys::CUresult::CUDA_ERROR_UNKNOWN));
        };
        // From here on, dropping frees it.
        let mut pinned = Self { device: device.clone(), host, address: 0, len };
        let mut address = 0;
        device.call("cuMemHostGetDevicePointer", || {
            // SAFETY: the memory was just made for the device; writes one number to where it is told.
            unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut address, host.as_ptr().cast(), 0) }
        })?;
        pinned.address = address;
        // SAFETY: `len` bytes from `host` on are this memory.
        unsafe { std::ptr::write_bytes(host.as_ptr(), 0, len) };
        Ok(pinned)
    }

    /// Its address on the GPU.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: it has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its bytes. The GPU's writes are seen after their stream was waited for.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is `len` bytes, all set at the beginning, and lives as long as this.
        unsafe { std::slice::from_raw_parts(self.host.as_ptr(), self.len) }
    }

    /// Its bytes, to be written. The GPU must not be at work on them.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `bytes`; the reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.host.as_ptr(), self.len) }
    }

    /// The first `count` values: as many as there is room for, at most.
    #[must_use]
    pub fn values<T: Plain>(&self, count: usize) -> &[T] {
        let count = count.min(self.len / size_of::<T>());
        // SAFETY: the driver aligns what it allocates to 256 bytes at least; `Plain` types take any bytes, and the
        // memory holds `count` of them.
        unsafe { std::slice::from_raw_parts(self.host.as_ptr().cast(), count) }
    }

    /// Writes values from the beginning on, as many as there is room for.
    pub fn write<T: Plain>(&mut self, values: &[T]) {
        let from = bytes(values);
        let count = from.len().min(self.len);
        self.bytes_mut()[..count].copy_from_slice(&from[..count]);
    }

    /// Makes room for so many bytes; what was there is lost where there was too little.
    ///
    /// # Errors
    /// As [`Self::new`]; then it is as it was.
    pub fn reserve(&mut self, len: usize) -> Result<(), GpuError> {
        if self.len < len {
            *self = Self::new(&self.device, len)?;
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let host = self.host;
        // SAFETY: given by `cuMemHostAlloc`, and freed once.
        self.device.release("cuMemFreeHost", || unsafe { sys::cuMemFreeHost(host.as_ptr().cast()) });
    }
}
