//! How a bound session is opened: the execution providers and what each is told.
//!
//! In: [`BoundOptions`], a model's folder. Out: a session of ONNX Runtime on exactly the provider that was asked for.
//! Nobody owns anything here. A provider that does not register or refuses the graph is an error in ONNX Runtime's words;
//! only CUDA graphs are given up where the graph does not allow them, and why is kept.

use std::path::{Path, PathBuf};

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider, ArenaExtendStrategy, CPU, CUDA, ExecutionProviderDispatch,
    TensorRT,
};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Outlet;

use super::precision::Numbers;
use super::raw;
use crate::infer::graph::{self, Graph, refused};
use crate::infer::{InferError, InputSpec, ModelDir, Provider, Runtime};

/// Where a session leaves its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Where the input lies: for outputs that a kernel decodes.
    Device,
    /// On the host: each run copies them there, and is over when they are there.
    Host,
}

/// How a model is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundOptions {
    /// What runs it.
    pub provider: Provider,
    /// Which GPU; without meaning for the CPU.
    pub device_index: u32,
    /// Handle of the CUDA stream (of the GPU's primary context) on which the model runs, so that it is ordered with what
    /// else is queued there. It must outlive the session, and have done its work when the session goes. `None`: a stream
    /// of ONNX Runtime's own, and each run is over when it returns. Without meaning for the CPU.
    pub compute_stream: Option<u64>,
    /// Frames in one run at most, where the graph takes more than one.
    pub batch: usize,
    /// Slots that may be out at the same time.
    pub slots: usize,
    /// Threads within one run; 0: half the processors, or one where a GPU runs it.
    pub threads: usize,
    /// Where the outputs go at first; see `BoundSession::place`.
    pub outputs: Placement,
    /// The folder with TensorRT's engine (`Engines::folder`); TensorRT needs one.
    pub engine: Option<PathBuf>,
    /// Replay runs as CUDA graphs where the graph's shapes are fixed.
    pub cuda_graphs: bool,
}

impl Default for BoundOptions {
    /// On the CPU, one frame a run, two slots.
    fn default() -> Self {
        Self {
            provider: Provider::Cpu,
            device_index: 0,
            compute_stream: None,
            batch: 1,
            slots: 2,
            threads: 0,
            outputs: Placement::Device,
            engine: None,
            cuda_graphs: false,
        }
    }
}

impl BoundOptions {
    pub(super) fn on_gpu(&self) -> bool {
        self.provider != Provider::Cpu
    }

    pub(super) fn device(&self) -> i32 {
        i32::try_from(self.device_index).unwrap_or(i32::MAX)
    }

    pub(super) fn threads(&self) -> usize {
        if self.on_gpu() { self.threads.max(1) } else { graph::threads(self.threads) }
    }
}

/// Whether runs are replayed as CUDA graphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Graphs {
    /// Nobody asked for it.
    Off,
    /// They are.
    On,
    /// They cannot be, and why.
    Refused(String),
}

/// Opens a model's graph on the provider, whose libraries are loaded first.
pub(super) fn commit(
    runtime: &Runtime,
    model: &ModelDir,
    options: &BoundOptions,
) -> Result<(Session, Graphs), InferError> {
    runtime.prepare(options.provider)?;
    let engine = match (options.provider, &options.engine) {
        (Provider::TensorRt, None) => {
            return Err(refused(model, "TensorRT needs a folder for its engine".into()));
        }
        (Provider::TensorRt, Some(folder)) => {
            // TensorRT must know the input's shapes before the graph is opened with it.
            let input = read(runtime, model)?.input;
            let numbers = Numbers::of(model)?.options();
            tensorrt(&input, options.batch, numbers, folder).map_err(|problem| refused(model, problem))?
        }
        _ => Vec::new(),
    };
    let open = |graphs: bool| -> Result<Session, ort::Error> {
        graph::builder(runtime, options.threads())?
            .with_execution_providers(providers(options, &engine, graphs))?
            .commit_from_file(&model.onnx)
    };
    let loaded = |session: Result<Session, ort::Error>| {
        session.map_err(|error| refused(model, format!("cannot load on {}: {error}", options.provider)))
    };
    if !options.cuda_graphs || !options.on_gpu() {
        return Ok((loaded(open(false))?, Graphs::Off));
    }
    // ONNX Runtime refuses a graph with an operator that the GPU does not run.
    let why = match open(true) {
        Ok(session) => match loose(&session) {
            None => return Ok((session, Graphs::On)),
            Some(why) => why,
        },
        Err(why) => why.to_string(),
    };
    Ok((loaded(open(false))?, Graphs::Refused(why)))
}

/// What has axes of any length: recorded runs need shapes that stay.
fn loose(session: &Session) -> Option<String> {
    let any = |outlet: &&Outlet| {
        outlet.dtype().tensor_shape().is_none_or(|shape| shape.iter().any(|axis| *axis < 1))
    };
    let of = |kind: &str, outlet: &Outlet| format!("{kind} `{}` has axes of any length", outlet.name());
    let input = session.inputs().iter().find(any).map(|outlet| of("input", outlet));
    input.or_else(|| session.outputs().iter().find(any).map(|outlet| of("output", outlet)))
}

