//! Encoding alone, for any backend: an output of the daemon that writes a file, and the encoder with nothing around it.
//!
//! In: pictures, one after the other, as the backend has them. Out: what a frame costs. Whoever calls owns the pictures;
//! outputs and pipelines are gone when these return. Fails in the words of the output or the element.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::cost::{Clock, Cost, DEPTH};
use super::interrupt::Stop;
use crate::encode::{Alone, Input, OutputSpec, OutputState, VideoOut};
use crate::gpu::gst::{CudaContext, FEATURE};

/// Time of a picture, ns.
fn pts(rate: (u32, u32), index: u64) -> u64 {
    index * 1_000_000_000 * u64::from(rate.1) / u64::from(rate.0.max(1))
}

/// Indices that go up, then down, then up again: there is no cut where pictures begin again.
pub(super) fn to_and_fro(index: u64, count: usize) -> usize {
    if count < 2 {
        return 0;
    }
    let at = index as usize % (2 * count - 2);
    if at < count { at } else { 2 * count - 2 - at }
}

/// An output that waits for its encoder, as when a file becomes a file; also how many pictures it was handed, and what
/// encoded them.
pub(super) fn output(
    spec: OutputSpec,
    time: Duration,
    stop: &Stop,
    mut picture: impl FnMut(u64) -> anyhow::Result<Input>,
) -> anyhow::Result<(Cost, u64, String)> {
    let rate = spec.rate;
    let out = VideoOut::open(spec)?;
    let (mut index, mut clock) = (0, None);
    loop {
        stop.check()?;
        out.push(picture(index)?, pts(rate, index));
        index += 1;
        let status = out.status();
        if status.state == OutputState::Retrying {
            bail!("{}", status.error.unwrap_or_default());
        }
        match clock {
            None if status.frames >= DEPTH => clock = Some((Clock::start(), status.frames)),
            Some((clock, from)) if clock.elapsed() >= time && status.frames > from => {
                let cost = clock.stop(status.frames - from);
                out.stop();
                return Ok((cost, index, status.encoder));
            }
            _ => {}
        }
    }
}

/// The encoder that an output makes, between ready pictures and nothing.
pub(super) fn floor(
    spec: &OutputSpec,
    gpu: Option<&CudaContext>,
    time: Duration,
    stop: &Stop,
    mut picture: impl FnMut(u64, u64) -> gst::Buffer,
) -> anyhow::Result<Cost> {
    let bare = Bare::start(spec, gpu)?;
    let (mut index, mut clock) = (0, None);
    loop {
        stop.check()?;
        bare.push(picture(index, pts(spec.rate, index)))?;
        index += 1;
        let encoded = bare.encoded();
        match clock {
            None if encoded >= DEPTH => clock = Some((Clock::start(), encoded)),
            Some((clock, from)) if clock.elapsed() >= time && encoded > from => {
                return Ok(clock.stop(encoded - from));
            }
            _ => {}
        }
    }
}

struct Bare {
    pipeline: gst::Pipeline,
    source: AppSrc,
    encoded: Arc<Mutex<u64>>,
    /// An NVENC session is held as long as this.
    alone: Alone,
}

impl Bare {
    fn start(spec: &OutputSpec, gpu: Option<&CudaContext>) -> anyhow::Result<Self> {
        gst::init()?;
        let mut caps = gst::Caps::builder("video/x-raw")
            .field("format", "NV12")
            .field("width", spec.size.width as i32)
            .field("height", spec.size.height as i32)
            .field("framerate", gst::Fraction::new(spec.rate.0 as i32, spec.rate.1 as i32))
            .build();
        if let (Some(caps), Some(_)) = (caps.get_mut(), gpu) {
            caps.set_features(0, Some(gst::CapsFeatures::new([FEATURE])));
        }
        let source =
            AppSrc::builder().caps(&caps).format(gst::Format::Time).block(true).max_buffers(2).build();
        let alone = crate::encode::alone(spec, gpu.is_some()).map_err(anyhow::Error::msg)?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        let pipeline = gst::Pipeline::new();
        let mut row: Vec<&gst::Element> = vec![source.upcast_ref()];
        row.extend(&alone.elements);
        row.push(&sink);
        pipeline.add_many(&row)?;
        gst::Element::link_many(&row)?;
        if let Some(gpu) = gpu {
            gpu.give(&pipeline);
        }
        let encoded = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&encoded);
        let pad = sink.static_pad("sink").context("fakesink has no sink pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            *counted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            gst::PadProbeReturn::Ok
        });
        let bare = Self { pipeline, source, encoded, alone };
        bare.pipeline.set_state(gst::State::Playing)?;
        Ok(bare)
    }

    fn push(&self, buffer: gst::Buffer) -> anyhow::Result<()> {
        let pushed = self.source.push_buffer(buffer);
        ensure!(pushed.is_ok(), "{} refuses: {pushed:?}", self.alone.label);
        // Where an element failed, nothing takes the pictures any more.
        let bus = self.pipeline.bus().context("no bus")?;
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(error) = message.view()
        {
            bail!("{}: {}", self.alone.label, error.error());
        }
        Ok(())
    }

    fn encoded(&self) -> u64 {
        *self.encoded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Going to NULL joins the pipeline's threads; it cannot be refused.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::to_and_fro;

    #[test]
    fn pictures_go_to_and_fro() {
        let order: Vec<usize> = (0..8).map(|index| to_and_fro(index, 4)).collect();
        assert_eq!(order, [0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!((to_and_fro(9, 1), to_and_fro(3, 2)), (0, 1));
    }
}
