//! One entry of a stream, as the stream's worker and the host's threads share it.
//!
//! In: the catalogue's changes and the worker's failures. Out: instances, made aside and left for the worker
//! to take between two frames; the entry's state, for log, status and notices. Owned by the row; the host
//! holds weak references. A failing plugin is made anew with growing pauses from its last state, and after
//! `limits.failures` within ten minutes it is quarantined until its file or the limits change or the stream is rebuilt.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::context::StreamContext;
use super::error::Error;
use super::failure::Failure;
use super::guest::Names;
use super::instance::{Blob, Instance};
use super::loaded::Loaded;
use super::shared::{Shared, lock};
use super::snapshots;
use super::status::{EntryStatus, InstanceState, Notice};
use super::tape::Handed;
use crate::config::settings::PluginUse;
use crate::flow::Size;
use crate::telemetry::{Counter, Gauge, Histogram};

/// Failures older than this are forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// First pause before an instance is made anew; doubles with each failure.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// Why incidents end whose plugin is gone, or turned off.
const REMOVED: &str = "plugin-removed";
const DISABLED: &str = "plugin-disabled";

/// What the worker finds when it looks.
pub(super) enum Delivery {
    /// An instance, and the state that it was handed.
    Ready(Box<Instance>, Option<Handed>),
    /// The plugin is gone or turned off: why its open incidents end.
    Gone(&'static str),
}

/// One entry of a stream.
pub(super) struct Slot {
    pub names: Names,
    pub figures: Figures,
    /// Set when there is a delivery; the worker looks at it before each call.
    pub attention: AtomicBool,
    /// Stream time of the last call, nanoseconds.
    pub now: AtomicU64,
    pub models: Arc<[usize]>,
    context: StreamContext,
    config: serde_json::Value,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
}

/// An entry's metrics.
pub(super) struct Figures {
    pub seconds: Histogram,
    pub errors: Counter,
    pub failures: Counter,
    pub dropped: Counter,
    pub memory: Gauge,
    pub incidents: Gauge,
}

struct Inner {
    target: Option<Arc<Loaded>>,
    /// When the next instance is due to be made.
    due: Option<Instant>,
    delivery: Option<Delivery>,
    /// The worker holds an instance.
    live: bool,
    state: InstanceState,
    message: String,
    version: Option<String>,
    failures: VecDeque<Instant>,
    saved: Option<Arc<Blob>>,
    unsaved: bool,
    /// Failures since the saved state was taken: a state that kills each instance is given up.
    strikes: u32,
    size: Size,
}

impl Slot {
    pub(super) fn new(
        shared: &Arc<Shared>,
        context: &StreamContext,
        entry: &str,
        used: &PluginUse,
    ) -> Arc<Self> {
        let plugin = used.use_.as_deref().unwrap_or(entry);
        let labels = [("stream", context.stream.as_str()), ("entry", entry), ("plugin", plugin)];
        let metrics = &shared.metrics;
        let saved = snapshots::load(&snapshots::path(&shared.state, &context.stream, entry), plugin);
        let slot = Arc::new(Self {
            names: Names {
                stream: context.stream.as_str().into(),
                entry: entry.into(),
                plugin: plugin.into(),
            },
            figures: Figures {
                seconds: metrics.histogram("plugin_call_seconds", &labels),
                errors: metrics.counter("plugin_errors_total", &labels),
                failures: metrics.counter("plugin_failures_total", &labels),
                dropped: metrics.counter("plugin_dropped_total", &labels),
                memory: metrics.gauge("plugin_memory_bytes", &labels),
                incidents: metrics.gauge("plugin_open_incidents", &labels),
            },
            attention: AtomicBool::new(false),
            now: AtomicU64::new(0),
            models: context.models.iter().map(|model| model.labels.len()).collect(),
            context: context.clone(),
            config: serde_json::Value::Object(used.config.clone()),
            shared: Arc::clone(shared),
            inner: Mutex::new(Inner {
                target: None,
                due: None,
                delivery: None,
                live: false,
                state: InstanceState::Waiting,
                message: String::new(),
                version: None,
                failures: VecDeque::new(),
                saved: saved.map(Arc::new),
                unsaved: false,
                strikes: 0,
                size: context.size,
            }),
        });
        lock(&shared.slots).push(Arc::downgrade(&slot));
        slot
    }

