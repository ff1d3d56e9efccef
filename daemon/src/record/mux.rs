//! Compressed packets into an MP4 file, not encoded again.
//!
//! In: packets in the order in which they came, the first a key frame. Out: a file, whole once the end has been reached.
//! Owned by one clip; dropping it stops its pipeline and the pipeline's threads. Nothing waits for the disk: what it has
//! not taken stays in memory, up to a bound. Fails where the disk refuses, or MP4 cannot hold the codec.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

use super::status::Trouble;
use super::timing::{Timed, Timing};
use crate::flow::{Packet, PacketKind, Part};

/// Bytes that wait for the disk at most.
const WAITING: u64 = 64 << 20;

/// Video that MP4 holds, and what prepares it.
const VIDEO: [(&str, &str); 4] = [
    ("video/x-h264", "h264parse"),
    ("video/x-h265", "h265parse"),
    ("video/x-av1", "av1parse"),
    ("video/x-vp9", "vp9parse"),
];

/// Why a clip is not written.
#[derive(Debug)]
pub(super) enum MuxError {
    /// The disk refuses.
    Disk(Trouble),
    /// Something else, of this clip alone.
    Clip(String),
}

fn text(error: impl std::fmt::Display) -> MuxError {
    MuxError::Clip(error.to_string())
}

/// Whether a clip can be made of video of this media type ("video/x-h264").
#[must_use]
pub fn remuxable(media: &str) -> bool {
    VIDEO.iter().any(|(known, _)| *known == media)
}

/// A file that is being written.
pub(super) struct Mux {
    pipeline: gst::Pipeline,
    video: gst_app::AppSrc,
    audio: Option<gst_app::AppSrc>,
    timing: Timing,
}

