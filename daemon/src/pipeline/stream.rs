//! One stream's life: builds its worker, runs it, and builds it again after a failure.
//!
//! In: the stream's settings. Out: its status. The thread is owned by the [`StreamHandle`]; it is told to stop, and
//! then joined. A panic in the stream's rooms fails the stream alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::blame;
use super::build::{BuildError, build};
use super::gpus::{Choice, Wish};
use super::inbox::Message;
use super::lane::{Cpu, Cuda, Lane};
use super::pool::Pool;
use super::status::SharedStatus;
use super::supervisor::Shared;
use super::thumbnail::Thumbnails;
use super::worker::Ending;
use crate::config::settings::Stream;
use crate::publish::messages::StreamState;
use crate::service::crash::Verdict;
use crate::telemetry::progress::{Pulse, Who, Work};

/// Waits between two tries of a stream that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between two looks at what is being made ready for a stream.
const LOOK: Duration = Duration::from_millis(250);

/// A stream that runs.
pub(super) struct StreamHandle {
    name: String,
    status: SharedStatus,
    stop: Arc<Stop>,
    thumbnails: Arc<Thumbnails>,
    thread: Option<JoinHandle<()>>,
}

/// How a stream is told to stop, wherever it waits.
#[derive(Default)]
pub(super) struct Stop {
    state: Mutex<StopState>,
    changed: Condvar,
}

#[derive(Default)]
struct StopState {
    asked: bool,
    inbox: Option<Sender<Message>>,
}

impl Stop {
    /// Whether it was asked for.
    fn asked(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked
    }

    /// The inbox of the worker that now runs, if one does.
    pub(super) fn inbox(&self) -> Option<Sender<Message>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).inbox.clone()
    }

    /// Waits; gives back whether a stop was asked for meanwhile.
    fn wait(&self, wait: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, wait, |state| !state.asked)
            .unwrap_or_else(PoisonError::into_inner);
        state.asked
    }

    /// The inbox of the worker that now runs, if one does.
    pub(super) fn set_inbox(&self, inbox: Option<Sender<Message>>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).inbox = inbox;
    }

    fn ask(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked = true;
        if let Some(inbox) = &state.inbox {
            // A worker that has just ended needs no telling.
            let _ = inbox.send(Message::Stop);
        }
        self.changed.notify_all();
    }
}

impl StreamHandle {
    /// Starts a stream; one that is not enabled only says so.
    pub(super) fn start(
        name: &str,
        settings: Stream,
        wish: Wish,
        enabled: bool,
        shared: Arc<Shared>,
    ) -> Self {
        let source = crate::ingest::Location::parse(&settings.source).map_or_else(
            |_| settings.source.split('@').next_back().unwrap_or_default().to_owned(),
            |at| at.to_string(),
        );
        let up = shared.registry.gauge("stream_up", &[(crate::telemetry::fields::STREAM, name)]);
        let status = SharedStatus::new(&source, "unknown", up);
        let stop = Arc::new(Stop::default());
        let thumbnails = Arc::new(Thumbnails::new(name, status.clone(), Arc::clone(&stop)));
        let mut handle = Self { name: name.to_owned(), status, stop, thumbnails, thread: None };
        if !enabled {
            handle.status.enter(name, StreamState::Disabled, None, &shared.publish);
            return handle;
        }
        let life = Life {
            name: Arc::from(name),
            settings,
            source,
            wish,
            pulse: shared.registry.progress().worker(Who::of_stream(format!("stream {name}"), name)),
            shared: Arc::clone(&shared),
            status: handle.status.clone(),
            stop: Arc::clone(&handle.stop),
        };
        match std::thread::Builder::new().name(format!("stream {name}")).spawn(move || life.run()) {
            Ok(thread) => handle.thread = Some(thread),
            Err(error) => {
                let error = format!("no thread for the stream: {error}");
                handle.status.enter(name, StreamState::Failed, Some(error), &shared.publish);
            }
        }
        handle
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> &SharedStatus {
        &self.status
    }

    /// The inbox of its worker, if one runs.
    pub(super) fn inbox(&self) -> Option<Sender<Message>> {
        self.stop.inbox()
    }

    /// What it shows.
    pub(super) fn thumbnails(&self) -> Arc<Thumbnails> {
        Arc::clone(&self.thumbnails)
    }

    /// Tells it to stop, without waiting.
    pub(super) fn ask_to_stop(&self) {
        self.stop.ask();
    }

    /// Waits until it has stopped.
    pub(super) fn join(mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(stream = %self.name, "the stream's thread panicked");
        }
    }
}

