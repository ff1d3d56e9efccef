//! Pixels in video memory: decoders' pictures as they are, or by one counted upload; tensors, views and masks made there.
//!
//! In: a GPU. Out: a lane for each stream, which owns a CUDA stream: what the worker asks for runs in order there, and
//! models' threads wait for the pictures that they look at. Every copy between host and GPU is counted by its edge, in
//! metrics as in [`CudaShared`]. An error ends the video stream, which is tried again; after one that breaks the GPU's
//! context every try fails with it, and [`CudaShared::lost`] says so.

mod bound;
mod engine;
mod engines;
mod head;
mod loader;
mod surface;
mod tensor;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Feed, Lane, LaneError};
use crate::encode::{CudaEncoding, Input as PictureIn, OutputSpec};
use crate::flow::{Decoded, DevicePicture, FrameMeta, Letterbox, Picture, Rect, Size, StreamInfo};
use crate::gpu::gst::CudaContext;
use crate::gpu::kernels::GRID_LUMA;
use crate::gpu::{Device, Event, GpuError, Meter, Pinned, Stream, argument};
use crate::ingest::{Change, ChangeMeter, CudaDecoding, GRID_BYTES, GridJob, SourceSpec};
use crate::publish::messages::Edge;
use crate::render::{Masks, Overlay};
use crate::telemetry::{Registry, fields};

use surface::Surfaces;

pub use bound::trial;
pub use loader::{CudaEngine, CudaLoader, CudaModel};
pub use surface::Surface;
pub use tensor::{CudaPreprocess, CudaTensor};
pub use view::{CudaMask, CudaRender};

impl From<GpuError> for LaneError {
    fn from(error: GpuError) -> Self {
        Self::Stream(error.to_string())
    }
}

/// What all streams on one GPU share.
#[derive(Debug, Clone)]
pub struct CudaShared {
    /// The GPU.
    pub device: Device,
    /// GStreamer's object for its context; none where GStreamer cannot use CUDA memory: then the CPU decodes.
    gstreamer: Option<Arc<CudaContext>>,
    /// NVENC on it.
    encoding: Option<Arc<CudaEncoding>>,
    /// Kernels' tables and parameters on their way to the GPU.
    pub(super) tables: Meter,
    /// What models found, on its way to the host.
    pub(super) candidates: Meter,
}

impl CudaShared {
    /// For an opened GPU.
    #[must_use]
    pub fn new(device: Device, registry: &Registry) -> Self {
        let gpu = device.index().to_string();
        let [tables, candidates] =
            ["tables", "candidates"].map(|edge| meter(registry, edge, &[("gpu", gpu.as_str())]));
        let gstreamer = device
            .gstreamer()
            .inspect_err(|why| tracing::warn!(gpu, %why, "the CPU decodes for this GPU"))
            .ok();
        if gstreamer.is_some() {
            CudaDecoding::load();
        }
        let encoding = gstreamer.as_ref().map(|context| Arc::new(CudaEncoding::new(Arc::clone(context))));
        Self { device, gstreamer, encoding, tables, candidates }
    }

    /// GStreamer's object for its context, where GStreamer can use CUDA memory.
    #[must_use]
    pub fn gstreamer(&self) -> Option<&Arc<CudaContext>> {
        self.gstreamer.as_ref()
    }

    /// Opens models for streams on this GPU.
    #[must_use]
    pub fn loader(&self) -> CudaLoader {
        CudaLoader { shared: self.clone(), awaited: Default::default() }
    }
}

fn meter(registry: &Registry, edge: &str, labels: &[(&str, &str)]) -> Meter {
    let labels: Vec<_> = [("edge", edge)].iter().chain(labels).copied().collect();
    Meter {
        copies: registry.counter("gpu_copies_total", &labels),
        bytes: registry.counter("gpu_copied_bytes_total", &labels),
    }
}

/// Pixels in video memory, for one stream.
pub struct Cuda {
    shared: CudaShared,
    /// After what uses its work: dropped, it waits.
    pending: Pending,
    surfaces: Surfaces,
    motion: Motion,
    upload: Meter,
    download: Meter,
    stream: Stream,
}

/// Motion and scene cuts of pictures that no CPU sees: a few samples, written to the host by a kernel.
#[derive(Default)]
struct Motion {
    meter: ChangeMeter,
    samples: Option<Pinned>,
}

impl Motion {
    fn measure(&mut self, stream: &Stream, picture: &DevicePicture) -> Result<Change, GpuError> {
        let samples = match &mut self.samples {
            Some(samples) => samples,
            None => self.samples.insert(Pinned::new(stream.device(), GRID_BYTES)?),
        };
        let grid = GridJob::new(picture, samples.address());
        let [across, down] = grid.threads;
        stream.launch(GRID_LUMA, [across, down, 1], &[argument(&grid.samples)])?;
        stream.synchronize()?;
        Ok(self.meter.measure_grid(picture.size, samples.values(grid.len())))
    }
}

/// Pictures that the lane's stream may still be at work on.
#[derive(Default)]
struct Pending {
    /// The newest last, with what marks the last work on it; that of the newest is not marked yet.
    held: VecDeque<(Surface, Option<Picture>, Event)>,
    spare: Vec<Event>,
}

/// More pictures than this are waited for.
const PENDING: usize = 4;

