//! One instance of a plugin: its store, its exports, and calls within limits.
//!
//! In: frames, objects, signals, commands. Out: checked results. Owned by one seat in a stream's row, or for a
//! moment by the host. An `Err(Failure)` means that the instance is dead and must be dropped; what a plugin
//! itself refuses (`Ok(Err(text))`) leaves it alive.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use super::bindings::contract::exports::watchpost::plugin as exports;
use super::bindings::contract::watchpost::plugin::types as wit;
use super::check;
use super::descriptor::Descriptor;
use super::engine;
use super::error::Error;
use super::failure::Failure;
use super::guest::{Guest, Names};
use super::loaded::Loaded;
use super::row::Signal;
use super::shared::Shared;
use crate::config::settings::Limits;
use crate::flow::{FrameMeta, Objects, Output, Run, Score};

/// A plugin's state, opaque to the host: the version of its layout, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub version: u32,
    pub bytes: Vec<u8>,
}

/// What a call gave: the checked output, and what of it was dropped and why.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub output: Output,
    pub dropped: Vec<String>,
}

/// One instance of a plugin.
pub(super) struct Instance {
    pub loaded: Arc<Loaded>,
    store: Store<Guest>,
    calls: Calls,
    limits: Arc<Limits>,
    /// How often the limits had changed when it got them.
    pub changes: u64,
    /// Labels of each model, for checking objects.
    models: Arc<[usize]>,
    bounds: Vec<f32>,
    runs: Vec<wit::Run>,
    scores: Vec<wit::Score>,
    /// What it was configured with: context and configuration.
    setup: (String, String),
}

struct Calls {
    plugin: exports::plugin::Guest,
    signals: Option<exports::signals::Guest>,
    state: Option<exports::state::Guest>,
    commands: Option<exports::commands::Guest>,
}

type Call<T> = Result<T, Failure>;

impl Instance {
    /// Makes an instance; nothing of the plugin but its start code has run.
    pub(super) fn new(
        shared: &Shared,
        loaded: &Arc<Loaded>,
        names: Names,
        models: Arc<[usize]>,
    ) -> Result<Self, Failure> {
        let (limits, changes) = shared.limits.get();
        let (store, calls) = instantiate(shared, loaded, names, &limits)?;
        let loaded = Arc::clone(loaded);
        let (bounds, runs, scores, setup) = Default::default();
        Ok(Self { loaded, store, calls, limits, changes, models, bounds, runs, scores, setup })
    }

    /// Holds it to the limits in force.
    ///
    /// # Errors
    /// Where it has more already than they allow.
    pub(super) fn limit(&mut self, shared: &Shared) -> Result<(), Failure> {
        (self.limits, self.changes) = shared.limits.get();
        engine::allow(&mut self.store, self.limits.result_mib);
        self.store.data_mut().limit(&self.limits)
    }

    /// What it was configured with: context and configuration.
    pub(super) fn setup(&self) -> (&str, &str) {
        (&self.setup.0, &self.setup.1)
    }

    /// Ids that `new-id` gave it in the last call.
    pub(super) fn ids(&self) -> &[u64] {
        &self.store.data().given
    }

    /// The ids that `new-id` gives in the next call, before new ones.
    pub(super) fn script(&mut self, ids: &[u64]) {
        self.store.data_mut().script = ids.iter().copied().collect();
    }

    /// Asks a plugin that was just loaded who it is, in an instance of its own.
    pub(super) fn describe(shared: &Shared, loaded: &Loaded) -> Result<Descriptor, Error> {
        let file = &loaded.file;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let names = Names { stream: "".into(), entry: "".into(), plugin: stem.into() };
        let failed = |failure: Failure| Error::Descriptor { file: file.clone(), reason: failure.to_string() };
        let limits = shared.limits.get().0;
        let (mut store, calls) = match instantiate(shared, loaded, names, &limits) {
            Ok(made) => made,
            Err(Failure::Trap { call: "load", reason }) => {
                return Err(Error::World { file: file.clone(), reason });
            }
            Err(failure) => return Err(failed(failure)),
        };
        let descriptor = guarded(&mut store, "describe", Budget::Setup, &limits, |store| {
            calls.plugin.call_describe(store)
        });
        Descriptor::check(descriptor.map_err(failed)?)
            .map_err(|reason| Error::Descriptor { file: file.clone(), reason })
    }

