//! Building an engine, in a process of its own while another provider serves.
//!
//! In: a model's folder, the engine's stamp. Out: an engine in the cache, or why there is none; until then, a sign of life
//! every other second. TensorRT takes seconds to minutes, says nothing of its progress, cannot be interrupted, and may
//! take the process with it: so the daemon starts its own binary with a hidden subcommand (child.rs). One engine is built
//! at a time on a box; the others wait for their turn. An [`EngineBuild`] owns that process and the thread that waits for
//! it; dropped, it kills the one and joins the other, and nothing that could be taken for an engine is left.

mod child;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};

pub use child::build_child;

use super::engine::{Building, EngineState, Engines, Stamp};
use crate::config::settings::Precision;
use crate::infer::InferError;

/// Name of the hidden subcommand.
pub const ENGINE_SUBCOMMAND: &str = "__build-engine";
/// Most of what the child says on its standard error that is kept.
const WORDS: u64 = 2 << 10;
/// How often a build that waits looks whether it is its turn: another process tells nobody when it is done.
const LOOK: Duration = Duration::from_millis(250);

/// The program that builds: the daemon's own binary and the arguments before the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineBuilder {
    /// The program.
    pub program: PathBuf,
    /// What comes before the folder on its command line.
    pub arguments: Vec<OsString>,
}

impl EngineBuilder {
    /// The running binary with [`ENGINE_SUBCOMMAND`].
    ///
    /// # Errors
    /// Where the system does not say which binary that is.
    pub fn own() -> io::Result<Self> {
        Ok(Self::of(std::env::current_exe()?))
    }

    /// A `watchpost` binary with [`ENGINE_SUBCOMMAND`].
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        Self { program, arguments: vec![ENGINE_SUBCOMMAND.into()] }
    }
}

/// What to build an engine of. It must be what the stamp was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOrder {
    /// The model's folder.
    pub model: PathBuf,
    /// ONNX Runtime's library, which the daemon has loaded, by the path that it was loaded by ([`Runtime::named`]).
    ///
    /// [`Runtime::named`]: crate::infer::Runtime::named
    pub library: PathBuf,
    /// Which GPU.
    pub device_index: u32,
    /// Frames in one run at most.
    pub batch: usize,
    /// Numbers to calculate in, where they are asked for by name.
    pub precision: Option<Precision>,
}

/// What the child says, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// It is at work.
    Alive,
    /// The engine is there.
    Done,
    /// It cannot be built.
    Failed(String),
}

/// How it stands with a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// Another engine is being built first.
    Waiting,
    /// It goes on.
    Building {
        /// Since when.
        since: Instant,
        /// How long the last one of this model took.
        expected: Option<Duration>,
    },
    /// The engine can be used.
    Done {
        /// How long it took.
        took: Duration,
    },
    /// There is none, and why.
    Failed(String),
}

impl Build {
    /// One line for a status.
    #[must_use]
    pub fn line(&self, model: &str) -> String {
        match self {
            Self::Waiting => format!("the TensorRT engine of {model} waits until another one is built"),
            Self::Building { since, expected } => {
                let about = expected.map(|time| format!(" of about {} s", time.as_secs().max(1)));
                let so_far = about.unwrap_or_else(|| " so far".to_owned());
                format!("building the TensorRT engine of {model}, {} s{so_far}", since.elapsed().as_secs())
            }
            Self::Done { took } => {
                format!("the TensorRT engine of {model} is ready after {} s", took.as_secs())
            }
            Self::Failed(why) => format!("no TensorRT engine of {model}: {why}"),
        }
    }
}

/// An engine being built.
#[derive(Debug)]
pub struct EngineBuild {
    model: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// It is to be cancelled.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    build: Build,
    child: Option<Child>,
    cancelled: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EngineBuild {
    /// Starts a build. `tell` hears of it while it waits, at the start, every other second while it goes on, and at its end,
    /// on a thread of the build's own: it is for a status.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        builder: &EngineBuilder,
        engines: &Engines,
        stamp: &Stamp,
        order: &EngineOrder,
        tell: impl FnMut(&Build) + Send + 'static,
    ) -> Result<Self, InferError> {
        let model = stamp.model.clone();
        let failed = |why: String| InferError::Engine { model: model.clone(), why };
        let text = serde_json::to_string(order).map_err(|error| failed(error.to_string()))?;
        let words = tempfile::tempfile().map_err(|error| failed(error.to_string()))?;
        let state = State { build: Build::Waiting, child: None, cancelled: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut work = Work {
            builder: builder.clone(),
            engines: engines.clone(),
            stamp: stamp.clone(),
            order: order.clone(),
            text,
            words,
            shared: Arc::clone(&shared),
            tell,
        };
        let thread = std::thread::Builder::new()
            .name(format!("engine {model}"))
            .spawn(move || work.run())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { model, shared, thread: Some(thread) })
    }

    /// Whose engine it is.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How it stands.
    #[must_use]
    pub fn poll(&self) -> Build {
        self.shared.lock().build.clone()
    }

