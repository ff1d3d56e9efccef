//! Which decoder element takes a stream, and how it is set.
//!
//! In: the caps of the parsed stream. Out: an element that decodes it into host memory (into video memory: `cuda`).
//! Fails with
//! [`IngestError::NoDecoder`] where none is installed.

use gstreamer::{self as gst, prelude::*};

use super::IngestError;

/// Makes the decoder of highest rank for these caps that works in host memory.
pub(super) fn make(caps: &gst::CapsRef, live: bool, source: &str) -> Result<gst::Element, IngestError> {
    let caps = caps.to_owned();
    let kinds = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    let images = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_IMAGE;
    let mut factories: Vec<_> = gst::ElementFactory::factories_with_type(kinds, gst::Rank::MARGINAL)
        .into_iter()
        .chain(gst::ElementFactory::factories_with_type(images, gst::Rank::MARGINAL))
        .filter(|factory| factory.can_sink_all_caps(&caps))
        // Hardware decoders belong to the other lane: here their frames would be copied back unsaid.
        .filter(|factory| !factory.metadata("klass").is_some_and(|class| class.contains("Hardware")))
        .collect();
    factories.sort_by_key(|factory| std::cmp::Reverse(factory.rank()));
    factories
        .iter()
        .find_map(|factory| factory.create().build().ok())
        .inspect(|decoder| configure(decoder, live))
        .ok_or_else(|| IngestError::NoDecoder { source_: source.to_string(), codec: describe(&caps) })
}

/// Media type, and profile where it is said.
pub(super) fn describe(caps: &gst::CapsRef) -> String {
    let Some(structure) = caps.structure(0) else { return "unknown".into() };
    match structure.get::<&str>("profile") {
        Ok(profile) => format!("{} ({profile})", structure.name()),
        Err(_) => structure.name().to_string(),
    }
}

fn configure(decoder: &gst::Element, live: bool) {
    // A file's frames may be decoded ahead of each other, which costs a few frames of memory. A live stream gets
    // two threads that share one picture (GStreamer's libav decoders use slices then), so that it costs no
    // latency and a box with many cameras does not run hundreds of threads.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = if live { cores.min(2) } else { cores.min(4) } as i32;
    for name in ["max-threads", "threads"] {
        set(decoder, name, &threads.to_string());
    }
    // Frames before the first key frame are grey mush with moving blots: they would be detected, tracked and
    // alerted on. Damage after a key frame is concealed and shown: a camera with a lossy link must not go dark
    // for the rest of each group of pictures.
    set(decoder, "output-corrupt", "false");
    set(decoder, "discard-corrupted-frames", "false");
    // Never skip frames because a sink is late: it is this program that decides what is dropped, and counts it.
    set(decoder, "qos", "false");
}

/// Sets a property that this kind of decoder may or may not have.
pub(super) fn set(decoder: &gst::Element, name: &str, value: &str) {
    if decoder.find_property(name).is_some() {
        decoder.set_property_from_str(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_codecs_have_a_decoder_and_others_are_named() {
        gst::init().unwrap();
        for (caps, expected) in [
            ("video/x-h264, stream-format=byte-stream, alignment=au", "avdec_h264"),
            ("video/x-h265, stream-format=byte-stream, alignment=au", "avdec_h265"),
        ] {
            let caps: gst::Caps = caps.parse().unwrap();
            let decoder = make(&caps, true, "x").unwrap();
            assert_eq!(decoder.factory().unwrap().name(), expected);
        }
        let caps: gst::Caps = "video/x-nobody, profile=high".parse().unwrap();
        let error = make(&caps, true, "a.mp4").unwrap_err().to_string();
        assert!(error.contains("a.mp4") && error.contains("video/x-nobody (high)"), "{error}");
    }
}
