//! Pictures become tensors, in one pass: colour conversion, resize, letterbox, normalise.
//!
//! In: a [`Picture`] as the decoder laid it out (NV12, I420, P010), rectangles of it, and the manifest's input.
//! Out: a [`Tensor`] with one batch entry for each rectangle. A [`Preprocessor`] owns its tables and scratch
//! rows and belongs to one thread. A rectangle outside the picture, or planes shorter than the picture, are
//! errors; the tensor's contents are then undefined.
//!
//! Chroma is taken as sited in the middle of its 2 × 2 luma samples, as the pictures are that models are usually
//! trained on. Values are not rounded on the way; in 32-bit floats they agree with exact arithmetic to 0.1 of a
//! sample step of 255.

mod axis;
mod color;
mod cpu;
mod cuda;
mod kernels;
mod letterbox;
mod plan;
mod simd;
mod store;
#[cfg(test)]
mod tests;

pub use cuda::Tables;
pub use letterbox::place;
pub use simd::Isa;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::manifest::{Channels, Input, Layout};
use crate::flow::{ElementType, Letterbox, Padding, Picture, PixelFormat, Rect, Size, Tensor, TensorData};
use cpu::Scratch;
use plan::Cache;
use store::{Element, Target};

/// What goes wrong in preprocessing.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum PreprocessError {
    /// The rectangle has nothing to show.
    #[error("rectangle {rect:?} has nothing in common with the {picture} picture")]
    EmptyRect {
        /// The rectangle.
        rect: Rect,
        /// The picture's size.
        picture: Size,
    },
    /// A picture that is smaller than it says.
    #[error(
        "plane {plane} of a {format:?} picture of {size} has {length} bytes at a stride of {stride}; \
         expected a stride of at least {row} and {expected} bytes"
    )]
    Plane {
        /// Index of the plane.
        plane: usize,
        /// Layout.
        format: PixelFormat,
        /// Size of the picture.
        size: Size,
        /// Bytes there are.
        length: usize,
        /// Bytes between rows.
        stride: usize,
        /// Bytes of a row.
        row: usize,
        /// Bytes there must be.
        expected: usize,
    },
    /// An input that no picture can fill.
    #[error("input of {size}: width and height must be at least 1 and at most 16384")]
    InputSize {
        /// Size of the input.
        size: Size,
    },
}

/// Turns pictures into tensors of one model.
#[derive(Debug)]
pub struct Preprocessor {
    input: Input,
    size: Size,
    element: ElementType,
    isa: Isa,
    cache: Cache,
    scratch: Scratch,
    folds: Option<color::Known>,
    /// Tells this preprocessor's tensors from those of others.
    id: u64,
}

static PREPROCESSORS: AtomicU64 = AtomicU64::new(0);

impl Preprocessor {
    /// For a model whose input is described by `input`, has `size` pixels and elements of type `element`.
    ///
    /// # Errors
    /// Where the size is 0 or beyond 16384.
    pub fn new(input: &Input, size: Size, element: ElementType) -> Result<Self, PreprocessError> {
        Self::with_isa(input, size, element, Isa::detect())
    }

    /// As [`Self::new`], with an instruction set of one's choice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_isa(
        input: &Input,
        size: Size,
        element: ElementType,
        isa: Isa,
    ) -> Result<Self, PreprocessError> {
        let allowed = 1..=16384;
        if !allowed.contains(&size.width) || !allowed.contains(&size.height) {
            return Err(PreprocessError::InputSize { size });
        }
        Ok(Self {
            cache: Cache::new(size, input.fit, input.filter),
            input: input.clone(),
            size,
            element,
            isa,
            scratch: Scratch::default(),
            folds: None,
            id: PREPROCESSORS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Element type of the tensor.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Channels of the tensor: 3, or 1 for gray.
    #[must_use]
    pub fn channels(&self) -> usize {
        if self.input.channels == Channels::Gray { 1 } else { 3 }
    }

    /// Shape of the tensor for so many rectangles: N C H W or N H W C. For clip models each entry is one frame
    /// in C H W, which the window builder puts in its place.
    #[must_use]
    pub fn shape(&self, entries: usize) -> [usize; 4] {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        if self.input.layout == Layout::Nhwc {
            [entries, height, width, self.channels()]
        } else {
            [entries, self.channels(), height, width]
        }
    }

    /// Where a rectangle of a picture of this size will lie in the input.
    ///
    /// # Errors
    /// Where the rectangle has nothing in common with the picture.
    pub fn letterbox(&self, picture: Size, rect: &Rect) -> Result<Letterbox, PreprocessError> {
        place(picture, rect, self.size, self.input.fit)
            .ok_or(PreprocessError::EmptyRect { rect: *rect, picture })
    }

    /// Fills `tensor` with one batch entry for each rectangle. Its memory is reused where it has the element type
    /// already, and so is the padding around the picture where the last picture lay in the same place.
    ///
    /// # Errors
    /// Where a rectangle has nothing in common with the picture, or a plane is shorter than the picture.
    pub fn run(
        &mut self,
        picture: &Picture,
        rects: &[Rect],
        tensor: &mut Tensor,
    ) -> Result<(), PreprocessError> {
        check(picture)?;
        let shape = self.shape(rects.len());
        let entry = shape[1..].iter().product::<usize>();
        tensor.fit(self.element, &shape);
        let padded = tensor.padding.take();
        tensor.padding = match &mut tensor.data {
            TensorData::F32(data) => self.fill(picture, rects, data, entry, padded),
            TensorData::F16(data) => self.fill(picture, rects, data, entry, padded),
            TensorData::U8(data) => self.fill(picture, rects, data, entry, padded),
        }?;
        Ok(())
    }

    fn fill<T: Element>(
        &mut self,
        picture: &Picture,
        rects: &[Rect],
        data: &mut [T],
        entry: usize,
        padded: Option<Padding>,
    ) -> Result<Option<Padding>, PreprocessError> {
        let mut padding = None;
        let folds = color::kept(&mut self.folds, &self.input, picture.color, picture.format);
        for (rect, elements) in rects.iter().zip(data.chunks_exact_mut(entry)) {
            let plan = self
                .cache
                .plan(picture.size, rect)
                .ok_or(PreprocessError::EmptyRect { rect: *rect, picture: picture.size })?;
            let mut target = Target {
                elements,
                width: self.size.width as usize,
                height: self.size.height as usize,
                interleaved: self.input.layout == Layout::Nhwc,
            };
            padding = Some(Padding { by: self.id, around: [plan.left, plan.top, plan.width, plan.height] });
            // Known of single entries only.
            if padding != padded {
                target.pad(plan, folds);
            }
            cpu::entry(self.isa, picture, plan, folds, &mut self.scratch, &mut target);
        }
        Ok(padding.filter(|_| rects.len() == 1))
    }
}

/// Checks that every plane holds the picture.
fn check(picture: &Picture) -> Result<(), PreprocessError> {
    for plane in 0..picture.format.planes() {
        let size = if plane == 0 { picture.size } else { picture.chroma_size() };
        let row = size.width as usize * cpu::bytes_per_sample(picture.format, plane);
        let stride = picture.strides[plane];
        let expected = stride * (size.height as usize).saturating_sub(1) + row;
        let length = picture.plane(plane).len();
        if stride < row || length < expected || row == 0 || size.height == 0 {
            let (format, size) = (picture.format, picture.size);
            return Err(PreprocessError::Plane { plane, format, size, length, stride, row, expected });
        }
    }
    Ok(())
}
