//! The CPU backend: each part of the CPU lane alone, and its floor.
//!
//! In: a subject. Out: costs. Owns the sessions and pictures that it measures with; everything is opened, and the model's
//! memory warm, before the first measurement.

pub(super) mod decode;
pub(super) mod encode;
mod infer;
mod preprocess;

use std::time::Duration;

use super::backend::{Backend, Part};
use super::cost::{Cost, Window};
use super::interrupt::Stop;
use super::subject::Subject;
use crate::preprocess::Isa;

/// Measures the CPU lane's parts.
pub struct CpuBackend<'a> {
    subject: &'a Subject,
    window: Window,
    preprocess: preprocess::Parts,
    infer: infer::Parts,
    encode: encode::Parts,
    stop: Stop,
}

impl<'a> CpuBackend<'a> {
    /// Opens the model and makes pictures ready.
    ///
    /// # Errors
    /// Where the model cannot be opened, or its input cannot be made of these pictures.
    pub fn open(subject: &'a Subject, stop: &Stop) -> anyhow::Result<Self> {
        let mut infer = infer::Parts::open(subject)?;
        let preprocess = preprocess::Parts::new(&subject.video, infer.feed())?;
        infer.fill(preprocess.ready(), preprocess.letterbox());
        Ok(Self {
            window: Window::of(subject.video.frames),
            encode: encode::Parts::new(&subject.video, subject.folder()),
            subject,
            preprocess,
            infer,
            stop: stop.clone(),
        })
    }
}

impl Backend for CpuBackend<'_> {
    fn part(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost> {
        let (video, stop) = (&self.subject.video, &self.stop);
        match part {
            Part::Decode => decode::part(video, self.window, time, stop),
            Part::Preprocess => self.preprocess.part(time, stop),
            Part::Infer => self.infer.part(time, stop),
            Part::Encode => self.encode.part(time, stop),
        }
    }

    fn floor(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost> {
        let (video, stop) = (&self.subject.video, &self.stop);
        match part {
            Part::Decode => decode::floor(video, self.window, time, stop),
            Part::Preprocess => self.preprocess.floor(time, stop),
            Part::Infer => self.infer.floor(time, stop),
            Part::Encode => self.encode.floor(time, stop),
        }
    }

    fn by(&self, part: Part) -> String {
        match part {
            Part::Decode => self.subject.video.decoder.clone(),
            Part::Preprocess => Isa::detect().name().into(),
            Part::Infer => "CPU".into(),
            Part::Encode => "x264enc".into(),
        }
    }

    fn floor_is(&self, part: Part) -> String {
        match part {
            Part::Decode => "GStreamer decoding to nothing",
            Part::Preprocess => "copying the same bytes",
            Part::Infer => "ONNX Runtime alone on a ready tensor",
            Part::Encode => "x264 alone on ready pictures",
        }
        .into()
    }
}
