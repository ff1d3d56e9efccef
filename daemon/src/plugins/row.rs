//! The row of plugins of one stream: what a worker calls for each frame.
//!
//! In: a frame's objects, model runs and scores; signals; commands. Out: objects as the last plugin left them,
//! events in order, views, states, shapes, under the names of their entries. Owned by the stream's worker,
//! which calls [`StreamPlugins::stop`] at the end. A plugin that fails is missing from the row until the host
//! has made a new instance; nothing that a plugin does fails the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::context::StreamContext;
use super::error::{CommandError, Error};
use super::failure::Failure;
use super::host::Host;
use super::incidents::{Ledger, PluginEvent};
use super::instance::{Given, Instance};
use super::remap::remap;
use super::shared::Shared;
use super::slot::{Delivery, Slot};
use super::status::EntryStatus;
use crate::config::settings::PluginUse;
use crate::flow::{Change, FrameMeta, Objects, Run, Score, Shape, Size, State, View};

/// Nanoseconds of stream time between two states that are kept of a plugin.
const KEEP_EVERY: u64 = 5_000_000_000;
/// Least time between two log lines about what an entry gave wrongly.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What happens beside frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// At least once a second, frames or not.
    Tick,
    /// So many nanoseconds of stream time are missing before the next frame.
    Gap(u64),
    /// The source is down.
    SourceLost,
    /// The source is back.
    SourceBack,
    /// Frames have this size from here on.
    Resized(Size),
    /// The stream ends.
    End,
}

/// What the row gave for a frame or a signal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowOutput {
    /// The objects as the last plugin left them; empty for a signal.
    pub objects: Objects,
    /// Steps of incidents, in order.
    pub events: Vec<PluginEvent>,
    /// Views, with their entry's name.
    pub views: Vec<(Arc<str>, View)>,
    /// Retained values that changed, with their entry's name.
    pub states: Vec<(Arc<str>, State)>,
    /// Shapes to draw, with their entry's name.
    pub shapes: Vec<(Arc<str>, Shape)>,
}

/// The row of plugins of one stream.
pub struct StreamPlugins {
    shared: Arc<Shared>,
    seats: Vec<Seat>,
    ledger: Ledger,
    left: Vec<PluginEvent>,
    stream: Arc<str>,
    /// Index of the last frame, and stream time of the last call.
    frame: u64,
    now: u64,
    size: Size,
    stopped: bool,
}

/// An entry's place in the row.
struct Seat {
    slot: Arc<Slot>,
    instance: Option<Box<Instance>>,
    states: BTreeMap<String, Value>,
    /// Stream time when the plugin's state was last kept.
    kept: u64,
    /// An incident began or ended in this call: state and open incidents must agree after a crash.
    turned: bool,
    said: Option<Instant>,
}

