//! ONNX Runtime's execution providers: what runs a model.
//!
//! In: a loaded runtime. Out: whether a provider's libraries are there. Nothing falls back: a provider that is asked
//! for and missing is an error, with ONNX Runtime's own words, which name the library.

use std::fmt;

use ort::ep::{CPU, CUDA, TensorRT};

use super::Runtime;

/// An execution provider, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// The CPU.
    Cpu,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TensorRt => "TensorRT",
            Self::Cuda => "CUDA",
            Self::Cpu => "CPU",
        })
    }
}

impl Runtime {
    /// Registers a provider with a session that is never made, which loads its libraries.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn try_provider(&self, provider: Provider) -> Result<(), String> {
        let provider = match provider {
            Provider::TensorRt => TensorRT::default().build(),
            Provider::Cuda => CUDA::default().build(),
            Provider::Cpu => CPU::default().build(),
        };
        let builder =
            ort::session::Session::builder(self.environment()).map_err(|error| first_line(&error))?;
        builder
            .with_no_environment_execution_providers()
            .and_then(|builder| builder.with_execution_providers([provider.error_on_failure()]))
            .map(drop)
            .map_err(|error| first_line(&error))
    }
}

fn first_line(error: &impl fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}
