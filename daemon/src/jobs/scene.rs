//! `watchpost scene export`: a rendered scene as video, with its ground truth beside it.
//!
//! In: a scene's spec, a folder. Out: `truth.jsonl` (a header line, then a line a frame) and `video.mp4` or
//! `frames.nv12`. Owns the encoder's pipeline and stops it, also on failure; partial files are left behind,
//! and the error says so.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::flow::{Matrix, Picture};
use crate::scene::{Scene, SceneSpec};

/// Seconds exported where neither the spec nor the options say how many.
const DEFAULT_SECONDS: f64 = 60.0;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportOptions {
    /// Raw NV12 frames instead of H.264.
    pub raw: bool,
    /// At most so many frames.
    pub frames: Option<u64>,
    /// Kilobits a second of the H.264 video; `None`: 0.35 bits a pixel, 2 Mbit/s for 640x360 at 25 fps.
    pub bitrate: Option<u32>,
    /// Show a progress bar on stderr.
    pub progress: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { raw: false, frames: None, bitrate: None, progress: true }
    }
}

/// Arguments of `watchpost scene export`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// The scene, such as 'scene://people?seed=1&seconds=60'.
    #[arg(long)]
    pub uri: String,
    /// The folder.
    #[arg(long)]
    pub out: PathBuf,
    /// Raw NV12 frames (frames.nv12) instead of H.264 (video.mp4).
    #[arg(long)]
    pub raw: bool,
    /// At most so many frames.
    #[arg(long)]
    pub frames: Option<u64>,
    /// Kilobits a second of the H.264 video.
    #[arg(long)]
    pub bitrate: Option<u32>,
}

/// `watchpost scene export`.
///
/// # Errors
/// A scene that cannot be read, files that cannot be written.
pub fn run(arguments: &ExportArgs) -> anyhow::Result<()> {
    let spec = SceneSpec::parse(&arguments.uri)?;
    let ExportArgs { raw, frames, bitrate, .. } = *arguments;
    let options = ExportOptions { raw, frames, bitrate, progress: true };
    let done = export(&spec, &arguments.out, &options)?;
    eprintln!("{} frames: {} {}", done.frames, done.video.display(), done.truth.display());
    Ok(())
}

/// What has been written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exported {
    /// Frames.
    pub frames: u64,
    /// The ground truth.
    pub truth: PathBuf,
    /// The video.
    pub video: PathBuf,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be written.
    #[error("failed to write {path}: {source}; files in that folder are incomplete")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The encoder could not be built or failed.
    #[error("failed to encode {path}: {reason}; files in that folder are incomplete")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What GStreamer said.
        reason: String,
    },
    /// Somebody wanted it to stop.
    #[error("stopped; files in {0} are incomplete")]
    Stopped(PathBuf),
}

/// Renders a scene into a folder, which is made where it does not exist.
///
/// # Errors
/// Files that cannot be written; an encoder that is missing or fails.
pub fn export(spec: &SceneSpec, folder: &Path, options: &ExportOptions) -> Result<Exported, ExportError> {
    export_until(spec, folder, options, || false)
}

/// As [`export`], until `stop` says so, which is asked before each frame.
///
/// # Errors
/// As [`export`]; and where it was stopped.
pub fn export_until(
    spec: &SceneSpec,
    folder: &Path,
    options: &ExportOptions,
    stop: impl Fn() -> bool,
) -> Result<Exported, ExportError> {
    let mut spec = spec.clone();
    if spec.seconds <= 0.0 {
        // The promises of a scene (crossings, fights) are made for a finite one.
        spec.seconds = options.frames.map_or(DEFAULT_SECONDS, |n| (n as f64 / spec.fps()).max(1.0));
    }
    let all = spec.frames().unwrap_or(0);
    let frames = options.frames.map_or(all, |n| n.min(all));
    let write = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ExportError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(write(folder))?;
    let bar = if options.progress { ProgressBar::new(frames) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} frames, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let truth = folder.join("truth.jsonl");
    let mut lines = BufWriter::new(File::create(&truth).map_err(write(&truth))?);
    let video = folder.join(if options.raw { "frames.nv12" } else { "video.mp4" });
    let mut sink = if options.raw {
        Sink::Raw(BufWriter::new(File::create(&video).map_err(write(&video))?))
    } else {
        let fitting = (f64::from(spec.size.width * spec.size.height) * spec.fps() * 0.35 / 1000.0) as u32;
        Sink::Encoded(Encoder::new(&spec, &video, options.bitrate.unwrap_or(fitting.max(200)))?)
    };
    let mut scene = Scene::new(&spec);
    line(&mut lines, &scene.truth()).map_err(write(&truth))?;
    for index in 0..frames {
        if stop() {
            return Err(ExportError::Stopped(folder.to_path_buf()));
        }
        let (picture, known) = scene.frame(index);
        line(&mut lines, &known).map_err(write(&truth))?;
        match &mut sink {
            Sink::Raw(file) => {
                let planes = [picture.plane(0), picture.plane(1)];
                planes.iter().try_for_each(|p| file.write_all(p)).map_err(write(&video))?;
            }
            Sink::Encoded(encoder) => encoder.push(&picture, known.pts, spec.pts(index + 1))?,
        }
        bar.inc(1);
    }
    lines.flush().map_err(write(&truth))?;
    match sink {
        Sink::Raw(mut file) => file.flush().map_err(write(&video))?,
        Sink::Encoded(encoder) => encoder.finish()?,
    }
    bar.finish();
    Ok(Exported { frames, truth, video })
}