impl StreamPlugins {
    /// The row of a stream. Plugins that are there are started before this returns; one that is missing,
    /// wrongly configured or failing does not stop the stream, see [`StreamPlugins::status`].
    ///
    /// # Errors
    /// Where the stream's or an entry's name cannot stand in a path.
    pub fn new(
        host: &Host,
        context: &StreamContext,
        uses: &BTreeMap<String, PluginUse>,
    ) -> Result<Self, Error> {
        let shared = host.shared();
        for name in std::iter::once(&context.stream).chain(uses.keys()) {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                return Err(Error::Config {
                    stream: context.stream.clone(),
                    entry: name.clone(),
                    plugin: String::new(),
                    key: String::new(),
                    reason:
                        "a name holds letters, digits, \"-\", \"_\" and \".\", and does not begin with \".\""
                            .into(),
                });
            }
        }
        let mut entries: Vec<_> = uses.iter().filter(|(_, used)| used.enabled).collect();
        entries.sort_by_key(|(name, used)| (used.order, (*name).clone()));
        let (ledger, left) = Ledger::new(&shared.state.join("incidents"), &context.stream);
        let seats = entries
            .into_iter()
            .map(|(entry, used)| {
                let slot = Slot::new(shared, context, entry, used);
                if slot.retarget() {
                    slot.build();
                }
                Seat { slot, instance: None, states: BTreeMap::new(), kept: 0, turned: false, said: None }
            })
            .collect();
        let mut row = Self {
            shared: Arc::clone(shared),
            seats,
            ledger,
            left: Vec::new(),
            stream: context.stream.as_str().into(),
            frame: 0,
            now: 0,
            size: context.size,
            stopped: false,
        };
        let mut out = RowOutput { events: left, ..RowOutput::default() };
        row.deliveries(&mut out);
        row.left = out.events;
        Ok(row)
    }

    /// Whether the row has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// One frame, in order. A gap before it and a new size are signalled first.
    pub fn process(
        &mut self,
        frame: &FrameMeta,
        runs: &[Run],
        objects: Objects,
        scores: &[Score],
    ) -> RowOutput {
        let mut out = self.begin(frame.pts);
        let size = Size::new(frame.width, frame.height);
        if size != self.size {
            self.size = size;
            for seat in &self.seats {
                seat.slot.resized(size);
            }
            self.signal_into(Signal::Resized(size), &mut out);
        }
        if frame.gap > 0 {
            self.signal_into(Signal::Gap(frame.gap), &mut out);
        }
        self.frame = frame.index;
        let mut current = objects;
        let mut mapped: Option<Vec<Score>> = None;
        for seat in &mut self.seats {
            let Some(instance) = &mut seat.instance else { continue };
            let begun = Instant::now();
            let result = instance.process(frame, runs, &current, mapped.as_deref().unwrap_or(scores));
            seat.slot.figures.seconds.record_duration(begun.elapsed());
            let Some(objects) = seat.took(result, &self.shared, &mut self.ledger, &mut out) else { continue };
            if scores.iter().any(|score| score.object.is_some()) {
                mapped = Some(remap(mapped.as_deref().unwrap_or(scores), &current, &objects));
            }
            current = objects;
        }
        out.objects = current;
        self.finish(&mut out);
        out
    }

    /// Something beside frames, at a stream time in nanoseconds (never before the last frame's).
    pub fn signal(&mut self, now: u64, signal: Signal) -> RowOutput {
        let mut out = self.begin(now);
        if let Signal::Resized(size) = signal {
            self.size = size;
            for seat in &self.seats {
                seat.slot.resized(size);
            }
        }
        self.signal_into(signal, &mut out);
        self.finish(&mut out);
        out
    }

    /// A command for one entry. The answer is JSON.
    ///
    /// # Errors
    /// Where there is no such entry or command, or the plugin refuses, fails or does not run.
    pub fn command(&mut self, entry: &str, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let (now, stream) = (self.now, Arc::clone(&self.stream));
        let Some(seat) = self.seats.iter_mut().find(|seat| *seat.slot.names.entry == *entry) else {
            return Err(CommandError::NoEntry { stream: stream.to_string(), entry: entry.into() });
        };
        let plugin = seat.slot.names.plugin.to_string();
        let Some(instance) = &mut seat.instance else {
            let reason = format!("{}: {}", seat.slot.state(), seat.slot.message());
            return Err(CommandError::NotRunning { plugin, reason });
        };
        let known = &instance.loaded.descriptor.commands;
        if !known.iter().any(|command| command == name) {
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(CommandError::Unknown { plugin, name: name.into(), known });
        }
        match instance.command(now, name, &arguments.to_string()) {
            Ok(Ok(answer)) => serde_json::from_str(&answer).map_err(|error| CommandError::Failed {
                plugin,
                reason: format!("its answer is no JSON: {error}"),
            }),
            Ok(Err(reason)) => Err(CommandError::Refused { plugin, reason }),
            Err(failure) => {
                let reason = failure.to_string();
                // Events that this causes go out with the next call.
                let mut out = RowOutput::default();
                seat.died(&failure, &mut self.ledger, &mut out);
                self.left.extend(out.events);
                Err(CommandError::Failed { plugin, reason })
            }
        }
    }

    /// How the entries fare, in the row's order.
    #[must_use]
    pub fn status(&self) -> Vec<EntryStatus> {
        self.seats.iter().map(|seat| seat.slot.status()).collect()
    }

    /// Ends the row: the end is signalled, states are saved, open incidents ended with `stream-stopped`.
    pub fn stop(&mut self) -> RowOutput {
        let mut out = self.begin(self.now);
        self.signal_into(Signal::End, &mut out);
        for seat in &mut self.seats {
            seat.keep(self.now, &mut self.ledger, &mut out);
            seat.slot.persist();
            seat.slot.stopped();
            seat.instance = None;
            seat.slot.figures.memory.set(0.0);
        }
        out.events.extend(self.ledger.close(None, "stream-stopped"));
        self.ledger.commit();
        self.ledger.settle();
        self.stopped = true;
        out
    }

    fn begin(&mut self, now: u64) -> RowOutput {
        self.now = self.now.max(now);
        self.ledger.settle();
        let mut out = RowOutput { events: std::mem::take(&mut self.left), ..RowOutput::default() };
        self.deliveries(&mut out);
        let changes = self.shared.limits.changes();
        for seat in &mut self.seats {
            if seat.instance.as_ref().is_some_and(|instance| instance.changes != changes) {
                seat.limit(&self.shared, self.now, &mut self.ledger, &mut out);
            }
        }
        out
    }

    fn finish(&mut self, out: &mut RowOutput) {
        for seat in &mut self.seats {
            if seat.turned || self.now.saturating_sub(seat.kept) >= KEEP_EVERY {
                seat.slot.now.store(self.now, Ordering::Relaxed);
                seat.keep(self.now, &mut self.ledger, out);
            }
        }
        self.ledger.commit();
    }

    fn deliveries(&mut self, out: &mut RowOutput) {
        for seat in &mut self.seats {
            if seat.slot.attention.load(Ordering::Relaxed)
                && seat.slot.attention.swap(false, Ordering::Acquire)
            {
                seat.slot.now.store(self.now, Ordering::Relaxed);
                seat.deliver(self.now, &mut self.ledger, out);
            }
        }
    }

    fn signal_into(&mut self, signal: Signal, out: &mut RowOutput) {
        for seat in &mut self.seats {
            let Some(instance) = &mut seat.instance else { continue };
            let result = instance.signal(self.now, self.frame, signal);
            seat.took(result, &self.shared, &mut self.ledger, out);
        }
    }
}

