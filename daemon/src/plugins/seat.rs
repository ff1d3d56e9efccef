//! An entry's place in a stream's row: its instance, and what happens when it gives something, dies or is replaced.
//!
//! In: results of calls, what the host left in the slot. Out: events, states, views and shapes into the row's output; steps
//! for a trace, where the row is recorded. Owned by the row. An instance that fails leaves the seat empty until the host has
//! made another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure::Failure;
use super::incidents::{Ledger, PluginEvent};
use super::instance::{Given, Instance};
use super::row::RowOutput;
use super::shared::Shared;
use super::slot::{Delivery, Slot};
use super::tape::{Handed, Started, Step};
use crate::flow::{Change, Objects};

/// Least time between two log lines about what an entry gave wrongly.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// An entry's place in the row.
pub(super) struct Seat {
    pub slot: Arc<Slot>,
    pub instance: Option<Box<Instance>>,
    pub states: BTreeMap<String, Value>,
    /// Stream time when the plugin's state was last kept.
    pub kept: u64,
    /// An incident began or ended in this call: state and open incidents must agree after a crash.
    pub turned: bool,
    pub said: Option<Instant>,
    /// Steps go into the row's output.
    pub taped: bool,
}

impl Seat {
    pub(super) fn new(slot: Arc<Slot>, taped: bool) -> Self {
        Self { slot, instance: None, states: BTreeMap::new(), kept: 0, turned: false, said: None, taped }
    }

    /// Takes what a call gave; the objects, where they changed.
    pub(super) fn took(
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
    pub(super) fn died(&mut self, failure: &Failure, ledger: &mut Ledger, out: &mut RowOutput) {
        self.vacate(&failure.to_string(), out);
        if self.slot.failed(failure) {
            out.events.extend(ledger.close(Some(&self.slot.names.entry), "plugin-failed"));
            self.slot.figures.incidents.set(0.0);
        }
    }

    /// Holds the instance to limits that have changed. One that has more already ends, and the next one has its state.
    pub(super) fn limit(&mut self, shared: &Shared, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
        let limited = self.instance.as_mut().map(|instance| instance.limit(shared));
        if let Some(Err(failure)) = limited {
            self.keep(now, ledger, out);
            if self.instance.is_some() {
                self.died(&failure, ledger, out);
            }
        }
    }

    /// Takes what the host has left.
    pub(super) fn deliver(&mut self, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
        let end = match self.slot.take() {
            None => return,
            Some(Delivery::Gone(why)) => {
                if self.instance.is_none() {
                    // Nothing ran, but a crash may have left incidents open.
                    out.events.extend(ledger.close(Some(&self.slot.names.entry), why));
                    return;
                }
                self.keep(now, ledger, out);
                self.vacate(why, out);
                self.slot.gone(why);
                Some(why)
            }
            Some(Delivery::Ready(new, handed)) => self.swap(new, handed, now, out),
        };
        if let Some(reason) = end {
            out.events.extend(ledger.close(Some(&self.slot.names.entry), reason));
            self.slot.figures.incidents.set(0.0);
        }
    }

    /// The seat is empty from here on.
    pub(super) fn vacate(&mut self, reason: &str, out: &mut RowOutput) {
        self.slot.figures.memory.set(0.0);
        if self.instance.take().is_some() && self.taped {
            let entry = Arc::clone(&self.slot.names.entry);
            out.steps.push(Step::Gone { entry, reason: reason.to_owned() });
        }
    }

    /// An instance takes the seat.
    fn seat(
        &mut self,
        new: Box<Instance>,
        message: String,
        now: u64,
        handed: Option<&Handed>,
        out: &mut RowOutput,
    ) {
        self.slot.running(&new.loaded, message);
        self.slot.figures.memory.set(new.memory() as f64);
        if self.taped {
            let started = Started::of(&self.slot.names.entry, &new, now, handed);
            out.steps.push(Step::Started(Box::new(started)));
        }
        self.instance = Some(new);
    }

    /// Puts a new instance in place of the old one, with its state; gives the reason why open incidents end.
    fn swap(
        &mut self,
        mut new: Box<Instance>,
        mut handed: Option<Handed>,
        now: u64,
        out: &mut RowOutput,
    ) -> Option<&'static str> {
        let Some(mut old) = self.instance.take() else {
            // It was made beside a live instance that has died since.
            if handed.is_none()
                && let Some(blob) = self.slot.saved()
            {
                let taken = matches!(new.restore(now, &blob), Ok(Ok(())));
                handed = Some(Handed { now, blob, taken });
            }
            self.seat(new, String::new(), now, handed.as_ref(), out);
            return (!handed.is_some_and(|handed| handed.taken)).then_some("plugin-failed");
        };
        let from = old.loaded.descriptor.version.clone();
        let to = new.loaded.descriptor.version.clone();
        let mut message = String::new();
        let carried = match old.snapshot() {
            Ok(Some(blob)) => match new.restore(now, &blob) {
                Ok(taken) => {
                    if let Err(reason) = &taken {
                        message = format!(
                            "version {to} starts fresh, as it does not take the state of {from}: {reason}"
                        );
                    }
                    handed = Some(Handed { now, blob: Arc::new(blob), taken: taken.is_ok() });
                    taken.is_ok()
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
        self.seat(new, message, now, handed.as_ref(), out);
        self.turned = true;
        (!carried).then_some("plugin-replaced")
    }

    /// Keeps the plugin's state for its next instance.
    pub(super) fn keep(&mut self, now: u64, ledger: &mut Ledger, out: &mut RowOutput) {
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
