//! The upstream end of a pipeline: a file, or an RTSP client, and `parsebin`, which finds the streams in it.
//!
//! In: a session and its empty pipeline. Out: the elements in it, and each parsed stream handed to
//! [`branch::attach`]. Fails where an element is not installed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gstreamer::{self as gst, prelude::*};

use super::location::{Location, RtspAddress};
use super::session::{Session, lock};
use super::{IngestError, branch, tap};
use crate::config::settings::Transport;

/// Audio encodings in RTP that the ring keeps; others are left alone.
const RTP_AUDIO: [&str; 7] = ["MPEG4-GENERIC", "MP4A-LATM", "PCMU", "PCMA", "OPUS", "MPA", "AC3"];

/// Makes an element.
pub(super) fn element(factory: &str, purpose: &str) -> Result<gst::Element, IngestError> {
    gst::ElementFactory::make(factory).build().map_err(|_| IngestError::Missing {
        element: factory.into(),
        needed_for: purpose.into(),
        package: match factory {
            "h264parse" | "h265parse" => "gstreamer1.0-plugins-bad",
            "rtspsrc" | "videoflip" => "gstreamer1.0-plugins-good",
            _ => "gstreamer1.0-plugins-base",
        },
    })
}

/// Fills the pipeline.
pub(super) fn build(session: &Arc<Session>, pipeline: &gst::Pipeline) -> Result<(), IngestError> {
    match &session.feed.location {
        Location::File(path) => {
            let source = element("filesrc", "reading files")?;
            source.set_property("location", path);
            let parse = parsebin(session, pipeline, "file")?;
            pipeline.add_many([&source, &parse]).and_then(|()| source.link(&parse)).map_err(start)
        }
        Location::Rtsp(address) => rtsp(session, pipeline, address),
    }
}

fn start(error: gst::glib::BoolError) -> IngestError {
    IngestError::Start { reason: error.to_string() }
}

/// A `parsebin` whose streams go to the branches.
fn parsebin(
    session: &Arc<Session>,
    pipeline: &gst::Pipeline,
    name: &str,
) -> Result<gst::Element, IngestError> {
    let parse = element("parsebin", "finding the streams in a source")?;
    parse.set_property("name", name);
    let (shared, weak) = (session.clone(), pipeline.downgrade());
    parse.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = branch::attach(&shared, &pipeline, pad)
        {
            shared.fail(error);
        }
    });
    let shared = session.clone();
    if !session.feed.location.is_live() {
        parse.connect_no_more_pads(move |_| {
            if !shared.video.load(Ordering::Acquire) {
                shared.fail(no_video(&shared));
            }
        });
    }
    Ok(parse)
}

/// There is no video in this source, and what there is.
pub(super) fn no_video(session: &Session) -> IngestError {
    let others = lock(&session.others).join(", ");
    let found = if others.is_empty() { String::new() } else { format!("; it has {others}") };
    IngestError::NoVideo { source_: session.feed.location.to_string(), found }
}

fn rtsp(session: &Arc<Session>, pipeline: &gst::Pipeline, address: &RtspAddress) -> Result<(), IngestError> {
    let spec = &session.feed.spec;
    let source = element("rtspsrc", "RTSP sources")?;
    source.set_property("location", &address.url);
    if let Some(user) = &address.user {
        source.set_property("user-id", user);
        source.set_property("user-pw", address.password.as_deref().unwrap_or_default());
    }
    source.set_property_from_str(
        "protocols",
        match spec.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        },
    );
    source.set_property("latency", u32::try_from(spec.latency.as_millis()).unwrap_or(u32::MAX));
    // Both in microseconds. The supervisor watches for silence itself; these end a connect that hangs.
    source.set_property("tcp-timeout", 10_000_000u64);
    source.set_property("timeout", 10_000_000u64);

    source.connect("new-manager", false, |values| {
        // The camera's own clock, from RTCP sender reports, as a mark on each frame (GStreamer 1.22).
        if let Some(manager) = values.get(1).and_then(|value| value.get::<gst::Element>().ok())
            && manager.find_property("add-reference-timestamp-meta").is_some()
        {
            manager.set_property("add-reference-timestamp-meta", true);
        }
        None
    });

    // The thread that talks to the server says nowhere else that it is this source's.
    let watch = Arc::clone(&spec.watch);
    source.connect("before-send", false, move |_| {
        watch.enter();
        Some(true.to_value())
    });

    let shared = session.clone();
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        Some(caps.is_some_and(|caps| wanted(&shared, &caps)).to_value())
    });

    let shared = session.clone();
    source.connect_no_more_pads(move |source| {
        if source.src_pads().is_empty() {
            shared.fail(no_video(&shared));
        }
    });

    let (shared, weak) = (session.clone(), pipeline.downgrade());
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let audio = media(pad).is_some_and(|media| media == "audio");
        let name = if audio { "audio" } else { "video" };
        let attached = parsebin(&shared, &pipeline, name).and_then(|parse| {
            pipeline.add(&parse).map_err(start)?;
            parse.sync_state_with_parent().map_err(start)?;
            let sink = parse
                .static_pad("sink")
                .ok_or_else(|| IngestError::Start { reason: "parsebin has no sink pad".into() })?;
            if !audio {
                ask_for_key_at_start(pad);
            }
            pad.link(&sink).map(drop).map_err(|error| IngestError::Start { reason: error.to_string() })
        });
        if let Err(error) = attached {
            shared.fail(error);
        }
    });
    pipeline.add(&source).map_err(start)
}

/// Asks the camera for a key frame when its first packet has come: joined in the middle of a long group of pictures,
/// nothing can be decoded before the next. A camera whose description offers no RTCP feedback does not hear of it.
fn ask_for_key_at_start(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, |pad, _| {
        tap::ask_for_key(pad);
        gst::PadProbeReturn::Remove
    });
}

fn media(pad: &gst::Pad) -> Option<String> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0)?.get::<String>("media").ok()
}

/// Whether a stream of the session description is taken: the first video, and the first audio for the ring.
fn wanted(session: &Session, caps: &gst::Caps) -> bool {
    let Some(structure) = caps.structure(0) else { return false };
    let media = structure.get::<String>("media").unwrap_or_default();
    let encoding = structure.get::<String>("encoding-name").unwrap_or_default();
    lock(&session.others).push(format!("{media}/{encoding}"));
    match media.as_str() {
        "video" => !session.video_selected.swap(true, Ordering::AcqRel),
        "audio" => {
            session.feed.ring.is_on()
                && RTP_AUDIO.contains(&encoding.to_ascii_uppercase().as_str())
                && !session.audio_selected.swap(true, Ordering::AcqRel)
        }
        _ => false,
    }
}
