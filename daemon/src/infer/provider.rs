//! ONNX Runtime's execution providers: what runs a model.
//!
//! In: a loaded runtime, or the folder of one; the providers that the configuration names. Out: whether a provider's
//! libraries are there; the libraries, loaded before the provider asks for them; the first provider that can be used.
//! Owned by nobody: loaded libraries stay. A provider that is asked for and missing is an error, with the words of the
//! loader or of ONNX Runtime, which name the library.

use std::fmt;
use std::path::{Path, PathBuf};

use ort::ep::{CPU, CUDA, TensorRT};

use super::libraries::{Needs, Shelf};
use super::{InferError, Runtime, preload};
pub use crate::config::settings::Provider;

/// The cuDNN that every ONNX Runtime from 1.24 on is built for.
const CUDNN: &str = "libcudnn.so.9";

/// The provider that serves, and why those before it do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The first that loads.
    pub provider: Provider,
    /// Those before it, each with ONNX Runtime's words.
    pub skipped: Vec<(Provider, String)>,
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

/// The first provider of a list that loads.
///
/// # Errors
/// Where none does, with what ONNX Runtime said of each. A list that ends with the CPU never fails.
pub fn choose(runtime: &Runtime, wanted: &[Provider]) -> Result<Choice, InferError> {
    choose_with(wanted, |provider| runtime.try_provider(provider))
}

fn choose_with(
    wanted: &[Provider],
    mut load: impl FnMut(Provider) -> Result<(), String>,
) -> Result<Choice, InferError> {
    let mut skipped = Vec::new();
    for provider in wanted {
        match load(*provider) {
            Ok(()) => return Ok(Choice { provider: *provider, skipped }),
            Err(why) => skipped.push((*provider, why)),
        }
    }
    Err(InferError::NoProvider { tried: skipped })
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
        // One that the system's loader found by its name finds the rest there as well.
        prepare(provider, self.named().parent().unwrap_or(Path::new("")))
    }

    /// Registers a provider with a session that is never made, which loads its libraries.
    ///
    /// # Errors
    /// What ONNX Runtime says, or before that what [`Self::prepare`] does.
    pub fn try_provider(&self, provider: Provider) -> Result<(), String> {
        self.prepare(provider).map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use super::Provider::{Cpu, Cuda, TensorRt};
    use super::*;

    #[test]
    fn the_first_that_loads_is_taken_and_the_others_are_told() {
        let only = |there: Provider| {
            move |asked: Provider| if asked == there { Ok(()) } else { Err(format!("no lib{asked}.so")) }
        };
        let choice = choose_with(&[TensorRt, Cuda, Cpu], only(Cuda)).unwrap();
        assert_eq!(choice.provider, Cuda);
        assert_eq!(choice.skipped, [(TensorRt, "no libTensorRT.so".to_owned())]);
        let choice = choose_with(&[TensorRt, Cuda, Cpu], only(Cpu)).unwrap();
        assert_eq!((choice.provider, choice.skipped.len()), (Cpu, 2));
        let error = choose_with(&[TensorRt, Cuda], only(Cpu)).unwrap_err().to_string();
        assert!(error.contains("TensorRT: no libTensorRT.so"), "{error}");
        assert!(error.contains("CUDA: no libCUDA.so"), "{error}");
        assert!(error.contains("infer.providers"), "{error}");
    }

    /// ONNX Runtime for the CPU alone, as the tests have it: the default list is no error, an order for the GPU is.
    #[test]
    fn a_runtime_without_gpu_providers_says_so() {
        let runtime = Runtime::load(None).unwrap();
        if runtime.try_provider(Cuda).is_ok() {
            return;
        }
        let wanted = crate::config::settings::Infer::default().providers;
        let choice = choose(&runtime, &wanted).unwrap();
        assert_eq!(choice.provider, Cpu);
        assert_eq!(
            choice.skipped.iter().map(|(provider, _)| *provider).collect::<Vec<_>>(),
            [TensorRt, Cuda]
        );
        assert!(choice.skipped.iter().all(|(_, why)| !why.is_empty()), "{choice:?}");
        let error = choose(&runtime, &[TensorRt, Cuda]).unwrap_err().to_string();
        let [(_, tensorrt), (_, cuda)] = choice.skipped.as_slice() else { panic!("{choice:?}") };
        assert!(error.contains(tensorrt) && error.contains(cuda), "{error}");
    }
}
