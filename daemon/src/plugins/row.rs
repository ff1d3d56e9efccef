//! The row of plugins of one stream: what a worker calls for each frame.
//!
//! In: a frame's objects, model runs and scores; signals; commands. Out: objects as the last plugin left them,
//! events in order, views, states, shapes, under the names of their entries. Owned by the stream's worker,
//! which calls [`StreamPlugins::stop`] at the end. A plugin that fails is missing from the row until the host
//! has made a new instance; nothing that a plugin does fails the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::StreamContext;
use super::error::{CommandError, Error};
use super::host::Host;
use super::incidents::{Ledger, PluginEvent};
use super::seat::Seat;
use super::shared::Shared;
use super::slot::Slot;
use super::status::EntryStatus;
use super::tape::{Answered, Gave, Handed, Started, Step};
use crate::config::settings::PluginUse;
use crate::flow::{FrameMeta, Objects, Run, Score, Shape, Size, State, View};

/// Nanoseconds of stream time between two states that are kept of a plugin.
const KEEP_EVERY: u64 = 5_000_000_000;

/// What happens beside frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// What happened in the row, call by call; empty where it is not recorded.
    pub steps: Vec<Step>,
}

/// The row of plugins of one stream.
pub struct StreamPlugins {
    shared: Arc<Shared>,
    seats: Vec<Seat>,
    ledger: Ledger,
    left: Vec<PluginEvent>,
    /// Steps since the last call.
    left_steps: Vec<Step>,
    taped: bool,
    stream: Arc<str>,
    /// Index of the last frame, and stream time of the last call.
    frame: u64,
    now: u64,
    size: Size,
    stopped: bool,
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
        Self::seated(host, context, uses, false)
    }

    /// As [`StreamPlugins::new`]; what happens in the row comes with its output, as steps.
    ///
    /// # Errors
    /// As [`StreamPlugins::new`].
    pub fn recorded(
        host: &Host,
        context: &StreamContext,
        uses: &BTreeMap<String, PluginUse>,
    ) -> Result<Self, Error> {
        Self::seated(host, context, uses, true)
    }

    fn seated(
        host: &Host,
        context: &StreamContext,
        uses: &BTreeMap<String, PluginUse>,
        taped: bool,
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
                Seat::new(slot, taped)
            })
            .collect();
        let mut row = Self {
            shared: Arc::clone(shared),
            seats,
            ledger,
            left: Vec::new(),
            left_steps: Vec::new(),
            taped,
            stream: context.stream.as_str().into(),
            frame: 0,
            now: 0,
            size: context.size,
            stopped: false,
        };
        let mut out = RowOutput { events: left, ..RowOutput::default() };
        row.deliveries(&mut out);
        (row.left, row.left_steps) = (out.events, out.steps);
        Ok(row)
    }

    /// How each instance would be set up to go on from here, with the state that it keeps now: what a trace that begins
    /// here begins with.
    pub fn tape_anew(&mut self) -> Vec<Step> {
        let now = self.now;
        let mut out = RowOutput::default();
        let mut steps = Vec::new();
        for seat in &mut self.seats {
            let Some(instance) = &mut seat.instance else { continue };
            match instance.snapshot() {
                Ok(blob) => {
                    let handed = blob.map(|blob| Handed { now, blob: Arc::new(blob), taken: true });
                    let mut started = Started::of(&seat.slot.names.entry, instance, now, handed.as_ref());
                    started.said.clone_from(&seat.states);
                    steps.push(Step::Started(Box::new(started)));
                }
                Err(failure) => seat.died(&failure, &mut self.ledger, &mut out),
            }
        }
        self.left.extend(out.events);
        self.left_steps.extend(out.steps);
        steps
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
        let (mut gave, at) = (Vec::new(), out.steps.len());
        for seat in &mut self.seats {
            let Some(instance) = &mut seat.instance else { continue };
            let begun = Instant::now();
            let result = instance.process(frame, runs, &current, mapped.as_deref().unwrap_or(scores));
            seat.slot.figures.seconds.record_duration(begun.elapsed());
            if self.taped {
                gave.push(Gave::of(&seat.slot.names.entry, instance, &result));
            }
            let Some(objects) = seat.took(result, &self.shared, &mut self.ledger, &mut out) else { continue };
            if scores.iter().any(|score| score.object.is_some()) {
                mapped = Some(remap(mapped.as_deref().unwrap_or(scores), &current, &objects));
            }
            current = objects;
        }
        out.objects = current;
        if self.taped {
            // Before what the calls ended.
            out.steps.insert(at, Step::Frame(gave));
        }
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
        let result = instance.command(now, name, &arguments.to_string());
        if self.taped {
            let answer = match &result {
                Ok(Ok(answer)) => Ok(serde_json::from_str(answer).unwrap_or_else(|_| answer.as_str().into())),
                Ok(Err(reason)) => Err(reason.clone()),
                Err(failure) => Err(failure.to_string()),
            };
            self.left_steps.push(Step::Command(Box::new(Answered {
                entry: Arc::clone(&seat.slot.names.entry),
                now,
                name: name.to_owned(),
                arguments: arguments.clone(),
                ids: instance.ids().to_vec(),
                answer,
            })));
        }
        match result {
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
                self.left_steps.extend(out.steps);
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
            seat.vacate("the stream stopped", &mut out);
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
        let (events, steps) = (std::mem::take(&mut self.left), std::mem::take(&mut self.left_steps));
        let mut out = RowOutput { events, steps, ..RowOutput::default() };
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
        let (mut gave, at) = (Vec::new(), out.steps.len());
        for seat in &mut self.seats {
            let Some(instance) = &mut seat.instance else { continue };
            let result = instance.signal(self.now, self.frame, signal);
            if self.taped {
                gave.push(Gave::of(&seat.slot.names.entry, instance, &result));
            }
            seat.took(result, &self.shared, &mut self.ledger, out);
        }
        if self.taped && !gave.is_empty() {
            // Before what the calls ended.
            out.steps.insert(at, Step::Signal { now: self.now, signal, gave });
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

/// Scores about objects, after a plugin has changed the objects: each follows its object, recognised by model,
/// class and bounds; one whose object is gone is about none.
#[must_use]
pub fn remap(scores: &[Score], before: &Objects, after: &Objects) -> Vec<Score> {
    let find = |old: u32| {
        let old = old as usize;
        let bounds = before.bounds.get(old)?;
        let same = |new: &usize| {
            after.bounds[*new] == *bounds
                && after.models[*new] == before.models[old]
                && after.classes[*new] == before.classes[old]
        };
        (0..after.len()).find(same).and_then(|new| u32::try_from(new).ok())
    };
    scores.iter().map(|score| Score { object: score.object.and_then(find), ..score.clone() }).collect()
}
