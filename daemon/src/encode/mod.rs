//! Video that leaves: encoders and sinks. H.264 by x264 or NVENC, H.265 and AV1 by NVENC; served over RTSP, pushed over
//! RTMP, written to MP4.
//!
//! In: NV12 or I420 pictures of one output, in order, with their stream time, in host memory or a GPU's. Out: a stream or a file, and an
//! [`OutputStatus`]. Each output owns a worker thread with its GStreamer pipeline ([`VideoOut`]); the daemon
//! owns one [`RtspServer`], which may listen elsewhere from one moment to the next. An output that fails tries again by itself, ever more slowly, and meanwhile drops
//! pictures; it never holds its stream up. Only a file written from a file (`realtime = false`) makes the
//! stream wait, since then no frame may be lost.
//!
//! The way of a picture: `inbox` (bounded, drops the oldest) → `worker` (states, retries) → `session` (the
//! pipeline: `feed` wraps the picture without a copy, `encoder`, the sink) → for RTSP `mount` (one encoder, any
//! number of viewers), `rtsp` (the server) and `listener` (its address).

mod cuda;
mod encoder;
mod feed;
mod inbox;
mod input;
mod listener;
mod mount;
mod rtsp;
mod session;
mod spec;
mod status;
mod worker;

pub use cuda::{CudaEncoding, Rendered};
pub use input::Input;
pub use rtsp::{RtspHandle, RtspServer};
pub use spec::{OutputSpec, Target, VideoCodec, default_bitrate, redact};
pub use status::{OutputState, OutputStatus};
pub use worker::VideoOut;

/// An output's encoder, for whoever measures it alone.
pub struct Alone {
    /// From the pictures on; the last one encodes. NVENC's session goes with this.
    pub elements: Vec<gstreamer::Element>,
    /// What they are.
    pub label: String,
    _session: Option<cuda::Permit>,
}

/// The encoder that an output of this kind makes. `on_gpu`: for pictures in video memory.
///
/// # Errors
/// Why there is none.
pub fn alone(spec: &OutputSpec, on_gpu: bool) -> Result<Alone, String> {
    let color =
        crate::flow::Colorimetry { matrix: crate::flow::Matrix::Bt709, range: crate::flow::Range::Limited };
    let kind = input::Kind { on_gpu, format: crate::flow::PixelFormat::Nv12, color };
    let made = encoder::Encoder::make(spec, kind)?;
    Ok(Alone { elements: made.elements, label: made.label, _session: made.permit })
}

/// What can go wrong when an output or the server is opened.
///
/// What goes wrong later is retried, and said in [`OutputStatus::error`].
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// GStreamer itself does not start.
    #[error("GStreamer does not start: {0}")]
    Gstreamer(#[from] gstreamer::glib::Error),
    /// An element is missing.
    #[error("output {output}: GStreamer has no element \"{element}\"; install {package}")]
    Element {
        /// `STREAM/OUTPUT`.
        output: String,
        /// Name of the element.
        element: &'static str,
        /// Debian package that has it.
        package: &'static str,
    },
    /// The specification makes no sense.
    #[error("output {output}: {reason}")]
    Spec {
        /// `STREAM/OUTPUT`.
        output: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The RTSP server cannot listen.
    #[error("RTSP server cannot listen on {address}: {reason}; choose another rtsp.address or rtsp.port")]
    Listen {
        /// `ADDRESS:PORT`.
        address: String,
        /// The system's reason.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread of {name}: {reason}")]
    Thread {
        /// Whose thread.
        name: String,
        /// The system's reason.
        reason: std::io::Error,
    },
}
