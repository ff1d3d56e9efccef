//! Who has what in hand, and since when: what the watchdog looks at.
//!
//! In: a worker says [`Pulse::begin`] when it takes a piece of work up and [`Pulse::end`] when it has none: each is one
//! store to an atomic. Out: [`Progress::hanging`], for the watchdog's thread. Each daemon has one [`Progress`], beside its
//! metrics ([`super::Registry::progress`]); a worker that is dropped is forgotten. Nothing fails. A worker that waits for
//! input has nothing in hand, and may wait for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A kind of work. Most may take as long as the watchdog allows; what may rightly take longer says how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One turn of the control loop.
    Turn,
    /// Loading plugins, and settling what a crash left open.
    Open,
    /// An answer to a request; a reload waits for streams that stop.
    Answer,
    /// A stream's source, models, plugins and outputs; models are loaded, a GPU is opened.
    Build,
    /// Plugins, configured and restored.
    SetUp,
    /// A frame on its way to the models.
    Frame,
    /// What a model found.
    Found,
    /// The plugins' turn.
    Plugins,
    /// A line of the trace.
    Trace,
    /// Pictures for outputs.
    Outputs,
    /// A command for a plugin.
    Command,
    /// Its status.
    Status,
    /// A look at the source.
    Read,
    /// The first run of a model, for which kernels are loaded and algorithms tried.
    FirstRun,
    /// A run of a model.
    Run,
    /// The pipeline of an output.
    OpenOutput,
    /// Pictures to encode.
    Encode,
    /// The end of an output.
    Finish,
    /// The end of a worker: its source, plugins and outputs.
    Stop,
    /// Messages to and from the broker.
    Publish,
    /// Events to the disk. One that hangs is not mended by a restart, which would lose what is in memory.
    Store,
}

const MINUTE: Duration = Duration::from_secs(60);

const ALL: [(Work, &str, Option<Duration>); 21] = [
    (Work::Turn, "a turn of its loop", None),
    (Work::Open, "loading plugins and what a crash left open", Some(Duration::from_secs(600))),
    (Work::Answer, "answering a request", Some(Duration::from_secs(300))),
    (Work::Build, "opening source, models and outputs", Some(Duration::from_secs(600))),
    (Work::SetUp, "setting up plugins", Some(Duration::from_secs(120))),
    (Work::Frame, "preparing a frame for the models", None),
    (Work::Found, "taking a model's answer", None),
    (Work::Plugins, "running plugins", None),
    (Work::Trace, "writing the trace", None),
    (Work::Outputs, "handing pictures to outputs", None),
    (Work::Command, "giving a command to a plugin", None),
    (Work::Status, "saying how it is", None),
    (Work::Read, "reading from the source", None),
    (Work::FirstRun, "running the model for the first time", Some(Duration::from_secs(600))),
    (Work::Run, "running the model", Some(MINUTE)),
    (Work::OpenOutput, "opening the output", Some(MINUTE)),
    (Work::Encode, "encoding", None),
    (Work::Finish, "finalising an output", Some(MINUTE)),
    (Work::Stop, "stopping", Some(MINUTE)),
    (Work::Publish, "talking to the MQTT broker", None),
    (Work::Store, "writing events to the disk", Some(Duration::from_secs(300))),
];

impl Work {
    /// What it is, after "hangs while".
    #[must_use]
    pub fn text(self) -> &'static str {
        ALL[self as usize].1
    }

    /// How long it may take at least, whatever the watchdog allows; `None`: no longer than that.
    #[must_use]
    pub fn allowance(self) -> Option<Duration> {
        ALL[self as usize].2
    }
}

/// Who works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Who {
    /// Name of the worker, such as "stream entrance".
    pub worker: String,
    /// Its stream, if it has one.
    pub stream: Option<String>,
    /// Its model, if it has one.
    pub model: Option<String>,
}

impl Who {
    /// A worker of no stream and no model.
    #[must_use]
    pub fn named(worker: &str) -> Self {
        Self { worker: worker.to_owned(), ..Self::default() }
    }

    /// A worker of a stream.
    #[must_use]
    pub fn of_stream(worker: String, stream: &str) -> Self {
        Self { worker, stream: Some(stream.to_owned()), model: None }
    }

    /// The thread of a model.
    #[must_use]
    pub fn of_model(model: &str) -> Self {
        Self { worker: format!("model {model}"), stream: None, model: Some(model.to_owned()) }
    }
}

/// What one worker has in hand. Clones are one worker.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    who: Who,
    /// 0: nothing; else since when, milliseconds of [`now`], above the eight bits of the work.
    state: AtomicU64,
}

/// Ends a piece of work when it is dropped.
#[derive(Debug)]
pub struct InHand(Pulse);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Milliseconds of the monotonic clock, never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}

