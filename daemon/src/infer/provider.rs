//! ONNX Runtime's execution providers: what runs a model.
//!
//! In: a loaded runtime, the providers that the configuration names. Out: whether a provider's libraries are there, and
//! the first one that can be used. Owned by nobody: loaded libraries stay. A provider that is asked for and missing is an
//! error, with ONNX Runtime's own words, which name the library.

use std::fmt;

use ort::ep::{CPU, CUDA, TensorRT};

use super::{InferError, Runtime};
pub use crate::config::settings::Provider;

/// The provider that serves, and why those before it do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The first that loads.
    pub provider: Provider,
    /// Those before it, each with ONNX Runtime's words.
    pub skipped: Vec<(Provider, String)>,
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
