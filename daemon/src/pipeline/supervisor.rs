//! All streams of the box: starts, stops and replaces them as the configuration says.
//!
//! In: settings; commands. Out: running streams, their status. Owned by `app`. Each stream has a thread of its own
//! (see `stream.rs`): one that fails is tried again and never delays another. Changes come one after the other; while
//! streams stop for one, statuses can be asked for.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::gpus::{Gpus, Wish};
use super::lane::{Cpu, CpuLoader, Lane};
use super::looks::Looks;
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
    pub(super) server: RtspHandle,
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
    /// Streams that were stopped, since they are configured no more or turned off.
    pub stopped: Vec<String>,
    /// Streams that went on as they were.
    pub untouched: Vec<String>,
}

/// All streams of the box.
pub struct Supervisor {
    shared: Arc<Shared>,
    streams: Mutex<BTreeMap<String, Entry>>,
    /// Held during a change; whether all was stopped for good.
    changing: Mutex<bool>,
}

struct Entry {
    settings: Stream,
    /// The models it uses: a change of them is a change of the stream.
    models: Vec<Looks>,
    /// The lane it asks for, its own or the box's.
    wish: Wish,
    /// Turned on or off by command, whatever the configuration says.
    told: Option<bool>,
    /// What it says of itself; also while it is stopped to be started anew.
    status: Option<SharedStatus>,
    handle: Option<StreamHandle>,
}

impl Entry {
    /// Whether it shall run.
    fn runs(&self) -> bool {
        self.told.unwrap_or(self.settings.enabled)
    }
}

impl Supervisor {
    /// A supervisor without streams.
    #[must_use]
    pub fn new(
        settings: &Settings,
        host: Arc<Host>,
        publish: PublishHandle,
        server: RtspHandle,
        registry: Registry,
        crashes: Arc<Crashes>,
        record: RecordHandle,
    ) -> Self {
        let gpus = Gpus::new(settings, registry.clone());
        let cpu = Pool::new(settings, registry.clone(), Box::new(CpuLoader));
        let shared = Arc::new(Shared { gpus, cpu, host, publish, server, registry, crashes, record });
        Self { shared, streams: Mutex::default(), changing: Mutex::default() }
    }

    /// Brings the streams to what the settings say; those that the change does not touch run on. What a stream was told by
    /// [`Supervisor::set_enabled`] holds until its `enabled` is changed.
    pub fn apply(&self, settings: &Settings) -> Applied {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut applied = Applied::default();
        if *changing {
            return applied;
        }
        let (mut leaving, mut gone) = (Vec::new(), Vec::new());
        let mut streams = self.streams();
        streams.retain(|name, entry| {
            let stays = settings.streams.contains_key(name);
            if !stays {
                gone.push(name.clone());
                leaving.extend(entry.handle.take());
            }
            stays
        });
        applied.stopped.clone_from(&gone);
        for (name, stream) in &settings.streams {
            let models: Vec<_> =
                stream.models.keys().filter_map(|model| Looks::of(settings, model)).collect();
            let wish = Wish::of(&settings.accel, stream);
            let Some(entry) = streams.get_mut(name) else {
                applied.started.push(name.clone());
                let (told, status, handle) = (None, None, None);
                let entry = Entry { settings: stream.clone(), models, wish, told, status, handle };
                streams.insert(name.clone(), entry);
                continue;
            };
            if entry.settings == *stream && entry.models == models && entry.wish == wish {
                applied.untouched.push(name.clone());
                continue;
            }
            let ran = entry.runs();
            if entry.settings.enabled != stream.enabled {
                entry.told = None;
            }
            (entry.settings, entry.models, entry.wish) = (stream.clone(), models, wish);
            leaving.extend(entry.handle.take());
            let list = match (ran, entry.runs()) {
                (true, true) => &mut applied.restarted,
                (false, true) => &mut applied.started,
                (true, false) => &mut applied.stopped,
                (false, false) => &mut applied.untouched,
            };
            list.push(name.clone());
        }
        drop(streams);
        // All are told before the first is waited for.
        stop_all(leaving);
        for name in &gone {
            self.shared.registry.forget(crate::telemetry::fields::STREAM, name);
            self.shared.publish.forget_stream(name);
        }
        self.shared.record.configure(settings);
        self.shared.cpu.configure(settings);
        self.shared.gpus.configure(settings);
        for (name, entry) in self.streams().iter_mut() {
            if entry.handle.is_none() {
                self.start(name, entry);
            }
        }
        applied
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, name: &str, entry: &mut Entry) {
        let (settings, shared) = (entry.settings.clone(), Arc::clone(&self.shared));
        let handle = StreamHandle::start(name, settings, entry.wish, entry.runs(), shared);
        entry.status = Some(handle.status().clone());
        entry.handle = Some(handle);
    }

    /// Turns a stream on or off until the next start of the daemon, or until a reload changes its `enabled`. One that is
    /// turned on is quarantined no longer, and its crashes are forgotten.
    ///
    /// # Errors
    /// Where there is no such stream, or its crashes cannot be forgotten on disk.
    pub fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), String> {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if *changing {
            return Err("the daemon is stopping".into());
        }
        let leaving = {
            let mut streams = self.streams();
            let known: Vec<String> = streams.keys().cloned().collect();
            let entry = streams.get_mut(name).ok_or_else(|| no_stream(name, &known))?;
            let lifted = enabled && self.shared.crashes.lift(name).map_err(|error| error.to_string())?;
            let as_is = entry.runs() == enabled;
            entry.told = Some(enabled);
            if as_is && !lifted {
                return Ok(());
            }
            entry.handle.take()
        };
        stop_all(leaving.into_iter().collect());
        if let Some(entry) = self.streams().get_mut(name) {
            self.start(name, entry);
        }
        Ok(())
    }

    /// Whether a model would be another one with these settings, or its files have changed.
    #[must_use]
    pub fn changes_model(&self, settings: &Settings, name: &str) -> bool {
        self.shared.cpu.looks(name) != Looks::of(settings, name)
    }

    /// A command for a plugin's entry of a stream.
    ///
    /// # Errors
    /// Where there is no such stream or entry, the plugin refuses, or the stream does not answer in time.
    pub fn command(&self, stream: &str, entry: &str, name: &str, arguments: Value) -> Result<Value, String> {
        let inbox = {
            let streams = self.streams();
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
            let streams = self.streams();
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
        let streams = self.streams();
        let known = streams.iter().filter_map(|(name, entry)| Some((name, entry.status.as_ref()?)));
        known.map(|(name, status)| (name.clone(), status.get())).collect()
    }

    /// Whether every stream has come to a state that the user may be told of: running, or known not to.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.report().values().all(|report| report.status.state != StreamState::Starting)
    }

    /// Stops every stream, then the models, and waits for them.
    pub fn stop(&self) {
        let mut stopped = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        *stopped = true;
        let leaving = self.streams().values_mut().filter_map(|entry| entry.handle.take()).collect();
        stop_all(leaving);
        self.streams().clear();
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
