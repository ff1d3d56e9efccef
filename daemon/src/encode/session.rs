//! One life of an output's pipeline: from the first picture to the end of the stream or the first failure.
//!
//! In: a specification, pictures. Out: encoded video at the target; news in the inbox (the pipeline wants a
//! picture, the sink took something, an error, the end). Owned by the worker; dropping it stops the pipeline
//! and its threads. Every failure is a text without secrets.
//!
//! `appsrc ! x264enc ! h264parse !` and then the target's sink. Nothing is synchronised to a clock: pictures
//! leave when they come. Key frames are forced by stream time, so that neither a variable rate nor dropped
//! pictures stretch the distance between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::flow::{Colorimetry, Picture, PixelFormat, Size};

use super::inbox::Inbox;
use super::mount::Mount;
use super::spec::{OutputSpec, Target};
use super::status::Counters;
use super::{EncodeError, feed};

/// A running pipeline.
pub(super) struct Session {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    /// Where requests for key frames go.
    encoded: gst::Pad,
    kind: (PixelFormat, Colorimetry),
    size: Size,
    origin: u64,
    last_pts: Option<u64>,
    next_key: u64,
    keyframe_ns: u64,
}

/// What a session tells and counts.
#[derive(Clone)]
pub(super) struct Links {
    pub inbox: Arc<Inbox>,
    pub counters: Arc<Counters>,
    pub mount: Option<Arc<Mount>>,
}

/// Whether all elements that a target needs are there.
pub(super) fn check_elements(spec: &OutputSpec) -> Result<(), EncodeError> {
    let base = [("x264enc", "gstreamer1.0-plugins-ugly"), ("h264parse", "gstreamer1.0-plugins-bad")];
    let sink: &[(&'static str, &'static str)] = match spec.target {
        Target::Rtsp { .. } => &[("rtph264pay", "gstreamer1.0-plugins-good")],
        Target::Rtmp { .. } => {
            &[("flvmux", "gstreamer1.0-plugins-good"), ("rtmp2sink", "gstreamer1.0-plugins-bad")]
        }
        Target::Mp4 { .. } => &[("mp4mux", "gstreamer1.0-plugins-good")],
    };
    match base.iter().chain(sink).find(|(element, _)| gst::ElementFactory::find(element).is_none()) {
        Some(&(element, package)) => Err(EncodeError::Element { output: spec.label(), element, package }),
        None => Ok(()),
    }
}

