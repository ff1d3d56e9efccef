//! Inference alone: ONNX Runtime on a tensor that is ready.
//!
//! In: a graph, a tensor. Out: CPU seconds of a run. It is opened as the daemon opens it, with one thread. The library
//! is loaded once and stays.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use ort::environment::Environment;
use ort::ep::CPU;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use watchpost::flow::Tensor;

use crate::figures::process_cpu;

/// ONNX Runtime's library, loaded once.
fn environment() -> anyhow::Result<&'static Environment> {
    static LOADED: OnceLock<Environment> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let library =
        std::env::var_os("ORT_DYLIB_PATH").context("ORT_DYLIB_PATH is not set; `make bench` sets it")?;
    let loaded = ort::init_from(library)?.with_telemetry(false).with_name("budgets").build()?;
    Ok(LOADED.get_or_init(|| loaded))
}

fn commit(environment: &Environment, graph: &Path) -> Result<Session, ort::Error> {
    let mut builder = Session::builder(environment)?
        .with_no_environment_execution_providers()?
        .with_execution_providers([CPU::default().with_arena_allocator(true).build().error_on_failure()])?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    builder.commit_from_file(graph)
}

/// ONNX Runtime with one model and nothing else.
pub struct Inference {
    session: Session,
    input: String,
}

impl Inference {
    /// Opens a graph as the daemon does, with one thread, and runs it once to have its memory warm.
    pub fn open(graph: &Path) -> anyhow::Result<Self> {
        let session = commit(environment()?, graph)?;
        let input = session.inputs().first().context("a graph without inputs")?.name().to_owned();
        Ok(Self { session, input })
    }

    /// One run.
    pub fn run(&mut self, tensor: &Tensor) -> anyhow::Result<()> {
        let data = tensor.as_f32().context("a tensor of floats")?;
        let dims: Vec<i64> = tensor.shape.iter().map(|axis| *axis as i64).collect();
        let value = TensorRef::from_array_view((dims, data))?;
        self.session.run(ort::inputs![self.input.as_str() => value])?;
        Ok(())
    }

    /// CPU seconds of one run on this tensor: the mean over as many runs as fill `time`.
    pub fn seconds(&mut self, tensor: &Tensor, time: Duration) -> anyhow::Result<f64> {
        self.run(tensor)?;
        let (begun, mut runs) = (process_cpu(), 0_u32);
        while process_cpu().saturating_sub(begun) < time {
            self.run(tensor)?;
            runs += 1;
        }
        Ok(process_cpu().saturating_sub(begun).as_secs_f64() / f64::from(runs.max(1)))
    }
}
