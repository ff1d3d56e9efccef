//! An output: its handle, and the worker thread that keeps it going.
//!
//! In: pictures by [`VideoOut::push`]. Out: video at the target. [`VideoOut`] owns the thread; `stop` (or drop)
//! ends the stream, waits a bounded time for the sink to finish, and joins. Failures end a session; the worker
//! rests, longer each time up to a limit, and starts the next.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer as gst;

use super::EncodeError;
use super::encoder::expected;
use super::inbox::Inbox;
use super::input::{Input, Kind};
use super::mount::Mount;
use super::session::{Links, Session, check_elements};
use super::spec::{OutputSpec, Target};
use super::status::{Counters, OutputState, OutputStatus};
use crate::telemetry::progress::{Pulse, Who, Work};

/// Rest after the first failure; doubles with each further one.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// A session that ran for so long was a good one: the next failure rests shortly again.
const GOOD: Duration = Duration::from_secs(10);
/// A pipeline that takes no picture for so long while some wait is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// How long the end of a stream may take.
const ENDING: Duration = Duration::from_secs(15);

/// Video that leaves: an encoder and its sink, kept going by a thread of its own.
pub struct VideoOut {
    spec: Arc<OutputSpec>,
    links: Links,
    pulse: Pulse,
    thread: Option<JoinHandle<()>>,
}

/// Why a session ended.
enum Outcome {
    Stopped,
    Unwatched,
    Changed,
    /// NVENC gives no session: the next one takes another encoder, at once.
    Refused,
    Failed(String),
}

struct Worker {
    spec: Arc<OutputSpec>,
    links: Links,
    /// What it has in hand: nothing, while it waits for pictures or for the sink.
    pulse: Pulse,
}

impl VideoOut {
    /// Opens an output. The sink itself is opened with the first picture, and again whenever it fails.
    ///
    /// # Errors
    /// Where the specification makes no sense, an element is missing, or an RTSP mount is taken. A server that is
    /// away or a full disk is no error here.
    pub fn open(spec: OutputSpec) -> Result<Self, EncodeError> {
        gst::init()?;
        spec.check()?;
        check_elements(&spec)?;
        let pulled = matches!(spec.target, Target::Rtsp { .. });
        spec.hide_secrets();
        let inbox = Arc::new(Inbox::new(spec.waits(), !pulled));
        let counters = Arc::new(Counters::new(spec.shown(), expected(&spec)));
        let mount = pulled.then(|| Arc::new(Mount::new(Arc::clone(&inbox))));
        if let (Target::Rtsp { server, mount: path }, Some(mount)) = (&spec.target, &mount)
            && !server.add(path, mount, spec.codec)
        {
            let reason = format!("the RTSP mount /{path} is taken");
            return Err(EncodeError::Spec { output: spec.label(), reason });
        }
        let links = Links { inbox, counters, mount };
        let spec = Arc::new(spec);
        let pulse = Pulse::new(Who::of_stream(format!("output {}", spec.label()), &spec.stream));
        let worker = Worker { spec: Arc::clone(&spec), links: links.clone(), pulse: pulse.clone() };
        let mut output = Self { spec, links, pulse, thread: None };
        let thread =
            std::thread::Builder::new().name(format!("out-{}", output.spec.name)).spawn(|| worker.run());
        let label = output.spec.label();
        output.thread =
            Some(thread.map_err(|reason| EncodeError::Thread { name: format!("output {label}"), reason })?);
        Ok(output)
    }

    /// The specification it was opened with.
    #[must_use]
    pub fn spec(&self) -> &OutputSpec {
        &self.spec
    }

    /// What its worker has in hand, for whoever watches.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether a picture would be used: an RTSP output that nobody watches, or one that is away and resting,
    /// need not be rendered for.
    #[must_use]
    pub fn wanted(&self) -> bool {
        let inside = self.links.inbox.lock();
        inside.watched && inside.open && !inside.stopping
    }

    /// Whether pictures had best come in the memory of the GPU that the output was given: NVENC can be expected to take
    /// them. Where not, pictures in host memory spare a copy that nobody overlaps with anything. It may change while the
    /// output runs, and then should not be followed: an output starts anew where the memory changes.
    #[must_use]
    pub fn prefers_gpu(&self) -> bool {
        self.spec.gpu.as_ref().is_some_and(|gpu| gpu.may_encode(self.spec.codec).is_ok())
    }

    /// Says that the stream is alive although this picture was not rendered, because [`VideoOut::wanted`] said
    /// no. An RTSP output whose stream is not alive turns viewers away instead of letting them wait.
    pub fn skip(&self) {
        self.links.inbox.lock().offered = Some(Instant::now());
    }