/// The bytes of a packet, held by a buffer for as long as GStreamer needs them.
struct Bytes(Arc<[u8]>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mux {
    /// Starts a file that begins with the first of these packets.
    pub fn start(path: &Path, first: &Part) -> Result<Self, MuxError> {
        gst::init().map_err(text)?;
        // An error of the file's own, before anything else says it less clearly.
        std::fs::File::create(path).map_err(|error| MuxError::Disk(Trouble::of(&error, path)))?;
        let pipeline = gst::Pipeline::new();
        let mux = make("mp4mux")?;
        let sink = make("filesink")?;
        sink.set_property("location", path);
        sink.set_property("async", false);
        pipeline.add_many([&mux, &sink]).map_err(text)?;
        mux.link(&sink).map_err(text)?;

        let track = first.video.as_ref().ok_or_else(|| text("the source's codec is not known"))?;
        let caps: gst::Caps = track.caps.parse().map_err(text)?;
        let media = media(&caps);
        let parser = VIDEO.iter().find(|(known, _)| *known == media);
        let (_, parser) = parser.ok_or_else(|| text(format!("MP4 cannot hold {media}")))?;
        let video = branch(&pipeline, &mux, &caps, parser)?;
        let audio = match &first.audio {
            Some(track) => {
                let caps: gst::Caps = track.caps.parse().map_err(text)?;
                audio_parser(&caps).map(|parser| branch(&pipeline, &mux, &caps, parser)).transpose()?
            }
            None => None,
        };
        let timing = Timing::new(first.packets.iter().filter(|packet| packet.kind == PacketKind::Video));
        pipeline.set_state(gst::State::Playing).map_err(text)?;
        Ok(Self { pipeline, video, audio, timing })
    }

    /// Adds a packet; what belongs before the first picture is left out.
    pub fn push(&mut self, packet: &Packet) -> Result<(), MuxError> {
        let waiting = [Some(&self.video), self.audio.as_ref()].into_iter().flatten();
        if waiting.map(gst_app::AppSrc::current_level_bytes).sum::<u64>() > WAITING {
            return Err(text("the disk is too slow"));
        }
        match (packet.kind, &self.audio) {
            (PacketKind::Video, _) => match self.timing.push(packet.clone()) {
                Some(timed) => self.send(&timed),
                None => Ok(()),
            },
            (PacketKind::Audio, Some(audio)) => match self.timing.place(packet.pts) {
                Some(pts) => self.sent(audio.push_buffer(buffer(packet, pts, pts))),
                None => Ok(()),
            },
            (PacketKind::Audio, None) => Ok(()),
        }
    }

    fn send(&self, timed: &Timed) -> Result<(), MuxError> {
        self.sent(self.video.push_buffer(buffer(&timed.packet, timed.pts, timed.dts)))
    }

    /// Where the pipeline refuses it has failed, and says why.
    fn sent(&self, outcome: Result<gst::FlowSuccess, gst::FlowError>) -> Result<(), MuxError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => Err(self.look().err().unwrap_or_else(|| text(error))),
        }
    }

    /// No further packets.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn end(&mut self) -> Result<(), MuxError> {
        while let Some(timed) = self.timing.pop() {
            self.send(&timed)?;
        }
        for source in [Some(&self.video), self.audio.as_ref()].into_iter().flatten() {
            // Refused where the pipeline has failed, which the next look finds.
            let _ = source.end_of_stream();
        }
        Ok(())
    }

    /// Whether the file is whole; an error where it will never be.
    pub fn look(&self) -> Result<bool, MuxError> {
        let Some(bus) = self.pipeline.bus() else { return Ok(false) };
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let Some(message) = bus.pop_filtered(&wanted) else { return Ok(false) };
        match message.view() {
            gst::MessageView::Error(error) if error.error().matches(gst::ResourceError::NoSpaceLeft) => {
                Err(MuxError::Disk(Trouble {
                    full: true,
                    text: Error::from(ErrorKind::StorageFull).to_string(),
                }))
            }
            gst::MessageView::Error(error) if error.error().is::<gst::ResourceError>() => {
                Err(MuxError::Disk(Trouble { full: false, text: error.error().to_string() }))
            }
            gst::MessageView::Error(error) => {
                let debug = error.debug().unwrap_or_default();
                Err(MuxError::Clip(format!(
                    "{}: {}",
                    error.error(),
                    debug.lines().last().unwrap_or_default()
                )))
            }
            _ => Ok(true),
        }
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        // Going to NULL does not fail; the elements' threads are gone when it returns.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn make(element: &str) -> Result<gst::Element, MuxError> {
    gst::ElementFactory::make(element).build().map_err(text)
}

/// A source of packets and what prepares them for the muxer.
fn branch(
    pipeline: &gst::Pipeline,
    mux: &gst::Element,
    caps: &gst::Caps,
    parser: &str,
) -> Result<gst_app::AppSrc, MuxError> {
    let source = gst_app::AppSrc::builder().caps(caps).format(gst::Format::Time).max_bytes(0).build();
    let parser = make(parser)?;
    let row = [source.upcast_ref(), &parser];
    pipeline.add_many(row).map_err(text)?;
    gst::Element::link_many([row[0], row[1], mux]).map_err(text)?;
    Ok(source)
}

/// A packet at these times of the file.
fn buffer(packet: &Packet, pts: u64, dts: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(Bytes(Arc::clone(&packet.data)));
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::from_nseconds(pts));
        buffer.set_dts(gst::ClockTime::from_nseconds(dts));
        if !packet.key {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    buffer
}

fn media(caps: &gst::Caps) -> String {
    caps.structure(0).map_or_else(|| "an unknown codec".to_owned(), |structure| structure.name().to_string())
}

/// What prepares sound that MP4 holds; other sound is left out.
fn audio_parser(caps: &gst::Caps) -> Option<&'static str> {
    let structure = caps.structure(0)?;
    match (structure.name().as_str(), structure.get::<i32>("mpegversion").ok()) {
        ("audio/mpeg", Some(2 | 4)) => Some("aacparse"),
        ("audio/mpeg", Some(1)) => Some("mpegaudioparse"),
        ("audio/x-ac3", _) => Some("ac3parse"),
        ("audio/x-opus", _) => Some("opusparse"),
        _ => None,
    }
}