impl Session {
    /// Builds and starts the pipeline for pictures like `first`, which is not pushed.
    pub(super) fn start(spec: &OutputSpec, first: &(Picture, u64), links: &Links) -> Result<Self, String> {
        let (picture, origin) = first;
        let size = spec.coded();
        let caps = feed::caps(picture, size, spec.rate)?;
        let source = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .block(false)
            .max_buffers(2)
            .callbacks(need_data(links))
            .build();
        let pipeline = gst::Pipeline::new();
        let encoder = encoder(spec)?;
        let parser = make("h264parse").property("config-interval", parser_headers(spec)).build();
        let parser = parser.map_err(|error| error.to_string())?;
        let sink = sink(spec, links)?;
        let mut row = vec![source.clone().upcast(), encoder.clone(), parser];
        row.extend(sink);
        pipeline.add_many(&row).map_err(|error| error.to_string())?;
        gst::Element::link_many(&row).map_err(|error| error.to_string())?;
        let encoded = encoder.static_pad("src").ok_or("x264enc has no source pad")?;
        watch(&pipeline, &encoded, row.last(), spec, links)?;
        let session = Self {
            pipeline,
            source,
            encoded,
            kind: (picture.format, picture.color),
            size,
            origin: *origin,
            last_pts: None,
            next_key: spec.keyframe_ns(),
            keyframe_ns: spec.keyframe_ns(),
        };
        session
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| "the pipeline does not start".to_owned())?;
        Ok(session)
    }

    /// Whether a picture is of the kind this session was started for.
    pub(super) fn accepts(&self, picture: &Picture) -> bool {
        self.kind == (picture.format, picture.color)
    }

    /// Hands a picture to the encoder, as a key frame where `key` says so or the time has come.
    ///
    /// A picture whose time does not lie after the one before is left out: no container can hold it.
    pub(super) fn push(&mut self, picture: &Picture, pts: u64, key: bool) -> Result<(), String> {
        let pts = pts.saturating_sub(self.origin);
        if self.last_pts.is_some_and(|last| pts <= last) {
            return Ok(());
        }
        let due = pts >= self.next_key;
        if due || (key && self.last_pts.is_some()) {
            let event = gst_video::UpstreamForceKeyUnitEvent::builder()
                .running_time(gst::ClockTime::from_nseconds(pts))
                .all_headers(true)
                .build();
            self.encoded.send_event(event);
            self.next_key = pts + self.keyframe_ns;
        }
        self.last_pts = Some(pts);
        let buffer = feed::buffer(picture, self.size, pts)?;
        self.source.push_buffer(buffer).map(|_| ()).map_err(|error| format!("the encoder refuses: {error}"))
    }

    /// No further pictures; the inbox hears of the end when the sink has written everything.
    pub(super) fn end(&self) {
        // An error means that the pipeline is going down by itself, which the inbox hears of too.
        let _ = self.source.end_of_stream();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Going to NULL does not fail; the elements' threads are gone when it returns.
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

fn make(element: &'static str) -> gst::element_factory::ElementBuilder<'static> {
    gst::ElementFactory::make(element)
}

fn need_data(links: &Links) -> gst_app::AppSrcCallbacks {
    let inbox = Arc::clone(&links.inbox);
    gst_app::AppSrcCallbacks::builder()
        .need_data(move |_, _| inbox.tell(|inside| inside.hungry = true))
        .build()
}

/// x264: `zerolatency` and no frame held back for what is watched live, some lookahead for files.
pub(super) fn encoder(spec: &OutputSpec) -> Result<gst::Element, String> {
    let file = matches!(spec.target, Target::Mp4 { .. });
    let pixels = spec.size.width * spec.size.height;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    // Live, threads would be slices: pictures in several parts, of which viewers were seen to show only one.
    let threads = if file { (1 + pixels / (640 * 360)).min(4).min(cores) } else { 1 };
    let per_key = f64::from(spec.rate.0) / f64::from(spec.rate.1) * spec.keyframe_ns() as f64 / 1e9;
    let builder = make("x264enc")
        .property_from_str("speed-preset", if pixels > 1280 * 720 { "superfast" } else { "veryfast" })
        .property_from_str("tune", if file { "0" } else { "zerolatency" })
        .property("rc-lookahead", if file { 10i32 } else { 0 })
        .property("bitrate", (spec.bits() / 1000).max(1))
        .property("vbv-buf-capacity", 1000u32)
        // Forced key frames come by time; this is the bound where the rate is what was said.
        .property("key-int-max", (per_key.ceil() as u32 * 2).clamp(30, 100_000))
        .property("bframes", 0u32)
        .property("threads", threads)
        .property("aud", false)
        .property("byte-stream", matches!(spec.target, Target::Rtsp { .. }));
    builder.build().map_err(|error| error.to_string())
}

/// RTSP viewers join at any key frame, so each carries its parameter sets.
fn parser_headers(spec: &OutputSpec) -> i32 {
    if matches!(spec.target, Target::Rtsp { .. }) { -1 } else { 0 }
}

/// What follows the parser: filter or muxer, and the sink last.
fn sink(spec: &OutputSpec, links: &Links) -> Result<Vec<gst::Element>, String> {
    let text = |error: gst::glib::BoolError| error.to_string();
    match &spec.target {
        Target::Rtsp { .. } => {
            let mount = links.mount.clone().ok_or("an RTSP output without a mount")?;
            let caps = gst::Caps::builder("video/x-h264")
                .field("stream-format", "byte-stream")
                .field("alignment", "au")
                .build();
            let callbacks = gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    mount.deliver(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build();
            let sink = gst_app::AppSink::builder().caps(&caps).sync(false).callbacks(callbacks).build();
            sink.set_async(false);
            Ok(vec![sink.upcast()])
        }
        Target::Rtmp { url } => {
            let muxer = make("flvmux").property("streamable", true).build().map_err(text)?;
            let sink = make("rtmp2sink").property("sync", false).property("async", false).build();
            let sink = sink.map_err(text)?;
            sink.set_property("location", url);
            Ok(vec![muxer, sink])
        }
        Target::Mp4 { path } => {
            let path = free_path(path)?;
            links.counters.location(path.display().to_string());
            let muxer = make("mp4mux")
                .property("fragment-duration", 1000u32)
                .property_from_str("fragment-mode", "first-moov-then-finalise")
                .build()
                .map_err(text)?;
            // Unbuffered: what was muxed is in the system's hands when the process is killed.
            let sink = make("filesink")
                .property("location", path.display().to_string())
                .property_from_str("buffer-mode", "unbuffered")
                .property("sync", false)
                .property("async", false)
                .build()
                .map_err(text)?;
            Ok(vec![muxer, sink])
        }
    }
}

/// The path itself, or with -2, -3, ... behind its stem where a file is there already.
fn free_path(path: &Path) -> Result<PathBuf, String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("folder {} cannot be made: {error}", folder.display()))?;
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let numbered = (2..100_000).map(|number| path.with_file_name(format!("{stem}-{number}.{extension}")));
    std::iter::once(path.to_path_buf())
        .chain(numbered)
        .find(|path| !path.exists())
        .ok_or_else(|| format!("{}: every name up to -99999 is taken", path.display()))
}

/// Counts what is encoded and taken, and passes errors and the end on to the inbox.
fn watch(
    pipeline: &gst::Pipeline,
    encoded: &gst::Pad,
    sink: Option<&gst::Element>,
    spec: &OutputSpec,
    links: &Links,
) -> Result<(), String> {
    let counters = Arc::clone(&links.counters);
    encoded.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            Counters::add(&counters.frames, 1);
            Counters::add(&counters.bytes, buffer.size() as u64);
        }
        gst::PadProbeReturn::Ok
    });
    let taken = sink.and_then(|sink| sink.static_pad("sink")).ok_or("the sink has no pad")?;
    let inbox = Arc::clone(&links.inbox);
    let mut buffers = 0u32;
    // The second buffer comes when the sink has taken the first, which a server that is away prevents.
    let enough = if matches!(spec.target, Target::Rtmp { .. }) { 2 } else { 1 };
    let buffers = std::sync::Mutex::new(move || {
        buffers = buffers.saturating_add(1);
        buffers == enough
    });
    taken.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let reached = buffers.lock().is_ok_and(|mut count| count());
        if reached {
            inbox.tell(|inside| inside.delivered = true);
        }
        gst::PadProbeReturn::Ok
    });
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let (inbox, spec) = (Arc::clone(&links.inbox), spec.clone());
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let detail = error.debug().unwrap_or_default();
                tracing::debug!(output = %spec.label(), "{}", spec.scrub(&detail));
                let text = spec.scrub(&error.error().to_string());
                inbox.tell(|inside| {
                    inside.ended.get_or_insert(Err(text));
                });
            }
            gst::MessageView::Eos(_) => inbox.tell(|inside| {
                inside.ended.get_or_insert(Ok(()));
            }),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}
