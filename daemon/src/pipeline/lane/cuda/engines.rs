//! TensorRT's engine of a model: used where it is fresh, else built in a process of its own while CUDA serves.
//!
//! In: a [`Plan`]: what the engine must be made for, how it is built, how sessions are opened. Out: a session that can serve
//! now, and what takes its place once the engine is there: opened on a thread of its own, so that frames go on being looked
//! at meanwhile, and exchanged between two runs. Where nothing may serve before the engine is there, the build is kept in
//! [`Awaited`] and the stream told that it is not ready yet. A build belongs to whoever waits for it and ends with it. An
//! engine that cannot be built or used leaves the model on CUDA, which the status says.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::infer::{
    BoundSession, Build, EngineBuild, EngineBuilder, EngineInUse, EngineOrder, EngineState, Engines,
    InferError, Provider, Stamp,
};
use crate::pipeline::lane::{NotYet, Serving};
use crate::publish::messages::ModelEngineState;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Opens a session: on the engine in that folder, or on CUDA.
pub(super) type Open = Arc<dyn Fn(Option<PathBuf>) -> Result<BoundSession, InferError> + Send + Sync>;

/// A session on an engine.
pub(super) struct Ready {
    /// Before what keeps the engine.
    pub(super) session: BoundSession,
    pub(super) in_use: EngineInUse,
    /// What runs it, for the status.
    pub(super) by: Provider,
}

/// Gives the session on the engine, once it is there; `None` while it is not. Called between two runs.
pub(super) type Better = Box<dyn FnMut() -> Option<Result<Ready, String>> + Send>;

/// What can serve now.
pub(super) struct Served {
    pub(super) session: BoundSession,
    /// Where it is TensorRT.
    pub(super) in_use: Option<EngineInUse>,
    pub(super) better: Option<Better>,
}

/// The engine of one model on one GPU.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) engines: Engines,
    pub(super) stamp: Stamp,
    pub(super) builder: EngineBuilder,
    pub(super) order: EngineOrder,
    pub(super) open: Open,
    /// Whether CUDA may serve until the engine is there.
    pub(super) meanwhile: bool,
    /// Whether the engine is opened on the model's own thread, which then does nothing else.
    pub(super) in_place: bool,
}

impl Plan {
    /// A session that can serve now.
    ///
    /// # Errors
    /// [`NotYet`] where nothing may serve before the engine is there; else what ONNX Runtime or the build say.
    pub(super) fn open(self, awaited: &Awaited, serving: &Serving) -> Result<Served, Error> {
        let name = self.stamp.model.clone();
        let (state, why) = match self.engines.state(&self.stamp) {
            EngineState::Fresh => {
                awaited.forget(&name);
                return self.open_fresh(serving);
            }
            EngineState::Stale(why) => (ModelEngineState::Stale, why),
            EngineState::Missing => (ModelEngineState::Missing, "there is none yet".to_owned()),
        };
        if !self.meanwhile {
            return Err(match awaited.poll(&name, &self.stamp) {
                None => {
                    serving.engine(state, Some(why.clone()));
                    tracing::info!(
                        model = name,
                        why,
                        "TensorRT's engine is built; nothing else may serve meanwhile"
                    );
                    awaited.add(&name, &self.stamp, self.build(serving)?);
                    not_yet(&name).into()
                }
                Some(Build::Waiting | Build::Building { .. }) => not_yet(&name).into(),
                // Its words are kept in the status; the stream is tried again, and so is the build.
                Some(Build::Failed(why)) => InferError::Engine { model: name, why }.into(),
                Some(Build::Done { .. }) => InferError::Engine { model: name, why }.into(),
            });
        }
        serving.engine(state, Some(why.clone()));
        tracing::info!(model = name, why, "TensorRT's engine is built; CUDA serves meanwhile");
        let build = self.build(serving).inspect_err(|error| {
            tracing::warn!(model = name, %error, "a model stays on CUDA");
            serving.engine(ModelEngineState::Failed, Some(error.to_string()));
        });
        match (self.open)(None) {
            Ok(session) => {
                serving.by(Provider::Cuda, false);
                Ok(Served { session, in_use: None, better: build.ok().map(|build| self.better(build)) })
            }
            Err(error) => {
                // The build has ended before what it said last is taken back.
                drop(build);
                serving.clear();
                Err(error.into())
            }
        }
    }