impl Pending {
    /// Takes a new picture; those before that nothing works on any more are let go.
    fn push(
        &mut self,
        device: &Device,
        stream: &Stream,
        surface: Surface,
        picture: Option<Picture>,
    ) -> Result<(), GpuError> {
        if let Some((.., used)) = self.held.back() {
            used.record(stream)?;
        }
        while let Some((.., used)) = self.held.front() {
            if self.held.len() >= PENDING {
                used.synchronize()?;
            } else if !used.is_done()? {
                break;
            }
            let Some((.., used)) = self.held.pop_front() else { break };
            self.spare.push(used);
        }
        let used = match self.spare.pop() {
            Some(event) => event,
            None => Event::new(device)?,
        };
        self.held.push_back((surface, picture, used));
        Ok(())
    }
}

impl Cuda {
    /// A lane for a stream of this name.
    ///
    /// # Errors
    /// Where the GPU has no room for another stream, or is lost.
    pub fn new(shared: &CudaShared, name: &str, registry: &Registry) -> Result<Self, LaneError> {
        let labels = [(fields::STREAM, name)];
        Ok(Self {
            stream: Stream::new(&shared.device)?,
            pending: Pending::default(),
            surfaces: Surfaces::new(&shared.device),
            motion: Motion::default(),
            upload: meter(registry, "upload", &labels),
            download: meter(registry, "download", &labels),
            shared: shared.clone(),
        })
    }
}

impl Cuda {
    /// The stream on which its work goes, in order.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Preprocessing that makes each tensor at once, on the lane's stream: what a model's thread else does with its batch.
    ///
    /// # Errors
    /// As [`Lane::preprocessor`].
    pub fn preprocessor_at_once(&self, feed: &Feed) -> Result<CudaPreprocess, LaneError> {
        Ok(CudaPreprocess::new(&self.shared.device, feed)?.at_once())
    }

    /// The bytes of a tensor that lies in pinned memory.
    ///
    /// # Errors
    /// Where the GPU is lost, or it lies elsewhere.
    pub(super) fn read<'a>(&self, tensor: &'a CudaTensor) -> Result<&'a [u8], LaneError> {
        self.stream.synchronize()?;
        tensor
            .bytes()
            .ok_or_else(|| LaneError::Stream("the tensor lies where the host cannot read it".into()))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Pictures of the host's must not go while they are read; what went wrong was said before.
        let _ = self.stream.synchronize();
    }
}

impl Lane for Cuda {
    type Pixels = Surface;
    type Tensor = CudaTensor;
    type Preprocess = CudaPreprocess;
    type Render = CudaRender;
    type Mask = CudaMask;

    const NAME: &'static str = "cuda";

    fn adopt(&mut self, decoded: Decoded, meta: &mut FrameMeta) -> Result<Surface, LaneError> {
        let (surface, picture) = match decoded {
            Decoded::Host(picture) => {
                (self.surfaces.upload(&self.stream, &self.upload, &picture)?, Some(picture))
            }
            Decoded::Device(frame) => {
                let surface = self.surfaces.adopt(&self.stream, frame)?;
                let change = self.motion.measure(&self.stream, surface.picture())?;
                (meta.motion, meta.cut) = (change.motion, change.cut);
                (surface, None)
            }
        };
        self.pending.push(&self.shared.device, &self.stream, surface.clone(), picture)?;
        Ok(surface)
    }

    fn decode_here(&self, source: &mut SourceSpec, held: usize) {
        let held = u32::try_from(held + PENDING).unwrap_or(u32::MAX);
        let context = self.shared.gstreamer.as_ref();
        source.gpu = context.map(|context| Arc::new(CudaDecoding::new(Arc::clone(context), held)));
    }

    fn decode_edge(&self, info: &StreamInfo) -> Edge {
        let by = if info.on_gpu { info.decoder.clone() } else { format!("{} + upload", info.decoder) };
        Edge { name: "decode".into(), by, copies: !info.on_gpu }
    }

    fn masks(&self, polygons: Vec<Vec<[f32; 2]>>) -> CudaMask {
        CudaMask::new(Masks::new(polygons))
    }

    fn mask(&self, mask: &mut CudaMask, pixels: &Surface) -> Result<Surface, LaneError> {
        Ok(mask.apply(&self.stream, &self.shared.tables, &self.surfaces, pixels)?)
    }

    fn preprocessor(&self, feed: &Feed) -> Result<CudaPreprocess, LaneError> {
        CudaPreprocess::new(&self.shared.device, feed)
    }

    fn preprocess(
        &self,
        preprocess: &mut CudaPreprocess,
        pixels: &Surface,
        rect: &Rect,
        tensor: &mut CudaTensor,
    ) -> Result<Letterbox, LaneError> {
        preprocess.run(&self.stream, &self.shared.tables, pixels, rect, tensor)
    }

    fn encode_here(&self, output: &mut OutputSpec) {
        output.gpu = self.shared.encoding.clone();
    }

    fn renderer(&self, size: Size, on_gpu: bool) -> CudaRender {
        let context = self.shared.gstreamer.as_ref().filter(|_| on_gpu);
        CudaRender::new(size, context.cloned())
    }

    fn render(
        &self,
        render: &mut CudaRender,
        pixels: &Surface,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Option<PictureIn>, LaneError> {
        render.render(&self.stream, (&self.download, &self.shared.tables), pixels, view, overlay)
    }

    fn encode_edge(&self, output: &str, encoder: &str, on_gpu: bool) -> Edge {
        let by = if on_gpu { encoder.to_owned() } else { format!("download + {encoder}") };
        // NVENC may be lost while it runs: then GStreamer downloads what it was to take.
        let copies = !on_gpu || by.contains("download");
        Edge { name: format!("encode {output}"), by, copies }
    }
}