    /// Hands over a picture, NV12 or I420, of the output's size, with its stream time in nanoseconds. One in video memory
    /// is NV12 and of the size that [`OutputSpec::coded`] says, and its output was given the GPU.
    ///
    /// Returns at once, dropping the oldest waiting picture where there is no room; except that a file written
    /// with `realtime = false` makes the caller wait for room.
    pub fn push(&self, picture: impl Into<Input>, pts: u64) {
        let dropped = self.links.inbox.push(picture.into(), pts);
        if dropped > 0 {
            Counters::add(&self.links.counters.dropped, dropped);
        }
    }

    /// Pictures that wait for the encoder.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.links.inbox.lock().pictures.len()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> OutputStatus {
        let clients = self.links.mount.as_ref().map_or(0, |mount| mount.viewers().len() as u64);
        let mut status = self.links.counters.snapshot(clients);
        if let Target::Rtsp { server, mount } = &self.spec.target {
            // The server may have moved, or listen nowhere.
            status.location = server.url(mount);
            if let Some(problem) = server.problem().filter(|_| status.state != OutputState::Stopped) {
                (status.state, status.error) = (OutputState::Retrying, Some(problem));
            }
        }
        status
    }

    /// Tells it to stop, and does not wait: [`VideoOut::stop`] does.
    pub fn ask_to_stop(&self) {
        self.links.inbox.tell(|inside| inside.stopping = true);
    }

    /// Encodes what waits, ends the stream (a file is finalised), and joins the thread: within about fifteen
    /// seconds, whatever the sink does.
    pub fn stop(mut self) -> OutputStatus {
        self.end();
        self.status()
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.links.inbox.tell(|inside| inside.stopping = true);
        if let Target::Rtsp { server, mount } = &self.spec.target {
            server.remove(mount);
        }
        if thread.join().is_err() {
            tracing::error!(
                stream = self.spec.stream,
                output = self.spec.name,
                "the output's thread panicked"
            );
        }
    }
}

impl Drop for VideoOut {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    fn run(self) {
        let (spec, counters) = (&self.spec, &self.links.counters);
        let mut rest = FIRST_REST;
        let mut failed: Option<String> = None;
        counters.state(OutputState::Idle);
        while let Some((kind, origin)) = self.first() {
            if failed.is_some() {
                Counters::add(&counters.reconnects, 1);
            } else {
                counters.state(OutputState::Connecting);
            }
            let begin = Instant::now();
            let outcome = self.session(kind, origin);
            self.pulse.end();
            match outcome {
                Outcome::Stopped => break,
                Outcome::Unwatched => counters.state(OutputState::Idle),
                Outcome::Changed | Outcome::Refused => {}
                Outcome::Failed(error) => {
                    if begin.elapsed() >= GOOD {
                        rest = FIRST_REST;
                        failed = None;
                    }
                    if failed.as_ref() != Some(&error) {
                        tracing::warn!(stream = spec.stream, output = spec.name, to = %spec.shown(), "output is away, trying again: {error}");
                    }
                    counters.error(error.clone());
                    counters.state(OutputState::Retrying);
                    failed = Some(error);
                    self.rest(rest);
                    rest = (rest * 2).min(LONGEST_REST);
                    continue;
                }
            }
            failed = None;
        }
        self.drop_waiting();
        self.pulse.end();
        counters.state(OutputState::Stopped);
    }

    /// Waits for a picture that somebody wants, and says of which kind and time it is; `None` when the output shall stop.
    fn first(&self) -> Option<(Kind, u64)> {
        let inbox = &self.links.inbox;
        let mut inside = inbox.lock();
        loop {
            if !inside.watched {
                inside.pictures.clear();
            }
            if let Some((picture, pts)) = inside.pictures.front() {
                return Some((picture.kind(), *pts));
            }
            if inside.stopping {
                return None;
            }
            inside = inbox.wait(inside, None);
        }
    }

