//! ONNX Runtime's execution providers: what runs a model.
//!
//! In: a loaded runtime, or the folder of one. Out: whether a provider's libraries are there; the libraries, loaded
//! before the provider asks for them. Nothing falls back: a provider that is asked for and missing is an error, with
//! the loader's own words, which name the library.

use std::fmt;
use std::path::{Path, PathBuf};

use ort::ep::{CPU, CUDA, TensorRT};

use super::libraries::{Needs, Shelf};
use super::{InferError, Runtime, preload};

/// The cuDNN that every ONNX Runtime from 1.24 on is built for.
const CUDNN: &str = "libcudnn.so.9";

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

impl Provider {
    /// The files in which ONNX Runtime keeps it, which lie beside its own. What TensorRT leaves over runs on CUDA.
    #[must_use]
    pub fn libraries(self) -> &'static [&'static str] {
        match self {
            Self::TensorRt => &[
                "libonnxruntime_providers_shared.so",
                "libonnxruntime_providers_cuda.so",
                "libonnxruntime_providers_tensorrt.so",
            ],
            Self::Cuda => &["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"],
            Self::Cpu => &[],
        }
    }
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

/// Whether a provider can be had, as far as files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// This ONNX Runtime was built without it, or its files were left out: those that are not there.
    Absent(Vec<String>),
    /// Libraries that it needs are neither beside it nor the system's.
    Missing(Vec<String>),
    /// Everything is there.
    Ready,
}

/// Whether the provider of an ONNX Runtime in `home` has all it needs: there, on the shelf, or in the system.
#[must_use]
pub fn readiness(provider: Provider, home: &Path, shelf: &Shelf) -> Readiness {
    let files: Vec<PathBuf> = provider.libraries().iter().map(|name| home.join(name)).collect();
    let absent = provider.libraries().iter().zip(&files).filter(|(_, file)| !file.is_file());
    let absent: Vec<String> = absent.map(|(name, _)| (*name).to_owned()).collect();
    if !absent.is_empty() {
        return Readiness::Absent(absent);
    }
    let mut needs = Needs::of(&files, shelf);
    // Opened later, but without it hardly a vision model runs on CUDA.
    if !files.is_empty() && !needs.found.iter().any(|(name, _)| name == CUDNN) {
        needs.elsewhere.insert(CUDNN.to_owned());
    }
    let missing: Vec<String> =
        needs.elsewhere.into_iter().filter(|name| preload::loads(name).is_err()).collect();
    if missing.is_empty() { Readiness::Ready } else { Readiness::Missing(missing) }
}

/// [`Runtime::prepare`] for an ONNX Runtime in `home`.
pub(super) fn prepare(provider: Provider, home: &Path) -> Result<Vec<PathBuf>, InferError> {
    let roots: Vec<PathBuf> = provider.libraries().iter().map(|name| home.join(name)).collect();
    if home.as_os_str().is_empty() || roots.is_empty() {
        return Ok(Vec::new());
    }
    let shelf = Shelf::new(&[home.to_path_buf()], 0);
    let beside = Needs::of(&roots, &shelf).found.into_iter().filter(|(name, file)| {
        // ONNX Runtime loads its own files itself, one for the other.
        file.parent() == Some(home) && !name.starts_with("libonnxruntime")
    });
    let (mut loaded, mut failed) = (Vec::new(), Vec::new());
    for (_, file) in beside {
        match preload::hold(file.as_os_str()) {
            Ok(()) => loaded.push(file),
            Err(why) => failed.push((file, why)),
        }
    }
    if failed.is_empty() { Ok(loaded) } else { Err(InferError::Preload { provider, failed }) }
}

impl Runtime {
    /// Loads what a provider needs and what lies beside ONNX Runtime, so that it is found there: to be called before
    /// the provider is registered. What lies elsewhere is left to the system's loader. Gives what was loaded, in that
    /// order. Calling it again costs little and changes nothing.
    ///
    /// # Errors
    /// Where libraries do not load, each with the loader's words. Those that do stay loaded.
    pub fn prepare(&self, provider: Provider) -> Result<Vec<PathBuf>, InferError> {
        prepare(provider, &self.home)
    }

    /// Registers a provider with a session that is never made, which loads its libraries.
    ///
    /// # Errors
    /// What ONNX Runtime says, after what does not load of that which the provider needs.
    pub fn try_provider(&self, provider: Provider) -> Result<(), String> {
        let prepared = self.prepare(provider);
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
            .map_err(|error| match prepared {
                Ok(_) => first_line(&error),
                Err(before) => format!("{before}; {}", first_line(&error)),
            })
    }
}

fn first_line(error: &impl fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}
