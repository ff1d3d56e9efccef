//! One session: one pipeline from its start to its end, watched by the source's supervisor thread.
//!
//! In: a [`Feed`]. Out: frames and events in the feed's queue, packets in its ring, a [`Report`] at the end.
//! The pipeline is in state NULL and gone when [`run`] returns. A session ends when the feed is stopped, the
//! stream ends, an element fails, or nothing comes for too long. Where a decoder on the GPU fails at its first frames,
//! the session ends with [`Outcome::Again`], and the source decodes on the CPU from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};

use super::cuda::CudaDecoding;
use super::fallback::GpuDecoder;
use super::location::Location;
use super::queue::Queue;
use super::ring::PacketRing;
use super::source::SourceSpec;
use super::stats::Counters;
use super::timeline::Timeline;
use super::{IngestError, branch, inlet, watch};
use crate::flow::{Decoded, Size, StreamInfo};

/// How often the supervisor looks at the clock.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Packets come, but no frame: a stream may begin in the middle of a long group of pictures.
const UNDECODABLE: Duration = Duration::from_secs(20);
/// A file that yields nothing for so long is given up.
const FILE_STALL: Duration = Duration::from_secs(20);
/// A server may take so long to answer before the first packet, where `stall` is shorter.
const CONNECT: Duration = Duration::from_secs(10);
/// Milliseconds between two requests for a key frame.
const KEY_AGAIN: u64 = 1000;

/// A decoded frame on its way to the consumer.
#[derive(Debug)]
pub(super) struct RawFrame {
    pub(super) picture: Decoded,
    pub(super) pts: u64,
    pub(super) captured: u64,
    /// Nanoseconds from frame to frame before this one.
    pub(super) duration: u64,
    /// First frame after an outage.
    pub(super) reconnected: bool,
}

/// What happens to a source; see [`super::Next`].
#[derive(Debug)]
pub(super) enum Event {
    Started(StreamInfo),
    Lost(IngestError, Duration),
    Back(StreamInfo),
    Resized(Size),
    Ended,
    Failed(IngestError),
}

/// What a source's threads share; lives as long as the source.
pub(super) struct Feed {
    pub(super) spec: SourceSpec,
    pub(super) location: Location,
    pub(super) queue: Queue<RawFrame, Event>,
    pub(super) ring: PacketRing,
    pub(super) counters: Counters,
    pub(super) timeline: Mutex<Timeline>,
    /// A live source is lost and the consumer was told so.
    pub(super) outage: AtomicBool,
    /// Whether `Started` was said, and the size last said.
    pub(super) said: Mutex<Option<Size>>,
    /// When, and at which stream time, the pace of a file that plays as if live began.
    pub(super) pace: Mutex<Option<(Instant, u64)>>,
    /// Why the source decodes on the CPU although it has a GPU, once a decoder there has failed.
    pub(super) refused: Mutex<Option<String>>,
    /// Frames that the consumer got from that decoder, where the file starts over for the next one.
    pub(super) given: AtomicU64,
    bus: Mutex<Option<gst::Bus>>,
}

impl Feed {
    pub(super) fn new(
        spec: SourceSpec,
        location: Location,
        queue: Queue<RawFrame, Event>,
        ring: PacketRing,
    ) -> Self {
        let live = location.is_live();
        Self {
            spec,
            location,
            queue,
            ring,
            counters: Counters::default(),
            timeline: Mutex::new(Timeline::new(live)),
            outage: AtomicBool::new(false),
            said: Mutex::new(None),
            pace: Mutex::new(None),
            refused: Mutex::new(None),
            given: AtomicU64::new(0),
            bus: Mutex::new(None),
        }
    }

    /// Frames come at a pace of their own and cannot wait.
    pub(super) fn paced(&self) -> bool {
        self.location.is_live() || self.spec.realtime
    }

    /// The GPU to decode on: none, or with the reason why not any more.
    pub(super) fn gpu(&self) -> Option<Result<&Arc<CudaDecoding>, String>> {
        let gpu = self.spec.gpu.as_ref()?;
        Some(lock(&self.refused).clone().map_or(Ok(gpu), Err))
    }

    /// Ends the session that runs, and lets none begin. Does not wait.
    pub(super) fn stop(&self) {
        self.queue.close();
        if let Some(bus) = lock(&self.bus).as_ref() {
            wake(bus);
        }
    }
}

