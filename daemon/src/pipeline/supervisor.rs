//! All streams of the box: starts, stops and replaces them as the configuration says.
//!
//! In: settings; commands. Out: running streams, their status. Owned by `app`. Each stream has a thread of its own
//! (see `stream.rs`): one that fails is tried again and never delays another.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use serde_json::Value;

use super::gpus::{Gpus, Wish};
use super::lane::{Cpu, CpuLoader, Lane};
use super::pool::Pool;
use super::status::{Report, SharedStatus};
use super::stream::StreamHandle;
use crate::config::Settings;
use crate::config::settings::Stream;
use crate::encode::RtspHandle;
use crate::flow::{Tensor, Thumbnail};
use crate::plugins::Host;
use crate::publish::PublishHandle;
use crate::publish::messages::{ModelStatus, StreamState, Timestamp};
use crate::record::RecordHandle;
use crate::service::crash::Crashes;
use crate::telemetry::Registry;

/// How long a command may wait for its stream.
const COMMAND: Duration = Duration::from_secs(5);

/// What every stream needs.
pub(super) struct Shared {
    pub(super) gpus: Gpus,
    /// Models on the CPU lane.
    pub(super) cpu: Pool<Tensor>,
    pub(super) host: Arc<Host>,
    pub(super) publish: PublishHandle,
    pub(super) server: Option<RtspHandle>,
    pub(super) registry: Registry,
    pub(super) crashes: Arc<Crashes>,
    pub(super) record: RecordHandle,
}

/// What a change of the configuration did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// Streams that were started.
    pub started: Vec<String>,
    /// Streams that were stopped and started with new settings.
    pub restarted: Vec<String>,
    /// Streams that were stopped.
    pub stopped: Vec<String>,
    /// Streams that went on as they were.
    pub untouched: Vec<String>,
}

/// All streams of the box.
pub struct Supervisor {
    shared: Arc<Shared>,
    streams: Mutex<BTreeMap<String, Entry>>,
    /// Each stream's status as it was found last: a change, which waits for streams that stop, keeps nobody from them.
    statuses: Mutex<BTreeMap<String, SharedStatus>>,
}

struct Entry {
    settings: Stream,
    /// Settings of the models it uses: a change of them is a change of the stream.
    models: Vec<crate::config::settings::Model>,
    /// The lane it asks for, its own or the box's.
    wish: Wish,
    /// Turned off by command, whatever the configuration says.
    off: bool,
    handle: Option<StreamHandle>,
}

impl Supervisor {
    /// A supervisor without streams.
    #[must_use]
    pub fn new(
        settings: &Settings,
        host: Arc<Host>,
        publish: PublishHandle,
        server: Option<RtspHandle>,
        registry: Registry,
        crashes: Arc<Crashes>,
        record: RecordHandle,
    ) -> Self {
        let gpus = Gpus::new(settings, registry.clone());
        let cpu = Pool::new(settings, registry.clone(), Box::new(CpuLoader));
        let shared = Arc::new(Shared { gpus, cpu, host, publish, server, registry, crashes, record });
        Self { shared, streams: Mutex::default(), statuses: Mutex::default() }
    }

    /// Brings the streams to what the settings say; those that the change does not touch run on.
    pub fn apply(&self, settings: &Settings) -> Applied {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut applied = Applied::default();
        let mut leaving = Vec::new();
        streams.retain(|name, entry| {
            let stays = settings.streams.contains_key(name);
            if !stays {
                applied.stopped.push(name.clone());
                leaving.extend(entry.handle.take());
                self.shared.registry.forget(crate::telemetry::fields::STREAM, name);
            }
            stays
        });
        for (name, stream) in &settings.streams {
            let models: Vec<_> =
                stream.models.keys().filter_map(|model| settings.models.get(model)).cloned().collect();
            let wish = Wish::of(&settings.accel, stream);
            match streams.get_mut(name) {
                Some(entry) if entry.settings == *stream && entry.models == models && entry.wish == wish => {
                    applied.untouched.push(name.clone());
                }
                Some(entry) => {
                    applied.restarted.push(name.clone());
                    leaving.extend(entry.handle.take());
                    entry.settings = stream.clone();
                    entry.models = models;
                    entry.wish = wish;
                }
                None => {
                    applied.started.push(name.clone());
                    let entry = Entry { settings: stream.clone(), models, wish, off: false, handle: None };
                    streams.insert(name.clone(), entry);
                }
            }
        }
        // All are told before the first is waited for.
        stop_all(leaving);
        for name in &applied.stopped {
            self.shared.publish.forget_stream(name);
        }
        self.shared.record.configure(settings);
        self.shared.cpu.configure(settings);
        self.shared.gpus.configure(settings);
        for (name, entry) in streams.iter_mut() {
            if entry.handle.is_none() {
                entry.handle = Some(self.start(name, entry));
            }
        }
        applied
    }

