//! One worker a stream: takes its frames, submits them to its models, releases them in order to its plugins and
//! outputs.
//!
//! In: the messages of its inbox: source, models, commands. Out: events, states and objects to the publisher,
//! pictures to the outputs. Owned by the supervisor, which stops and joins it. Whatever fails is said in the
//! stream's status; only a source that cannot be used, or the end of a file, ends the worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::deliver::Delivery;
use super::inbox::{Message, SourceEvent};
use super::inflight::InFlight;
use super::lane::{Lane, LaneError};
use super::late::Late;
use super::models::StreamModels;
use super::reader::{Credits, Reader};
use super::status::SharedStatus;
use crate::flow::{Decoded, Frame, Run, Score, Size, StreamInfo};
use crate::plugins::Signal;
use crate::publish::messages::StreamState;
use crate::telemetry::progress::{Pulse, Work};
use crate::telemetry::{Counter, Gauge, Histogram};

/// Plugins get a tick at least so often, frames or not.
const TICK: Duration = Duration::from_millis(500);

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to.
    Stopped,
    /// The file is over.
    Ended,
    /// The source cannot be used.
    Failed(String),
    /// Something that it needs is being made ready, which takes a while.
    NotYet(String),
}

/// Handles for what the worker counts.
pub(super) struct Meters {
    pub(super) skipped: Counter,
    pub(super) preprocess: Histogram,
    pub(super) failures: Counter,
    pub(super) in_flight: Gauge,
    /// What the worker has in hand: nothing, while it waits for a message.
    pub(super) pulse: Pulse,
}

/// One stream at work.
pub(super) struct Worker<L: Lane> {
    pub(super) name: Arc<str>,
    pub(super) lane: L,
    pub(super) models: StreamModels<L>,
    pub(super) masks: Option<L::Mask>,
    pub(super) delivery: Delivery<L>,
    pub(super) credits: Arc<Credits>,
    /// Frames that may wait for models before a live stream skips.
    pub(super) most_in_flight: usize,
    pub(super) status: SharedStatus,
    pub(super) meters: Meters,
    pub(super) live: bool,
    pub(super) started: bool,
    /// Stream time of the newest frame.
    pub(super) last: u64,
}

impl<L: Lane> Worker<L> {
    /// Works until the source ends or it is told to stop.
    pub(super) fn run(mut self, inbox: &Receiver<Message>, mut reader: Reader) -> Ending {
        let mut flight = InFlight::new();
        let mut late = Late::default();
        let mut tick = Instant::now() + TICK;
        let mut over = None;
        let pulse = self.meters.pulse.clone();
        loop {
            pulse.end();
            let message = match inbox.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(message) = &message {
                pulse.begin(work(message));
            }
            match message {
                Some(Message::Stop) => {
                    over = Some(Ending::Stopped);
                    break;
                }
                Some(Message::Source(event)) => {
                    let ending = self.on_source(event, &mut flight, &mut late);
                    // An end that comes after a failure does not undo it.
                    if !matches!(over, Some(Ending::Failed(_))) {
                        over = ending.or(over);
                    }
                }
                Some(Message::Found { index, model, found }) => {
                    let found = found.map_err(|error| self.model_failed(&error)).ok();
                    flight.complete(index, model, found);
                }
                Some(Message::Clip { run, scores, holds }) => {
                    self.on_clip(run, scores, &mut late);
                    // The scores go with the frame from `late`: here it only learns that it need not wait.
                    if let Some(index) = holds {
                        flight.complete(index, run.model, None);
                    }
                }
                Some(Message::Command { entry, name, arguments, reply }) => {
                    // The asker may have given up waiting.
                    let _ = reply.try_send(self.delivery.command(&entry, &name, &arguments));
                }
                Some(Message::Thumbnail { reply }) => self.delivery.show(reply),
                None => {}
            }
            while let Some(finished) = flight.pop() {
                if let Err(error) = self.delivery.deliver(&self.lane, finished, &mut late) {
                    // Also where the source has come to its end by now: what it gave was not all delivered.
                    over = Some(Ending::Failed(error.to_string()));
                }
                self.credits.give();
            }
            self.meters.in_flight.set(flight.len() as f64);
            if Instant::now() >= tick {
                pulse.begin(Work::Status);
                self.delivery.signal(Signal::Tick);
                self.status.update(|report| self.models.refresh(&mut report.status.edges));
                self.delivery.refresh(&self.lane, &self.status);
                tick = Instant::now() + TICK;
            }
            if over.is_some() && flight.len() == 0 {
                break;
            }
        }
        self.meters.in_flight.set(0.0);
        // The source first, so that nothing new comes; then plugins and outputs.
        pulse.begin(Work::Stop);
        reader.stop();
        self.delivery.refresh(&self.lane, &self.status);
        self.delivery.stop();
        over.unwrap_or(Ending::Stopped)
    }

