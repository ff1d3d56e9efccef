//! One plugin outside a daemon, driven call by call: what a replay does to it.
//!
//! In: a file; how its instance is set up, with the state that it had; frames, signals and commands, each with the ids that
//! `new-id` is to give. Out: what the plugin gave, checked as the host checks it. Time is what the calls say, random numbers
//! are seeded by the names of stream and entry, and ids are those of the script: the same calls give the same again. Owned
//! by a job; works in the folders of its options. A call that ends the instance is no error: the next one finds none.

use std::path::Path;
use std::sync::Arc;

use super::context::StreamContext;
use super::error::Error;
use super::guest::Names;
use super::host::{HostOptions, shared};
use super::ids::Ids;
use super::instance::{Blob, Instance};
use super::loaded::{self, Loaded};
use super::row::Signal;
use super::shared::Shared;
use super::tape::{Answered, Gave};
use crate::flow::{FrameMeta, Objects, Run, Score, Size};

/// Ids that no script holds begin here, far above those that a box comes to give.
const FIRST_ID: u64 = 1 << 52;

/// One plugin, driven call by call.
pub struct Player {
    shared: Arc<Shared>,
    loaded: Arc<Loaded>,
    entry: Arc<str>,
    instance: Option<Instance>,
    /// Index of the last frame.
    frame: u64,
}

/// How an instance is set up.
#[derive(Debug, Clone)]
pub struct Seating<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The entry.
    pub entry: &'a str,
    /// The context, as `configure` gets it.
    pub context: &'a str,
    /// The configuration, as `configure` gets it.
    pub config: &'a str,
    /// Number of labels of each of the stream's models.
    pub labels: Vec<usize>,
    /// State of an earlier instance: stream time, version, bytes.
    pub state: Option<(u64, u32, Vec<u8>)>,
}

impl Player {
    /// Reads, compiles and checks a component as the host would.
    ///
    /// # Errors
    /// Where the host would refuse the file.
    pub fn load(options: HostOptions, file: &Path) -> Result<Self, Error> {
        let shared = shared(options, Ids::passing_from(FIRST_ID))?;
        let bytes = loaded::read(file, shared.limits.get().0.file_mib)?;
        let loaded = Arc::new(Loaded::new(&shared, file, &bytes)?);
        Ok(Self { shared, loaded, entry: "".into(), instance: None, frame: 0 })
    }

    /// The plugin's name, version, and the SHA-256 of its file.
    #[must_use]
    pub fn plugin(&self) -> (&str, &str, &str) {
        let descriptor = &self.loaded.descriptor;
        (&descriptor.name, &descriptor.version, &self.loaded.hash)
    }

    /// The context of an entry as JSON, where nobody has recorded it.
    #[must_use]
    pub fn context(context: &StreamContext, entry: &str, size: Size) -> String {
        context.json(entry, size)
    }

    /// Makes an instance in place of the one before. `Some`: it does not take the state, for this reason.
    ///
    /// # Errors
    /// Where it refuses the configuration or fails over it.
    pub fn start(&mut self, seating: &Seating<'_>) -> Result<Option<String>, Error> {
        let descriptor = &self.loaded.descriptor;
        let plugin = format!("{} {}", descriptor.name, descriptor.version);
        let (stream, entry) = (seating.stream.to_owned(), seating.entry.to_owned());
        let refused = |key: String, reason: String| Error::Config {
            stream: stream.clone(),
            entry: entry.clone(),
            plugin: plugin.clone(),
            key,
            reason,
        };
        let failed = |failure| Error::Instance {
            stream: stream.clone(),
            entry: entry.clone(),
            plugin: plugin.clone(),
            failure,
        };
        self.instance = None;
        self.entry = seating.entry.into();
        let config = serde_json::from_str(seating.config)
            .map_err(|error| refused(String::new(), format!("the configuration is no JSON: {error}")))?;
        descriptor.accepts(&config).map_err(|(key, reason)| refused(key, reason))?;
        let names = Names {
            stream: seating.stream.into(),
            entry: seating.entry.into(),
            plugin: descriptor.name.as_str().into(),
        };
        let labels: Arc<[usize]> = seating.labels.as_slice().into();
        let mut instance = Instance::new(&self.shared, &self.loaded, names, labels).map_err(failed)?;
        instance
            .configure(seating.context, seating.config)
            .map_err(failed)?
            .map_err(|reason| refused(String::new(), super::check::sentence(&reason)))?;
        let mut not_taken = None;
        if let Some((now, version, bytes)) = &seating.state {
            let blob = Blob { version: *version, bytes: bytes.clone() };
            not_taken = instance.restore(*now, &blob).map_err(failed)?.err();
        }
        self.instance = Some(instance);
        Ok(not_taken)
    }

    /// Ends the instance.
    pub fn end(&mut self) {
        self.instance = None;
    }

    /// Whether an instance runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.instance.is_some()
    }

    /// One frame, with the ids that `new-id` gives before new ones; `None` where no instance runs.
    pub fn frame(
        &mut self,
        ids: &[u64],
        frame: &FrameMeta,
        runs: &[Run],
        objects: &Objects,
        scores: &[Score],
    ) -> Option<Gave> {
        self.frame = frame.index;
        let instance = self.instance.as_mut()?;
        instance.script(ids);
        let result = instance.process(frame, runs, objects, scores);
        let gave = Gave::of(&self.entry, instance, &result);
        self.after(gave)
    }

    /// One signal, at a stream time in nanoseconds; `None` where no instance runs.
    pub fn signal(&mut self, ids: &[u64], now: u64, signal: Signal) -> Option<Gave> {
        let frame = self.frame;
        let instance = self.instance.as_mut()?;
        instance.script(ids);
        let result = instance.signal(now, frame, signal);
        let gave = Gave::of(&self.entry, instance, &result);
        self.after(gave)
    }

    /// A command again; `None` where no instance runs.
    pub fn command(&mut self, command: &Answered) -> Option<Answered> {
        let instance = self.instance.as_mut()?;
        instance.script(&command.ids);
        let result = instance.command(command.now, &command.name, &command.arguments.to_string());
        let ids = instance.ids().to_vec();
        let answer = match result {
            Ok(Ok(answer)) => Ok(serde_json::from_str(&answer).unwrap_or_else(|_| answer.into())),
            Ok(Err(reason)) => Err(reason),
            Err(failure) => {
                self.instance = None;
                Err(failure.to_string())
            }
        };
        Some(Answered { ids, answer, ..command.clone() })
    }

    /// Linear memory of the instance, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory)
    }

    fn after(&mut self, gave: Gave) -> Option<Gave> {
        if gave.failure.is_some() {
            self.instance = None;
        }
        Some(gave)
    }
}
