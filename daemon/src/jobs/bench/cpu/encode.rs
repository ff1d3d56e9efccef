//! Encoding alone: an output of the daemon that writes a file, and x264 with nothing around it.
//!
//! In: the video's first pictures, as the lane hands them to its encoders: NV12. Out: what a frame costs. They are played
//! to and fro, so that there is no cut where they begin again. Files and pipelines are gone when this returns.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use crate::encode::{OutputSpec, OutputState, Target, VideoCodec, VideoOut};
use crate::flow::{Picture, Rect, Size};
use crate::jobs::bench::cost::{Clock, Cost, DEPTH};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::Video;
use crate::jobs::scene::plain_nv12;
use crate::render::Renderer;

/// An output's work, and x264's.
pub(super) struct Parts {
    pictures: Vec<Picture>,
    /// The same as GStreamer's own buffers.
    bytes: Vec<gst::Memory>,
    size: Size,
    rate: (u32, u32),
    folder: PathBuf,
}

impl Parts {
    /// Renders the pictures as the lane would, at the size that can be encoded.
    pub(super) fn new(video: &Video, folder: &Path) -> Self {
        let size = Size::new(video.size.width & !1, video.size.height & !1);
        let pictures: Vec<Picture> = video
            .pictures
            .iter()
            // A renderer of its own: each picture keeps its memory.
            .map(|picture| Renderer::new(size).render(picture, Rect::of_size(picture.size), None))
            .collect();
        let rate = ((video.rate * 1000.0).round().max(1.0) as u32, 1000);
        Self { bytes: Vec::new(), pictures, size, rate, folder: folder.join("encode") }
    }

    /// An output that waits for its encoder, as when a file becomes a file.
    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        // The file that an earlier turn left.
        let _ = std::fs::remove_dir_all(&self.folder);
        let out = VideoOut::open(self.spec())?;
        let (mut index, mut clock) = (0, None);
        let cost = loop {
            stop.check()?;
            out.push(self.pictures[to_and_fro(index, self.pictures.len())].clone(), self.pts(index));
            index += 1;
            let status = out.status();
            if status.state == OutputState::Retrying {
                bail!("{}", status.error.unwrap_or_default());
            }
            match clock {
                None if status.frames >= DEPTH => clock = Some((Clock::start(), status.frames)),
                Some((clock, from)) if clock.elapsed() >= time && status.frames > from => {
                    break clock.stop(status.frames - from);
                }
                _ => {}
            }
        };
        out.stop();
        Ok(cost)
    }

    fn spec(&self) -> OutputSpec {
        OutputSpec {
            stream: "bench".into(),
            name: "bench".into(),
            target: Target::Mp4 { path: self.folder.join("bench.mp4") },
            size: self.size,
            rate: self.rate,
            codec: VideoCodec::H264,
            bitrate: None,
            keyframe_seconds: None,
            realtime: false,
            gpu: None,
        }
    }

    fn pts(&self, index: u64) -> u64 {
        index * 1_000_000_000 * u64::from(self.rate.1) / u64::from(self.rate.0)
    }

    /// The encoder that an output makes, between ready pictures and nothing.
    pub(super) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        gst::init()?;
        if self.bytes.is_empty() {
            self.bytes = self.pictures.iter().map(|it| gst::Memory::from_slice(plain_nv12(it))).collect();
        }
        let floor = Floor::start(&self.spec())?;
        let (mut index, mut clock) = (0, None);
        loop {
            stop.check()?;
            floor.push(&self.bytes[to_and_fro(index, self.bytes.len())], self.pts(index))?;
            index += 1;
            let encoded = floor.encoded();
            match clock {
                None if encoded >= DEPTH => clock = Some((Clock::start(), encoded)),
                Some((clock, from)) if clock.elapsed() >= time && encoded > from => {
                    return Ok(clock.stop(encoded - from));
                }
                _ => {}
            }
        }
    }
}

/// Indices that go up, then down, then up again.
fn to_and_fro(index: u64, count: usize) -> usize {
    if count < 2 {
        return 0;
    }
    let at = index as usize % (2 * count - 2);
    if at < count { at } else { 2 * count - 2 - at }
}

struct Floor {
    pipeline: gst::Pipeline,
    source: AppSrc,
    encoded: Arc<Mutex<u64>>,
}

impl Floor {
    fn start(spec: &OutputSpec) -> anyhow::Result<Self> {
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "NV12")
            .field("width", spec.size.width as i32)
            .field("height", spec.size.height as i32)
            .field("framerate", gst::Fraction::new(spec.rate.0 as i32, spec.rate.1 as i32))
            .build();
        let source =
            AppSrc::builder().caps(&caps).format(gst::Format::Time).block(true).max_buffers(2).build();
        let encoder = crate::encode::x264(spec).map_err(anyhow::Error::msg)?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        let pipeline = gst::Pipeline::new();
        let row = [source.upcast_ref(), &encoder, &sink];
        pipeline.add_many(row)?;
        gst::Element::link_many(row)?;
        let encoded = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&encoded);
        let pad = sink.static_pad("sink").context("fakesink has no sink pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            *counted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            gst::PadProbeReturn::Ok
        });
        let floor = Self { pipeline, source, encoded };
        floor.pipeline.set_state(gst::State::Playing)?;
        Ok(floor)
    }

    fn push(&self, bytes: &gst::Memory, pts: u64) -> anyhow::Result<()> {
        let mut buffer = gst::Buffer::new();
        let writable = buffer.make_mut();
        writable.append_memory(bytes.clone());
        writable.set_pts(gst::ClockTime::from_nseconds(pts));
        let pushed = self.source.push_buffer(buffer);
        ensure!(pushed.is_ok(), "x264enc refuses: {pushed:?}");
        Ok(())
    }

    fn encoded(&self) -> u64 {
        *self.encoded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Floor {
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