    /// Hands over context and configuration.
    pub(super) fn configure(&mut self, context: &str, config: &str) -> Call<Result<(), String>> {
        self.setup = (context.to_owned(), config.to_owned());
        let plugin = &self.calls.plugin;
        guarded(&mut self.store, "configure", Budget::Setup, &self.limits, |store| {
            plugin.call_configure(store, context, config)
        })
    }

    /// One frame.
    pub(super) fn process(
        &mut self,
        frame: &FrameMeta,
        runs: &[Run],
        objects: &Objects,
        scores: &[Score],
    ) -> Call<Result<Given, String>> {
        self.bounds.resize(objects.len() * 4, 0.0);
        for (column, rect) in self.bounds.as_chunks_mut::<4>().0.iter_mut().zip(&objects.bounds) {
            *column = [rect.x, rect.y, rect.width, rect.height];
        }
        self.runs.clear();
        self.runs.extend(runs.iter().map(|run| wit::Run {
            model: run.model,
            begin: run.begin,
            end: run.end,
        }));
        self.scores.clear();
        self.scores.extend(scores.iter().map(check::score_in));
        let columns = wit::ObjectsParam {
            models: &objects.models,
            classes: &objects.classes,
            scores: &objects.scores,
            bounds: &self.bounds,
            tracks: &objects.tracks,
        };
        let meta = wit::Frame {
            index: frame.index,
            pts: frame.pts,
            captured: frame.captured,
            width: frame.width,
            height: frame.height,
            cut: frame.cut,
            motion: frame.motion,
        };
        let (plugin, runs, scores) = (&self.calls.plugin, &self.runs, &self.scores);
        let guest = self.store.data_mut();
        (guest.now, guest.captured) = (frame.pts, frame.captured);
        let result = guarded(&mut self.store, "process", Budget::Call, &self.limits, |store| {
            plugin.call_process(store, meta, runs, columns, scores)
        })?;
        match result {
            Ok(output) => self.check("process", output, frame.index, objects).map(Ok),
            Err(text) => Ok(Err(check::sentence(&text))),
        }
    }

    /// One signal, at a stream time; `last` is the index of the last frame.
    pub(super) fn signal(&mut self, now: u64, last: u64, signal: Signal) -> Call<Result<Given, String>> {
        let Some(signals) = &self.calls.signals else { return Ok(Ok(Given::default())) };
        self.store.data_mut().now = now;
        let signal = match signal {
            Signal::Tick => wit::Signal::Tick,
            Signal::Gap(nanoseconds) => wit::Signal::Gap(nanoseconds),
            Signal::SourceLost => wit::Signal::SourceLost,
            Signal::SourceBack => wit::Signal::SourceBack,
            Signal::Resized(size) => {
                wit::Signal::Resized(wit::Size { width: size.width, height: size.height })
            }
            Signal::End => wit::Signal::End,
        };
        let result = guarded(&mut self.store, "signal", Budget::Call, &self.limits, |store| {
            signals.call_on_signal(store, signal)
        })?;
        match result {
            // There are no objects beside frames.
            Ok(mut output) => {
                output.objects = None;
                self.check("signal", output, last, &Objects::default()).map(Ok)
            }
            Err(text) => Ok(Err(check::sentence(&text))),
        }
    }