/// Reads a graph without making it ready to run.
fn read(runtime: &Runtime, model: &ModelDir) -> Result<Graph, InferError> {
    let session = graph::builder(runtime, 1)
        .and_then(|builder| Ok(builder.with_optimization_level(GraphOptimizationLevel::Disable)?))
        .and_then(|mut builder| builder.commit_from_file(&model.onnx))
        .map_err(|error| refused(model, format!("cannot load: {error}")))?;
    Graph::read(&session, model)
}

/// The provider and those it hands the rest to, each an error where it does not register.
fn providers(
    options: &BoundOptions,
    engine: &[(&'static str, String)],
    graphs: bool,
) -> Vec<ExecutionProviderDispatch> {
    let cpu = CPU::default().with_arena_allocator(true).build().error_on_failure();
    match options.provider {
        Provider::Cpu => vec![cpu],
        Provider::Cuda => vec![cuda(options, graphs), cpu],
        Provider::TensorRt => {
            let mut provider = TensorRT::default().with_device_id(options.device()).with_cuda_graph(graphs);
            for (name, value) in engine {
                provider = provider.with_arbitrary_config(name, value);
            }
            if let Some(stream) = options.compute_stream {
                provider = raw::tensorrt_on(provider, stream);
            }
            vec![provider.build().error_on_failure(), cuda(options, false), cpu]
        }
    }
}

fn cuda(options: &BoundOptions, graphs: bool) -> ExecutionProviderDispatch {
    // The search for the fastest convolution is done anew for each shape; where batches vary that is too often.
    let search =
        if options.batch > 1 { ConvAlgorithmSearch::Heuristic } else { ConvAlgorithmSearch::Exhaustive };
    let mut provider = CUDA::default()
        .with_device_id(options.device())
        // Other models, decoders and encoders want of the same memory.
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .with_conv_algorithm_search(search)
        .with_cuda_graph(graphs);
    if let Some(stream) = options.compute_stream {
        provider = raw::cuda_on(provider, stream);
    }
    provider.build().error_on_failure()
}

/// What TensorRT is told of a model: precision, where its caches lie, and between which shapes it may choose.
fn tensorrt(
    input: &InputSpec,
    batch: usize,
    numbers: Vec<(&'static str, String)>,
    folder: &Path,
) -> Result<Vec<(&'static str, String)>, String> {
    let folder =
        folder.to_str().ok_or_else(|| format!("the folder {} is not UTF-8", folder.display()))?.to_owned();
    let mut options = numbers;
    options.extend([
        ("trt_engine_cache_enable", "1".to_owned()),
        ("trt_engine_cache_path", folder.clone()),
        ("trt_timing_cache_enable", "1".to_owned()),
        ("trt_timing_cache_path", folder),
    ]);
    if input.declared.iter().any(|axis| *axis < 1) {
        let most = input.batch.unwrap_or_else(|| batch.max(1));
        let profile = |entries: usize| {
            let shape: Vec<String> = input.shape(entries).iter().map(usize::to_string).collect();
            format!("{}:{}", input.name, shape.join("x"))
        };
        // The fastest where there is most to do.
        options.extend([
            ("trt_profile_min_shapes", profile(input.batch.unwrap_or(1))),
            ("trt_profile_opt_shapes", profile(most)),
            ("trt_profile_max_shapes", profile(most)),
        ]);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ElementType, Size};

    fn input(declared: &[i64]) -> InputSpec {
        InputSpec {
            name: "images".into(),
            element: ElementType::F32,
            size: Size::new(64, 32),
            axes: vec![3, 32, 64],
            batch: usize::try_from(declared[0]).ok(),
            declared: declared.to_vec(),
        }
    }

    fn told(declared: &[i64], batch: usize) -> Vec<(&'static str, String)> {
        let numbers = vec![("trt_fp16_enable", "1".to_owned())];
        tensorrt(&input(declared), batch, numbers, Path::new("/cache/key")).unwrap()
    }

    fn value<'a>(options: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        options.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn profiles_span_one_frame_to_the_batch() {
        let options = told(&[-1, 3, 32, 64], 8);
        assert_eq!(value(&options, "trt_profile_min_shapes"), Some("images:1x3x32x64"));
        assert_eq!(value(&options, "trt_profile_opt_shapes"), Some("images:8x3x32x64"));
        assert_eq!(value(&options, "trt_profile_max_shapes"), Some("images:8x3x32x64"));
        assert_eq!(value(&options, "trt_engine_cache_path"), Some("/cache/key"));
        assert_eq!(value(&options, "trt_fp16_enable"), Some("1"));
        // Any size, a fixed batch: one shape.
        let options = told(&[2, 3, -1, -1], 8);
        assert_eq!(value(&options, "trt_profile_min_shapes"), Some("images:2x3x32x64"));
        assert_eq!(value(&options, "trt_profile_max_shapes"), Some("images:2x3x32x64"));
        // Nothing to choose between.
        assert_eq!(value(&told(&[1, 3, 32, 64], 8), "trt_profile_min_shapes"), None);
    }
}