impl Drop for StreamPlugins {
    fn drop(&mut self) {
        if !self.stopped {
            for seat in &self.seats {
                seat.slot.stopped();
            }
        }
    }
}

impl Seat {
    /// Takes what a call gave; the objects, where they changed.
    fn took(
        &mut self,
        result: Result<Result<Given, String>, Failure>,
        shared: &Shared,
        ledger: &mut Ledger,
        out: &mut RowOutput,
    ) -> Option<Objects> {
        let given = match result {
            Ok(Ok(given)) => given,
            Ok(Err(reason)) => {
                self.slot.figures.errors.inc();
                self.say(&format!("a call failed: {reason}"));
                return None;
            }
            Err(failure) => {
                self.died(&failure, ledger, out);
                return None;
            }
        };
        let Given { output, mut dropped } = given;
        let entry = &self.slot.names.entry;
        out.views.extend(output.views.into_iter().map(|view| (Arc::clone(entry), view)));
        out.shapes.extend(output.shapes.into_iter().map(|shape| (Arc::clone(entry), shape)));
        for state in output.states {
            if self.states.get(&state.name) != Some(&state.value) {
                self.states.insert(state.name.clone(), state.value.clone());
                out.states.push((Arc::clone(entry), state));
            }
        }
        if let (false, Some(instance)) = (output.events.is_empty(), &self.instance) {
            let descriptor = &instance.loaded.descriptor;
            for event in output.events {
                let change = event.change;
                let event = PluginEvent {
                    entry: entry.to_string(),
                    plugin: descriptor.name.clone(),
                    version: descriptor.version.clone(),
                    event,
                };
                match ledger.step(&shared.ids, &event) {
                    Ok(()) => {
                        self.turned |= change != Change::Update;
                        out.events.push(event);
                    }
                    Err(reason) => dropped.push(reason),
                }
            }
            self.slot.figures.incidents.set(ledger.count(entry) as f64);
        }
        if let Some(first) = dropped.first() {
            self.slot.figures.dropped.add(dropped.len() as u64);
            self.say(&format!("{} results dropped, the first: {first}", dropped.len()));
        }
        output.objects
    }

