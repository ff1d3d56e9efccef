//! Models run here: ONNX Runtime sessions, model folders, and the windows of clip models.
//!
//! In: tensors that preprocess made. Out: output tensors in 32-bit floats, for postprocess. A [`Session`] takes tensors
//! of the host, a [`BoundSession`] what a kernel has written into its slots; each belongs to one inference thread. The
//! [`Runtime`] lives as long as the process. A model that does not fit its manifest is refused when it is opened, before
//! the first frame.

mod cuda;
mod features;
mod graph;
mod head;
mod in_use;
mod input;
pub mod libraries;
mod metadata;
mod model_dir;
mod output;
mod preload;
mod provider;
mod runtime;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod version;
mod window;

use std::path::{Path, PathBuf};

pub use cuda::{
    BoundOptions, BoundSession, Build, DeviceTensor, ENGINE_SUBCOMMAND, Engine, EngineBuild, EngineBuilder,
    EngineInUse, EngineOrder, EngineState, Engines, Graphs, Placement, Slot, Stamp, build_child,
};
pub use features::{FeatureRing, Features};
pub use head::Head;
pub use in_use::{InUse, Place};
pub use input::InputSpec;
pub use model_dir::{ModelDir, Stage};
pub use preload::loads;
pub use provider::{Choice, Provider, Readiness, choose, readiness};
pub use runtime::{CURRENT, LIBRARY, RUNTIMES, Runtime, in_use, version_of};
pub use session::{Session, SessionOptions};
pub use window::{WindowBuilder, WindowFrames, gather};

use crate::config::manifest::ManifestError;

/// What goes wrong with models.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of labels has a blank line, or none.
    #[error("{}:{line}: expected a label, found a blank line", file.display())]
    Labels {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A label to keep that the model does not have.
    #[error("{}: `keep`: \"{label}\" is none of the model's {labels} labels", file.display())]
    Keep {
        /// The manifest.
        file: PathBuf,
        /// The label.
        label: String,
        /// How many labels there are.
        labels: usize,
    },
    /// No place has a library that loads.
    #[error(
        "cannot load ONNX Runtime (1.24 or later); looked at{}\ninstall libonnxruntime.so in one of these places, \
         fetch or adopt one with `watchpost runtime`, or name it by `infer.library` or ORT_DYLIB_PATH",
        tried.iter().map(|(place, why)| format!("\n  {}: {why}", place.display())).collect::<String>()
    )]
    NoRuntime {
        /// Where, and why not.
        tried: Vec<(PathBuf, String)>,
    },
    /// What a provider needs is there, but does not load.
    #[error(
        "{provider} cannot be used; these do not load:{}",
        failed.iter().map(|(file, why)| format!(" {}: {why};", file.display())).collect::<String>().trim_end_matches(';')
    )]
    Preload {
        /// The provider.
        provider: Provider,
        /// The libraries, and what the loader said.
        failed: Vec<(PathBuf, String)>,
    },
    /// Another library than the loaded one is wanted.
    #[error(
        "ONNX Runtime is loaded from {} already; {} can only be used by another process",
        loaded.display(),
        wanted.display()
    )]
    OtherRuntime {
        /// The loaded one.
        loaded: PathBuf,
        /// The wanted one.
        wanted: PathBuf,
    },
    /// The graph does not fit the manifest, or is none that can be run here.
    #[error("model {}: {problem}", file.display())]
    Graph {
        /// The graph's file.
        file: PathBuf,
        /// The tensor, what was expected, what is there.
        problem: String,
    },
    /// A tensor that is not what the session's input takes.
    #[error("input `{name}` takes {expected}; a tensor of {found} was given")]
    Tensor {
        /// Name of the input.
        name: String,
        /// Element type and shape.
        expected: String,
        /// Element type and shape.
        found: String,
    },
    /// A slot of a [`BoundSession`] is used out of its order.
    #[error("{0}")]
    Slot(String),
    /// No provider of a list loads.
    #[error(
        "none of `infer.providers` can be used:{}\nadd \"cpu\" to the list to go on without; `watchpost doctor` says \
         more",
        tried.iter().map(|(provider, why)| format!("\n  {provider}: {why}")).collect::<String>()
    )]
    NoProvider {
        /// Each with ONNX Runtime's words.
        tried: Vec<(Provider, String)>,
    },
    /// A calibration table that TensorRT cannot read.
    #[error(
        "{}: expected a table of TensorRT's own calibrator, which begins with TRT-; ONNX Runtime's tools write \
         calibration.flatbuffers",
        file.display()
    )]
    Calibration {
        /// The file.
        file: PathBuf,
    },
    /// Nobody knows the ranges of the model's values.
    #[error(
        "{}: precision \"int8\" needs the ranges of the model's values: put a calibration table there \
         (calibration.flatbuffers, as ONNX Runtime's quantization tools write it, or calibration.cache, as TensorRT's \
         own calibrator does), or use a quantized graph, which holds them; \"fp16\" needs none",
        folder.display()
    )]
    Uncalibrated {
        /// The model's folder.
        folder: PathBuf,
    },
    /// A file of the engines' cache cannot be written.
    #[error("cannot keep an engine in {}: {why}", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// No engine was built.
    #[error("no TensorRT engine of {model}: {why}")]
    Engine {
        /// The model.
        model: String,
        /// Why.
        why: String,
    },
    /// ONNX Runtime failed.
    #[error("ONNX Runtime: {0}")]
    Ort(String),
}

impl From<ort::Error> for InferError {
    fn from(error: ort::Error) -> Self {
        Self::Ort(error.to_string())
    }
}

impl InferError {
    fn read(file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_path_buf();
        |why| Self::Read { file, why }
    }
}
