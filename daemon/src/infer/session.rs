//! One model, ready to run.
//!
//! In: a [`ModelDir`], then tensors with one to [`Session::batch`] entries. Out: the graph's outputs in 32-bit
//! floats, in memory that the session reuses. Opening reads what the graph takes, holds the manifest against it,
//! and runs it once on zeros, so that shapes are known and memory is warm. ONNX Runtime's threads wait without
//! spinning, since they share the processor with decoders and encoders.

use std::time::{Duration, Instant};

use ort::ep::CPU;
use ort::value::TensorRef;

use super::graph::{self, Graph, refused};
use super::output::copy;
use super::{InferError, InputSpec, ModelDir, Runtime};
use crate::flow::{Tensor, TensorData, TensorView};

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads within one run; 0: half the processors, at least one.
    pub threads: usize,
    /// Frames in one run, where the graph takes more than one.
    pub batch: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { threads: 0, batch: 1 }
    }
}

/// One model, ready to run.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    graph: Graph,
    batch: usize,
    threads: usize,
    outputs: Vec<Tensor>,
    padded: Option<Tensor>,
    first_run: Duration,
}

impl Session {
    /// Opens a model on the CPU.
    ///
    /// # Errors
    /// Where the graph cannot be loaded, does not fit the manifest, or does not run on zeros.
    pub fn open(runtime: &Runtime, model: &ModelDir, options: SessionOptions) -> Result<Self, InferError> {
        let threads = graph::threads(options.threads);
        let inner = commit(runtime, model, threads)
            .map_err(|error| refused(model, format!("cannot load: {error}")))?;
        let graph = Graph::read(&inner, model)?;
        let batch = graph.batch(options.batch);
        let mut session = Self {
            padded: graph
                .input
                .batch
                .filter(|batch| *batch > 1)
                .map(|_| Tensor::zeros(graph.input.element, &[0])),
            inner,
            graph,
            batch,
            threads,
            outputs: Vec::new(),
            first_run: Duration::ZERO,
        };
        let zeros = Tensor::zeros(session.input().element, &session.input().shape(batch));
        let begin = Instant::now();
        session.run(&zeros).map_err(|error| refused(model, graph::trial_failed(&zeros.shape, &error)))?;
        session.first_run = begin.elapsed();
        let shapes = session.outputs.iter().map(|output| output.shape.as_slice());
        session.graph.check_batch_axis(shapes, batch).map_err(|problem| refused(model, problem))?;
        Ok(session)
    }

    /// What the graph's input takes.
    #[must_use]
    pub fn input(&self) -> &InputSpec {
        &self.graph.input
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Class names, from the manifest or the graph's metadata.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.graph.labels
    }

    /// Most entries that one run takes.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Threads within one run.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Names of the outputs, in the graph's order.
    #[must_use]
    pub fn output_names(&self) -> &[String] {
        &self.graph.names
    }

    /// The outputs of the last run, in the order of [`Self::output_names`]; after opening, those of the trial run
    /// on zeros with [`Self::batch`] entries.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// How long the trial run took.
    #[must_use]
    pub fn first_run(&self) -> Duration {
        self.first_run
    }

    /// Runs the model. The outputs are in 32-bit floats whatever the graph's element type, in the order of
    /// [`Self::output_names`], and belong to the session until the next run.
    ///
    /// A graph of a fixed batch size greater than one takes fewer entries too; the outputs then have entries
    /// beyond those given, which mean nothing.
    ///
    /// # Errors
    /// Where the tensor has another element type or shape than the input, or more entries than
    /// [`Self::batch`]; and where ONNX Runtime fails.
    pub fn run(&mut self, tensor: &Tensor) -> Result<&[Tensor], InferError> {
        self.check(&tensor.shape, tensor.view())?;
        let entries = tensor.shape.first().copied().unwrap_or(0);
        if entries < self.batch
            && let Some(mut padded) = self.padded.take()
        {
            fill(&mut padded, tensor, &self.graph.input.shape(self.batch));
            let outcome = self.run_view(&padded.shape, padded.view()).map(drop);
            self.padded = Some(padded);
            return outcome.map(|()| self.outputs.as_slice());
        }
        self.run_view(&tensor.shape, tensor.view())
    }

    /// As [`Self::run`], on elements in somebody else's memory. A graph of a fixed batch size takes nothing less.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_view(&mut self, shape: &[usize], view: TensorView<'_>) -> Result<&[Tensor], InferError> {
        self.check(shape, view)?;
        let name = self.graph.input.name.as_str();
        let dims: Vec<i64> = shape.iter().map(|axis| *axis as i64).collect();
        let values = match view {
            TensorView::F32(data) => {
                self.inner.run(ort::inputs![name => TensorRef::from_array_view((dims, data))?])
            }
            TensorView::F16(data) => {
                self.inner.run(ort::inputs![name => TensorRef::from_array_view((dims, data))?])
            }
            TensorView::U8(data) => {
                self.inner.run(ort::inputs![name => TensorRef::from_array_view((dims, data))?])
            }
        }?;
        self.outputs.resize_with(values.len(), || Tensor::zeros(crate::flow::ElementType::F32, &[0]));
        for ((output, value), name) in self.outputs.iter_mut().zip(values.values()).zip(&self.graph.names) {
            copy(&value, output, name)?;
        }
        Ok(&self.outputs)
    }

    fn check(&self, shape: &[usize], view: TensorView<'_>) -> Result<(), InferError> {
        let entries = shape.first().copied().unwrap_or(0);
        let right = view.element() == self.graph.input.element
            && (1..=self.batch).contains(&entries)
            && shape == self.graph.input.shape(entries);
        if right {
            return Ok(());
        }
        Err(InferError::Tensor {
            name: self.graph.input.name.clone(),
            expected: format!(
                "{:?} {:?} with at most {} entries",
                self.graph.input.element,
                self.graph.input.shape(self.batch),
                self.batch
            ),
            found: format!("{:?} {shape:?}", view.element()),
        })
    }
}

fn commit(runtime: &Runtime, model: &ModelDir, threads: usize) -> Result<ort::session::Session, ort::Error> {
    let cpu = CPU::default().with_arena_allocator(true).build().error_on_failure();
    graph::builder(runtime, threads)?.with_execution_providers([cpu])?.commit_from_file(&model.onnx)
}

/// Copies a tensor's entries to the front of one of the given shape; the rest stays as it is.
fn fill(padded: &mut Tensor, tensor: &Tensor, shape: &[usize]) {
    padded.fit(tensor.element(), shape);
    match (&mut padded.data, &tensor.data) {
        (TensorData::F32(to), TensorData::F32(from)) => to[..from.len()].copy_from_slice(from),
        (TensorData::F16(to), TensorData::F16(from)) => to[..from.len()].copy_from_slice(from),
        (TensorData::U8(to), TensorData::U8(from)) => to[..from.len()].copy_from_slice(from),
        _ => {}
    }
}
