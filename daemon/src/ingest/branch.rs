//! What follows the parser: the tap for the ring, the decoder, and the sink that feeds the queue.
//!
//! In: the parsed streams of a session, on GStreamer's streaming threads. Out: elements in the session's
//! pipeline. What fails here ends the session with a reason; what fails in the audio is only said.
//!
//! The decoder is chosen when the first packet comes, for only then all is known: profile, size, rotation tag. A source
//! that has a GPU is decoded there where it can be (`cuda`), else on the CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::cuda;
use super::inlet::element;
use super::session::{Session, lock};
use super::{IngestError, decoder, tap, watch};
use crate::flow::{Codec, PacketKind, Track};

/// Formats that preprocessing reads as they are.
const FORMATS: [gst_video::VideoFormat; 3] =
    [gst_video::VideoFormat::Nv12, gst_video::VideoFormat::I420, gst_video::VideoFormat::P01010le];

/// Compressed bytes, and nanoseconds, that may wait for a live decoder.
const WAITING_BYTES: u32 = 32 << 20;
const WAITING_TIME: u64 = 2_000_000_000;

fn start(error: gst::glib::BoolError) -> IngestError {
    IngestError::Start { reason: error.to_string() }
}

fn refused(error: impl std::fmt::Display) -> IngestError {
    IngestError::Start { reason: error.to_string() }
}

/// Takes a parsed stream, or leaves it alone.
pub(super) fn attach(
    session: &Arc<Session>,
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
) -> Result<(), IngestError> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map_or_else(|| "unknown".into(), |structure| structure.name().to_string());
    if (name.starts_with("video/") || name.starts_with("image/"))
        && !session.video.swap(true, Ordering::AcqRel)
    {
        return video(session, pipeline, pad, &name);
    }
    let taken = name.starts_with("audio/")
        && session.feed.ring.is_on()
        && !session.audio.swap(true, Ordering::AcqRel);
    lock(&session.others).push(name);
    if taken { audio(session, pipeline, pad) } else { Ok(()) }
}

fn video(
    session: &Arc<Session>,
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    media: &str,
) -> Result<(), IngestError> {
    let mut chain = Vec::new();
    // One form for the ring whatever the container had: any key frame carries its parameter sets.
    if let Some(parser) = match media {
        "video/x-h264" => Some("h264parse"),
        "video/x-h265" => Some("h265parse"),
        _ => None,
    } {
        let parser = element(parser, "splitting H.264 or H.265 into access units")?;
        parser.set_property("config-interval", -1i32);
        let filter = element("capsfilter", "the form of compressed packets")?;
        let form =
            gst::Caps::builder(media).field("stream-format", "byte-stream").field("alignment", "au").build();
        filter.set_property("caps", form);
        chain.extend([parser, filter]);
    }
    let tee = element("tee", "tapping compressed packets")?;
    tee.set_property("allow-not-linked", true);
    chain.push(tee);
    let sink = chain.first().and_then(|first| first.static_pad("sink"));
    let tapped = chain.last().and_then(|tee| tee.static_pad("sink"));
    let (Some(sink), Some(tapped)) = (sink, tapped) else { return Err(refused("tee has no sink pad")) };

    let (shared, weak) = (session.clone(), pipeline.downgrade());
    let decoding = AtomicBool::new(false);
    tapped.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        shared.feed.spec.watch.outside();
        if !decoding.swap(true, Ordering::AcqRel) {
            // The pad's owner, not a handle of its own: elements that hold themselves are never freed.
            let (pipeline, tee) = (weak.upgrade(), pad.parent_element());
            let built = pipeline.zip(tee).map(|(pipeline, tee)| decode(&shared, &pipeline, &tee, pad));
            if let Some(Err(error)) = built {
                shared.fail(error);
                return gst::PadProbeReturn::Remove;
            }
        }
        tap::video(&shared, pad, buffer);
        gst::PadProbeReturn::Ok
    });
    tapped.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, {
        let shared = session.clone();
        move |_, info| {
            if let Some(event) = info.event()
                && let gst::EventView::Caps(caps) = event.view()
            {
                know_caps(&shared, caps.caps());
            }
            gst::PadProbeReturn::Ok
        }
    });

    pipeline.add_many(&chain).and_then(|()| gst::Element::link_many(&chain)).map_err(start)?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(start)?;
    }
    pad.link(&sink).map(drop).map_err(refused)
}

