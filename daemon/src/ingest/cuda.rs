//! Decoding on the GPU: which NVDEC element takes a stream, and its frames in video memory.
//!
//! In: a GPU's context, the caps of a parsed stream. Out: a decoder that is there, opens and takes the caps, or in a few
//! words why none does: then the CPU decodes, and the status says so. Owned by whoever owns the streams' lane; a session
//! borrows it. What fails later, at a decoder's first frames, is the session's to notice.
//!
//! An element is never taken for its name: GStreamer registers what the driver says of each GPU when the registry is
//! made, under names that changed (nvh264sldec, nvh264dec, nvh264device1dec). What counts is that it gives CUDA memory, the
//! GPU that it is bound to, and the profiles, depths and sizes of its pad templates.

mod grid;
#[cfg(test)]
mod tests;

pub use grid::{GRID_BYTES, GridJob};

use std::sync::Arc;

use gstreamer::{self as gst, prelude::*};
use gstreamer_video as gst_video;

use super::decoder;
use super::source::LIVE_FRAMES;
use crate::flow::{Colorimetry, DeviceFrame};
use crate::gpu::gst::{CudaContext, FEATURE, FrameError};

/// Formats that the lane reads: 4:2:0 with 8 or 10 bits.
const FORMATS: [gst_video::VideoFormat; 2] = [gst_video::VideoFormat::Nv12, gst_video::VideoFormat::P01010le];
/// Frames in the sink and in the decoder's hands beside those that wait and those that the lane holds.
const SPARE_FRAMES: u32 = 2;
/// Surfaces that the elements allow.
const MOST_SURFACES: u32 = 64;
/// Media types that NVDEC may know, as a report lists them.
const MEDIA: [&str; 8] = [
    "video/x-h264",
    "video/x-h265",
    "video/x-av1",
    "video/x-vp9",
    "video/x-vp8",
    "image/jpeg",
    "video/mpeg, mpegversion=2",
    "video/mpeg, mpegversion=4",
];

/// Decoding on one GPU.
#[derive(Debug)]
pub struct CudaDecoding {
    context: Arc<CudaContext>,
    surfaces: u32,
}

/// A decoder for a stream, not yet in its pipeline.
pub(super) struct Found {
    /// Splits what the decoder wants split, where the stream's own parser did not.
    pub(super) parser: Option<gst::Element>,
    /// The decoder.
    pub(super) element: gst::Element,
    /// Its factory's name.
    pub(super) name: String,
}

impl CudaDecoding {
    /// Decoding with a GPU's context. `held`: pictures of one stream that the lane holds at once at most. A decoder that
    /// has fewer surfaces than are held waits until one is let go (GStreamer 1.24 and newer; before, it copies each).
    #[must_use]
    pub fn new(context: Arc<CudaContext>, held: u32) -> Self {
        let surfaces = held.saturating_add(LIVE_FRAMES as u32 + SPARE_FRAMES).min(MOST_SURFACES);
        Self { context, surfaces }
    }

    /// Loads the plugins that have such decoders. They initialise CUDA in their own way then, which is not to happen in the
    /// thread of a stream that is the first to look for its decoder.
    pub fn load() {
        for factory in factories(|_| true) {
            if let Err(error) = factory.load() {
                tracing::warn!(element = %factory.name(), %error, "a plugin does not load");
            }
        }
    }

    /// For each media type the element of this GPU that decodes it, or why there is none: for `doctor`.
    #[must_use]
    pub fn codecs(&self) -> Vec<(&'static str, Result<String, String>)> {
        MEDIA
            .iter()
            .map(|&media| {
                let caps: Option<gst::Caps> = media.parse().ok();
                let elements = factories(|factory| {
                    caps.as_ref().is_some_and(|caps| factory.can_sink_any_caps(&unsized_caps(caps)))
                });
                (media, self.first(&elements).ok_or_else(|| "no element opens".into()).map(|found| found.1))
            })
            .collect()
    }

    /// A decoder for these caps, or why none takes them.
    pub(super) fn decoder(&self, caps: &gst::CapsRef, live: bool) -> Result<Found, String> {
        readable(caps)?;
        let (caps, parser) = split(caps);
        let media = caps.structure(0).map_or_else(String::new, |structure| structure.name().to_string());
        let known = factories(|factory| factory.can_sink_any_caps(&unsized_caps(&caps)));
        if known.is_empty() {
            return Err(format!("no element for {media}"));
        }
        let taking: Vec<_> = known.into_iter().filter(|factory| factory.can_sink_all_caps(&caps)).collect();
        if taking.is_empty() {
            return Err(format!("takes no {}", decoder::describe(&caps)));
        }
        let Some((element, name)) = self.first(&taking) else {
            return Err(format!("{} does not open", taking[0].name()));
        };
        let parser = match parser {
            Some(parser) => {
                Some(gst::ElementFactory::make(parser).build().map_err(|_| format!("no {parser}"))?)
            }
            None => None,
        };
        decoder::set(&element, "num-output-surfaces", &self.surfaces.to_string());
        decoder::set(&element, "qos", "false");
        if live {
            decoder::set(&element, "max-display-delay", "0");
        }
        Ok(Found { parser, element, name })
    }