    /// The plugin's state; `None` where it keeps none.
    pub(super) fn snapshot(&mut self) -> Call<Option<Blob>> {
        let Some(state) = &self.calls.state else { return Ok(None) };
        let blob = guarded(&mut self.store, "snapshot", Budget::Setup, &self.limits, |store| {
            state.call_snapshot(store)
        })?;
        if blob.bytes.len() as u64 > self.limits.snapshot_mib << 20 {
            return Err(Failure::Snapshot { found: blob.bytes.len(), limit_mib: self.limits.snapshot_mib });
        }
        let blob = Blob { version: blob.version, bytes: blob.bytes };
        Ok((blob.version != 0 || !blob.bytes.is_empty()).then_some(blob))
    }

    /// Hands over the state of an earlier instance, at stream time `now`.
    pub(super) fn restore(&mut self, now: u64, blob: &Blob) -> Call<Result<(), String>> {
        let Some(state) = &self.calls.state else { return Ok(Err("it keeps no state".into())) };
        self.store.data_mut().now = now;
        let blob = exports::state::BlobParam { version: blob.version, bytes: &blob.bytes };
        let result = guarded(&mut self.store, "restore", Budget::Setup, &self.limits, |store| {
            state.call_restore(store, blob)
        })?;
        Ok(result.map_err(|text| check::sentence(&text)))
    }

    /// A command; arguments and answer are JSON.
    pub(super) fn command(&mut self, now: u64, name: &str, arguments: &str) -> Call<Result<String, String>> {
        let Some(commands) = &self.calls.commands else { return Ok(Err("it takes no commands".into())) };
        self.store.data_mut().now = now;
        let result = guarded(&mut self.store, "command", Budget::Setup, &self.limits, |store| {
            commands.call_command(store, name, arguments)
        })?;
        Ok(result.map_err(|text| check::sentence(&text)))
    }

    /// Bytes of linear memory.
    pub(super) fn memory(&self) -> usize {
        self.store.data().memory
    }

    fn check(&self, call: &'static str, output: wit::Output, frame: u64, given: &Objects) -> Call<Given> {
        let rules = check::Rules {
            call,
            limits: &self.limits,
            descriptor: &self.loaded.descriptor,
            models: &self.models,
            frame,
            given,
        };
        rules.output(output)
    }
}

/// Which limit holds a call.
#[derive(Clone, Copy)]
enum Budget {
    /// What holds up frames.
    Call,
    /// What happens aside.
    Setup,
}

fn instantiate(
    shared: &Shared,
    loaded: &Loaded,
    names: Names,
    limits: &Limits,
) -> Result<(Store<Guest>, Calls), Failure> {
    let guest = Guest::new(names, limits, Arc::clone(&shared.ids));
    let mut store = engine::store(&shared.engine.wasm, guest, limits.result_mib);
    let instance =
        guarded(&mut store, "start", Budget::Setup, limits, |store| loaded.pre.instantiate(store))?;
    let exports = &loaded.exports;
    // Here the types of the exports are checked against the contract.
    let calls = guarded(&mut store, "load", Budget::Setup, limits, |store| {
        Ok(Calls {
            plugin: exports.plugin.load(&mut *store, &instance)?,
            signals: exports.signals.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
            state: exports.state.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
            commands: exports.commands.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
        })
    })?;
    Ok((store, calls))
}

/// Runs a call of the plugin's code within its allowance.
fn guarded<R>(
    store: &mut Store<Guest>,
    call: &'static str,
    budget: Budget,
    limits: &Limits,
    run: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
) -> Call<R> {
    let (limit, setting) = match budget {
        Budget::Call => (limits.call_ms, "call_ms"),
        Budget::Setup => (limits.setup_ms, "setup_ms"),
    };
    store.data_mut().begin(call, Duration::from_millis(limit), setting);
    store.set_epoch_deadline(1);
    run(store).map_err(|error| {
        tracing::debug!(plugin = %store.data().names.plugin, error = ?error, "a plugin's call failed");
        Failure::of(&error, call, engine::STACK, limits.result_mib, &store.data().last_words())
    })
}