fn know_caps(session: &Session, caps: &gst::CapsRef) {
    session.feed.ring.set_track(Track { kind: PacketKind::Video, caps: caps.to_string().into() });
    let Some(structure) = caps.structure(0) else { return };
    if let Ok(rate) = structure.get::<gst::Fraction>("framerate")
        && let (Ok(numerator), Ok(denominator)) = (u32::try_from(rate.numer()), u32::try_from(rate.denom()))
    {
        lock(&session.feed.timeline).set_rate(numerator, denominator);
    }
    session.feed.counters.update(|stats| stats.codec = Some(Codec(structure.name().as_str().into())));
}

/// Builds the decoding branch; runs in the streaming thread, before the first packet goes on.
fn decode(
    session: &Arc<Session>,
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    pad: &gst::Pad,
) -> Result<(), IngestError> {
    let live = session.feed.location.is_live();
    let caps = pad.current_caps().ok_or_else(|| refused("packets came before their caps"))?;
    let mut chain = Vec::new();
    if live {
        let queue = element("queue", "decoding apart from receiving")?;
        queue.set_property("max-size-buffers", 0u32);
        queue.set_property("max-size-bytes", WAITING_BYTES * 2);
        queue.set_property("max-size-time", WAITING_TIME * 2);
        guard(session, &queue);
        chain.push(queue);
    }
    let rotated = is_rotated(pad);
    let gpu = match session.feed.gpu() {
        Some(_) if rotated => Err(Some("does not turn pictures".into())),
        Some(Ok(gpu)) => gpu.decoder(&caps, live).map(|found| (gpu, found)).map_err(Some),
        Some(Err(refused)) => Err(Some(refused)),
        None => Err(None),
    };
    let (label, memory) = match gpu {
        Ok((gpu, found)) => {
            session.gpu.is(&found.element);
            watched(session, &found.element, watch::Threads::Shared);
            session.feed.spec.watch.decoding(&found.name);
            chain.extend(found.parser);
            chain.push(found.element);
            (found.name, tap::Memory::Gpu(Arc::clone(gpu)))
        }
        Err(reason) => on_cpu(session, &caps, rotated, reason, &mut chain)?,
    };
    let on_gpu = matches!(memory, tap::Memory::Gpu(_));
    let colors = caps.structure(0).is_some_and(|structure| structure.has_field("colorimetry"));
    let formats = if on_gpu { cuda::caps() } else { host_caps() };
    let decoded = tap::DecodedStream::new(label, memory, colors, codec(&caps));
    chain.push(sink(session, &formats, decoded).upcast());

    let linked = link(pipeline, tee, &chain, on_gpu);
    if linked.is_err() {
        session.gpu.blame();
    }
    linked
}

/// The CPU's decoder and what follows it; its label says why, where a GPU might have decoded.
fn on_cpu(
    session: &Session,
    caps: &gst::CapsRef,
    rotated: bool,
    reason: Option<String>,
    chain: &mut Vec<gst::Element>,
) -> Result<(String, tap::Memory), IngestError> {
    let location = &session.feed.location;
    let decoder = decoder::make(caps, location.is_live(), &location.to_string())?;
    let mut label = decoder.factory().map_or_else(|| "decoder".into(), |factory| factory.name().to_string());
    watched(session, &decoder, watch::Threads::Own);
    chain.push(decoder);
    let convert = element("videoconvert", "decoders with other formats")?;
    chain.push(convert.clone());
    if rotated {
        let flip = element("videoflip", "video that is tagged as rotated")?;
        flip.set_property_from_str("video-direction", "auto");
        label.push_str(" + videoflip");
        chain.push(flip);
    }
    session.feed.spec.watch.decoding(&label);
    if let Some(reason) = reason {
        tracing::info!(stream = %session.feed.spec.name, decoder = label, "the CPU decodes: NVDEC: {reason}");
        label = format!("{label} (NVDEC: {reason})");
    }
    Ok((label, tap::Memory::Host(convert)))
}

/// Has a new decoder watched.
fn watched(session: &Session, decoder: &gst::Element, threads: watch::Threads) {
    if let Some(pad) = decoder.static_pad("sink") {
        watch::decoder(&session.feed.spec.watch, &pad, threads);
    }
}

/// Puts the branch into the pipeline, and behind the tee.
fn link(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    chain: &[gst::Element],
    on_gpu: bool,
) -> Result<(), IngestError> {
    pipeline.add_many(chain).and_then(|()| gst::Element::link_many(chain)).map_err(start)?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(start)?;
    }
    let first = chain.first().and_then(|first| first.static_pad("sink"));
    let source = tee.request_pad_simple("src_%u");
    let (Some(first), Some(source)) = (first, source) else { return Err(refused("tee gives no pad")) };
    if on_gpu {
        cuda::begin_with_key(&first);
    }
    source.link(&first).map(drop).map_err(refused)
}