    /// On an engine that is there; where it cannot be used, on CUDA where that may serve.
    fn open_fresh(&self, serving: &Serving) -> Result<Served, Error> {
        match self.ready() {
            Ok(Ready { session, in_use, by }) => {
                serving.by(by, false);
                serving.engine(ModelEngineState::Ready, None);
                Ok(Served { session, in_use: Some(in_use), better: None })
            }
            Err(error) if self.meanwhile => {
                tracing::warn!(model = self.stamp.model, %error, "an engine cannot be used; CUDA serves in its place");
                let session = (self.open)(None)?;
                serving.by(Provider::Cuda, false);
                serving.engine(ModelEngineState::Failed, Some(error.to_string()));
                Ok(Served { session, in_use: None, better: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The session on the engine.
    fn ready(&self) -> Result<Ready, InferError> {
        let in_use = self.engines.hold(&self.stamp)?;
        let session = (self.open)(Some(self.engines.folder(&self.stamp)))?;
        Ok(Ready { session, in_use, by: Provider::TensorRt })
    }

    fn build(&self, serving: &Serving) -> Result<EngineBuild, InferError> {
        let (name, serving) = (self.stamp.model.clone(), serving.clone());
        let mut said = false;
        let tell = move |build: &Build| {
            serving.building(build);
            let goes_on = matches!(build, Build::Building { .. });
            if goes_on && std::mem::replace(&mut said, true) {
                tracing::debug!(model = name, "{}", build.line(&name));
            } else {
                tracing::info!(model = name, "{}", build.line(&name));
            }
        };
        EngineBuild::start(&self.builder, &self.engines, &self.stamp, &self.order, tell)
    }

    /// Looks at a build, and opens its engine once it is there.
    fn better(self, build: EngineBuild) -> Better {
        let mut opening: Option<Opening> = None;
        Box::new(move || {
            if let Some(opening) = &opening {
                return opening.poll();
            }
            match build.poll() {
                Build::Waiting | Build::Building { .. } => None,
                Build::Failed(why) => Some(Err(why)),
                Build::Done { .. } if self.in_place => Some(self.ready().map_err(|error| error.to_string())),
                Build::Done { .. } => match Opening::start(self.clone()) {
                    Ok(started) => opening.insert(started).poll(),
                    Err(error) => Some(Err(error.to_string())),
                },
            }
        })
    }
}

fn not_yet(name: &str) -> NotYet {
    let why = "and infer.providers names nothing else that may run the model meanwhile (\"cuda\" would)";
    NotYet(format!("waits for the TensorRT engine of {name}, which is being built, {why}"))
}

/// A session being opened beside the one that serves.
struct Opening {
    opened: Receiver<Result<Ready, String>>,
    thread: Option<JoinHandle<()>>,
}

impl Opening {
    fn start(plan: Plan) -> std::io::Result<Self> {
        let (done, opened) = channel();
        let name = format!("open {}", plan.stamp.model);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Whoever has gone needs no session.
            let _ = done.send(plan.ready().map_err(|error| error.to_string()));
        })?;
        Ok(Self { opened, thread: Some(thread) })
    }

    fn poll(&self) -> Option<Result<Ready, String>> {
        match self.opened.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("opening the engine ended without a word".into())),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that opens an engine panicked");
        }
    }
}

/// Builds that streams wait for, since nothing else may run their models.
#[derive(Default)]
pub(super) struct Awaited(Mutex<HashMap<String, (String, EngineBuild)>>);

impl Awaited {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (String, EngineBuild)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &str, stamp: &Stamp, build: EngineBuild) {
        self.lock().insert(name.to_owned(), (stamp.key(), build));
    }

    /// How it stands with the build of a model; one that is over, or of something else by now, is forgotten.
    fn poll(&self, name: &str, stamp: &Stamp) -> Option<Build> {
        let mut builds = self.lock();
        let (key, build) = builds.get(name)?;
        let (same, state) = (*key == stamp.key(), build.poll());
        if !same || matches!(state, Build::Done { .. } | Build::Failed(_)) {
            builds.remove(name);
        }
        same.then_some(state)
    }

    /// Whether a model's build goes on.
    pub(super) fn preparing(&self, name: &str) -> Option<NotYet> {
        let builds = self.lock();
        let (_, build) = builds.get(name)?;
        matches!(build.poll(), Build::Waiting | Build::Building { .. }).then(|| not_yet(name))
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Ends the builds of models that nobody wants any more.
    pub(super) fn keep(&self, wanted: &dyn Fn(&str) -> bool) {
        self.lock().retain(|name, _| wanted(name));
    }
}

#[cfg(test)]
pub(in crate::pipeline::lane::cuda) mod tests;
