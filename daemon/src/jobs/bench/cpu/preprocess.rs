//! Preprocessing alone: pictures in memory into the model's tensor on one thread, and a copy of as many bytes.
//!
//! In: the video's first pictures, what the model wants to be fed. Out: what a frame costs; a ready tensor of the first
//! picture. Owns its pictures. Fails where a picture cannot become the model's input.

use std::time::Duration;

use anyhow::Context;

use crate::flow::{Letterbox, Picture, Rect, Tensor, TensorData};
use crate::jobs::bench::cost::{Cost, run_for};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::preprocess::Copy;
use crate::jobs::bench::video::Video;
use crate::pipeline::lane::{Cpu, Feed, Lane};
use crate::preprocess::Preprocessor;

/// Pictures that take turns: the processor's cache does not hold them all.
const PICTURES: usize = 8;

/// The lane's own preprocessing, and the copy.
pub(super) struct Parts {
    pictures: Vec<Picture>,
    next: usize,
    preprocessor: Preprocessor,
    tensor: Tensor,
    letterbox: Letterbox,
    copy: Copy,
}

impl Parts {
    /// Makes a tensor of the first picture.
    pub(super) fn new(video: &Video, feed: &Feed) -> anyhow::Result<Self> {
        let pictures: Vec<Picture> = video.pictures.iter().take(PICTURES).cloned().collect();
        let first = pictures.first().context("no picture")?;
        let mut preprocessor = Cpu.preprocessor(feed)?;
        let mut tensor = Tensor::default();
        let letterbox = Cpu.preprocess(&mut preprocessor, first, &Rect::of_size(first.size), &mut tensor)?;
        let all: Vec<u8> =
            (0..first.format.planes()).flat_map(|index| first.plane(index).iter().copied()).collect();
        let copy = Copy::new(all, bytes(&tensor));
        Ok(Self { next: 0, preprocessor, tensor, letterbox, copy, pictures })
    }

    /// The first picture's tensor.
    pub(super) fn ready(&self) -> &Tensor {
        &self.tensor
    }

    /// How its pixels lie in the picture.
    pub(super) fn letterbox(&self) -> Letterbox {
        self.letterbox
    }

    /// As the lane does it.
    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let Self { pictures, next, preprocessor, tensor, .. } = self;
        run_for(time, stop, || {
            let picture = &pictures[*next % pictures.len()];
            *next += 1;
            Cpu.preprocess(preprocessor, picture, &Rect::of_size(picture.size), tensor)?;
            Ok(1)
        })
    }

    /// Each byte read and written once.
    pub(super) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        run_for(time, stop, || {
            self.copy.run();
            Ok(1)
        })
    }
}

fn bytes(tensor: &Tensor) -> usize {
    match &tensor.data {
        TensorData::F32(values) => size_of_val(values.as_slice()),
        TensorData::F16(values) => size_of_val(values.as_slice()),
        TensorData::U8(values) => size_of_val(values.as_slice()),
    }
}
