//! THE seam: a lane is where pixels live.
//!
//! A lane names its pixels and its tensor, and does what touches them: takes a source's picture in, blacks out
//! masks, makes tensors, runs models on them, renders views. Control, plugins and results know no lane. The lane of a
//! stream is chosen once, when it is built; a CPU frame offered to a CUDA stage does not compile.

pub mod check;
mod cpu;
mod cuda;

use std::path::Path;

use crate::config::Manifest;
use crate::config::settings::Infer;
use crate::encode::{Input as PictureIn, OutputSpec};
use crate::flow::{Decoded, ElementType, FrameMeta, Letterbox, Rect, Recycle, Run, Size, StreamInfo};
use crate::infer::{ModelDir, Runtime, SessionOptions};
use crate::ingest::SourceSpec;
use crate::preprocess::PreprocessError;
use crate::publish::messages::Edge;
use crate::render::Overlay;

use super::model::{Answer, Input};
pub use super::serving::Serving;

pub use cpu::{Cpu, CpuLoader};
pub use cuda::{
    Cuda, CudaEngine, CudaLoader, CudaModel, CudaPreprocess, CudaShared, CudaTensor, Surface, trial,
};

/// What a model wants to be fed.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The manifest: channel order, fit, filter, normalisation.
    pub manifest: Manifest,
    /// Input size in pixels.
    pub size: Size,
    /// Element type of the input tensor.
    pub element: ElementType,
    /// Whether the input is read by the CPU; only a lane whose pixels lie elsewhere asks.
    pub on_host: bool,
}

/// What a lane cannot do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LaneError {
    /// Make a model's input of this frame; another one may do.
    #[error(transparent)]
    Input(#[from] PreprocessError),
    /// Go on with the stream: no memory, a lost device.
    #[error("{0}")]
    Stream(String),
}

/// Where pixels live.
pub trait Lane: Send + 'static {
    /// A frame's pixels; cheap to clone.
    type Pixels: Clone + Send + Sync + 'static;
    /// What a model of this lane takes of one rectangle. The default has no memory yet.
    type Tensor: Recycle + Send + Sync + 'static;
    /// Makes tensors for one model; owns its scratch memory.
    type Preprocess: Send;
    /// Renders one output; owns its scratch memory.
    type Render: Send;
    /// Blacks out the masks of one stream; owns its scratch memory.
    type Mask: Send;

    /// Name in status, log and metrics.
    const NAME: &'static str;

    /// A decoder's picture becomes a frame of this lane: as it is, or by one counted copy. What the decoder could not
    /// measure where the picture lies (motion, scene cuts) is added to `meta`.
    ///
    /// # Errors
    /// Where the lane has no room for it, or its device is lost.
    fn adopt(&mut self, decoded: Decoded, meta: &mut FrameMeta) -> Result<Self::Pixels, LaneError>;

    /// Lets a source decode where the lane's pixels live, where it can; `held`: frames of it that wait at most.
    fn decode_here(&self, source: &mut SourceSpec, held: usize);

    /// What takes a decoder's pictures in, with the copy where there is one.
    fn decode_edge(&self, info: &StreamInfo) -> Edge;

    /// Masks over these polygons (source pixels).
    fn masks(&self, polygons: Vec<Vec<[f32; 2]>>) -> Self::Mask;

    /// The pixels with the masks black.
    ///
    /// # Errors
    /// As [`Lane::adopt`].
    fn mask(&self, mask: &mut Self::Mask, pixels: &Self::Pixels) -> Result<Self::Pixels, LaneError>;

    /// Preprocessing for one model.
    ///
    /// # Errors
    /// Where the manifest asks for something that this lane cannot do.
    fn preprocessor(&self, feed: &Feed) -> Result<Self::Preprocess, LaneError>;

    /// One rectangle of a frame as a tensor with batch length 1. The tensor's memory is used again where it fits.
    ///
    /// # Errors
    /// Where the rectangle has nothing in common with the frame, or as [`Lane::adopt`].
    fn preprocess(
        &self,
        preprocess: &mut Self::Preprocess,
        pixels: &Self::Pixels,
        rect: &Rect,
        tensor: &mut Self::Tensor,
    ) -> Result<Letterbox, LaneError>;

    /// Lets an output encode where the lane's pixels live, where it can.
    fn encode_here(&self, output: &mut OutputSpec);

    /// A renderer for one output. `on_gpu`: its encoder takes pictures in video memory.
    fn renderer(&self, size: Size, on_gpu: bool) -> Self::Render;

    /// One view of a frame, where the encoder takes it; none while everything that it could lie in is with the encoder.
    ///
    /// # Errors
    /// As [`Lane::adopt`].
    fn render(
        &self,
        render: &mut Self::Render,
        pixels: &Self::Pixels,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Option<PictureIn>, LaneError>;

    /// What encodes a view that was rendered here, with the copy where there is one. `on_gpu`: as it was rendered.
    fn encode_edge(&self, output: &str, encoder: &str, on_gpu: bool) -> Edge;
}

/// A model opened for the tensors of a lane.
pub trait Engine<T: Recycle>: Send {
    /// Runs the model on some inputs, at most as many as [`Opened::batch`].
    ///
    /// # Errors
    /// Why the run failed; the inputs are then without an answer.
    fn run(&mut self, inputs: &[Input<T>]) -> Result<(), String>;

    /// What it found in one input of the last run, which lay in the source as `letterbox` says.
    ///
    /// # Errors
    /// Where the outputs cannot be read.
    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String>;
}

/// What opening a model gave.
pub struct Opened<T: Recycle> {
    /// Runs it, on the model's own thread.
    pub engine: Box<dyn Engine<T>>,
    /// What it wants to be fed.
    pub feed: Feed,
    /// Most inputs of one run.
    pub batch: usize,
    /// Threads within one run; 0 where it runs on no CPU.
    pub threads: usize,
}

/// A model cannot be run yet, and it is being worked on: whoever asks again later gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotYet(pub String);

/// How models are opened for a lane.
pub trait Loader<T: Recycle>: Send + Sync {
    /// Opens a model; what its manifest leaves to the graph's metadata is written into `dir`, what runs it into
    /// [`Order::serving`].
    ///
    /// # Errors
    /// Why it cannot be used, or [`NotYet`].
    fn open(
        &self,
        runtime: &Runtime,
        dir: &mut ModelDir,
        order: &Order<'_>,
    ) -> Result<Opened<T>, Box<dyn std::error::Error + Send + Sync>>;

    /// Whether a model is still being made ready, so that opening it would only say [`NotYet`] again.
    fn preparing(&self, _name: &str) -> Option<NotYet> {
        None
    }

    /// Ends what is being made ready for models that nobody wants any more.
    fn keep(&self, _wanted: &dyn Fn(&str) -> bool) {}
}

/// How a model is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Name in the configuration.
    pub name: &'a str,
    /// Threads and frames of a run.
    pub options: SessionOptions,
    /// Confidence in place of the manifest's.
    pub threshold: Option<f32>,
    /// What runs it is said here.
    pub serving: &'a Serving,
    /// `infer` of the configuration.
    pub infer: &'a Infer,
    /// Where what can be made again is kept.
    pub cache: &'a Path,
}