    /// The first of these that is of this GPU and opens.
    fn first(&self, factories: &[gst::ElementFactory]) -> Option<(gst::Element, String)> {
        factories.iter().find_map(|factory| {
            let element = factory.create().build().ok()?;
            let device = match element.find_property("cuda-device-id") {
                Some(property) if property.value_type() == gst::glib::Type::U32 => {
                    element.property::<u32>("cuda-device-id")
                }
                _ => 0,
            };
            if device != self.context.device() {
                return None;
            }
            self.context.give_element(&element);
            let opened = element.set_state(gst::State::Ready).is_ok();
            // Closed again: the pipeline opens it where it belongs.
            let closed = element.set_state(gst::State::Null).is_ok();
            (opened && closed).then(|| (element, factory.name().to_string()))
        })
    }

    /// Gives a pipeline the context, so that no element makes one of its own.
    pub(super) fn give(&self, pipeline: &gst::Pipeline) {
        self.context.give(pipeline);
    }

    /// Answers an element that asks for the context all the same; false where a message asks for something else.
    pub(super) fn answer(&self, message: &gst::MessageRef) -> bool {
        self.context.answer(message)
    }

    /// The picture in a decoder's buffer.
    pub(super) fn frame(
        &self,
        buffer: gst::Buffer,
        info: &gst_video::VideoInfo,
        color: Colorimetry,
    ) -> Result<DeviceFrame, FrameError> {
        self.context.frame(buffer, info, color)
    }
}

/// What the sink takes from a decoder on the GPU: no conversion stands between.
pub(super) fn caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().features([FEATURE]).format_list(FORMATS).build()
}

/// Holds everything back from a decoder up to the first key frame: joined in the middle of a group of pictures, NVDEC
/// stalls or shows grey.
pub(super) fn begin_with_key(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| match info.buffer() {
        // Not `Drop`: the bindings have given the buffer back by then, and GStreamer 1.22 would do it again.
        Some(buffer) if buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) => gst::PadProbeReturn::Handled,
        _ => gst::PadProbeReturn::Remove,
    });
}

/// Lets a decoder go that waits for a surface: its thread would hold up the pipeline's end until the lane has let all
/// frames go.
pub(super) fn flush(decoder: &gst::Element) {
    if let Some(pad) = decoder.static_pad("sink") {
        pad.send_event(gst::event::FlushStart::new());
    }
}

/// Decoders into video memory that a condition lets through, those of highest rank first.
fn factories(wanted: impl Fn(&gst::ElementFactory) -> bool) -> Vec<gst::ElementFactory> {
    let output = caps();
    let mut found: Vec<_> =
        gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::NONE)
            .into_iter()
            .filter(|factory| factory.klass().contains("Hardware"))
            .filter(|factory| factory.can_src_any_caps(&output) && wanted(factory))
            .collect();
    found.sort_by_key(|factory| std::cmp::Reverse(factory.rank()));
    found
}

/// Only the media type, and what belongs to its name.
fn unsized_caps(caps: &gst::Caps) -> gst::Caps {
    let Some(structure) = caps.structure(0) else { return gst::Caps::new_empty() };
    let mut kept = gst::Structure::new_empty(structure.name());
    if let Ok(version) = structure.get::<i32>("mpegversion") {
        kept.set("mpegversion", version);
    }
    gst::Caps::builder_full().structure(kept).build()
}

/// Whether pictures of these caps come out as NV12 or P010.
fn readable(caps: &gst::CapsRef) -> Result<(), String> {
    let Some(structure) = caps.structure(0) else { return Err("no caps".into()) };
    if let Ok(chroma) = structure.get::<&str>("chroma-format")
        && chroma != "4:2:0"
    {
        return Err(format!("takes no chroma {chroma}"));
    }
    if let Ok(sampling) = structure.get::<&str>("sampling")
        && !sampling.ends_with("4:2:0")
    {
        return Err(format!("takes no chroma {sampling}"));
    }
    for depth in ["bit-depth-luma", "bit-depth-chroma"] {
        if let Ok(bits) = structure.get::<u32>(depth)
            && bits > 10
        {
            return Err(format!("takes no {bits} bits"));
        }
    }
    Ok(())
}

/// The caps as the decoder sees them, behind the parser that it wants: VP9 and AV1 come in units of several frames.
fn split(caps: &gst::CapsRef) -> (gst::Caps, Option<&'static str>) {
    let mut caps = caps.to_owned();
    let parser = match caps.structure(0).map(|structure| structure.name().as_str()) {
        Some("video/x-vp9") => "vp9parse",
        Some("video/x-av1") => "av1parse",
        _ => return (caps, None),
    };
    caps.make_mut().set("alignment", "frame");
    (caps, Some(parser))
}
