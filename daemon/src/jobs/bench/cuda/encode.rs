//! Encoding for the CUDA lane: the view kernel, then NVENC, or one download and x264; and the encoder alone.
//!
//! In: the video's first pictures, in video memory. Out: what a frame costs, from the picture to the file; what the encoder
//! alone costs on pictures that are ready where it takes them. They are played to and fro. Outputs and pipelines are gone
//! when these return.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::Lab;
use crate::encode::{Input, OutputSpec, Rendered};
use crate::flow::Rect;
use crate::jobs::bench::cost::Cost;
use crate::jobs::bench::cpu::encode as on_cpu;
use crate::jobs::bench::encoder::{self, to_and_fro};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::Video;
use crate::pipeline::lane::{Lane, Surface};

/// Pictures that take turns at most.
const PICTURES: usize = 16;

/// The lane's way out, and the encoder alone.
pub(super) struct Parts {
    surfaces: Vec<Surface>,
    /// The same, ready for NVENC; none where the CPU encodes.
    ready: Vec<Rendered>,
    on_cpu: on_cpu::Parts,
    /// NVENC is expected to take the pictures.
    on_gpu: bool,
    /// What encoded last.
    label: String,
    /// Last: memory goes before the lane.
    pub(super) lab: Lab,
}

impl Parts {
    pub(super) fn new(video: &Video, folder: &Path, mut lab: Lab) -> anyhow::Result<Self> {
        let on_cpu = on_cpu::Parts::new(video, folder);
        let spec = with_gpu(&on_cpu, &lab);
        // Tried, and not only looked up: a refusal is known before the first picture.
        let tried = spec.gpu.as_ref().map(|gpu| gpu.try_codec(spec.codec));
        let (label, on_gpu) = match tried {
            Some(Ok(name)) => (name, true),
            _ => ("x264enc".to_owned(), false),
        };
        let surfaces = lab.surfaces(&video.pictures[..video.pictures.len().min(PICTURES)])?;
        lab.ready()?;
        Ok(Self { surfaces, ready: Vec::new(), on_cpu, on_gpu, label, lab })
    }

    pub(super) fn by(&self) -> String {
        format!("view kernel, {}", self.lab.lane.encode_edge("bench", &self.label, self.on_gpu).by)
    }

    pub(super) fn floor_is(&self) -> String {
        match self.on_gpu {
            true => format!("{} alone on pictures that are ready in video memory", self.label),
            false => "x264 alone on ready pictures".into(),
        }
    }

    /// As an output of the lane does it.
    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let spec = with_gpu(&self.on_cpu, &self.lab);
        let (lane, surfaces) = (&self.lab.lane, &self.surfaces);
        let mut render = lane.renderer(spec.size, self.on_gpu);
        let (cost, frames, label) = encoder::output(spec, time, stop, |index| {
            let surface = &surfaces[to_and_fro(index, surfaces.len())];
            let view = Rect::of_size(surface.picture().size);
            lane.render(&mut render, surface, view, None)?.context("every picture is with the encoder")
        })?;
        self.lab.frames += frames;
        self.label = label;
        Ok(cost)
    }

    /// The encoder alone.
    pub(super) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        if !self.on_gpu {
            return self.on_cpu.floor(time, stop);
        }
        let spec = with_gpu(&self.on_cpu, &self.lab);
        if self.ready.is_empty() {
            let mut render = self.lab.lane.renderer(spec.size, true);
            for surface in &self.surfaces {
                let view = Rect::of_size(surface.picture().size);
                match self.lab.lane.render(&mut render, surface, view, None)? {
                    Some(Input::Device(rendered)) => self.ready.push(rendered),
                    _ => anyhow::bail!("the lane rendered nothing into video memory"),
                }
            }
            self.lab.wait()?;
        }
        let (ready, gpu) = (&self.ready, self.lab.shared.gstreamer().map(|context| &**context));
        encoder::floor(&spec, gpu, time, stop, |index, pts| {
            ready[to_and_fro(index, ready.len())].clone().into_buffer(pts)
        })
    }
}

fn with_gpu(on_cpu: &on_cpu::Parts, lab: &Lab) -> OutputSpec {
    let mut spec = on_cpu.spec();
    lab.lane.encode_here(&mut spec);
    spec
}
