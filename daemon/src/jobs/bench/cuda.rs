//! The CUDA backend: each part of the CUDA lane alone, and its floor, both with the GPU's work waited for.
//!
//! In: a subject. Out: costs, copies between host and GPU by the lane's own counters, what does each part. Owns a lane for
//! each part, and what it measures with; all is opened, and TensorRT's engine built where it runs, before the first
//! measurement. Fails where the GPU cannot be used, or does no more.

mod decode;
mod encode;
mod infer;
mod preprocess;

use std::time::Duration;

use super::backend::{Backend, Part};
use super::copies::{Copies, Counted};
use super::cost::{Cost, Window};
use super::interrupt::Stop;
use super::subject::Subject;
use crate::flow::{Decoded, FrameMeta, Picture};
use crate::gpu::Device;
use crate::pipeline::lane::{Cuda, CudaShared, Lane, LaneError, Surface};
use crate::telemetry::Registry;

/// Measures the CUDA lane's parts.
pub struct CudaBackend<'a> {
    subject: &'a Subject,
    window: Window,
    decode: decode::Parts,
    preprocess: preprocess::Parts,
    infer: infer::Parts,
    encode: encode::Parts,
    stop: Stop,
}

impl<'a> CudaBackend<'a> {
    /// Opens the GPU and the model, and makes pictures ready.
    ///
    /// # Errors
    /// Where the GPU or the model cannot be opened, or the model's input cannot be made of these pictures.
    pub fn open(subject: &'a Subject, stop: &Stop) -> anyhow::Result<Self> {
        let device = Device::open(subject.settings.accel.gpu)?;
        let mut infer = infer::Parts::open(subject, Lab::new(&device)?, stop)?;
        infer.fill(&subject.video)?;
        Ok(Self {
            window: Window::of(subject.video.frames),
            decode: decode::Parts::open(&subject.video, Lab::new(&device)?, stop)?,
            preprocess: preprocess::Parts::new(&subject.video, infer.feed(), Lab::new(&device)?)?,
            encode: encode::Parts::new(&subject.video, subject.folder(), Lab::new(&device)?)?,
            infer,
            subject,
            stop: stop.clone(),
        })
    }

    /// The decoder's element, and whether its pictures stay in video memory.
    pub(super) fn decoder(&self) -> (&str, bool) {
        self.decode.decoder()
    }

    /// Whether the GPU runs the model.
    pub(super) fn infers(&self) -> bool {
        self.infer.on_gpu()
    }
}

impl Backend for CudaBackend<'_> {
    fn part(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost> {
        let (video, stop) = (&self.subject.video, &self.stop);
        match part {
            Part::Decode => self.decode.part(video, self.window, time, stop),
            Part::Preprocess => self.preprocess.part(time, stop),
            Part::Infer => self.infer.part(time, stop),
            Part::Encode => self.encode.part(time, stop),
        }
    }

    fn floor(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost> {
        let (video, stop) = (&self.subject.video, &self.stop);
        match part {
            Part::Decode => self.decode.floor(video, self.window, time, stop),
            Part::Preprocess => self.preprocess.floor(time, stop),
            Part::Infer => self.infer.floor(time, stop),
            Part::Encode => self.encode.floor(time, stop),
        }
    }

    fn by(&self, part: Part) -> String {
        match part {
            Part::Decode => self.decode.by(),
            Part::Preprocess => self.preprocess.by().into(),
            Part::Infer => self.infer.by(),
            Part::Encode => self.encode.by(),
        }
    }

    fn floor_is(&self, part: Part) -> String {
        match part {
            Part::Decode => self.decode.floor_is(),
            Part::Preprocess => "copying the same bytes in video memory".into(),
            Part::Infer => "the session alone on the input as it lies there".into(),
            Part::Encode => self.encode.floor_is(),
        }
    }

    fn copies(&self, part: Part) -> Copies {
        match part {
            Part::Decode => self.decode.lab.copies(),
            Part::Preprocess => self.preprocess.lab.copies(),
            Part::Infer => self.infer.lab.copies(),
            Part::Encode => self.encode.lab.copies(),
        }
    }
}

/// Where one part is measured: a lane that counts for itself.
struct Lab {
    /// After what uses its memory.
    lane: Cuda,
    shared: CudaShared,
    registry: Registry,
    /// What was copied before the first measurement.
    before: Counted,
    /// Frames that the part has had since.
    frames: u64,
}

impl Lab {
    fn new(device: &Device) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let shared = CudaShared::new(device.clone(), &registry);
        let lane = Cuda::new(&shared, "bench", &registry)?;
        Ok(Self { lane, shared, registry, before: Counted::default(), frames: 0 })
    }

    /// From here on it counts.
    fn ready(&mut self) -> anyhow::Result<()> {
        self.wait()?;
        self.before = Counted::now(&self.registry);
        Ok(())
    }

    /// Waits until the GPU has done what the lane asked for.
    fn wait(&self) -> anyhow::Result<()> {
        Ok(self.lane.stream().synchronize()?)
    }

    /// Pictures in video memory.
    fn surfaces(&mut self, pictures: &[Picture]) -> Result<Vec<Surface>, LaneError> {
        let mut adopt = |picture: &Picture| {
            let mut meta = FrameMeta {
                stream: "bench".into(),
                index: 0,
                pts: 0,
                captured: 0,
                width: picture.size.width,
                height: picture.size.height,
                cut: false,
                motion: 0.0,
                gap: 0,
            };
            self.lane.adopt(Decoded::Host(picture.clone()), &mut meta)
        };
        pictures.iter().map(&mut adopt).collect()
    }

    fn copies(&self) -> Copies {
        Counted::now(&self.registry).since(&self.before, self.frames)
    }
}