/// What the threads of one pipeline share.
pub(super) struct Session {
    pub(super) feed: Arc<Feed>,
    /// Number of the session in the feed's queue.
    pub(super) id: u64,
    pub(super) bus: gst::Bus,
    began: Instant,
    pub(super) packets: AtomicU64,
    pub(super) frames: AtomicU64,
    /// Milliseconds after `began`, plus one; 0 for never.
    last_packet: AtomicU64,
    last_frame: AtomicU64,
    first_frame: AtomicU64,
    pub(super) ended: AtomicBool,
    fault: Mutex<Option<IngestError>>,
    /// Whether a video stream, and an audio stream, has been taken.
    pub(super) video: AtomicBool,
    pub(super) audio: AtomicBool,
    /// Whether the RTSP session description's video, and audio, has been asked for.
    pub(super) video_selected: AtomicBool,
    pub(super) audio_selected: AtomicBool,
    /// Media types of streams beside the video.
    pub(super) others: Mutex<Vec<String>>,
    /// The decoder on the GPU, where there is one.
    pub(super) gpu: GpuDecoder,
    /// Frames at the beginning that the consumer has from a session before.
    given: u64,
    /// A key frame has come.
    keyed: AtomicBool,
    /// When a key frame was asked for, as `last_packet`.
    asked: AtomicU64,
}

impl Session {
    fn new(feed: &Arc<Feed>, bus: gst::Bus) -> Arc<Self> {
        Arc::new(Self {
            feed: feed.clone(),
            id: feed.queue.begin_session(),
            bus,
            began: Instant::now(),
            packets: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            last_packet: AtomicU64::new(0),
            last_frame: AtomicU64::new(0),
            first_frame: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            fault: Mutex::new(None),
            video: AtomicBool::new(false),
            audio: AtomicBool::new(false),
            video_selected: AtomicBool::new(false),
            audio_selected: AtomicBool::new(false),
            others: Mutex::new(Vec::new()),
            gpu: GpuDecoder::default(),
            given: feed.given.swap(0, Ordering::Relaxed),
            keyed: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        })
    }

    fn stamp(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// A packet came.
    pub(super) fn saw_packet(&self) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.last_packet.store(self.stamp(), Ordering::Relaxed);
    }

    /// A frame came. Returns how many came before it.
    pub(super) fn saw_frame(&self) -> u64 {
        let stamp = self.stamp();
        let before = self.frames.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.first_frame.store(stamp, Ordering::Relaxed);
        }
        self.last_frame.store(stamp, Ordering::Relaxed);
        before
    }

    /// Whether a frame that came is left out, since the consumer has it from a session before.
    pub(super) fn leaves_out(&self) -> bool {
        let out = self.frames.load(Ordering::Relaxed) < self.given;
        if out {
            self.saw_frame();
        }
        out
    }

    /// A packet came that begins with a key frame, or not: whether the sender shall be asked for one now.
    pub(super) fn wants_key(&self, key: bool) -> bool {
        if key {
            self.keyed.store(true, Ordering::Relaxed);
        }
        if self.keyed.load(Ordering::Relaxed) || !self.feed.location.is_live() {
            return false;
        }
        let (now, asked) = (self.stamp(), self.asked.load(Ordering::Relaxed));
        let due = asked == 0 || now.saturating_sub(asked) >= KEY_AGAIN;
        if due {
            self.asked.store(now, Ordering::Relaxed);
        }
        due
    }

    /// A thread of the pipeline found that it cannot go on; the first such reason counts.
    pub(super) fn fail(&self, error: IngestError) {
        lock(&self.fault).get_or_insert(error);
        wake(&self.bus);
    }

    /// The last frame of the stream is in the queue.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        wake(&self.bus);
    }

    fn since(&self, stamp: &AtomicU64) -> Option<Duration> {
        let now = self.stamp();
        let at = stamp.load(Ordering::Relaxed);
        (at > 0).then(|| Duration::from_millis(now.saturating_sub(at)))
    }

    /// Whether nothing has come for too long.
    fn stalled(&self) -> Option<IngestError> {
        let stall =
            |what, after| Some(IngestError::Stalled { source_: self.feed.location.to_string(), what, after });
        let age = self.began.elapsed();
        let packet = self.since(&self.last_packet);
        let frame = self.since(&self.last_frame);
        if !self.feed.location.is_live() {
            // Time in which the consumer was slow, or a frame waited for its time, does not count.
            let waited = self.feed.queue.waited().unwrap_or(age);
            let idle = frame.unwrap_or(age).min(packet.unwrap_or(age)).min(waited);
            return if idle > FILE_STALL { stall("no frame could be read", FILE_STALL) } else { None };
        }
        let limit = self.feed.spec.stall;
        match packet {
            None if age > limit.max(CONNECT) => stall("no packet came", limit.max(CONNECT)),
            Some(idle) if idle > limit => stall("connected, but no packet came", limit),
            Some(_) if frame.unwrap_or(age) > limit.max(UNDECODABLE) => {
                self.gpu.blame();
                stall("packets come, but none could be decoded", limit.max(UNDECODABLE))
            }
            _ => None,
        }
    }
}

/// How a session ended.
pub(super) enum Outcome {
    /// The feed was stopped.
    Stopped,
    /// The stream came to its end.
    Ended,
    /// It cannot go on.
    Failed(IngestError),
    /// The next session begins at once, on the CPU.
    Again,
}

