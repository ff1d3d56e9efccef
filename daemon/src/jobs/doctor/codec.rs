//! One frame through a decoder, or a few through an encoder on the CPU.
//!
//! In: the name of an element. Out: nothing, or why it did not work. The frames to decode are grey and lie beside this
//! file (`ffmpeg -f lavfi -i color=c=gray:s=320x240 -frames:v 1`, with libx264, libx265, libaom-av1, libvpx-vp9, libvpx, mjpeg,
//! mpeg2video, mpeg4).
//! Every pipeline here is stopped before its function returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

use crate::gpu::gst::Listening;

/// Longer than a frame takes, also on a GPU that wakes up.
const SOON: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// A codec, and what decodes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    pub(super) name: &'static str,
    /// Its media type, as NVDEC's report has it.
    pub(super) media: &'static str,
    /// Decoders on the CPU, the preferred one first.
    pub(super) cpu: &'static [&'static str],
    caps: &'static str,
    parser: &'static str,
    frame: &'static [u8],
}

const IVF: &str = "video/x-ivf";

pub(super) const ALL: [Codec; 8] = [
    Codec {
        name: "H.264",
        media: "video/x-h264",
        cpu: &["avdec_h264", "openh264dec"],
        caps: "video/x-h264,stream-format=byte-stream",
        parser: "h264parse",
        frame: include_bytes!("samples/gray.h264"),
    },
    Codec {
        name: "H.265",
        media: "video/x-h265",
        cpu: &["avdec_h265", "libde265dec"],
        caps: "video/x-h265,stream-format=byte-stream",
        parser: "h265parse",
        frame: include_bytes!("samples/gray.h265"),
    },
    Codec {
        name: "AV1",
        media: "video/x-av1",
        cpu: &["dav1ddec", "av1dec", "avdec_av1"],
        caps: IVF,
        parser: "ivfparse ! av1parse",
        frame: include_bytes!("samples/gray.av1.ivf"),
    },
    Codec {
        name: "VP9",
        media: "video/x-vp9",
        cpu: &["vp9dec", "avdec_vp9"],
        caps: IVF,
        parser: "ivfparse ! vp9parse",
        frame: include_bytes!("samples/gray.vp9.ivf"),
    },
    Codec {
        name: "VP8",
        media: "video/x-vp8",
        cpu: &["vp8dec", "avdec_vp8"],
        caps: IVF,
        parser: "ivfparse",
        frame: include_bytes!("samples/gray.vp8.ivf"),
    },
    Codec {
        name: "JPEG",
        media: "image/jpeg",
        cpu: &["jpegdec", "avdec_mjpeg"],
        caps: "image/jpeg",
        parser: "jpegparse",
        frame: include_bytes!("samples/gray.jpg"),
    },
    Codec {
        name: "MPEG-2",
        media: "video/mpeg, mpegversion=2",
        cpu: &["avdec_mpeg2video", "mpeg2dec"],
        caps: "video/mpeg,mpegversion=2,systemstream=false",
        parser: "mpegvideoparse",
        frame: include_bytes!("samples/gray.m2v"),
    },
    Codec {
        name: "MPEG-4",
        media: "video/mpeg, mpegversion=4",
        cpu: &["avdec_mpeg4"],
        caps: "video/mpeg,mpegversion=4,systemstream=false",
        parser: "mpeg4videoparse",
        frame: include_bytes!("samples/gray.m4v"),
    },
];

/// Whether GStreamer has an element.
pub(super) fn is_there(name: &str) -> bool {
    gst::ElementFactory::find(name).is_some()
}

impl Codec {
    /// Decodes a frame with an element.
    pub(super) fn decode(&self, element: &str) -> Result<(), String> {
        // NVDEC's elements write what the driver refused to GStreamer's log alone.
        let listening = Listening::begin();
        self.decode_one(element).map_err(|reason| listening.explain(reason))
    }

