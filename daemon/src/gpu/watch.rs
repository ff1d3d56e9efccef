//! The GPUs' figures, asked for every two seconds while the daemon runs.
//!
//! In: NVML. Out: gauges in the registry, labelled with the GPU's index, and [`Seen`] for the status. Owned by `app`,
//! which stops and joins its thread. No GPU, no library and one that is too old are no errors: said once in the log, and
//! kept in [`Seen`]. A figure that is no longer known is no number, never the last one that was.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::nvml::HOLDS;
use super::{Gpu, Load, Nvml};
use crate::telemetry::Registry;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// How long a look that hangs in the driver is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen at the last look.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Seen {
    /// The driver's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Each GPU; `index` is the one that the gauges are labelled with.
    pub gpus: Vec<Load>,
}

/// Looks at the GPUs.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    stop: bool,
    finished: bool,
}

impl Watch {
    /// Starts looking. `gpus`: as CUDA counts them, where CUDA is in use, so that the same GPU has the same index
    /// everywhere; else NVML's order counts.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(registry: Registry, gpus: Vec<Gpu>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Worker { registry, gpus, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("gpu-watch".into()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Does not look, for the given reason.
    #[must_use]
    pub fn off(why: &str) -> Self {
        let seen = Seen { missing: Some(why.to_owned()), ..Seen::default() };
        let state = State { seen, stop: true, finished: true };
        let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// What was seen last.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// Stops looking, and joins the thread. A call that hangs inside the driver, as with a GPU that fell off the bus,
    /// is not waited for for ever: the process is about to end.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.changed.notify_all();
        let until = Instant::now() + PATIENCE;
        while !state.finished && !thread.is_finished() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("the GPU driver does not answer: not waiting for its figures");
                return;
            }
            // A thread that panicked never says that it has finished.
            let wait = left.min(Duration::from_millis(100));
            state = self.shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if thread.join().is_err() {
            tracing::error!("the thread that looks at the GPUs panicked");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    registry: Registry,
    gpus: Vec<Gpu>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&self) {
        match Nvml::start() {
            Ok(nvml) => self.look(&nvml),
            Err(error) => {
                tracing::info!("no figures of GPUs: {error}");
                self.shared.lock().seen.missing = Some(error.to_string());
            }
        }
        self.shared.lock().finished = true;
        self.shared.changed.notify_all();
    }

    fn look(&self, nvml: &Nvml) {
        let driver = nvml.driver();
        let mut known = Known::default();
        let mut trouble = None;
        let mut first = true;
        loop {
            let loads = known.settle(nvml.loads(), &self.gpus);
            show(&self.registry, &loads);
            if std::mem::take(&mut first) {
                say(driver.as_deref(), &loads);
            }
            let now =
                loads.iter().find_map(|load| Some(format!("GPU {}: {}", load.index, load.lost.as_ref()?)));
            if now != trouble {
                match &now {
                    Some(error) => tracing::warn!(error, "a GPU's figures are lost"),
                    None => tracing::info!("the GPUs' figures are back"),
                }
                trouble = now;
            }
            let mut state = self.shared.lock();
            state.seen = Seen { driver: driver.clone(), missing: None, gpus: loads };
            let waited = self.shared.changed.wait_timeout_while(state, EVERY, |state| !state.stop);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                return;
            }
        }
    }
}

/// What is known of the GPUs from looks before: one that is lost does not tell its id any more.
#[derive(Default)]
struct Known {
    ids: BTreeMap<u32, (Option<String>, Option<String>)>,
    last: Vec<Load>,
}

impl Known {
    /// Every GPU that was ever seen, by the index that it goes by.
    fn settle(&mut self, answer: Result<Vec<Load>, String>, gpus: &[Gpu]) -> Vec<Load> {
        let gone =
            answer.as_ref().err().cloned().unwrap_or_else(|| "the driver lists it no longer".to_owned());
        let mut loads = answer.unwrap_or_default();
        for load in &mut loads {
            let (uuid, name) = self.ids.entry(load.index).or_default();
            *uuid = load.uuid.take().or(uuid.take());
            *name = load.name.take().or(name.take());
            (load.uuid, load.name) = (uuid.clone(), name.clone());
        }
        number(&mut loads, gpus);
        for Load { index, uuid, name, .. } in self.last.drain(..) {
            if !loads.iter().any(|load| load.index == index) {
                loads.push(Load { index, uuid, name, lost: Some(gone.clone()), ..Load::default() });
            }
        }
        self.last.clone_from(&loads);
        loads
    }
}

