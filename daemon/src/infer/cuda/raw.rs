//! The fence around what `ort` leaves unsafe: tensors over a part of a block of memory, and foreign CUDA streams.
//!
//! In: an allocator of ONNX Runtime; offsets in a block; a stream's handle. Out: tensors that ONNX Runtime reads and
//! writes in place. ONNX Runtime owns the memory, so that binding a tensor copies nothing (a borrowed one would be
//! cloned); here a block is shared by the views on it, which keep it alive. Fails with ONNX Runtime's words.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use ort::AsPointer;
use ort::ep::{CUDA, TensorRT};
use ort::memory::Allocator;
use ort::value::{DynTensor, TensorElementType};

/// Blocks begin at a multiple of this and are as long as one: so a block is of whole pages, which is what a driver asks
/// of host memory that it shall map.
pub(super) const PAGE: usize = 4096;

/// Memory of one allocator, for many tensors.
#[derive(Debug)]
pub(super) struct Block {
    /// Owns the memory; never read as a tensor.
    _owner: DynTensor,
    allocator: Allocator,
    address: usize,
    bytes: usize,
}

// SAFETY: `ort` leaves `Allocator` without `Sync` because CUDA's must not allocate in two threads at once. A block
// allocates before it is shared, and later only lends the description of its memory.
unsafe impl Sync for Block {}

impl Block {
    /// Takes so many bytes, or a few more, from an allocator; on the host they are zeros.
    pub(super) fn new(allocator: Allocator, bytes: usize) -> Result<Arc<Self>, ort::Error> {
        let bytes = bytes.next_multiple_of(PAGE).max(PAGE);
        let owner = DynTensor::new(&allocator, TensorElementType::Uint8, [(bytes + PAGE) as i64])?;
        let address = (owner.data_ptr() as usize).next_multiple_of(PAGE);
        Ok(Arc::new(Self { _owner: owner, allocator, address, bytes }))
    }

    /// Where it begins, in the memory of its allocator.
    pub(super) fn address(&self) -> u64 {
        self.address as u64
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A tensor over a part of a block.
#[derive(Debug)]
pub(super) struct View {
    /// Before the block: it goes first.
    tensor: DynTensor,
    _block: Arc<Block>,
}

impl View {
    /// A tensor of this element type and shape that lies at an offset of a block.
    pub(super) fn new(
        block: &Arc<Block>,
        offset: usize,
        element: TensorElementType,
        shape: &[usize],
    ) -> Result<Self, ort::Error> {
        let shape: Vec<i64> = shape.iter().map(|axis| *axis as i64).collect();
        let elements = shape.iter().product::<i64>() as usize;
        let bytes = element
            .byte_size(elements)
            .filter(|bytes| offset.checked_add(*bytes).is_some_and(|end| end <= block.bytes))
            .ok_or_else(|| ort::Error::new(format!("{element} {shape:?} does not fit into its block")))?;
        let mut value = null_mut();
        // SAFETY: the description of the memory is the allocator's own and lives as long as the block; the address and
        // the length lie in the block's memory, as was just checked; the shape is read during the call only. A status
        // that the call gives goes to `result_from_status` alone.
        let made = unsafe {
            ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
                block.allocator.memory_info().ptr(),
                (block.address + offset) as *mut c_void,
                bytes,
                shape.as_ptr(),
                shape.len(),
                element.into(),
                &raw mut value,
            ))
        };
        made?;
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime gave no tensor"))?;
        // SAFETY: the value was just made, nobody else has it, and the allocator is that of its memory.
        let tensor = unsafe { DynTensor::from_ptr(value, Some(&block.allocator)) };
        Ok(Self { tensor, _block: Arc::clone(block) })
    }

    /// The tensor. Whoever binds it keeps the view at least as long as the binding.
    pub(super) fn tensor(&self) -> &DynTensor {
        &self.tensor
    }

    /// As [`Self::tensor`], to be written into.
    pub(super) fn tensor_mut(&mut self) -> &mut DynTensor {
        &mut self.tensor
    }
}

/// CUDA's provider on a stream.
pub(super) fn cuda_on(provider: CUDA, stream: u64) -> CUDA {
    // SAFETY: whoever opens a session on a stream keeps the stream longer than the session, as
    // `BoundOptions::compute_stream` says.
    unsafe { provider.with_compute_stream(stream as usize as *mut ()) }
}

/// TensorRT's provider on a stream.
pub(super) fn tensorrt_on(provider: TensorRT, stream: u64) -> TensorRT {
    // SAFETY: as above.
    unsafe { provider.with_compute_stream(stream as usize as *mut ()) }
}

/// Writes into a slot that lies on the host, as a kernel would.
#[cfg(test)]
pub(super) fn poke(slot: &super::Slot, bytes: &[u8]) {
    assert!(bytes.len() <= slot.bytes(), "{} bytes into {}", bytes.len(), slot.bytes());
    // SAFETY: the slot keeps its memory, which is that long, and nothing else reads or writes it now.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot.address() as *mut u8, bytes.len()) };
}

/// Reads 32-bit floats that lie on the host, as a kernel would.
#[cfg(test)]
pub(super) fn peek(tensor: &super::DeviceTensor) -> Vec<f32> {
    assert_eq!(tensor.element, Some(crate::flow::ElementType::F32));
    // SAFETY: the tests read outputs of the CPU's provider before anything else is done with their session.
    unsafe { std::slice::from_raw_parts(tensor.address as *const f32, tensor.shape.iter().product()) }
        .to_vec()
}