    /// Looks whether the catalogue now holds another plugin under this entry's name, and whether it is turned off. `true`:
    /// an instance is due.
    pub(super) fn retarget(&self) -> bool {
        // Under the lock, so that of two threads that look the later one also decides later.
        let mut inner = lock(&self.inner);
        let off = self.shared.is_disabled(&self.names.plugin);
        let found = if off { None } else { self.shared.plugin(&self.names.plugin) };
        if inner.state == InstanceState::Stopped {
            return false;
        }
        let same = match (&inner.target, &found) {
            (Some(old), Some(new)) => old.hash == new.hash,
            (None, None) if off => inner.state == InstanceState::Disabled,
            (None, None) => inner.state == InstanceState::Waiting && !inner.message.is_empty(),
            _ => false,
        };
        if same {
            inner.target = found;
            return inner.due.is_some();
        }
        inner.failures.clear();
        inner.strikes = 0;
        inner.target = found;
        if inner.target.is_some() {
            inner.due = Some(Instant::now());
            if !inner.live {
                inner.state = InstanceState::Starting;
            }
            return true;
        }
        inner.due = None;
        inner.delivery = Some(Delivery::Gone(if off { DISABLED } else { REMOVED }));
        self.attention.store(true, Ordering::Release);
        if off && !inner.live {
            self.say(&mut inner, InstanceState::Disabled, String::new());
        } else if !inner.live {
            let message = format!("there is no plugin \"{}\" yet", self.names.plugin);
            self.say(&mut inner, InstanceState::Waiting, message);
        }
        false
    }

    /// Something that it may have failed over is otherwise now: where no instance runs, one is due.
    pub(super) fn again(&self) {
        let mut inner = lock(&self.inner);
        if inner.live || inner.target.is_none() || inner.state == InstanceState::Stopped {
            return;
        }
        inner.failures.clear();
        inner.strikes = 0;
        inner.due = Some(Instant::now());
        inner.state = InstanceState::Starting;
    }

    /// When the next instance is due.
    pub(super) fn due(&self) -> Option<Instant> {
        lock(&self.inner).due
    }

    /// Makes the instance that is due, and leaves it for the worker.
    pub(super) fn build(&self) {
        let (target, saved, live, size) = {
            let mut inner = lock(&self.inner);
            inner.due = None;
            let Some(target) = inner.target.clone() else { return };
            (target, inner.saved.clone(), inner.live, inner.size)
        };
        // A live instance hands its own state over when it is swapped.
        let made = self.make(&target, if live { None } else { saved }, size);
        let mut inner = lock(&self.inner);
        let current = inner.target.as_ref().is_some_and(|now| now.hash == target.hash);
        if !current || inner.state == InstanceState::Stopped {
            return;
        }
        match made {
            Ok((instance, handed)) => {
                inner.delivery = Some(Delivery::Ready(Box::new(instance), handed));
                self.attention.store(true, Ordering::Release);
            }
            Err(error) if inner.live => {
                let version = &target.descriptor.version;
                let message = format!("version {version} does not start, the one before runs on: {error}");
                self.say(&mut inner, InstanceState::Running, message);
            }
            Err(error @ Error::Instance { .. }) => {
                self.figures.failures.inc();
                self.retry_later(&mut inner, error.to_string());
            }
            Err(error) => self.say(&mut inner, InstanceState::Refused, error.to_string()),
        }
    }

