//! Encoding on the CPU: an output of the daemon that writes a file, and x264 with nothing around it.
//!
//! In: the video's first pictures, as the lane hands them to its encoders: NV12. Out: what a frame costs. They are played
//! to and fro, so that there is no cut where they begin again. Files and pipelines are gone when this returns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;

use crate::encode::{OutputSpec, Target, VideoCodec};
use crate::flow::{Picture, Rect, Size};
use crate::jobs::bench::cost::Cost;
use crate::jobs::bench::encoder::{self, to_and_fro};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::Video;
use crate::jobs::scene::plain_nv12;
use crate::render::Renderer;

/// An output's work, and x264's.
pub(in crate::jobs::bench) struct Parts {
    pictures: Vec<Picture>,
    /// The same as GStreamer's own buffers.
    bytes: Vec<gst::Memory>,
    size: Size,
    rate: (u32, u32),
    folder: PathBuf,
}

impl Parts {
    /// Renders the pictures as the lane would, at the size that can be encoded.
    pub(in crate::jobs::bench) fn new(video: &Video, folder: &Path) -> Self {
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
        let pictures = &self.pictures;
        let picture = |index| Ok(pictures[to_and_fro(index, pictures.len())].clone().into());
        Ok(encoder::output(self.spec(), time, stop, picture)?.0)
    }

    /// A file as output, without a GPU; the one that an earlier turn left is gone.
    pub(in crate::jobs::bench) fn spec(&self) -> OutputSpec {
        let _ = std::fs::remove_dir_all(&self.folder);
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

    /// The encoder that an output makes, between ready pictures and nothing.
    pub(in crate::jobs::bench) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        if self.bytes.is_empty() {
            gst::init()?;
            self.bytes = self.pictures.iter().map(|it| gst::Memory::from_slice(plain_nv12(it))).collect();
        }
        let bytes = &self.bytes;
        encoder::floor(&self.spec(), None, time, stop, |index, pts| {
            let mut buffer = gst::Buffer::new();
            if let Some(writable) = buffer.get_mut() {
                writable.append_memory(bytes[to_and_fro(index, bytes.len())].clone());
                writable.set_pts(gst::ClockTime::from_nseconds(pts));
            }
            buffer
        })
    }
}
