//! What happens in a row, call by call, for a trace: which instances took a seat and how they were set up, what each gave
//! in each call, which ids it was given.
//!
//! In: a row that is recorded. Out: steps, in order, with the row's output. Plain data; whoever writes them decides how. A
//! row that is not recorded makes none.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::failure::Failure;
use super::instance::{Blob, Given, Instance};
use super::row::Signal;
use crate::flow::Output;

/// Something that happened in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// An instance took an entry's seat: from here on it is called.
    Started(Box<Started>),
    /// An entry's instance is gone.
    Gone {
        /// The entry.
        entry: Arc<str>,
        /// Why.
        reason: String,
    },
    /// All instances were told of something beside frames.
    Signal {
        /// Stream time, nanoseconds.
        now: u64,
        /// What.
        signal: Signal,
        /// What each gave, in the row's order.
        gave: Vec<Gave>,
    },
    /// All instances saw a frame: what each gave, in the row's order.
    Frame(Vec<Gave>),
    /// One was given a command.
    Command(Box<Answered>),
}

/// How an instance was set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The entry.
    pub entry: Arc<str>,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, hexadecimal.
    pub hash: String,
    /// Stream time, nanoseconds.
    pub now: u64,
    /// What `configure` was given: the context.
    pub context: String,
    /// What `configure` was given: the configuration.
    pub config: String,
    /// The state that it was handed, whether or not it took it: version and bytes.
    pub state: Option<(u32, Vec<u8>)>,
    /// What it had said of its states before: a trace that begins in its midst does not hear them again.
    pub said: BTreeMap<String, Value>,
}

/// What an instance gave in one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gave {
    /// The entry.
    pub entry: Arc<str>,
    /// Ids that `new-id` gave it in this call.
    pub ids: Vec<u64>,
    /// What came out, checked.
    pub output: Output,
    /// What was wrong about the rest of it.
    pub dropped: Vec<String>,
    /// It answered with an error.
    pub error: Option<String>,
    /// The host ended it over this call.
    pub failure: Option<String>,
}

/// A command, and what the plugin said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The entry.
    pub entry: Arc<str>,
    /// Stream time, nanoseconds.
    pub now: u64,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
    /// Ids that `new-id` gave in this call.
    pub ids: Vec<u64>,
    /// The answer.
    pub answer: Result<Value, String>,
}

/// The state that an instance was handed when it was made.
#[derive(Clone)]
pub(super) struct Handed {
    /// Stream time at which that was.
    pub now: u64,
    pub blob: Arc<Blob>,
    pub taken: bool,
}

impl Started {
    pub(super) fn of(entry: &Arc<str>, instance: &Instance, now: u64, handed: Option<&Handed>) -> Self {
        let descriptor = &instance.loaded.descriptor;
        let (context, config) = instance.setup();
        Self {
            entry: Arc::clone(entry),
            plugin: descriptor.name.clone(),
            version: descriptor.version.clone(),
            hash: instance.loaded.hash.clone(),
            now: handed.map_or(now, |handed| handed.now),
            context: context.to_owned(),
            config: config.to_owned(),
            state: handed.map(|handed| (handed.blob.version, handed.blob.bytes.clone())),
            said: BTreeMap::new(),
        }
    }
}

impl Gave {
    /// What a call of an instance came to.
    pub(super) fn of(
        entry: &Arc<str>,
        instance: &Instance,
        result: &Result<Result<Given, String>, Failure>,
    ) -> Self {
        let mut gave = Self { entry: Arc::clone(entry), ids: instance.ids().to_vec(), ..Self::default() };
        match result {
            Ok(Ok(given)) => {
                gave.output = given.output.clone();
                gave.dropped.clone_from(&given.dropped);
            }
            Ok(Err(error)) => gave.error = Some(error.clone()),
            Err(failure) => gave.failure = Some(failure.to_string()),
        }
        gave
    }
}