    /// Runs one pipeline from its start to its end.
    fn session(&self, kind: Kind, origin: u64) -> Outcome {
        self.links.inbox.tell(|inside| {
            inside.hungry = false;
            inside.delivered = false;
            inside.ended = None;
            inside.open = true;
        });
        self.pulse.begin(Work::OpenOutput);
        let mut session = match Session::start(&self.spec, kind, origin, &self.links) {
            Ok(session) => session,
            Err(error) => return Outcome::Failed(error),
        };
        let mut running = false;
        let outcome = self.feed(&mut session, &mut running);
        // What follows takes the pipeline down, which waits for its threads.
        self.pulse.begin(Work::Finish);
        if let Outcome::Failed(error) = &outcome
            && let Some(pictures) = session.refused(error)
        {
            tracing::info!(
                stream = self.spec.stream,
                output = self.spec.name,
                "NVENC gives no session: {error}"
            );
            self.links.inbox.put_back(pictures);
            drop(session);
            self.remove_empty();
            return Outcome::Refused;
        }
        // A server that has not answered yet would not take an end either.
        if matches!(outcome, Outcome::Stopped | Outcome::Changed) && (running || self.is_file()) {
            self.finish(&session);
        }
        outcome
    }

    /// Takes away the file that a session made which wrote nothing into it.
    fn remove_empty(&self) {
        let path = self.links.counters.snapshot(0).location;
        if self.is_file() && std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            // One that stays is only a riddle.
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Whether the sink takes everything by itself, however late.
    fn is_file(&self) -> bool {
        self.spec.is_file()
    }

    /// Feeds the pipeline until something ends it.
    fn feed(&self, session: &mut Session, running: &mut bool) -> Outcome {
        let inbox = &self.links.inbox;
        let mut progress = Instant::now();
        let mut stopping: Option<Instant> = None;
        self.pulse.end();
        let mut inside = inbox.lock();
        loop {
            if let Some(ended) = inside.ended.take() {
                return Outcome::Failed(ended.err().unwrap_or_else(|| "the sink ended the stream".into()));
            }
            if inside.delivered && !*running {
                *running = true;
                self.links.counters.state(OutputState::Running);
                tracing::info!(stream = self.spec.stream, output = self.spec.name, to = %self.links.counters.snapshot(0).location, "output is running");
            }
            if inside.stopping {
                let since = *stopping.get_or_insert_with(Instant::now);
                // What waits is still encoded, unless the sink takes nothing anyway.
                if inside.pictures.is_empty() || since.elapsed() >= ENDING || (!*running && !self.is_file()) {
                    return Outcome::Stopped;
                }
            }
            if !inside.watched {
                return Outcome::Unwatched;
            }
            if inside.hungry && !inside.pictures.is_empty() {
                if inside.pictures.front().is_some_and(|(picture, _)| !session.accepts(picture)) {
                    return Outcome::Changed;
                }
                let Some((picture, pts)) = inbox.take(&mut inside) else { continue };
                inside.hungry = false;
                let key = std::mem::take(&mut inside.key_wanted);
                drop(inside);
                self.pulse.begin(Work::Encode);
                if let Err(error) = session.push(picture, pts, key) {
                    return Outcome::Failed(error);
                }
                self.pulse.end();
                progress = Instant::now();
                inside = inbox.lock();
                continue;
            }
            if inside.pictures.is_empty() {
                progress = Instant::now();
                inside = inbox.wait(inside, None);
                continue;
            }
            if progress.elapsed() >= STUCK {
                return Outcome::Failed(format!("it has taken nothing for {} s", STUCK.as_secs()));
            }
            let deadline = progress + STUCK;
            inside =
                inbox.wait(inside, Some(stopping.map_or(deadline, |since| deadline.min(since + ENDING))));
        }
    }

    /// Ends the stream and waits until the sink has everything, or the time for it is over.
    fn finish(&self, session: &Session) {
        session.end();
        let deadline = Instant::now() + ENDING;
        let mut inside = self.links.inbox.lock();
        while inside.ended.is_none() && Instant::now() < deadline {
            inside = self.links.inbox.wait(inside, Some(deadline));
        }
        match inside.ended.take() {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(
                    stream = self.spec.stream,
                    output = self.spec.name,
                    "the stream did not end well: {error}"
                );
                self.links.counters.error(error);
            }
            None => {
                let error = format!("the sink did not finish within {} s", ENDING.as_secs());
                tracing::warn!(stream = self.spec.stream, output = self.spec.name, "{error}");
                self.links.counters.error(error);
            }
        }
    }

    /// Takes no pictures for a while.
    fn rest(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let inbox = &self.links.inbox;
        inbox.tell(|inside| inside.open = false);
        self.drop_waiting();
        let mut inside = inbox.lock();
        while !inside.stopping && Instant::now() < deadline {
            inside = inbox.wait(inside, Some(deadline));
        }
        inside.open = true;
    }

    fn drop_waiting(&self) {
        let mut waiting = 0;
        self.links.inbox.tell(|inside| {
            waiting = inside.pictures.len() as u64;
            inside.pictures.clear();
        });
        Counters::add(&self.links.counters.dropped, waiting);
    }
}
