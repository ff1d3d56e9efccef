//! One life of an output's pipeline: from the first picture to the end of the stream or the first failure.
//!
//! In: a specification, pictures. Out: encoded video at the target; news in the inbox (the pipeline wants a
//! picture, the sink took something, an error, the end). Owned by the worker; dropping it stops the pipeline
//! and its threads. Every failure is a text without secrets.
//!
//! `appsrc ! ENCODER ! PARSER !` and then the target's sink. Nothing is synchronised to a clock: pictures
//! leave when they come. Key frames are forced by stream time, so that neither a variable rate nor dropped
//! pictures stretch the distance between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::flow::Size;

use super::cuda::{Permit, words};
use super::encoder::{Encoder, make};
use super::inbox::Inbox;
use super::input::{Input, Kind};
use super::mount::Mount;
use super::spec::{OutputSpec, Target, VideoCodec};
use super::status::Counters;
use super::{EncodeError, feed};

/// A running pipeline.
pub(super) struct Session {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    /// Where requests for key frames go.
    encoded: gst::Pad,
    kind: Kind,
    size: Size,
    origin: u64,
    last_pts: Option<u64>,
    next_key: u64,
    keyframe_ns: u64,
    /// The NVENC session, where it is one.
    permit: Option<Permit>,
    /// What was pushed before anything came out of an NVENC session: it may yet be refused.
    unconfirmed: Vec<(Input, u64)>,
    /// Something has come out of the encoder.
    confirmed: Arc<AtomicBool>,
    downloads: Option<Arc<Counters>>,
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
    let mut base = vec![(spec.codec.parser(), "gstreamer1.0-plugins-bad")];
    if spec.codec == VideoCodec::H264 {
        base.push(("x264enc", "gstreamer1.0-plugins-ugly"));
    }
    let sink: &[(&'static str, &'static str)] = match spec.target {
        Target::Rtsp { .. } => &[(spec.codec.payloader(), "gstreamer1.0-plugins-good")],
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
    /// Builds and starts the pipeline for pictures of a kind, the first of them at stream time `origin`.
    pub(super) fn start(spec: &OutputSpec, kind: Kind, origin: u64, links: &Links) -> Result<Self, String> {
        let size = spec.coded();
        let caps = feed::caps(kind, size, spec.rate)?;
        let source = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .block(false)
            .max_buffers(2)
            .callbacks(need_data(links))
            .build();
        let pipeline = gst::Pipeline::new();
        if let Some(gpu) = spec.gpu.as_ref().filter(|_| kind.on_gpu) {
            gpu.give(&pipeline);
        }
        let encoder = Encoder::make(spec, kind)?;
        links.counters.encoder(encoder.label);
        let parser = parser(spec)?;
        let sink = sink(spec, links)?;
        let encoded = encoder.elements.last().and_then(|last| last.static_pad("src"));
        let encoded = encoded.ok_or("the encoder has no source pad")?;
        let mut row = vec![source.clone().upcast()];
        row.extend(encoder.elements);
        row.push(parser);
        row.extend(sink);
        pipeline.add_many(&row).map_err(|error| error.to_string())?;
        gst::Element::link_many(&row).map_err(|error| error.to_string())?;
        let confirmed = Arc::new(AtomicBool::new(false));
        watch(&pipeline, &encoded, row.last(), spec, links, &confirmed)?;
        let session = Self {
            pipeline,
            source,
            encoded,
            kind,
            size,
            origin,
            last_pts: None,
            next_key: spec.keyframe_ns(),
            keyframe_ns: spec.keyframe_ns(),
            permit: encoder.permit,
            unconfirmed: Vec::new(),
            confirmed,
            downloads: encoder.downloads.then(|| Arc::clone(&links.counters)),
        };
        session
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| "the pipeline does not start".to_owned())?;
        Ok(session)
    }

    /// Whether a picture is of the kind this session was started for.
    pub(super) fn accepts(&self, picture: &Input) -> bool {
        self.kind == picture.kind()
    }

    /// Hands a picture to the encoder, as a key frame where `key` says so or the time has come.
    ///
    /// A picture whose time does not lie after the one before is left out: no container can hold it.
    pub(super) fn push(&mut self, picture: Input, pts: u64, key: bool) -> Result<(), String> {
        if self.permit.is_some() {
            if self.confirmed.load(Ordering::Acquire) {
                self.unconfirmed.clear();
            } else {
                self.unconfirmed.push((picture.clone(), pts));
            }
        }
        if let Some(counters) = &self.downloads {
            Counters::add(&counters.downloads, 1);
        }
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

    /// Where an NVENC session failed before anything came out of it: the GPU's sessions learn of it, and the pictures that
    /// went nowhere come back.
    pub(super) fn refused(&mut self, error: &str) -> Option<Vec<(Input, u64)>> {
        if self.confirmed.load(Ordering::Acquire) {
            return None;
        }
        self.permit.take()?.refused(error);
        Some(std::mem::take(&mut self.unconfirmed))
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

fn need_data(links: &Links) -> gst_app::AppSrcCallbacks {
    let inbox = Arc::clone(&links.inbox);
    gst_app::AppSrcCallbacks::builder()
        .need_data(move |_, _| inbox.tell(|inside| inside.hungry = true))
        .build()
}

/// RTSP viewers join at any key frame, so each carries its parameter sets.
fn parser(spec: &OutputSpec) -> Result<gst::Element, String> {
    let parser = make(spec.codec.parser());
    let parser = match spec.codec {
        VideoCodec::H264 | VideoCodec::H265 => {
            let each = matches!(spec.target, Target::Rtsp { .. });
            parser.property("config-interval", if each { -1i32 } else { 0 })
        }
        VideoCodec::Av1 => parser,
    };
    parser.build().map_err(|error| error.to_string())
}

/// What follows the parser: filter or muxer, and the sink last.
fn sink(spec: &OutputSpec, links: &Links) -> Result<Vec<gst::Element>, String> {
    let text = |error: gst::glib::BoolError| error.to_string();
    match &spec.target {
        Target::Rtsp { .. } => {
            let mount = links.mount.clone().ok_or("an RTSP output without a mount")?;
            let caps = gst::Caps::builder(spec.codec.media())
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
    confirmed: &Arc<AtomicBool>,
) -> Result<(), String> {
    let (counters, confirmed) = (Arc::clone(&links.counters), Arc::clone(confirmed));
    encoded.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        confirmed.store(true, Ordering::Release);
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
    let encoder = encoded.parent().filter(|_| spec.gpu.is_some());
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let detail = error.debug().unwrap_or_default();
                tracing::debug!(stream = spec.stream, output = spec.name, "{}", spec.scrub(&detail));
                // Of an encoder's errors the details say more; others' are full of GStreamer's own names.
                let text = match error.src() {
                    Some(source) if Some(source) == encoder.as_ref() => words(error),
                    _ => error.error().to_string(),
                };
                let text = spec.scrub(&text);
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
