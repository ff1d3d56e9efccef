//! The encoder of an output: NVENC where the pictures lie in video memory and a session is free, else x264.
//!
//! In: what is to be coded, and of which kind the pictures are. Out: the elements between the source of pictures and the
//! parser, and what the status calls them. Owned by the session of the output. Fails in words that say what would work.

use std::sync::Arc;

use gstreamer as gst;

use super::cuda::{self, CudaEncoding, Permit};
use super::input::Kind;
use super::spec::{OutputSpec, Target, VideoCodec};

/// An output's encoder.
pub(super) struct Encoder {
    /// From the source of pictures on; the last one encodes.
    pub elements: Vec<gst::Element>,
    /// For the status.
    pub label: String,
    /// The NVENC session, where it is one.
    pub permit: Option<Permit>,
    /// Each picture is copied to host memory.
    pub downloads: bool,
}

impl Encoder {
    /// An encoder for pictures of a kind.
    pub(super) fn make(spec: &OutputSpec, kind: Kind) -> Result<Self, String> {
        if !kind.on_gpu {
            return if spec.codec == VideoCodec::H264 {
                let label = "x264enc".to_owned();
                Ok(Self { elements: vec![x264(spec)?], label, permit: None, downloads: false })
            } else {
                Err(format!("pictures in host memory are coded as H.264 only, not as {}", spec.codec))
            };
        }
        let gpu = spec.gpu.as_ref().ok_or("pictures in video memory, but the output was given no GPU")?;
        match CudaEncoding::open(gpu, spec.codec) {
            Ok(permit) => {
                let element = permit.element()?;
                cuda::configure(&element, spec);
                let label = permit.name().to_owned();
                Ok(Self { elements: vec![element], label, permit: Some(permit), downloads: false })
            }
            Err(reason) if spec.codec == VideoCodec::H264 => Self::downloading(spec, gpu, &reason),
            Err(reason) => Err(format!("{} needs NVENC: {reason}", spec.codec)),
        }
    }

    /// x264 behind one copy.
    fn downloading(spec: &OutputSpec, gpu: &Arc<CudaEncoding>, reason: &str) -> Result<Self, String> {
        if gpu.says(reason) {
            tracing::info!(
                stream = spec.stream,
                output = spec.name,
                "x264 encodes, from a copy of each picture: {reason}"
            );
        }
        let download = make("cudadownload").build().map_err(|error| error.to_string())?;
        let label = format!("cudadownload + x264enc ({reason})");
        Ok(Self { elements: vec![download, x264(spec)?], label, permit: None, downloads: true })
    }
}

/// What will encode, as far as can be said before the first picture.
pub(super) fn expected(spec: &OutputSpec) -> String {
    let gpu = spec.gpu.as_ref().and_then(|gpu| gpu.may_encode(spec.codec).ok());
    gpu.unwrap_or_else(|| "x264enc".into())
}

pub(super) fn make(element: &str) -> gst::element_factory::ElementBuilder<'_> {
    gst::ElementFactory::make(element)
}

/// Frames between two key frames beyond which an encoder makes one by itself: those that are wanted come by time; this is
/// the bound where the rate is what was said.
pub(super) fn longest_group(spec: &OutputSpec) -> u32 {
    let per_key = f64::from(spec.rate.0) / f64::from(spec.rate.1) * spec.keyframe_ns() as f64 / 1e9;
    (per_key.ceil() as u32).saturating_mul(2).clamp(30, 100_000)
}

/// x264: `zerolatency` and no frame held back for what is watched live, some lookahead for files.
pub(super) fn x264(spec: &OutputSpec) -> Result<gst::Element, String> {
    let file = spec.is_file();
    let pixels = spec.size.width * spec.size.height;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    // Live, threads would be slices: pictures in several parts, of which viewers were seen to show only one.
    let threads = if file { (1 + pixels / (640 * 360)).min(4).min(cores) } else { 1 };
    let builder = make("x264enc")
        .property_from_str("speed-preset", if pixels > 1280 * 720 { "superfast" } else { "veryfast" })
        .property_from_str("tune", if file { "0" } else { "zerolatency" })
        .property("rc-lookahead", if file { 10i32 } else { 0 })
        .property("bitrate", (spec.bits() / 1000).max(1))
        .property("vbv-buf-capacity", 1000u32)
        .property("key-int-max", longest_group(spec))
        .property("bframes", 0u32)
        .property("threads", threads)
        .property("aud", false)
        .property("byte-stream", matches!(spec.target, Target::Rtsp { .. }));
    builder.build().map_err(|error| error.to_string())
}
