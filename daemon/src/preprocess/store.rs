//! Where rows of channels land: element types and axes of the tensor, and the padding around the picture.
//!
//! In: rows of 32-bit floats. Out: elements of one batch entry of the tensor. Nothing fails.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::color::Fold;
use super::plan::Plan;
use super::simd::Isa;

/// An element type of tensors.
pub trait Element: Copy {
    /// One value, rounded to nearest.
    fn from_value(value: f32) -> Self;

    /// A row of values.
    fn convert(isa: Isa, row: &[f32], out: &mut [Self]);

    /// The row itself, where its elements are 32-bit floats and need no conversion.
    fn direct(row: &mut [Self]) -> Option<&mut [f32]>;
}

impl Element for f32 {
    fn from_value(value: f32) -> Self {
        value
    }

    fn convert(_: Isa, row: &[f32], out: &mut [Self]) {
        out.copy_from_slice(row);
    }

    fn direct(row: &mut [Self]) -> Option<&mut [f32]> {
        Some(row)
    }
}

impl Element for f16 {
    fn from_value(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn convert(_: Isa, row: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(row);
    }

    fn direct(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

impl Element for u8 {
    fn from_value(value: f32) -> Self {
        (value + 0.5) as Self
    }

    fn convert(isa: Isa, row: &[f32], out: &mut [Self]) {
        isa.to_bytes(row, out);
    }

    fn direct(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

/// One batch entry of a tensor.
#[derive(Debug)]
pub struct Target<'a, T> {
    /// Its elements.
    pub elements: &'a mut [T],
    /// Columns of the input.
    pub width: usize,
    /// Rows of the input.
    pub height: usize,
    /// Whether the channels of a pixel lie together (H W C), and not in planes (C H W).
    pub interleaved: bool,
}

impl<T: Element> Target<'_, T> {
    /// Fills everything around the picture.
    pub fn pad(&mut self, plan: &Plan, folds: &[Fold]) {
        let right = plan.left + plan.width;
        let bottom = plan.top + plan.height;
        if self.interleaved {
            let channels = folds.len();
            let pads: Vec<T> = folds.iter().map(|fold| T::from_value(fold.pad)).collect();
            let fill =
                |part: &mut [T]| part.chunks_exact_mut(channels).for_each(|p| p.copy_from_slice(&pads));
            let stride = self.width * channels;
            fill(&mut self.elements[..plan.top * stride]);
            fill(&mut self.elements[bottom * stride..]);
            for row in self.elements[plan.top * stride..bottom * stride].chunks_exact_mut(stride) {
                fill(&mut row[..plan.left * channels]);
                fill(&mut row[right * channels..]);
            }
        } else {
            for (plane, fold) in self.elements.chunks_exact_mut(self.width * self.height).zip(folds) {
                let pad = T::from_value(fold.pad);
                plane[..plan.top * self.width].fill(pad);
                plane[bottom * self.width..].fill(pad);
                for row in plane[plan.top * self.width..bottom * self.width].chunks_exact_mut(self.width) {
                    row[..plan.left].fill(pad);
                    row[right..].fill(pad);
                }
            }
        }
    }

    /// The row of a channel within the tensor, where it can be written without conversion.
    pub fn direct(&mut self, plan: &Plan, channel: usize, row: usize) -> Option<&mut [f32]> {
        if self.interleaved { None } else { T::direct(self.planar(plan, channel, row)) }
    }

    fn planar(&mut self, plan: &Plan, channel: usize, row: usize) -> &mut [T] {
        let start = (channel * self.height + plan.top + row) * self.width + plan.left;
        &mut self.elements[start..start + plan.width]
    }

    /// Stores the channels of a row, where [`Self::direct`] gave nothing; `mixed` is room for all of them.
    pub fn store(&mut self, isa: Isa, plan: &Plan, row: usize, channels: &[Vec<f32>; 3], mixed: &mut [f32]) {
        let count = self.elements.len() / (self.width * self.height);
        if self.interleaved {
            let start = ((plan.top + row) * self.width + plan.left) * count;
            let out = &mut self.elements[start..start + plan.width * count];
            let [a, b, c] = channels;
            if count == 1 {
                T::convert(isa, a, out);
            } else if let Some(out) = T::direct(out) {
                isa.interleave([a, b, c], out);
            } else {
                isa.interleave([a, b, c], mixed);
                T::convert(isa, mixed, out);
            }
            return;
        }
        for (channel, values) in channels.iter().take(count).enumerate() {
            let out = self.planar(plan, channel, row);
            if T::direct(out).is_none() {
                T::convert(isa, values, out);
            }
        }
    }
}