    fn start(&self, name: &str, entry: &Entry) -> StreamHandle {
        let enabled = entry.settings.enabled && !entry.off;
        StreamHandle::start(name, entry.settings.clone(), entry.wish, enabled, Arc::clone(&self.shared))
    }

    /// Turns a stream on or off until the next start of the daemon. One that is turned on is quarantined no longer, and
    /// its crashes are forgotten.
    ///
    /// # Errors
    /// Where there is no such stream, or its crashes cannot be forgotten on disk.
    pub fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), String> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<String> = streams.keys().cloned().collect();
        let entry = streams.get_mut(name).ok_or_else(|| no_stream(name, &known))?;
        let lifted = enabled && self.shared.crashes.lift(name).map_err(|error| error.to_string())?;
        if entry.off != enabled && !lifted {
            return Ok(());
        }
        entry.off = !enabled;
        stop_all(entry.handle.take().into_iter().collect());
        entry.handle = Some(self.start(name, entry));
        Ok(())
    }

    /// A command for a plugin's entry of a stream.
    ///
    /// # Errors
    /// Where there is no such stream or entry, the plugin refuses, or the stream does not answer in time.
    pub fn command(&self, stream: &str, entry: &str, name: &str, arguments: Value) -> Result<Value, String> {
        let inbox = {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let known: Vec<String> = streams.keys().cloned().collect();
            let found = streams.get(stream).ok_or_else(|| no_stream(stream, &known))?;
            found.handle.as_ref().and_then(StreamHandle::inbox)
        };
        let inbox = inbox.ok_or_else(|| format!("stream {stream} is not running"))?;
        let (reply, answer) = sync_channel(1);
        let message = super::inbox::Message::Command {
            entry: entry.to_owned(),
            name: name.to_owned(),
            arguments,
            reply,
        };
        inbox.send(message).map_err(|_| format!("stream {stream} is not running"))?;
        answer.recv_timeout(COMMAND).map_err(|_| format!("stream {stream} did not answer in time"))?
    }

    /// The next frame of a stream as a small picture, with what is drawn over it: boxes, plugins' shapes, virtual cameras;
    /// masks are black. Waits for the frame; who asks meanwhile gets the same picture. Costs nothing while nobody asks.
    ///
    /// # Errors
    /// Where there is no such stream, or no frame comes within two seconds: it says what the stream does instead.
    pub fn thumbnail(&self, stream: &str) -> Result<Thumbnail, String> {
        let thumbnails = {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let known: Vec<String> = streams.keys().cloned().collect();
            let found = streams.get(stream).ok_or_else(|| no_stream(stream, &known))?;
            found.handle.as_ref().map(StreamHandle::thumbnails)
        };
        thumbnails.ok_or_else(|| format!("stream {stream} is not running"))?.ask()
    }

    /// The lane that a stream without one of its own takes, and why.
    ///
    /// # Errors
    /// Where CUDA is asked for by name and cannot start.
    pub fn lane(&self, settings: &Settings) -> Result<String, String> {
        self.shared.gpus.choose(Wish::of_box(&settings.accel), None).map(|choice| choice.to_string())
    }

    /// The error after which a GPU can only be used by a new process, once one came.
    #[must_use]
    pub fn lost_gpu(&self) -> Option<String> {
        self.shared.gpus.lost()
    }

    /// What runs each model, on each lane that has it. Also brings the gauges of their engines up to date.
    #[must_use]
    pub fn models(&self) -> Vec<ModelStatus> {
        let mut models = self.shared.cpu.report(Cpu::NAME, None);
        models.extend(self.shared.gpus.report());
        super::serving::show(&self.shared.registry, &models, Timestamp::now());
        models
    }

    /// The status of every stream. Does not wait for a change that is under way.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, Report> {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = match self.streams.try_lock() {
            Ok(streams) => Some(streams),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(streams) = streams {
            let entries = streams.iter();
            *statuses = entries
                .filter_map(|(name, entry)| Some((name.clone(), entry.handle.as_ref()?.status().clone())))
                .collect();
        }
        statuses.iter().map(|(name, status)| (name.clone(), status.get())).collect()
    }

    /// Whether every stream has come to a state that the user may be told of: running, or known not to.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.report().values().all(|report| report.status.state != StreamState::Starting)
    }

    /// Stops every stream, then the models, and waits for them.
    pub fn stop(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        stop_all(streams.values_mut().filter_map(|entry| entry.handle.take()).collect());
        streams.clear();
        self.shared.cpu.stop();
        self.shared.gpus.stop();
    }
}

fn stop_all(handles: Vec<StreamHandle>) {
    for handle in &handles {
        handle.ask_to_stop();
    }
    for handle in handles {
        handle.join();
    }
}

fn no_stream(name: &str, known: &[String]) -> String {
    format!("no stream \"{name}\"; there are: {}", known.join(", "))
}