struct Life {
    name: Arc<str>,
    settings: Stream,
    /// Its address as it is shown.
    source: String,
    wish: Wish,
    shared: Arc<Shared>,
    status: SharedStatus,
    stop: Arc<Stop>,
    /// What the stream's thread has in hand.
    pulse: Pulse,
}

impl Life {
    /// Whether it may start, as far as its source's crashes are concerned; waits where it has to.
    fn admitted(&self) -> bool {
        let labels = [(crate::telemetry::fields::STREAM, &*self.name)];
        let quarantined = self.shared.registry.gauge("stream_quarantined", &labels);
        quarantined.set(0.0);
        match self.shared.crashes.verdict(&self.name, &self.source) {
            Verdict::Fit(_) => true,
            Verdict::Apart(delay) => {
                self.enter(StreamState::Down, Some(blame::apart(&self.name, delay)));
                !self.stop.wait(delay)
            }
            Verdict::Quarantined(found) => {
                quarantined.set(1.0);
                let error = blame::quarantined(&self.name, &self.source, &found);
                self.enter(StreamState::Quarantined, Some(error));
                false
            }
        }
    }

    fn run(self) {
        if !self.admitted() {
            return;
        }
        let mut wait = FIRST_WAIT;
        while !self.stop.asked() {
            self.enter(StreamState::Starting, None);
            let started = std::time::Instant::now();
            let ending = catch_unwind(AssertUnwindSafe(|| self.once())).unwrap_or_else(|panic| {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                tracing::error!(stream = %self.name, text, "a bug: the stream panicked");
                Ending::Failed(format!("internal error: {text}"))
            });
            self.pulse.end();
            self.stop.set_inbox(None);
            match ending {
                Ending::Stopped => break,
                Ending::Ended => {
                    self.enter(StreamState::Ended, None);
                    break;
                }
                Ending::Failed(error) => self.enter(StreamState::Failed, Some(error)),
                Ending::NotYet(why) => {
                    self.status.update(|report| report.status.warnings = vec![why]);
                    self.status.publish(&self.name, &self.shared.publish);
                    if self.stop.wait(LOOK) {
                        break;
                    }
                    continue;
                }
            }
            if started.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            if self.stop.wait(wait) {
                break;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One worker, from its first frame to its end.
    fn once(&self) -> Ending {
        let (inbox, messages) = channel();
        self.pulse.begin(Work::Build);
        self.stop.set_inbox(Some(inbox.clone()));
        if self.stop.asked() {
            return Ending::Stopped;
        }
        let outcome = match self.shared.gpus.choose(self.wish, Some(&self.name)) {
            Ok(Choice::Cpu(why)) => {
                self.takes(Cpu::NAME, why);
                self.on(Cpu, &self.shared.cpu, inbox, &messages)
            }
            Ok(Choice::Cuda(gpu, why)) => {
                self.takes(Cuda::NAME, why);
                Cuda::new(&gpu.shared, &self.name, &self.shared.registry)
                    .map_err(BuildError::from)
                    .and_then(|lane| self.on(lane, &gpu.models, inbox, &messages))
            }
            Err(why) => return Ending::Failed(why),
        };
        outcome.unwrap_or_else(|error| match error.not_yet() {
            Some(why) => Ending::NotYet(why),
            None => Ending::Failed(format!("failed to open stream {}: {error}", self.name)),
        })
    }

    fn on<L: Lane>(
        &self,
        lane: L,
        pool: &Pool<L::Tensor>,
        inbox: Sender<Message>,
        messages: &Receiver<Message>,
    ) -> Result<Ending, BuildError> {
        let (worker, reader) =
            build(lane, pool, &self.name, &self.settings, &self.shared, &self.status, &self.pulse, inbox)?;
        Ok(worker.run(messages, reader))
    }

    /// Says in log, status and metrics which lane the stream takes, and why.
    fn takes(&self, lane: &'static str, why: String) {
        for name in [Cpu::NAME, Cuda::NAME] {
            let labels = [(crate::telemetry::fields::STREAM, &*self.name), ("lane", name)];
            self.shared.registry.gauge("stream_lane", &labels).set(f64::from(u8::from(name == lane)));
        }
        let mut known = false;
        self.status.update(|report| {
            known = report.status.lane == lane && report.status.lane_reason.as_ref() == Some(&why);
            report.status.lane = lane.to_owned();
            report.status.lane_reason = Some(why.clone());
        });
        // A stream that is tried again says it once.
        if !known {
            tracing::info!(stream = %self.name, lane, why, "frames take this lane");
        }
    }

    fn enter(&self, state: StreamState, error: Option<String>) {
        self.status.enter(&self.name, state, error, &self.shared.publish);
    }
}