fn codec(caps: &gst::CapsRef) -> Codec {
    Codec(caps.structure(0).map_or("unknown", |structure| structure.name().as_str()).into())
}

/// Whether the container says that the picture is to be turned.
fn is_rotated(pad: &gst::Pad) -> bool {
    (0..).map_while(|index| pad.sticky_event::<gst::event::Tag>(index)).any(|event| {
        event.tag().get::<gst::tags::ImageOrientation>().is_some_and(|tag| tag.get() != "rotate-0")
    })
}

/// Keeps a live decoder that is too slow from falling behind without end: beyond the bounds, packets are left
/// out up to a key frame, and counted.
fn guard(session: &Arc<Session>, queue: &gst::Element) {
    let (shared, skipping) = (session.clone(), AtomicBool::new(false));
    let Some(pad) = queue.static_pad("sink") else { return };
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let (Some(queue), Some(buffer)) = (pad.parent_element(), info.buffer()) else {
            return gst::PadProbeReturn::Ok;
        };
        let waiting_bytes = queue.property::<u32>("current-level-bytes");
        let waiting_time = queue.property::<u64>("current-level-time");
        let behind = waiting_bytes > WAITING_BYTES || waiting_time > WAITING_TIME;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if behind {
            skipping.store(true, Ordering::Relaxed);
        } else if key {
            skipping.store(false, Ordering::Relaxed);
        }
        if skipping.load(Ordering::Relaxed) {
            shared.feed.counters.update(|stats| stats.skipped_packets += 1);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

fn host_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format_list(FORMATS).build()
}

fn sink(session: &Arc<Session>, caps: &gst::Caps, decoded: tap::DecodedStream) -> gst_app::AppSink {
    let sink = gst_app::AppSink::builder().caps(caps).sync(false).async_(false).max_buffers(1).build();
    sink.set_property("enable-last-sample", false);
    sink.set_property("qos", false);
    let (frames, end) = (session.clone(), session.clone());
    let mut decoded = decoded;
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| tap::frame(&frames, sink, &mut decoded))
            .eos(move |_| end.end())
            .build(),
    );
    if let Some(pad) = sink.static_pad("sink") {
        accept_padded_rows(&pad);
    }
    sink
}

/// Tells who asks at this sink's pad that padded rows are understood. A decoder lays its frames out as it likes best
/// where it knows that; otherwise it copies each one (appsink itself answers this only since GStreamer 1.24).
pub fn accept_padded_rows(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        if let Some(query) = info.query_mut()
            && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
        {
            allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

fn audio(session: &Arc<Session>, pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), IngestError> {
    let sink = element("fakesink", "tapping audio packets")?;
    sink.set_property("sync", false);
    sink.set_property("async", false);
    sink.set_property("enable-last-sample", false);
    let Some(tapped) = sink.static_pad("sink") else { return Err(refused("fakesink has no sink pad")) };
    let shared = session.clone();
    tapped.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            tap::audio(&shared, pad, buffer);
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.add(&sink).map_err(start)?;
    sink.sync_state_with_parent().map_err(start)?;
    pad.link(&tapped).map(drop).map_err(refused)
}

/// What an element's error means for the session: none where only the audio is concerned.
pub(super) fn judge(session: &Session, error: &gst::message::Error) -> Option<IngestError> {
    let path = error.src().map(|source| source.path_string().to_string()).unwrap_or_default();
    let location = &session.feed.location;
    let message = location.scrub(&error.error().to_string());
    if path.contains("/GstParseBin:audio/") || path.ends_with("/GstParseBin:audio") {
        tracing::warn!(stream = %session.feed.spec.name, error = %message, "audio is left out");
        return None;
    }
    let element = error.src().and_then(|source| source.downcast_ref::<gst::Element>());
    let factory = element.and_then(|element| element.factory()).map(|factory| factory.name().to_string());
    // The first line says where in GStreamer's source; people are helped by those after it.
    let debug = error.debug().map(|text| {
        text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    });
    Some(IngestError::Element {
        source_: location.to_string(),
        element: factory.unwrap_or_else(|| "the pipeline".into()),
        message,
        debug: debug
            .filter(|text| !text.is_empty())
            .map_or_else(String::new, |text| format!(" ({})", location.scrub(&text))),
    })
}
