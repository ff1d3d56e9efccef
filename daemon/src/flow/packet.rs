//! Compressed packets as they came from the source, and what is known of a source.

use std::sync::Arc;

use super::{PixelFormat, Size};

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Video.
    Video,
    /// Audio.
    Audio,
}

/// Codec of a compressed stream, by its GStreamer media type ("video/x-h264").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Codec(pub Arc<str>);

/// One compressed packet (an access unit, or an audio frame).
#[derive(Debug, Clone)]
pub struct Packet {
    /// Video or audio.
    pub kind: PacketKind,
    /// Whether decoding can start here.
    pub key: bool,
    /// Stream time in nanoseconds, on the clock of [`super::FrameMeta::pts`].
    pub pts: u64,
    /// Decoding time in nanoseconds.
    pub dts: u64,
    /// The bytes.
    pub data: Arc<[u8]>,
}

/// One elementary stream of compressed packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Video or audio.
    pub kind: PacketKind,
    /// GStreamer caps of its packets, codec data included. H.264 and H.265 come as byte streams aligned to
    /// access units, parameter sets before each key frame, so that a parser and a muxer take them as they are.
    pub caps: Arc<str>,
}

/// Some packets in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The video's caps; `None` where nothing is known yet.
    pub video: Option<Track>,
    /// The audio's caps, where there is audio.
    pub audio: Option<Track>,
    /// The packets; times are on the clock of the frames' pts.
    pub packets: Vec<Packet>,
    /// Position after the last of them.
    pub next: u64,
    /// Packets between the position asked for and the first one here are gone.
    pub lost: bool,
}

/// Whoever keeps the last seconds of a source's packets.
pub trait Packets: Send + Sync {
    /// Those from the last video key frame at or before `pts` on (nanoseconds of stream time), or from the oldest one there
    /// is; none where there is no key frame.
    fn since(&self, pts: u64) -> Part;

    /// Those from a position on.
    fn after(&self, position: u64) -> Part;
}

/// What is known of a source once its first frame has come.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Size of the frames.
    pub size: Size,
    /// Nominal frames a second, as a fraction; (0, 1) where unknown or variable.
    pub rate: (u32, u32),
    /// Layout of decoded frames.
    pub format: PixelFormat,
    /// Codec of the source; `None` for a scene that the daemon renders itself.
    pub codec: Option<Codec>,
    /// Name of the decoder element in use, for the status ("avdec_h264").
    pub decoder: String,
    /// Whether its frames lie in video memory.
    pub on_gpu: bool,
    /// Whether frames come at the pace of a clock and cannot wait.
    pub live: bool,
}