    /// Kills the process, if it still runs. The build then fails; nothing waits for that.
    pub fn cancel(&self) {
        let mut state = self.shared.lock();
        state.cancelled = true;
        if let Some(child) = &state.child {
            // With what it has started itself, which would keep its output open. It is not reaped yet, so the number is its.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for EngineBuild {
    fn drop(&mut self) {
        self.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(model = %self.model, "the thread of an engine's build panicked");
        }
    }
}

/// What the thread has.
struct Work<F> {
    builder: EngineBuilder,
    engines: Engines,
    stamp: Stamp,
    order: EngineOrder,
    /// The order as the child reads it.
    text: String,
    /// What the child says on its standard error.
    words: File,
    shared: Arc<Shared>,
    tell: F,
}

impl<F: FnMut(&Build)> Work<F> {
    fn run(&mut self) {
        let build = self.build().unwrap_or_else(Build::Failed);
        self.say(build);
    }

    fn say(&mut self, build: Build) {
        self.shared.lock().build = build.clone();
        (self.tell)(&build);
    }

    fn build(&mut self) -> Result<Build, String> {
        let _turn = self.turn()?;
        if self.engines.state(&self.stamp) == EngineState::Fresh {
            // Whoever had the turn built the same one: for another GPU of this kind, say.
            return Ok(Build::Done { took: Duration::ZERO });
        }
        let told = |error: InferError| error.to_string();
        let since = Instant::now();
        let goes_on = Build::Building { since, expected: self.engines.expected(&self.stamp) };
        let building = self.engines.begin(&self.stamp).map_err(told)?;
        building.calibrate(&self.order.model, self.order.precision).map_err(told)?;
        self.say(goes_on.clone());
        self.child(&building, &goes_on)?;
        let took = since.elapsed();
        building.complete(took).map(|_| Build::Done { took }).map_err(told)
    }

    /// Waits until nobody else builds.
    fn turn(&mut self) -> Result<File, String> {
        let mut told = false;
        loop {
            if let Some(turn) = self.engines.turn().map_err(|error| error.to_string())? {
                return Ok(turn);
            }
            if !std::mem::replace(&mut told, true) {
                self.say(Build::Waiting);
            }
            let state = self.shared.lock();
            let waited = self.shared.changed.wait_timeout_while(state, LOOK, |state| !state.cancelled);
            if waited.unwrap_or_else(PoisonError::into_inner).0.cancelled {
                return Err("cancelled".into());
            }
        }
    }

    /// Starts the child, listens to it, and waits for its end.
    fn child(&mut self, building: &Building, goes_on: &Build) -> Result<(), String> {
        let program = self.builder.program.display().to_string();
        let words = self.words.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.builder.program);
        command.args(&self.builder.arguments).arg(building.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(words)).process_group(0);
        let (said, pid) = {
            let mut state = self.shared.lock();
            if state.cancelled {
                return Err("cancelled".into());
            }
            let mut child = command.spawn().map_err(|error| format!("{program} does not start: {error}"))?;
            // One that ends before it has read its order is told by its end.
            let _ = child.stdin.take().map(|mut input| input.write_all(self.text.as_bytes()));
            let taken = (child.stdout.take(), Pid::from_child(&child));
            state.child = Some(child);
            taken
        };
        let mut last = None;
        for line in said.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
            match serde_json::from_str(&line) {
                Ok(Said::Alive) => (self.tell)(goes_on),
                Ok(other) => last = Some(other),
                // A library that writes there.
                Err(_) => tracing::debug!(line, "from the builder of an engine"),
            }
        }
        // Without reaping it, so that nobody kills another process of that number, and without the lock, so that it can
        // be killed: it may go on after it has closed its output.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let (status, cancelled) = {
            let mut state = self.shared.lock();
            let status = state.child.as_mut().map(Child::wait);
            state.child = None;
            (status, state.cancelled)
        };
        let ended = match status {
            Some(Ok(status)) if status.success() => None,
            Some(Ok(status)) => Some(status.to_string()),
            Some(Err(error)) => Some(error.to_string()),
            None => Some("it is gone".into()),
        };
        match (last, ended) {
            _ if cancelled => Err("cancelled".into()),
            (Some(Said::Failed(why)), _) => Err(why),
            (Some(Said::Done), None) => Ok(()),
            (_, ended) => Err(self.unexpected(&ended.unwrap_or_else(|| "no word of success".into()))),
        }
    }

    /// The end of a child that said nothing of it.
    fn unexpected(&mut self, ended: &str) -> String {
        let mut text = Vec::new();
        let end = self.words.seek(io::SeekFrom::End(0)).unwrap_or(0);
        let start = io::SeekFrom::Start(end.saturating_sub(WORDS));
        let _ = self.words.seek(start).and_then(|_| (&mut self.words).take(WORDS).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        if text.is_empty() {
            format!("the process that builds it ended with {ended}")
        } else {
            format!("the process that builds it ended with {ended}; it said: {text}")
        }
    }
}