/// A session's end and what it brought.
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) frames: u64,
    pub(super) packets: u64,
    /// From the first frame to the last.
    pub(super) delivered: Duration,
}

/// Runs one session on this thread.
pub(super) fn run(feed: &Arc<Feed>) -> Report {
    let pipeline = gst::Pipeline::new();
    let bus = gst::Bus::new();
    pipeline.set_bus(Some(&bus));
    feed.spec.watch.enter();
    listen(&bus, &feed.spec);
    let session = Session::new(feed, bus.clone());
    if let Some(Ok(gpu)) = feed.gpu() {
        gpu.give(&pipeline);
    }
    lock(&feed.timeline).begin_session();
    feed.counters.update(|stats| stats.attempts += 1);
    *lock(&feed.bus) = Some(bus.clone());

    let outcome = match inlet::build(&session, &pipeline) {
        Err(error) => Outcome::Failed(error),
        Ok(()) => {
            // A refusal to start comes with an error on the bus, which says more.
            let refused = pipeline.set_state(gst::State::Playing).is_err();
            match watch(&session, &bus, refused) {
                Outcome::Ended if !session.video.load(Ordering::Acquire) => {
                    Outcome::Failed(inlet::no_video(&session))
                }
                outcome => outcome,
            }
        }
    };

    let outcome = match outcome {
        Outcome::Failed(error) if session.falls_back(&error) => Outcome::Again,
        outcome => outcome,
    };

    // First let waiting streaming threads go, then stop the pipeline: it waits for them.
    feed.queue.end_session();
    session.gpu.flush();
    *lock(&feed.bus) = None;
    if let Err(error) = pipeline.set_state(gst::State::Null) {
        tracing::error!(stream = %feed.spec.name, %error, "a pipeline does not stop");
    }
    feed.spec.watch.leave();
    feed.spec.watch.idle();
    bus.set_flushing(true);
    Report {
        outcome,
        frames: session.frames.load(Ordering::Relaxed),
        packets: session.packets.load(Ordering::Relaxed),
        delivered: Duration::from_millis(
            session
                .last_frame
                .load(Ordering::Relaxed)
                .saturating_sub(session.first_frame.load(Ordering::Relaxed)),
        ),
    }
}

/// Hears every message of a pipeline on the thread that posts it: elements that ask for the GPU's context are answered
/// there and then, and the watch is told of threads. The others go on to the bus.
pub(super) fn listen(bus: &gst::Bus, spec: &SourceSpec) {
    let (told, gpu) = (Arc::clone(&spec.watch), spec.gpu.clone());
    bus.set_sync_handler(move |_, message| {
        if gpu.as_ref().is_some_and(|gpu| gpu.answer(message)) {
            return gst::BusSyncReply::Drop;
        }
        watch::on_message(&*told, message)
    });
}

fn watch(session: &Arc<Session>, bus: &gst::Bus, refused: bool) -> Outcome {
    let feed = &session.feed;
    let kinds = [
        gst::MessageType::Error,
        gst::MessageType::Eos,
        gst::MessageType::Application,
        gst::MessageType::NeedContext,
    ];
    let mut encrypted = false;
    loop {
        let message = bus.timed_pop_filtered(if refused { gst::ClockTime::ZERO } else { LOOK }, &kinds);
        if feed.queue.is_closed() {
            return Outcome::Stopped;
        }
        if let Some(error) = lock(&session.fault).take() {
            return Outcome::Failed(error);
        }
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => match branch::judge(session, error) {
                Some(_) if encrypted => {
                    return Outcome::Failed(IngestError::Encrypted { source_: feed.location.to_string() });
                }
                Some(judged) => {
                    session.gpu.judge(error);
                    return Outcome::Failed(judged);
                }
                None => continue,
            },
            // A demuxer asks which decryption it may use, and then says "internal error".
            Some(gst::MessageView::NeedContext(context)) => {
                encrypted |= context.context_type() == "drm-preferred-decryption-system-id";
            }
            // All sinks have ended, or there is none.
            Some(gst::MessageView::Eos(_)) => return Outcome::Ended,
            _ => {}
        }
        if session.ended.load(Ordering::Acquire) {
            return Outcome::Ended;
        }
        if refused && message.is_none() {
            let reason = format!("{}: the pipeline refuses to play and does not say why", feed.location);
            return Outcome::Failed(IngestError::Start { reason });
        }
        if let Some(error) = session.stalled() {
            return Outcome::Failed(error);
        }
    }
}

fn wake(bus: &gst::Bus) {
    // A bus that is flushing has nobody left to wake.
    let _ = bus.post(gst::message::Application::new(gst::Structure::new_empty("wake")));
}

/// Locks a mutex whose content stays sound whatever a holder's panic left behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