impl Pulse {
    /// A worker that nobody watches yet: see [`Progress::add`].
    #[must_use]
    pub fn new(who: Who) -> Self {
        Self(Arc::new(Inner { who, state: AtomicU64::new(0) }))
    }

    /// Takes up a piece of work; the one before, if there was one, is done.
    pub fn begin(&self, work: Work) {
        self.0.state.store(now() << 8 | work as u64, Ordering::Relaxed);
    }

    /// Nothing is in hand any more.
    pub fn end(&self) {
        self.0.state.store(0, Ordering::Relaxed);
    }

    /// Takes up a piece of work, until the guard is dropped.
    #[must_use]
    pub fn take_up(&self, work: Work) -> InHand {
        self.begin(work);
        InHand(self.clone())
    }

    /// Who works.
    #[must_use]
    pub fn who(&self) -> &Who {
        &self.0.who
    }

    /// What is in hand, and for how long.
    #[must_use]
    pub fn in_hand(&self) -> Option<(Work, Duration)> {
        let state = self.0.state.load(Ordering::Relaxed);
        let (work, ..) = ALL.get((state & 0xff) as usize).filter(|_| state > 0)?;
        Some((*work, Duration::from_millis(now().saturating_sub(state >> 8))))
    }
}

/// A worker that has had the same piece of work in hand for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hanging {
    /// Who.
    pub who: Who,
    /// What is in hand.
    pub work: Work,
    /// For how long.
    pub age: Duration,
}

/// All workers of one daemon. Clones are one list.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Vec<Weak<Inner>>>>);

impl Progress {
    /// A worker that is watched from now on, until it is dropped.
    #[must_use]
    pub fn worker(&self, who: Who) -> Pulse {
        let pulse = Pulse::new(who);
        self.add(&pulse);
        pulse
    }

    /// Watches a worker from now on, until it is dropped.
    pub fn add(&self, pulse: &Pulse) {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|known| known.strong_count() > 0);
        workers.push(Arc::downgrade(&pulse.0));
    }

    /// Workers that have had the same piece of work in hand for longer than `most`, or than it may take.
    #[must_use]
    pub fn hanging(&self, most: Duration) -> Vec<Hanging> {
        let mut found = self.in_hand();
        found.retain(|it| it.age > it.work.allowance().map_or(most, |own| own.max(most)));
        found
    }

    /// Whether somebody has work of one of these kinds in hand, which may rightly take long, and does not hang.
    #[must_use]
    pub fn takes_long(&self, kinds: &[Work]) -> bool {
        let within = |it: &Hanging| it.work.allowance().is_some_and(|own| it.age <= own);
        self.in_hand().iter().any(|it| kinds.contains(&it.work) && within(it))
    }

    fn in_hand(&self) -> Vec<Hanging> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pulses = workers.iter().filter_map(Weak::upgrade).map(Pulse);
        pulses
            .filter_map(|pulse| {
                let (work, age) = pulse.in_hand()?;
                Some(Hanging { who: pulse.who().clone(), work, age })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spins until the clock has moved on.
    fn pass(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, (work, ..)) in ALL.iter().enumerate() {
            assert_eq!(*work as usize, index, "{work:?}");
        }
    }

    #[test]
    fn who_waits_does_not_hang_and_who_works_too_long_does() {
        let progress = Progress::default();
        let pulse = progress.worker(Who::of_stream("stream a".into(), "a"));
        let most = Duration::from_millis(20);
        pass(most * 2);
        assert_eq!(progress.hanging(most), []);
        pulse.begin(Work::Trace);
        assert_eq!(progress.hanging(most), []);
        pass(most * 2);
        let hanging = progress.hanging(most);
        assert_eq!((hanging[0].who.stream.as_deref(), hanging[0].work), (Some("a"), Work::Trace));
        assert!(hanging[0].age > most && !progress.takes_long(&[Work::Trace]));
        // Another piece of work is progress.
        pulse.begin(Work::Outputs);
        assert_eq!(progress.hanging(most), []);
        pulse.end();
        pass(most * 2);
        assert_eq!(progress.hanging(most), []);
    }

    #[test]
    fn what_may_take_long_may_and_who_is_gone_is_forgotten() {
        let progress = Progress::default();
        let pulse = progress.worker(Who::of_model("m"));
        {
            let _work = pulse.take_up(Work::Build);
            pass(Duration::from_millis(5));
            assert_eq!(progress.hanging(Duration::ZERO), []);
            assert!(progress.takes_long(&[Work::Open, Work::Build]) && !progress.takes_long(&[Work::Stop]));
        }
        assert_eq!(pulse.in_hand(), None);
        pulse.begin(Work::Frame);
        pass(Duration::from_millis(5));
        assert_eq!(progress.hanging(Duration::ZERO).len(), 1);
        drop(pulse);
        assert_eq!(progress.hanging(Duration::ZERO), []);
    }
}
