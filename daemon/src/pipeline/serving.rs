//! What runs a model, as it says itself: shared by who opens it, its thread, and the box's status.
//!
//! In: what the lane's loader finds, how a build of an engine goes on. Out: a [`ModelStatus`], the edge of the streams that
//! use the model, gauges. Owned by the model pool, which makes one for each model. Nothing fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::infer::Build;
use crate::publish::messages::{ModelEngine, ModelEngineState, ModelStatus, Timestamp};
use crate::telemetry::{Registry, fields};

/// Every state of an engine, and what its gauge is labelled with.
const STATES: [(ModelEngineState, &str); 5] = [
    (ModelEngineState::Missing, "missing"),
    (ModelEngineState::Stale, "stale"),
    (ModelEngineState::Building, "building"),
    (ModelEngineState::Ready, "ready"),
    (ModelEngineState::Failed, "failed"),
];

/// What runs a model, and how it stands with its engine. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Serving(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What runs it, and whether that costs a copy between host and GPU.
    by: Option<(String, bool)>,
    engine: Option<ModelEngine>,
}

impl Serving {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on this runs it ("CPU"); `copies`: its input or output is copied between host and GPU.
    pub(super) fn by(&self, what: impl ToString, copies: bool) {
        self.lock().by = Some((what.to_string(), copies));
    }

    /// What runs it, and whether that costs a copy; nothing yet: no name.
    #[must_use]
    pub fn edge(&self) -> (String, bool) {
        self.lock().by.clone().unwrap_or_default()
    }

    /// How it stands with its engine.
    pub(super) fn engine(&self, state: ModelEngineState, reason: Option<String>) {
        self.set(state, reason, None);
    }

    fn set(&self, state: ModelEngineState, reason: Option<String>, expected_seconds: Option<u64>) {
        let mut serving = self.lock();
        let before = serving.engine.take();
        let since = match &before {
            Some(before) if before.state == state => before.since,
            _ => Timestamp::now(),
        };
        // Why one is built is worth knowing until it is there.
        let goes_on = matches!(state, ModelEngineState::Building | ModelEngineState::Stale);
        let reason = reason.or_else(|| before.and_then(|before| before.reason).filter(|_| goes_on));
        serving.engine = Some(ModelEngine { state, since, expected_seconds, reason });
    }

    /// How a build goes on. That it is done is said by who opens the engine.
    pub(super) fn building(&self, build: &Build) {
        match build {
            Build::Waiting | Build::Done { .. } => {}
            Build::Building { expected, .. } => {
                let expected = expected.map(|time| time.as_secs().max(1));
                self.set(ModelEngineState::Building, None, expected);
            }
            Build::Failed(why) => self.engine(ModelEngineState::Failed, Some(why.clone())),
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn clear(&self) {
        *self.lock() = State::default();
    }

    /// Whether nothing runs it, for want of its engine.
    pub(super) fn lacks_engine(&self) -> bool {
        let state = self.lock();
        state.by.is_none() && state.engine.is_some()
    }

    /// For the box's status.
    pub(super) fn status(&self, name: &str, lane: &str, gpu: Option<u32>) -> ModelStatus {
        let state = self.lock();
        ModelStatus {
            name: name.to_owned(),
            lane: lane.to_owned(),
            gpu,
            provider: state.by.as_ref().map(|(by, _)| by.clone()),
            engine: state.engine.clone(),
        }
    }
}

/// Sets the gauges of models; docs/mqtt.md names them.
pub(super) fn show(registry: &Registry, models: &[ModelStatus], now: Timestamp) {
    for model in models {
        let Some(engine) = &model.engine else { continue };
        let gpu = model.gpu.unwrap_or_default().to_string();
        let labels = [(fields::MODEL, model.name.as_str()), ("gpu", gpu.as_str())];
        for (state, label) in STATES {
            let labels = [labels[0], labels[1], ("state", label)];
            registry.gauge("infer_engine", &labels).set(f64::from(u8::from(engine.state == state)));
        }
        if engine.state == ModelEngineState::Building {
            let expected = engine.expected_seconds.map_or(f64::NAN, |seconds| seconds as f64);
            registry.gauge("infer_engine_build_seconds", &labels).set(engine.seconds(now) as f64);
            registry.gauge("infer_engine_build_expected_seconds", &labels).set(expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::telemetry::Value;

    #[test]
    fn a_build_is_told_from_its_reason_to_its_end() {
        let serving = Serving::default();
        assert!(!serving.lacks_engine());
        serving.engine(ModelEngineState::Stale, Some("made for driver 1, here is 2".into()));
        serving.building(&Build::Waiting);
        assert!(serving.lacks_engine());
        serving.by("CUDA", false);
        assert!(!serving.lacks_engine());
        let state = |serving: &Serving| serving.status("people", "cuda", Some(1)).engine.unwrap();
        assert_eq!(state(&serving).state, ModelEngineState::Stale);

        let goes_on = Build::Building { since: Instant::now(), expected: Some(Duration::from_secs(90)) };
        serving.building(&goes_on);
        let first = state(&serving);
        assert_eq!((first.state, first.expected_seconds), (ModelEngineState::Building, Some(90)));
        assert_eq!(first.reason.as_deref(), Some("made for driver 1, here is 2"));
        // Nothing changes while it goes on, so nothing is published.
        serving.building(&goes_on);
        assert_eq!(state(&serving), first);

        let registry = Registry::new();
        let models = [serving.status("people", "cuda", Some(1))];
        show(&registry, &models, Timestamp(first.since.0 + 12_000_000));
        let labels = [("model", "people"), ("gpu", "1")];
        let value = |name, more: &[(&str, &str)]| registry.value(name, &[&labels, more].concat());
        assert_eq!(value("infer_engine", &[("state", "building")]), Some(Value::Gauge(1.0)));
        assert_eq!(value("infer_engine", &[("state", "ready")]), Some(Value::Gauge(0.0)));
        assert_eq!(value("infer_engine_build_seconds", &[]), Some(Value::Gauge(12.0)));
        assert_eq!(value("infer_engine_build_expected_seconds", &[]), Some(Value::Gauge(90.0)));

        serving.building(&Build::Done { took: Duration::from_secs(80) });
        assert_eq!(state(&serving).state, ModelEngineState::Building, "until it is opened");
        serving.by("TensorRT", false);
        serving.engine(ModelEngineState::Ready, None);
        let ready = state(&serving);
        assert_eq!(
            (ready.state, ready.reason, ready.expected_seconds),
            (ModelEngineState::Ready, None, None)
        );
        assert_eq!(serving.edge(), ("TensorRT".to_owned(), false));
        show(&registry, &[serving.status("people", "cuda", Some(1))], Timestamp::now());
        assert_eq!(value("infer_engine", &[("state", "building")]), Some(Value::Gauge(0.0)));
        assert_eq!(value("infer_engine_build_seconds", &[]), Some(Value::Gauge(12.0)), "how long it took");
        serving.building(&Build::Failed("no memory".into()));
        assert_eq!(state(&serving).reason.as_deref(), Some("no memory"));
    }
}