    /// The instance died: it is dropped, and the host makes another.
    fn died(&mut self, failure: &Failure, ledger: &mut Ledger, out: &mut RowOutput) {
        self.instance = None;
        self.slot.figures.memory.set(0.0);
        if self.slot.failed(failure) {
            out.events.extend(ledger.close(Some(&self.slot.names.entry), "plugin-failed"));
            self.slot.figures.incidents.set(0.0);
        }
    }

    /// Holds the instance to limits that have changed. One that has more already ends, and the next one has its state.
    fn limit(&mut self, shared: &Shared, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
        let limited = self.instance.as_mut().map(|instance| instance.limit(shared));
        if let Some(Err(failure)) = limited {
            self.keep(now, ledger, out);
            if self.instance.is_some() {
                self.died(&failure, ledger, out);
            }
        }
    }

    /// Takes what the host has left.
    fn deliver(&mut self, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
        let end = match self.slot.take() {
            None => return,
            Some(Delivery::Gone(why)) => {
                if self.instance.is_none() {
                    // Nothing ran, but a crash may have left incidents open.
                    out.events.extend(ledger.close(Some(&self.slot.names.entry), why));
                    return;
                }
                self.keep(now, ledger, out);
                self.instance = None;
                self.slot.figures.memory.set(0.0);
                self.slot.gone(why);
                Some(why)
            }
            Some(Delivery::Ready(new, restored)) => self.swap(new, restored, now),
        };
        if let Some(reason) = end {
            out.events.extend(ledger.close(Some(&self.slot.names.entry), reason));
            self.slot.figures.incidents.set(0.0);
        }
    }

    /// Puts a new instance in place of the old one, with its state; gives the reason why open incidents end.
    fn swap(&mut self, mut new: Box<Instance>, restored: bool, now: u64) -> Option<&'static str> {
        let Some(mut old) = self.instance.take() else {
            // It was made beside a live instance that has died since.
            let saved = if restored { None } else { self.slot.saved() };
            let restored =
                restored || saved.is_some_and(|blob| matches!(new.restore(now, &blob), Ok(Ok(()))));
            self.slot.running(&new.loaded, String::new());
            self.slot.figures.memory.set(new.memory() as f64);
            self.instance = Some(new);
            return (!restored).then_some("plugin-failed");
        };
        let from = old.loaded.descriptor.version.clone();
        let to = new.loaded.descriptor.version.clone();
        let mut message = String::new();
        let carried = match old.snapshot() {
            Ok(Some(blob)) => match new.restore(now, &blob) {
                Ok(Ok(())) => true,
                Ok(Err(reason)) => {
                    message = format!(
                        "version {to} starts fresh, as it does not take the state of {from}: {reason}"
                    );
                    false
                }
                Err(failure) => {
                    // A bad plugin never replaces a good one.
                    let message =
                        format!("version {to} fails over the state of {from}, which runs on: {failure}");
                    self.slot.running(&old.loaded, message);
                    self.instance = Some(old);
                    return None;
                }
            },
            Ok(None) => false,
            Err(failure) => {
                message =
                    format!("version {to} starts fresh, as {from} failed over its own state: {failure}");
                false
            }
        };
        self.slot.running(&new.loaded, message);
        self.slot.figures.memory.set(new.memory() as f64);
        self.instance = Some(new);
        self.turned = true;
        (!carried).then_some("plugin-replaced")
    }

    /// Keeps the plugin's state for its next instance.
    fn keep(&mut self, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
        (self.kept, self.turned) = (now, false);
        let Some(instance) = &mut self.instance else { return };
        self.slot.figures.memory.set(instance.memory() as f64);
        match instance.snapshot() {
            Ok(Some(blob)) => self.slot.keep(blob),
            Ok(None) => {}
            Err(failure) => self.died(&failure, ledger, out),
        }
    }

    fn say(&mut self, message: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            let super::guest::Names { stream, entry, plugin } = &self.slot.names;
            tracing::warn!(%stream, %entry, %plugin, "plugin {plugin}: {message}");
        }
    }
}
