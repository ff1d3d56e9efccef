//! What is taken from the running pipeline: packets for the ring, frames for the queue.
//!
//! In: buffers, on GStreamer's streaming threads. Out: packets with stream times, frames with their pictures,
//! `Started`, `Back` and `Resized`. A file's thread waits here for the consumer, or for the clock where the file
//! plays at its own pace.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::IngestError;
use super::cuda::CudaDecoding;
use super::picture::Layout;
use super::queue::Pushed;
use super::sender::SenderClock;
use super::session::{Event, RawFrame, Session, lock};
use crate::flow::{Codec, Decoded, Packet, PacketKind, StreamInfo, Track};

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// A camera's clock that is off by more is not believed.
const CLOCK_TRUST: u64 = 60_000_000;
/// A file that plays at its own pace and is later than this starts its pace anew.
const PACE_SLACK: Duration = Duration::from_secs(1);

/// What is known of the decoded stream; owned by the appsink's callback.
pub(super) struct DecodedStream {
    /// Elements that made the frames, for the status.
    label: String,
    memory: Memory,
    /// The compressed stream says its colorimetry.
    colors: bool,
    codec: Codec,
    /// How frames of the newest caps are read.
    layout: Option<(gst::Caps, Layout)>,
    clock: SenderClock,
}

/// Where a decoder's frames lie.
pub(super) enum Memory {
    /// In host memory, behind an element that converts where it must.
    Host(gst::Element),
    /// In a GPU's.
    Gpu(Arc<CudaDecoding>),
}

impl DecodedStream {
    /// Nothing is known of its frames yet.
    pub(super) fn new(label: String, memory: Memory, colors: bool, codec: Codec) -> Self {
        Self { label, memory, colors, codec, layout: None, clock: SenderClock::default() }
    }

    /// The picture in a buffer, or what is wrong with it.
    fn read(&self, layout: &Layout, buffer: gst::Buffer) -> Result<Decoded, String> {
        match &self.memory {
            Memory::Host(_) => layout
                .picture(buffer)
                .map(Decoded::Host)
                .ok_or_else(|| "a frame's buffer is smaller than its caps say".into()),
            Memory::Gpu(decoding) => decoding
                .frame(buffer, &layout.info, layout.color)
                .map(Decoded::Device)
                .map_err(|error| error.to_string()),
        }
    }

    /// How a frame is read, and whether that is new.
    fn layout(&mut self, caps: &gst::CapsRef) -> Option<(Layout, bool)> {
        if let Some((known, layout)) = &self.layout
            && known.as_ref() == caps
        {
            return Some((layout.clone(), false));
        }
        let layout = Layout::from_caps(caps, self.colors)?;
        self.layout = Some((caps.to_owned(), layout.clone()));
        Some((layout, true))
    }

    /// The elements that made a frame: the decoder, a conversion where there is one, a rotation.
    fn edges(&self, layout: &Layout) -> String {
        let Memory::Host(convert) = &self.memory else { return self.label.clone() };
        let before = convert.static_pad("sink").and_then(|pad| pad.current_caps());
        let from = before.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("format").ok());
        let to = layout.info.format().to_str();
        match from {
            Some(from) if from != to.as_str() => format!("{} + videoconvert ({from} to {to})", self.label),
            _ => self.label.clone(),
        }
    }
}

fn running_time(segment: Option<&gst::Segment>, time: Option<gst::ClockTime>) -> Option<u64> {
    let segment = segment?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(time?).map(gst::ClockTime::nseconds)
}

fn segment(pad: &gst::Pad) -> Option<gst::Segment> {
    pad.sticky_event::<gst::event::Segment>(0).map(|event| event.segment().clone())
}

/// A video packet on its way to the decoder.
pub(super) fn video(session: &Session, pad: &gst::Pad, buffer: &gst::BufferRef) {
    session.saw_packet();
    session.feed.counters.update(|stats| stats.packets += 1);
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    if session.wants_key(key) {
        ask_for_key(pad);
    }
    let segment = segment(pad);
    let pts = running_time(segment.as_ref(), buffer.pts());
    let dts = running_time(segment.as_ref(), buffer.dts());
    let times = lock(&session.feed.timeline).video_packet(pts, dts, key, Instant::now());
    if let Some((pts, dts)) = times {
        keep(session, PacketKind::Video, key, (pts, dts), buffer);
    }
}

/// Asks the sender for a key frame; heard where RTCP feedback was negotiated, and by nobody elsewhere.
pub(super) fn ask_for_key(pad: &gst::Pad) {
    let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
    let heard = match pad.direction() {
        gst::PadDirection::Sink => pad.push_event(event),
        _ => pad.send_event(event),
    };
    tracing::trace!(heard, "asked for a key frame");
}

/// An audio packet.
pub(super) fn audio(session: &Session, pad: &gst::Pad, buffer: &gst::BufferRef) {
    let time = running_time(segment(pad).as_ref(), buffer.pts());
    let Some(pts) = lock(&session.feed.timeline).audio_packet(time) else { return };
    if let Some(caps) = pad.current_caps() {
        session.feed.ring.set_track(Track { kind: PacketKind::Audio, caps: caps.to_string().into() });
    }
    keep(session, PacketKind::Audio, true, (pts, pts), buffer);
}

fn keep(session: &Session, kind: PacketKind, key: bool, (pts, dts): (u64, u64), buffer: &gst::BufferRef) {
    if session.feed.ring.is_on()
        && let Ok(map) = buffer.map_readable()
    {
        session.feed.ring.push(Packet { kind, key, pts, dts, data: map.as_slice().into() });
    }
}