/// One line at the start: what is watched, and what this driver does not tell.
fn say(driver: Option<&str>, loads: &[Load]) {
    let names: Vec<&str> = loads.iter().filter_map(|load| load.name.as_deref()).collect();
    let too_old_for = loads.first().map(|load| load.too_old_for.join(", ")).unwrap_or_default();
    let driver = driver.unwrap_or("unknown");
    if too_old_for.is_empty() {
        tracing::info!(driver, gpus = ?names, "watching the GPUs");
    } else {
        tracing::info!(driver, gpus = ?names, too_old_for, "watching the GPUs; the driver is too old for some figures");
    }
}

/// Gives each GPU the index that CUDA has for it, by its id. Where CUDA knows none of them, NVML's stay.
fn number(loads: &mut Vec<Load>, gpus: &[Gpu]) {
    let known = |load: &Load| gpus.iter().find(|gpu| Some(&gpu.uuid) == load.uuid.as_ref());
    if !loads.iter().any(|load| known(load).is_some()) {
        return;
    }
    // One that CUDA does not show (CUDA_VISIBLE_DEVICES) is none of ours, and has no index.
    loads.retain_mut(|load| known(load).map(|gpu| load.index = gpu.index).is_some());
    loads.sort_by_key(|load| load.index);
}

/// Sets the gauges; docs/mqtt.md names them.
fn show(registry: &Registry, loads: &[Load]) {
    for load in loads {
        let gpu = load.index.to_string();
        let set = |name: &str, label: Option<(&str, &str)>, value: Option<f64>| {
            let mut labels = vec![("gpu", gpu.as_str())];
            labels.extend(label);
            // What was never known has no gauge.
            if value.is_some() || registry.value(name, &labels).is_some() {
                registry.gauge(name, &labels).set(value.unwrap_or(f64::NAN));
            }
        };
        let percent = |value: Option<u32>| value.map(|value| f64::from(value) / 100.0);
        let bytes = |value: Option<u64>| value.map(|value| value as f64);
        set("gpu_present", None, Some(f64::from(u8::from(load.lost.is_none()))));
        set("gpu_sm_ratio", None, percent(load.sm));
        set("gpu_decoder_ratio", None, percent(load.decoder));
        set("gpu_encoder_ratio", None, percent(load.encoder));
        set("gpu_encoder_sessions", None, load.encoder_sessions.map(f64::from));
        set("gpu_memory_used_bytes", None, bytes(load.memory_used));
        set("gpu_memory_total_bytes", None, bytes(load.memory_total));
        set("gpu_temperature_celsius", None, load.temperature.map(f64::from));
        set("gpu_power_watts", None, load.power.map(f64::from));
        for (name, _) in HOLDS {
            let held = load.held_by.as_ref().map(|by| f64::from(u8::from(by.contains(&name))));
            set("gpu_held_back", Some(("by", name)), held);
        }
        for (whose, own) in [("watchpost", true), ("others", false)] {
            set("gpu_process_memory_bytes", Some(("process", whose)), bytes(memory_of(load, own)));
        }
    }
}

