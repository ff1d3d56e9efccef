//! What the tensor kernel is given: the CPU lane's own tables and conversions, in the kernel's form.
//!
//! In: a picture in video memory, rectangles of it. Out: [`Tables`] (one block of bytes for the device, for all pictures
//! of one size and one rectangle) and the [`Job`] that refers to them. Both lanes take them from one plan, and the
//! kernel repeats the CPU lane's arithmetic, so their tensors agree bit for bit. No device is touched here. Fails as
//! [`Preprocessor::run`] does.

use super::axis::{LERP_ONE, Lerp, RowPair, Taps};
use super::plan::{Plan, Plane};
use super::{PreprocessError, Preprocessor, color};
use crate::config::manifest::Layout;
use crate::flow::{PixelFormat, Rect, Size};
use crate::gpu::block::Block;
use crate::gpu::params::{Axis, DevicePicture, Fold, Geometry, Job};

/// The tables of one rectangle of pictures of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    block: Block,
    /// Luma's and chroma's columns and rows; addresses count from the block's beginning.
    axes: [Axis; 4],
    fixed: bool,
    /// Left, top, width and height of the picture in the input.
    place: [i32; 4],
}

impl Tables {
    fn new(plan: &Plan, picture: Size) -> Self {
        let mut block = Block::default();
        let chroma = Size::new(picture.width.div_ceil(2), picture.height.div_ceil(2));
        let mut plane = |plane: &Plane, size: Size| match plane {
            Plane::Lerp { x, y } => {
                [columns(&mut block, x, size.width), row_pairs(&mut block, y, size.height)]
            }
            Plane::Taps { x, y } => {
                [taps(&mut block, x, plan.width, size.width), taps(&mut block, y, plan.height, size.height)]
            }
        };
        let [luma_x, luma_y] = plane(&plan.luma, picture);
        let [chroma_x, chroma_y] = plane(&plan.chroma, chroma);
        Self {
            block,
            axes: [luma_x, luma_y, chroma_x, chroma_y],
            fixed: matches!(plan.luma, Plane::Lerp { .. }),
            place: [plan.left, plan.top, plan.width, plan.height].map(|pixels| pixels as i32),
        }
    }

    /// What to copy to the device, to an address that is a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }
}

/// Weights of 1/16384: exact in 32-bit floats.
fn columns(block: &mut Block, table: &Lerp, len: u32) -> Axis {
    let first: Vec<i32> = table.indices().iter().map(|index| index + table.first() as i32).collect();
    let one = LERP_ONE as f32;
    let pair = |weights: &i32| [(weights & 0xffff) as f32 / one, (weights >> 16) as f32 / one];
    let weights: Vec<f32> = table.weights().iter().flat_map(pair).collect();
    axis(block, &first, &weights, 2, len)
}

/// Weights of 1/32768: exact in 32-bit floats. The lower row of a pair is the next one, but for the plane's last, where
/// its weight is 0 or it is the last itself: the kernel stays in the plane in the same way.
fn row_pairs(block: &mut Block, table: &[RowPair], len: u32) -> Axis {
    let first: Vec<i32> = table.iter().map(|pair| pair.upper as i32).collect();
    let weight = |pair: &RowPair| f32::from(pair.weight) / 32768.0;
    let weights: Vec<f32> = table.iter().flat_map(|pair| [1.0 - weight(pair), weight(pair)]).collect();
    axis(block, &first, &weights, 2, len)
}

/// As many taps for each pixel as the one with most has; those beyond a pixel's own weigh nothing.
fn taps(block: &mut Block, table: &Taps, count: usize, len: u32) -> Axis {
    let most = (0..count).map(|pixel| table.at(pixel).1.len()).max().unwrap_or(1);
    let mut first = Vec::with_capacity(count);
    let mut all = vec![0.0; count * most];
    for (pixel, padded) in all.chunks_exact_mut(most).enumerate() {
        let (start, weights) = table.at(pixel);
        first.push(start as i32);
        padded[..weights.len()].copy_from_slice(weights);
    }
    axis(block, &first, &all, most as i32, len)
}

fn axis(block: &mut Block, first: &[i32], weights: &[f32], taps: i32, len: u32) -> Axis {
    let (first, weights) = (block.push(first), block.push(weights));
    Axis { first, weights, taps, last: len as i32 - 1 }
}

impl Preprocessor {
    /// The kernel's geometry: the whole input.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry {
            width: self.size.width as i32,
            height: self.size.height as i32,
            channels: self.channels() as i32,
            interleaved: i32::from(self.input.layout == Layout::Nhwc),
        }
    }

    /// The tables for a rectangle of pictures of this size. They are worth keeping on the device for a rectangle that
    /// comes again, such as the whole picture.
    ///
    /// # Errors
    /// Where the rectangle has nothing in common with the picture.
    pub fn tables(&mut self, picture: Size, rect: &Rect) -> Result<Tables, PreprocessError> {
        let plan = self.cache.plan(picture, rect);
        let plan = plan.ok_or(PreprocessError::EmptyRect { rect: *rect, picture })?;
        Ok(Tables::new(plan, picture))
    }

    /// The job that fills batch entry `entry` from a picture, with tables for its size that lie at `address` on the
    /// device.
    ///
    /// # Errors
    /// Where a pitch is shorter than a row or cuts a sample, or the picture is none that the kernel reads.
    pub fn job(
        &mut self,
        picture: &DevicePicture,
        tables: &Tables,
        address: u64,
        entry: usize,
    ) -> Result<Job, PreprocessError> {
        check(picture)?;
        let at = |axis: Axis| Axis { first: axis.first + address, weights: axis.weights + address, ..axis };
        let [luma_x, luma_y, chroma_x, chroma_y] = tables.axes.map(at);
        let [left, top, width, height] = tables.place;
        let mut job = Job {
            luma: picture.luma,
            chroma: picture.chroma,
            luma_pitch: picture.luma_pitch,
            chroma_pitch: picture.chroma_pitch,
            bytes: picture.bytes(),
            fixed: i32::from(tables.fixed),
            left,
            top,
            width,
            height,
            entry: entry as i32,
            luma_x,
            luma_y,
            chroma_x,
            chroma_y,
            ..Job::default()
        };
        let folds = color::kept(&mut self.folds, &self.input, picture.color, picture.format);
        for (to, fold) in job.folds.iter_mut().zip(folds) {
            let color::Fold { y, u, v, offset, low, high, pad } = *fold;
            *to = Fold { y, u, v, offset, low, high, pad };
        }
        Ok(job)
    }
}

/// Checks what can be checked without looking at the memory.
fn check(picture: &DevicePicture) -> Result<(), PreprocessError> {
    let pitches = [picture.luma_pitch, picture.chroma_pitch];
    let rows =
        [picture.size.width, picture.chroma_size().width * 2].map(|n| n as usize * picture.bytes() as usize);
    for (plane, (pitch, row)) in pitches.into_iter().zip(rows).enumerate() {
        let stride = usize::try_from(pitch).unwrap_or(0);
        let aligned = stride.is_multiple_of(picture.bytes() as usize);
        if stride < row
            || !aligned
            || row == 0
            || picture.size.height == 0
            || picture.format == PixelFormat::I420
        {
            let (format, size) = (picture.format, picture.size);
            return Err(PreprocessError::Plane { plane, format, size, length: 0, stride, row, expected: 0 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