fn line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// The bytes of a tightly packed NV12 picture as GStreamer expects them where nothing else is said: it rounds strides
/// up to 4 bytes.
pub(super) fn plain_nv12(picture: &Picture) -> Vec<u8> {
    let (luma, chroma) = (picture.plane(0), picture.plane(1));
    let width = picture.size.width as usize;
    let stride = width.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(stride * picture.size.height as usize * 3 / 2);
    for row in luma.chunks_exact(width).chain(chroma.chunks_exact(picture.strides[1])) {
        bytes.extend_from_slice(row);
        bytes.resize(bytes.len().next_multiple_of(stride), 0);
    }
    bytes
}

enum Sink {
    Raw(BufWriter<File>),
    Encoded(Encoder),
}

/// x264 into an MP4 file.
struct Encoder {
    pipeline: gst::Pipeline,
    source: AppSrc,
    path: PathBuf,
}

impl Encoder {
    fn new(spec: &SceneSpec, path: &Path, bitrate: u32) -> Result<Self, ExportError> {
        let wrong = |reason: String| ExportError::Encode { path: path.to_path_buf(), reason };
        gst::init().map_err(|e| wrong(format!("GStreamer does not start: {e}")))?;
        let make = |name: &str| {
            gst::ElementFactory::make(name).build().map_err(|_| {
                wrong(format!("GStreamer element {name} is missing; install its plugin package"))
            })
        };
        // x264 takes only even sizes in 4:2:0.
        if !spec.size.width.is_multiple_of(2) || !spec.size.height.is_multiple_of(2) {
            return Err(wrong(format!("H.264 needs an even size, not {}; or write raw frames", spec.size)));
        }
        let colorimetry = if spec.size.height >= 720 { "bt709" } else { "bt601" };
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "NV12")
            .field("width", spec.size.width as i32)
            .field("height", spec.size.height as i32)
            .field("framerate", gst::Fraction::new(spec.rate.0 as i32, spec.rate.1 as i32))
            .field("colorimetry", colorimetry)
            .build();
        let source = AppSrc::builder().caps(&caps).format(gst::Format::Time).block(true).build();
        source.set_max_bytes(u64::from(spec.size.width * spec.size.height) * 3 / 2 * 4);
        let encoder = make("x264enc")?;
        encoder.set_property("bitrate", bitrate);
        encoder.set_property_from_str("speed-preset", "veryfast");
        encoder.set_property("key-int-max", (spec.fps() * 2.0).ceil() as u32);
        let (parse, mux, sink) = (make("h264parse")?, make("mp4mux")?, make("filesink")?);
        sink.set_property("location", path.to_string_lossy().as_ref());
        let pipeline = gst::Pipeline::new();
        let elements = [source.upcast_ref(), &encoder, &parse, &mux, &sink];
        pipeline.add_many(elements).map_err(|e| wrong(e.to_string()))?;
        gst::Element::link_many(elements).map_err(|e| wrong(e.to_string()))?;
        pipeline.set_state(gst::State::Playing).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { pipeline, source, path: path.to_path_buf() })
    }

    fn wrong(&self, reason: impl Into<String>) -> ExportError {
        ExportError::Encode { path: self.path.clone(), reason: reason.into() }
    }

    fn push(&self, picture: &Picture, pts: u64, next: u64) -> Result<(), ExportError> {
        debug_assert!(picture.color.matrix != Matrix::Bt2020);
        let mut buffer = gst::Buffer::from_mut_slice(plain_nv12(picture));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(pts));
            buffer.set_duration(gst::ClockTime::from_nseconds(next - pts));
        }
        self.source.push_buffer(buffer).map_err(|e| self.failure(&e.to_string()))?;
        Ok(())
    }

    /// What the pipeline says went wrong, or else `other`.
    fn failure(&self, other: &str) -> ExportError {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(e)) => self.wrong(e.error().to_string()),
            _ => self.wrong(other),
        }
    }

    fn finish(self) -> Result<(), ExportError> {
        self.source.end_of_stream().map_err(|e| self.failure(&e.to_string()))?;
        let Some(bus) = self.pipeline.bus() else { return Err(self.wrong("the pipeline has no bus")) };
        let timeout = gst::ClockTime::try_from(Duration::from_secs(120)).ok();
        match bus
            .timed_pop_filtered(timeout, &[gst::MessageType::Eos, gst::MessageType::Error])
            .as_ref()
            .map(|m| m.view())
        {
            Some(gst::MessageView::Eos(_)) => Ok(()),
            Some(gst::MessageView::Error(e)) => Err(self.wrong(e.error().to_string())),
            _ => Err(self.wrong("the encoder did not finish within two minutes")),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Going to NULL joins the pipeline's threads; it cannot be refused.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