    fn on_source(
        &mut self,
        event: SourceEvent,
        flight: &mut InFlight<L::Pixels>,
        late: &mut Late,
    ) -> Option<Ending> {
        match event {
            SourceEvent::Started(info) => self.on_started(info),
            SourceEvent::Frame(frame) => {
                if let Err(error) = self.on_frame(frame, flight) {
                    return Some(Ending::Failed(error.to_string()));
                }
            }
            SourceEvent::Resized(size) => {
                self.models.reset();
                self.status.update(|report| report.status.size = Some(size.to_string()));
                self.delivery.resized(size);
            }
            SourceEvent::Lost(error) => {
                late.forget(self.last);
                self.models.reset();
                self.delivery.signal(Signal::SourceLost);
                self.enter(StreamState::Down, Some(error));
            }
            SourceEvent::Ended => return Some(Ending::Ended),
            SourceEvent::Failed(error) => return Some(Ending::Failed(error)),
        }
        None
    }

    fn on_started(&mut self, info: StreamInfo) {
        self.live = info.live;
        let again = std::mem::replace(&mut self.started, true);
        self.status.update(|report| {
            report.status.size = Some(info.size.to_string());
            report.status.edges = vec![self.lane.decode_edge(&info)];
            report.status.edges.extend(self.models.edges());
            report.status.reconnects += u64::from(again);
        });
        self.delivery.started(&info);
        if again {
            self.delivery.signal(Signal::SourceBack);
        }
        self.enter(StreamState::Running, None);
    }

    fn on_frame(&mut self, frame: Frame<Decoded>, flight: &mut InFlight<L::Pixels>) -> Result<(), LaneError> {
        let mut meta = frame.meta;
        self.last = meta.pts;
        let mut pixels = self.lane.adopt(frame.pixels, &mut meta)?;
        if let Some(masks) = &mut self.masks {
            pixels = self.lane.mask(masks, &pixels)?;
        }
        let frame = Frame { meta, pixels };
        let busy = self.live && flight.inferring() >= self.most_in_flight;
        let started = Instant::now();
        let (waiting, skipped) = self.models.submit(&self.lane, &frame, self.live, busy)?;
        self.meters.preprocess.record_duration(started.elapsed());
        if skipped > 0 {
            self.meters.skipped.add(skipped as u64);
            self.status.update(|report| report.skipped += skipped as u64);
        }
        flight.push(frame, waiting);
        Ok(())
    }

    fn on_clip(&mut self, run: Run, scores: Result<Vec<Score>, String>, late: &mut Late) {
        match scores {
            Ok(scores) => late.push(run, scores),
            Err(error) => self.model_failed(&error),
        }
    }

    fn model_failed(&self, error: &str) {
        self.meters.failures.inc();
        tracing::warn!(stream = %self.name, error, "a model failed on a frame");
        self.status.update(|report| report.status.error = Some(error.to_owned()));
    }

    fn enter(&self, state: StreamState, error: Option<String>) {
        self.status.enter(&self.name, state, error, self.delivery.publisher());
    }
}

/// What a message asks for.
fn work(message: &Message) -> Work {
    match message {
        Message::Source(SourceEvent::Started(_)) => Work::SetUp,
        // Outputs of another size begin anew.
        Message::Source(SourceEvent::Resized(_)) => Work::Finish,
        Message::Source(_) => Work::Frame,
        Message::Found { .. } | Message::Clip { .. } => Work::Found,
        Message::Command { .. } | Message::Thumbnail { .. } => Work::Command,
        Message::Stop => Work::Stop,
    }
}

/// The size of a frame.
pub(super) fn size_of<P>(frame: &Frame<P>) -> Size {
    Size::new(frame.meta.width, frame.meta.height)
}
