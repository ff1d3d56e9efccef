//! THE seam: a lane is where pixels live.
//!
//! A lane names its pixels and its tensor, and does what touches them: takes a source's picture in, blacks out
//! masks, makes tensors, renders views. Control, plugins and results know no lane. The lane of a stream is chosen
//! once, when it is built; a CPU frame offered to a CUDA stage does not compile.

use crate::config::Manifest;
use crate::flow::{Decoded, ElementType, Letterbox, Picture, Rect, Size, Tensor};
use crate::preprocess::{PreprocessError, Preprocessor};
use crate::render::{Masks, Overlay, Renderer};

/// What a model wants to be fed.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The manifest: channel order, fit, filter, normalisation.
    pub manifest: Manifest,
    /// Input size in pixels.
    pub size: Size,
    /// Element type of the input tensor.
    pub element: ElementType,
}

/// Why a lane cannot go on with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaneError(pub String);

/// Where pixels live.
pub trait Lane: Send + 'static {
    /// A frame's pixels; cheap to clone.
    type Pixels: Clone + Send + Sync + 'static;
    /// A tensor ready for a model of this lane. The default has no memory yet.
    type Tensor: Default + Send + 'static;
    /// Makes tensors for one model; owns its scratch memory.
    type Preprocess: Send;
    /// Renders one output; owns its scratch memory.
    type Render: Send;
    /// Blacks out the masks of one stream; owns its scratch memory.
    type Mask: Send;

    /// Name in status, log and metrics.
    const NAME: &'static str;

    /// A decoder's picture becomes a frame of this lane: as it is, or by one counted copy.
    ///
    /// # Errors
    /// Where the lane has no room for it, or its device is lost.
    fn adopt(&mut self, decoded: Decoded) -> Result<Self::Pixels, LaneError>;

    /// Masks over these polygons (source pixels).
    fn masks(&self, polygons: Vec<Vec<[f32; 2]>>) -> Self::Mask;

    /// The pixels with the masks black.
    fn mask(&self, mask: &mut Self::Mask, pixels: &Self::Pixels) -> Self::Pixels;

    /// Preprocessing for one model.
    ///
    /// # Errors
    /// Where the manifest asks for something that this lane cannot do.
    fn preprocessor(&self, feed: &Feed) -> Result<Self::Preprocess, PreprocessError>;

    /// One rectangle of a frame as a tensor with batch length 1. The tensor's memory is used again where it fits.
    ///
    /// # Errors
    /// Where the rectangle has nothing in common with the frame.
    fn preprocess(
        &self,
        preprocess: &mut Self::Preprocess,
        pixels: &Self::Pixels,
        rect: &Rect,
        tensor: &mut Self::Tensor,
    ) -> Result<Letterbox, PreprocessError>;

    /// A renderer for one output.
    fn renderer(&self, size: Size) -> Self::Render;

    /// One view of a frame, for an encoder that takes pictures in host memory.
    fn render(
        &self,
        render: &mut Self::Render,
        pixels: &Self::Pixels,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Picture;
}

/// Pixels in host memory.
#[derive(Debug, Default)]
pub struct Cpu;

impl Lane for Cpu {
    type Pixels = Picture;
    type Tensor = Tensor;
    type Preprocess = Preprocessor;
    type Render = Renderer;
    type Mask = Masks;

    const NAME: &'static str = "cpu";

    fn adopt(&mut self, decoded: Decoded) -> Result<Picture, LaneError> {
        match decoded {
            Decoded::Host(picture) => Ok(picture),
            Decoded::Device(frame) => {
                Err(LaneError(format!("{frame:?} is in video memory; this is the CPU lane")))
            }
        }
    }

    fn masks(&self, polygons: Vec<Vec<[f32; 2]>>) -> Masks {
        Masks::new(polygons)
    }

    fn mask(&self, mask: &mut Masks, pixels: &Picture) -> Picture {
        mask.apply(pixels)
    }

    fn preprocessor(&self, feed: &Feed) -> Result<Preprocessor, PreprocessError> {
        Preprocessor::new(&feed.manifest.input, feed.size, feed.element)
    }

    fn preprocess(
        &self,
        preprocess: &mut Preprocessor,
        pixels: &Picture,
        rect: &Rect,
        tensor: &mut Tensor,
    ) -> Result<Letterbox, PreprocessError> {
        let letterbox = preprocess.letterbox(pixels.size, rect)?;
        preprocess.run(pixels, std::slice::from_ref(rect), tensor)?;
        Ok(letterbox)
    }

    fn renderer(&self, size: Size) -> Renderer {
        Renderer::new(size)
    }

    fn render(
        &self,
        render: &mut Renderer,
        pixels: &Picture,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Picture {
        render.render(pixels, view, overlay)
    }
}
