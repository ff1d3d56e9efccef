//! An output of ONNX Runtime as a tensor of 32-bit floats.
//!
//! In: a tensor in memory that the host may read, of 32-bit or 16-bit floats or 64-bit integers. Out: its values in a
//! tensor whose memory is used again. Another element type is an error that names the output.

use half::slice::HalfFloatSliceExt;
use ort::value::{TensorElementType, TensorValueTypeMarker, Value};

use super::InferError;
use crate::flow::{ElementType, Tensor, TensorData};

/// Copies an output into a tensor of 32-bit floats, reusing its memory.
pub(super) fn copy<T: TensorValueTypeMarker + ?Sized>(
    value: &Value<T>,
    output: &mut Tensor,
    name: &str,
) -> Result<(), InferError> {
    let Tensor { shape, data: TensorData::F32(data), .. } = output else {
        *output = Tensor::zeros(ElementType::F32, &[0]);
        return copy(value, output, name);
    };
    let mut set_shape = |axes: &[i64]| {
        shape.clear();
        shape.extend(axes.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)));
    };
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            let (axes, values) = value.try_extract_tensor::<f32>()?;
            set_shape(axes);
            data.clear();
            data.extend_from_slice(values);
        }
        Some(TensorElementType::Float16) => {
            let (axes, values) = value.try_extract_tensor::<half::f16>()?;
            set_shape(axes);
            data.resize(values.len(), 0.0);
            values.convert_to_f32_slice(data);
        }
        Some(TensorElementType::Int64) => {
            let (axes, values) = value.try_extract_tensor::<i64>()?;
            set_shape(axes);
            data.clear();
            data.extend(values.iter().map(|value| *value as f32));
        }
        _ => {
            return Err(InferError::Tensor {
                name: name.to_owned(),
                expected: "tensors of 32-bit or 16-bit floats".into(),
                found: value.dtype().to_string(),
            });
        }
    }
    Ok(())
}