/// Video memory of this daemon's processes, or of all others; unknown where the driver does not say it of one of them.
fn memory_of(load: &Load, own: bool) -> Option<u64> {
    let processes = load.processes.as_ref()?;
    processes.iter().filter(|process| process.own == own).map(|process| process.memory).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::nvml::Process;
    use crate::telemetry::Value;

    fn load(index: u32, uuid: &str) -> Load {
        Load { index, uuid: Some(uuid.into()), ..Load::default() }
    }

    fn gpu(index: u32, uuid: &str) -> Gpu {
        Gpu { index, name: "x".into(), uuid: uuid.into(), compute: (7, 5), memory: 1 }
    }

    #[test]
    fn the_same_gpu_has_the_same_index_everywhere() {
        let all = || vec![load(0, "GPU-a"), load(1, "GPU-b"), load(2, "GPU-c")];
        let mut loads = all();
        number(&mut loads, &[gpu(0, "GPU-c"), gpu(1, "GPU-a")]);
        assert_eq!(
            loads,
            [load(0, "GPU-c"), load(1, "GPU-a")],
            "CUDA's order, without the one it does not show"
        );
        for none in [vec![], vec![gpu(0, "GPU-z")]] {
            let mut loads = all();
            number(&mut loads, &none);
            assert_eq!(loads, all());
        }
    }

    #[test]
    fn a_gpu_that_is_lost_keeps_its_index_and_name() {
        let mut known = Known::default();
        let gpus = [gpu(0, "GPU-b"), gpu(1, "GPU-a")];
        let named = |index, uuid: &str| Load { name: Some("T4".into()), ..load(index, uuid) };
        let lost = |why: &str| Load { lost: Some(why.into()), ..Load::default() };
        let seen = known.settle(Ok(vec![named(0, "GPU-a"), named(1, "GPU-b")]), &gpus);
        assert_eq!(seen, [named(0, "GPU-b"), named(1, "GPU-a")]);
        // Only NVML's index is left of it.
        let seen = known.settle(Ok(vec![lost("off the bus"), named(1, "GPU-b")]), &gpus);
        assert_eq!(seen[1], Load { lost: Some("off the bus".into()), ..named(1, "GPU-a") });
        let seen = known.settle(Err("no answer".into()), &gpus);
        assert_eq!(seen.iter().filter(|load| load.lost.as_deref() == Some("no answer")).count(), 2);
        let seen = known.settle(Ok(vec![named(0, "GPU-a"), named(1, "GPU-b")]), &gpus);
        assert!(seen.len() == 2 && seen.iter().all(|load| load.lost.is_none()));
    }

    #[test]
    fn gauges_say_what_is_known_and_stop_saying_it() {
        let registry = Registry::new();
        let value = |name, more: &[(&str, &str)]| {
            let labels = [&[("gpu", "1")][..], more].concat();
            match registry.value(name, &labels) {
                Some(Value::Gauge(value)) => Some(value),
                _ => None,
            }
        };
        let process = |id, memory, own| Process { id, memory: Some(memory), own };
        let mut gpu = load(1, "GPU-a");
        gpu.sm = Some(42);
        gpu.held_by = Some(vec!["thermal"]);
        gpu.processes = Some(vec![process(1, 100, true), process(2, 30, true), process(3, 7, false)]);
        show(&registry, &[gpu.clone()]);
        assert_eq!(value("gpu_sm_ratio", &[]), Some(0.42));
        assert_eq!(value("gpu_present", &[]), Some(1.0));
        assert_eq!(value("gpu_power_watts", &[]), None, "never known");
        assert_eq!(value("gpu_held_back", &[("by", "thermal")]), Some(1.0));
        assert_eq!(value("gpu_held_back", &[("by", "power_cap")]), Some(0.0));
        assert_eq!(value("gpu_process_memory_bytes", &[("process", "watchpost")]), Some(130.0));
        assert_eq!(value("gpu_process_memory_bytes", &[("process", "others")]), Some(7.0));

        gpu.processes = Some(vec![Process { id: 1, memory: None, own: true }]);
        gpu.sm = None;
        gpu.lost = Some("gone".into());
        show(&registry, &[gpu]);
        assert!(value("gpu_sm_ratio", &[]).unwrap().is_nan(), "not the last one that was");
        assert_eq!(value("gpu_present", &[]), Some(0.0));
        assert!(value("gpu_process_memory_bytes", &[("process", "watchpost")]).unwrap().is_nan());
    }

    #[test]
    fn one_that_does_not_look_says_why_and_stops_at_once() {
        let watch = Watch::off("not asked to");
        assert_eq!(watch.seen().missing.as_deref(), Some("not asked to"));
        watch.stop();
    }
}