    fn make(
        &self,
        target: &Arc<Loaded>,
        saved: Option<Arc<Blob>>,
        size: Size,
    ) -> Result<(Instance, Option<Handed>), Error> {
        let refused = |key: String, reason: String| Error::Config {
            stream: self.names.stream.to_string(),
            entry: self.names.entry.to_string(),
            plugin: format!("{} {}", self.names.plugin, target.descriptor.version),
            key,
            reason,
        };
        target.descriptor.accepts(&self.config).map_err(|(key, reason)| refused(key, reason))?;
        let mut instance = self.fresh(target, size, &refused)?;
        let Some(blob) = saved else { return Ok((instance, None)) };
        let now = self.now.load(Ordering::Relaxed);
        let reason = match instance.restore(now, &blob) {
            Ok(Ok(())) => return Ok((instance, Some(Handed { now, blob, taken: true }))),
            Ok(Err(reason)) => reason,
            Err(failure) => failure.to_string(),
        };
        let Names { stream, entry, plugin } = &self.names;
        tracing::warn!(%stream, %entry, %plugin, "plugin {plugin} does not take its saved state and starts fresh: {reason}");
        self.forget();
        Ok((self.fresh(target, size, &refused)?, None))
    }

    fn fresh(
        &self,
        target: &Arc<Loaded>,
        size: Size,
        refused: &impl Fn(String, String) -> Error,
    ) -> Result<Instance, Error> {
        let failed = |failure: Failure| Error::Instance {
            stream: self.names.stream.to_string(),
            entry: self.names.entry.to_string(),
            plugin: format!("{} {}", self.names.plugin, target.descriptor.version),
            failure,
        };
        let models = Arc::clone(&self.models);
        let mut instance = Instance::new(&self.shared, target, self.names.clone(), models).map_err(failed)?;
        let context = self.context.json(&self.names.entry, size);
        match instance.configure(&context, &self.config.to_string()).map_err(failed)? {
            Ok(()) => Ok(instance),
            Err(reason) => Err(refused(String::new(), super::check::sentence(&reason))),
        }
    }

    /// What the host left for the worker.
    pub(super) fn take(&self) -> Option<Delivery> {
        lock(&self.inner).delivery.take()
    }

    /// The worker runs this instance now.
    pub(super) fn running(&self, loaded: &Loaded, message: String) {
        let mut inner = lock(&self.inner);
        inner.live = true;
        inner.version = Some(loaded.descriptor.version.clone());
        self.say(&mut inner, InstanceState::Running, message);
    }

    /// The worker swapped to nothing: the plugin is gone, or turned off.
    pub(super) fn gone(&self, why: &'static str) {
        let mut inner = lock(&self.inner);
        inner.live = false;
        if why == DISABLED {
            self.say(&mut inner, InstanceState::Disabled, String::new());
            return;
        }
        let message = format!("the plugin \"{}\" was removed", self.names.plugin);
        self.say(&mut inner, InstanceState::Waiting, message);
    }

    /// The worker's instance died. `true`: it is quarantined.
    pub(super) fn failed(&self, failure: &Failure) -> bool {
        self.figures.failures.inc();
        let mut inner = lock(&self.inner);
        inner.live = false;
        inner.strikes += 1;
        if inner.strikes >= 2 && inner.saved.take().is_some() {
            self.forget_file();
        }
        self.retry_later(&mut inner, failure.to_string());
        drop(inner);
        self.shared.bell.ring();
        self.state() == InstanceState::Quarantined
    }

    fn retry_later(&self, inner: &mut Inner, reason: String) {
        let now = Instant::now();
        inner.failures.push_back(now);
        while inner.failures.front().is_some_and(|then| now.duration_since(*then) > MEMORY) {
            inner.failures.pop_front();
        }
        let count = inner.failures.len() as u32;
        if count >= self.shared.limits.get().0.failures {
            let message =
                format!("failed {count} times within ten minutes (limits.failures), the last time: {reason}");
            self.say(inner, InstanceState::Quarantined, message);
        } else if inner.due.is_some() || inner.delivery.is_some() {
            // Another version is on its way already.
            self.say(inner, InstanceState::Restarting, reason);
        } else {
            let pause = LONGEST.min(PAUSE * 2u32.saturating_pow(count - 1));
            inner.due = Some(now + pause);
            self.say(inner, InstanceState::Restarting, reason);
        }
    }

    /// Keeps a state for the next instance; the host writes it to disk.
    pub(super) fn keep(&self, blob: Blob) {
        let mut inner = lock(&self.inner);
        if inner.saved.as_deref() != Some(&blob) {
            inner.saved = Some(Arc::new(blob));
            inner.unsaved = true;
        }
        inner.strikes = 0;
    }