/// A decoded frame is in the sink.
pub(super) fn frame(
    session: &Session,
    sink: &gst_app::AppSink,
    decoded: &mut DecodedStream,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
    if session.leaves_out() {
        return Ok(gst::FlowSuccess::Ok);
    }
    let caps = sample.caps().ok_or(gst::FlowError::NotNegotiated)?;
    let Some((layout, new)) = decoded.layout(caps) else {
        fail(session, decoded, format!("its frames are of a kind that cannot be read: {caps}"));
        return Err(gst::FlowError::NotNegotiated);
    };
    let buffer = sample.buffer_owned().ok_or(gst::FlowError::Error)?;
    let sent = sent(&buffer);
    let running = decoded.clock.refine(running_time(sample.segment(), buffer.pts()), sent);
    let captured = captured(session, sink, sent, running);
    let picture = match decoded.read(&layout, buffer) {
        Ok(picture) => picture,
        Err(message) => {
            fail(session, decoded, message);
            return Err(gst::FlowError::Error);
        }
    };
    session.saw_frame();
    let (pts, duration) = {
        let mut timeline = lock(&session.feed.timeline);
        let typical = timeline.typical();
        (timeline.frame(running, Instant::now()), typical)
    };
    if session.feed.spec.realtime && !session.feed.location.is_live() && !pace(session, pts) {
        return Err(gst::FlowError::Flushing);
    }
    let reconnected = new && announce(session, &layout, decoded);
    let raw = RawFrame { picture, pts, captured, duration, reconnected };
    let pushed = if session.feed.paced() {
        session.feed.queue.push_dropping(session.id, raw)
    } else {
        session.feed.queue.push_waiting(session.id, raw)
    };
    match pushed {
        Pushed::Queued => Ok(gst::FlowSuccess::Ok),
        Pushed::Dropped => {
            session.feed.counters.update(|stats| stats.dropped += 1);
            Ok(gst::FlowSuccess::Ok)
        }
        Pushed::Closed => Err(gst::FlowError::Flushing),
    }
}

fn fail(session: &Session, decoded: &DecodedStream, message: String) {
    session.gpu.blame();
    session.fail(IngestError::Element {
        source_: session.feed.location.to_string(),
        element: decoded.label.clone(),
        message,
        debug: String::new(),
    });
}

/// Says what is new with this frame: started, back (then true), or another size.
fn announce(session: &Session, layout: &Layout, decoded: &DecodedStream) -> bool {
    let feed = &session.feed;
    let fps = layout.info.fps();
    let rate = match (u32::try_from(fps.numer()), u32::try_from(fps.denom())) {
        (Ok(numerator), Ok(denominator)) if numerator > 0 && denominator > 0 => (numerator, denominator),
        _ => (0, 1),
    };
    let info = StreamInfo {
        size: layout.size,
        rate,
        format: layout.format,
        codec: Some(decoded.codec.clone()),
        decoder: decoded.edges(layout),
        on_gpu: matches!(decoded.memory, Memory::Gpu(_)),
        live: feed.paced(),
    };
    lock(&feed.timeline).set_rate(rate.0, rate.1);
    let back = feed.outage.swap(false, Ordering::AcqRel);
    let before = lock(&feed.said).replace(layout.size);
    feed.counters.update(|stats| {
        stats.connected = true;
        stats.decoder = Some(info.decoder.clone());
        stats.reconnects += u64::from(back && before.is_some());
    });
    match before {
        None => {
            tracing::info!(stream = %feed.spec.name, source = %feed.location, size = %info.size,
                decoder = %info.decoder, "source started");
            feed.queue.event(Event::Started(info));
        }
        Some(_) if back => {
            tracing::info!(stream = %feed.spec.name, size = %info.size, "source back");
            feed.queue.event(Event::Back(info));
            return true;
        }
        Some(before) if before != layout.size => feed.queue.event(Event::Resized(layout.size)),
        Some(_) => {}
    }
    false
}

/// Waits until it is this frame's time; false where the session ends before.
fn pace(session: &Session, pts: u64) -> bool {
    let now = Instant::now();
    let due = {
        let mut start = lock(&session.feed.pace);
        let (at, from) = *start.get_or_insert((now, pts));
        let due = at + Duration::from_nanos(pts.saturating_sub(from));
        if now.saturating_duration_since(due) > PACE_SLACK {
            *start = Some((now, pts));
        }
        due
    };
    session.feed.queue.wait_until(Some(session.id), due)
}

/// The sender's own time of a frame, nanoseconds since 1970, where it says so (RTCP sender reports).
fn sent(buffer: &gst::BufferRef) -> Option<u64> {
    buffer.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let is_ntp = meta.reference().structure(0).is_some_and(|kind| kind.name() == "timestamp/x-ntp");
        let since_1970 = meta.timestamp().nseconds().checked_sub(NTP_TO_UNIX * 1_000_000_000)?;
        is_ntp.then_some(since_1970)
    })
}

/// Wall clock at which a frame was taken, microseconds since 1970: by the camera's own clock where it reports a
/// believable one, else when the frame's first packet came; a file's frames: now.
fn captured(session: &Session, sink: &gst_app::AppSink, sent: Option<u64>, running: Option<u64>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    if !session.feed.location.is_live() {
        return now;
    }
    let believed = sent.map(|sent| sent / 1000).filter(|sent| sent.abs_diff(now) < CLOCK_TRUST);
    believed.unwrap_or_else(|| {
        let clock = sink.current_running_time().map(gst::ClockTime::nseconds);
        let age = clock.zip(running).map_or(0, |(clock, came)| clock.saturating_sub(came));
        now.saturating_sub((age / 1000).min(CLOCK_TRUST))
    })
}
