//! Where tensors lie: which memory, at which address, how large.
//!
//! In: a session's options, tensors of ONNX Runtime. Out: allocators, addresses and shapes as plain data. Owned by the
//! session. Fails with ONNX Runtime's words.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::value::{DynTensor, TensorElementType};

use super::{BoundOptions, Placement};
use crate::flow::ElementType;

/// An output where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTensor {
    /// Address of the first element, in the memory of the placement.
    pub address: u64,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Element type; `None` where it is none that this crate calculates with.
    pub element: Option<ElementType>,
}

/// Where outputs go.
pub(super) fn placed(options: &BoundOptions) -> Result<MemoryInfo<'static>, ort::Error> {
    if !options.on_gpu() || options.outputs == Placement::Host {
        return MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
    }
    device(options)
}

fn device(options: &BoundOptions) -> Result<MemoryInfo<'static>, ort::Error> {
    let device = options.device();
    MemoryInfo::new(AllocationDevice::CUDA, device, AllocatorType::Device, MemoryType::Default)
}

/// What gives memory for inputs, and for outputs on the device.
pub(super) fn allocator(
    session: &ort::session::Session,
    options: &BoundOptions,
    placement: Placement,
) -> Result<Allocator, ort::Error> {
    if options.on_gpu() && placement == Placement::Device {
        Allocator::new(session, device(options)?)
    } else {
        Ok(Allocator::default())
    }
}

/// What a tensor is, and where.
pub(super) fn described(tensor: &DynTensor) -> DeviceTensor {
    let element = match tensor.data_type() {
        TensorElementType::Float32 => Some(ElementType::F32),
        TensorElementType::Float16 => Some(ElementType::F16),
        TensorElementType::Uint8 => Some(ElementType::U8),
        _ => None,
    };
    let shape = tensor.shape().iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).collect();
    DeviceTensor { address: tensor.data_ptr() as u64, shape, element }
}

/// ONNX Runtime's name of an element type.
pub(super) fn ort_element(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F16 => TensorElementType::Float16,
        ElementType::U8 => TensorElementType::Uint8,
    }
}

/// Bytes of a tensor.
pub(super) fn bytes(element: ElementType, shape: &[usize]) -> usize {
    let size = match element {
        ElementType::F32 => 4,
        ElementType::F16 => 2,
        ElementType::U8 => 1,
    };
    shape.iter().product::<usize>() * size
}
