//! Preprocessing for the CUDA lane: the tensor kernel, and a copy of as many bytes in video memory.
//!
//! In: the video's first pictures, what the model wants to be fed. Out: what a frame costs, from the call until the GPU is
//! done. Owns its pictures and tensors. Fails where a picture cannot become the model's input.

use std::time::Duration;

use anyhow::Context;

use super::Lab;
use crate::config::manifest::Channels;
use crate::flow::{ElementType, Rect};
use crate::gpu::{Buffer, Rows};
use crate::jobs::bench::cost::{Cost, run_for};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::Video;
use crate::pipeline::lane::{CudaPreprocess, CudaTensor, Feed, Lane, Surface};

/// Pictures that take turns.
const PICTURES: usize = 8;

/// The kernel, and the copy.
pub(super) struct Parts {
    tensor: CudaTensor,
    preprocess: CudaPreprocess,
    surfaces: Vec<Surface>,
    next: usize,
    on_host: bool,
    copy: Copied,
    /// Last: memory goes before the lane.
    pub(super) lab: Lab,
}

/// As many bytes as a picture, and the rest of a tensor's.
struct Copied {
    from: Buffer,
    to: Buffer,
    /// Bytes that are written and not read.
    rest: usize,
}

impl Parts {
    pub(super) fn new(video: &Video, feed: &Feed, mut lab: Lab) -> anyhow::Result<Self> {
        let surfaces = lab.surfaces(&video.pictures[..video.pictures.len().min(PICTURES)])?;
        let picture = surfaces.first().context("no picture")?.picture();
        let (size, chroma) = (picture.size, picture.chroma_size());
        let samples = (size.width * size.height + chroma.width * 2 * chroma.height) as usize;
        let bytes = samples * picture.bytes() as usize;
        let element = match feed.element {
            ElementType::F32 => 4,
            ElementType::F16 => 2,
            ElementType::U8 => 1,
        };
        let channels = if feed.manifest.input.channels == Channels::Gray { 1 } else { 3 };
        let tensor = feed.size.width as usize * feed.size.height as usize * channels * element;
        let device = &lab.shared.device;
        let copy = Copied {
            from: Buffer::new(device, bytes)?,
            to: Buffer::new(device, bytes.max(tensor))?,
            rest: tensor.saturating_sub(bytes),
        };
        let preprocess = lab.lane.preprocessor_at_once(feed)?;
        let on_host = feed.on_host;
        lab.ready()?;
        Ok(Self { tensor: CudaTensor::default(), preprocess, surfaces, next: 0, on_host, copy, lab })
    }

    pub(super) fn by(&self) -> &'static str {
        if self.on_host { "CUDA kernel, into pinned memory" } else { "CUDA kernel" }
    }

    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        run_for(time, stop, || {
            let surface = &self.surfaces[self.next % self.surfaces.len()];
            self.next += 1;
            let rect = Rect::of_size(surface.picture().size);
            self.lab.lane.preprocess(&mut self.preprocess, surface, &rect, &mut self.tensor)?;
            self.lab.wait()?;
            self.lab.frames += 1;
            Ok(1)
        })
    }

    pub(super) fn floor(&self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let Copied { from, to, rest } = &self.copy;
        let rows = |buffer: &Buffer| Rows { address: buffer.address(), pitch: from.len() };
        let stream = self.lab.lane.stream();
        run_for(time, stop, || {
            stream.copy(rows(to), rows(from), from.len(), 1)?;
            if *rest > 0 {
                stream.clear(to.address() + from.len() as u64, *rest)?;
            }
            self.lab.wait()?;
            Ok(1)
        })
    }
}
