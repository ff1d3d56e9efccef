//! What runs a model, and how it stands with the engine that TensorRT makes of it.
//!
//! In: what the pipeline knows. Out: a part of the box's status, published when it changes: so what grows all the time (how
//! long a build takes so far) is said by its beginning. Plain data; nothing fails.

use schemars::JsonSchema;
use serde::Serialize;

use super::common::Timestamp;

/// How it stands with the engine that TensorRT makes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelEngineState {
    /// There is none yet, and another one is built first.
    Missing,
    /// There is one for something else, and another one is built first; `reason` says what changed.
    Stale,
    /// It is being built, in a process of its own.
    Building,
    /// It is used.
    Ready,
    /// There is none; `reason` says why. It is tried again at the next start.
    Failed,
}

/// The engine that TensorRT makes of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelEngine {
    /// How it stands.
    pub state: ModelEngineState,
    /// Since when.
    pub since: Timestamp,
    /// Seconds that the last build of this model took, so about what this one may; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_seconds: Option<u64>,
    /// Why it is built, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A model, as one lane has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelStatus {
    /// Name in the configuration.
    pub name: String,
    /// The lane that it is loaded for: `cpu` or `cuda`.
    pub lane: String,
    /// Index of the GPU; absent on the CPU lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// What runs it: `TensorRT`, `CUDA`, `CPU`; absent while nothing can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Its engine; absent where TensorRT is not asked for or not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<ModelEngine>,
}

impl ModelStatus {
    /// Whether its engine is to come: being built, or waiting for its turn.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        use ModelEngineState as State;
        let state = self.engine.as_ref().map(|engine| engine.state);
        matches!(state, Some(State::Missing | State::Stale | State::Building))
    }

    /// Where it is, for a line: "people on GPU 0".
    #[must_use]
    pub fn place(&self) -> String {
        match self.gpu {
            Some(gpu) => format!("{} on GPU {gpu}", self.name),
            None => self.name.clone(),
        }
    }

    /// How a build goes, for a line: "engine of people on GPU 0: 42 s of about 90 s"; `None` where none goes on.
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Option<String> {
        let engine = self.engine.as_ref().filter(|engine| engine.state == ModelEngineState::Building)?;
        let so_far = engine.seconds(now);
        let whole = match engine.expected_seconds {
            Some(expected) => format!("{so_far} s of about {expected} s"),
            None => format!("{so_far} s so far"),
        };
        Some(format!("engine of {}: {whole}", self.place()))
    }
}

impl ModelEngine {
    /// Whole seconds in its state.
    #[must_use]
    pub fn seconds(&self, now: Timestamp) -> u64 {
        now.0.saturating_sub(self.since.0) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_while_there_is_any() {
        let engine = |state, expected_seconds| {
            Some(ModelEngine { state, since: Timestamp(5_000_000), expected_seconds, reason: None })
        };
        let mut model = ModelStatus {
            name: "people".into(),
            lane: "cuda".into(),
            gpu: Some(1),
            provider: Some("CUDA".into()),
            engine: engine(ModelEngineState::Building, Some(90)),
        };
        let now = Timestamp(47_900_000);
        assert_eq!(model.progress(now).unwrap(), "engine of people on GPU 1: 42 s of about 90 s");
        model.engine = engine(ModelEngineState::Building, None);
        assert_eq!(model.progress(now).unwrap(), "engine of people on GPU 1: 42 s so far");
        // The clock was set back.
        assert!(model.progress(Timestamp(0)).unwrap().ends_with("0 s so far"));
        assert!(model.is_coming());
        model.engine = engine(ModelEngineState::Stale, None);
        assert!(model.is_coming() && model.progress(now).is_none());
        for state in [ModelEngineState::Ready, ModelEngineState::Failed] {
            model.engine = engine(state, None);
            assert!(!model.is_coming() && model.progress(now).is_none());
        }
        model.engine = None;
        assert!(!model.is_coming());
    }
}