    /// The state that was kept last.
    pub(super) fn saved(&self) -> Option<Arc<Blob>> {
        lock(&self.inner).saved.clone()
    }

    /// Writes the kept state to disk, if it is newer than what is there.
    pub(super) fn persist(&self) {
        let saved = {
            let mut inner = lock(&self.inner);
            if !std::mem::take(&mut inner.unsaved) {
                return;
            }
            inner.saved.clone()
        };
        let Names { stream, entry, plugin } = &self.names;
        let path = snapshots::path(&self.shared.state, stream, entry);
        if let Some(Err(error)) = saved.map(|blob| snapshots::save(&path, plugin, &blob)) {
            tracing::warn!(%stream, %entry, %plugin, path = %path.display(), %error, "a plugin's state cannot be saved");
        }
    }

    fn forget(&self) {
        lock(&self.inner).saved = None;
        self.forget_file();
    }

    fn forget_file(&self) {
        snapshots::forget(&snapshots::path(&self.shared.state, &self.names.stream, &self.names.entry));
    }

    /// Frames have another size from here on.
    pub(super) fn resized(&self, size: Size) {
        lock(&self.inner).size = size;
    }

    /// The stream has ended.
    pub(super) fn stopped(&self) {
        let mut inner = lock(&self.inner);
        inner.live = false;
        inner.due = None;
        inner.delivery = None;
        inner.target = None;
        inner.state = InstanceState::Stopped;
        inner.message.clear();
    }

    pub(super) fn state(&self) -> InstanceState {
        lock(&self.inner).state
    }

    pub(super) fn message(&self) -> String {
        lock(&self.inner).message.clone()
    }

    pub(super) fn status(&self) -> EntryStatus {
        let inner = lock(&self.inner);
        let seconds = self.figures.seconds.distribution();
        EntryStatus {
            stream: self.names.stream.to_string(),
            entry: self.names.entry.to_string(),
            plugin: self.names.plugin.to_string(),
            version: inner.version.clone(),
            state: inner.state,
            message: inner.message.clone(),
            calls: seconds.count,
            errors: self.figures.errors.get(),
            failures: self.figures.failures.get(),
            dropped: self.figures.dropped.get(),
            memory: self.figures.memory.get() as u64,
            p50_seconds: seconds.p50,
            p99_seconds: seconds.p99,
            open_incidents: self.figures.incidents.get() as usize,
        }
    }

    fn say(&self, inner: &mut Inner, state: InstanceState, message: String) {
        if inner.state == state && inner.message == message {
            return;
        }
        inner.state = state;
        inner.message = message;
        let Names { stream, entry, plugin } = &self.names;
        let (message, version) = (&inner.message, inner.version.as_deref().unwrap_or(""));
        match state {
            InstanceState::Quarantined => {
                tracing::error!(%stream, %entry, %plugin, "plugin {plugin} is quarantined: {message}");
            }
            InstanceState::Refused => {
                tracing::error!(%stream, %entry, %plugin, "plugin {plugin} is refused: {message}")
            }
            InstanceState::Restarting => {
                tracing::warn!(%stream, %entry, %plugin, "plugin {plugin} restarts: {message}")
            }
            InstanceState::Waiting => {
                tracing::warn!(%stream, %entry, %plugin, "{stream}/{entry} waits: {message}")
            }
            InstanceState::Running if message.is_empty() => {
                tracing::info!(%stream, %entry, %plugin, version, "plugin {plugin} runs");
            }
            InstanceState::Running => {
                tracing::warn!(%stream, %entry, %plugin, version, "plugin {plugin} runs: {message}")
            }
            InstanceState::Disabled => {
                tracing::info!(%stream, %entry, %plugin, "plugin {plugin} is turned off");
            }
            InstanceState::Starting | InstanceState::Stopped => {}
        }
        if let Some(on_notice) = &self.shared.on_notice {
            on_notice(&Notice {
                stream: stream.to_string(),
                entry: entry.to_string(),
                plugin: plugin.to_string(),
                version: inner.version.clone(),
                state,
                message: message.clone(),
            });
        }
    }
}