    fn decode_one(&self, element: &str) -> Result<(), String> {
        let text = format!(
            "appsrc name=doctor-in ! {} ! {element} ! fakesink name=doctor-out sync=false",
            self.parser
        );
        let pipeline = Pipeline::new(&text)?;
        let source =
            pipeline.part("doctor-in")?.downcast::<gst_app::AppSrc>().map_err(|_| "no appsrc".to_owned())?;
        let caps = self.caps.parse::<gst::Caps>().map_err(|error| error.to_string())?;
        source.set_caps(Some(&caps));
        source.set_format(gst::Format::Time);
        let frames = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&frames);
        let pad = pipeline.part("doctor-out")?.static_pad("sink").ok_or("no pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        pipeline.enter(gst::State::Playing)?;
        let mut buffer = gst::Buffer::from_slice(self.frame);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::ZERO);
        }
        // An element that has failed by now says so on the bus.
        let _ = source.push_buffer(buffer).and_then(|_| source.end_of_stream());
        pipeline.ended()?;
        match frames.load(Ordering::Relaxed) {
            0 => Err("no frame came out".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Encodes a few frames with an element.
pub(super) fn encode(element: &str) -> Result<(), String> {
    if !is_there(element) {
        return Err("no such element".to_owned());
    }
    let frames = "videotestsrc num-buffers=5 ! video/x-raw,format=NV12,width=320,height=240,framerate=30/1";
    let pipeline = Pipeline::new(&format!("{frames} ! {element} ! fakesink sync=false"))?;
    pipeline.enter(gst::State::Playing)?;
    pipeline.ended()
}

/// A pipeline that ends with its owner.
struct Pipeline(gst::Pipeline);

impl Pipeline {
    fn new(text: &str) -> Result<Self, String> {
        let made = gst::parse::launch(text).map_err(|error| error.to_string())?;
        made.downcast().map(Self).map_err(|_| "no pipeline".to_owned())
    }

    fn part(&self, name: &str) -> Result<gst::Element, String> {
        self.0.by_name(name).ok_or_else(|| format!("no element {name}"))
    }

    fn enter(&self, state: gst::State) -> Result<(), String> {
        let entered = self.0.set_state(state).map(drop);
        entered.map_err(|_| self.complaint().unwrap_or_else(|| "it does not start".to_owned()))
    }

    /// Waits for the end of the stream.
    fn ended(&self) -> Result<(), String> {
        let bus = self.0.bus().ok_or("no bus")?;
        match bus.timed_pop_filtered(SOON, &[gst::MessageType::Eos, gst::MessageType::Error]) {
            Some(message) => said(&message).map_or(Ok(()), Err),
            None => Err(format!("nothing came within {} s", SOON.seconds())),
        }
    }

    /// The error that lies on the bus.
    fn complaint(&self) -> Option<String> {
        self.0.bus()?.pop_filtered(&[gst::MessageType::Error]).as_ref().and_then(said)
    }
}

fn said(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Error(error) = message.view() else { return None };
    // The first line of the details says where in GStreamer's source; those after it say why.
    let details = error.debug().map(|text| text.lines().skip(1).collect::<Vec<_>>().join(" "));
    let details = details.filter(|text| !text.trim().is_empty()).map(|text| format!(" ({})", text.trim()));
    Some(format!("{}{}", error.error(), details.unwrap_or_default()))
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_decoded_by_what_the_cpu_has_and_nothing_else_is_called_decoded() {
        gst::init().unwrap();
        for codec in ALL {
            let name =
                codec.cpu.iter().find(|name| is_there(name)).expect("make setup installs the decoders");
            assert_eq!(codec.decode(name), Ok(()), "{} by {name}", codec.name);
        }
        let broken = Codec { frame: b"\0\0\0\x01\x67 nothing that could be decoded", ..ALL[0] };
        assert!(broken.decode("avdec_h264").is_err());
        assert!(ALL[0].decode("jpegdec").is_err(), "the wrong decoder");
    }

    #[test]
    fn an_encoder_is_tried_and_one_that_is_nowhere_is_not_called_good() {
        gst::init().unwrap();
        assert_eq!(encode("x264enc"), Ok(()));
        assert!(encode("nvenc-of-nowhere").is_err());
    }
}
