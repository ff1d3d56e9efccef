//! One model, ready to run.
//!
//! In: a [`ModelDir`], then tensors with one to [`Session::batch`] entries. Out: the graph's outputs in 32-bit
//! floats, in memory that the session reuses. Opening reads what the graph takes, holds the manifest against it,
//! and runs it once on zeros, so that shapes are known and memory is warm. ONNX Runtime's threads wait without
//! spinning, since they share the processor with decoders and encoders.

use std::time::{Duration, Instant};

use ort::ep::CPU;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::input::shown;
use super::{InferError, InputSpec, ModelDir, Runtime, metadata};
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
    input: InputSpec,
    labels: Vec<String>,
    batch: usize,
    threads: usize,
    names: Vec<String>,
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
        let graph = |problem: String| InferError::Graph { file: model.onnx.clone(), problem };
        let threads = match options.threads {
            0 => (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).max(1),
            threads => threads,
        };
        let inner =
            commit(runtime, model, threads).map_err(|error| graph(format!("cannot load: {error}")))?;
        let exporter = Exporter::read(&inner)?;
        exporter.check_task(model).map_err(graph)?;
        let input = InputSpec::new(inner.inputs(), &model.manifest, exporter.image_size).map_err(graph)?;
        let labels = labels(model, exporter.names).map_err(graph)?;
        let batch = input.batch.unwrap_or_else(|| options.batch.max(1));
        let names: Vec<String> = inner.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        let mut session = Self {
            padded: input.batch.filter(|batch| *batch > 1).map(|_| Tensor::zeros(input.element, &[0])),
            inner,
            input,
            labels,
            batch,
            threads,
            names,
            outputs: Vec::new(),
            first_run: Duration::ZERO,
        };
        let zeros = Tensor::zeros(session.input.element, &session.input.shape(batch));
        let begin = Instant::now();
        session.run(&zeros).map_err(|error| {
            let hint = if batch > 1 { "; where it was exported for one frame, set `batch = 1`" } else { "" };
            graph(format!("a trial run on zeros of {:?} failed{hint}: {error}", zeros.shape))
        })?;
        session.first_run = begin.elapsed();
        session.check_batch_axis().map_err(graph)?;
        Ok(session)
    }

    /// What the graph's input takes.
    #[must_use]
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// Class names, from the manifest or the graph's metadata.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
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
        &self.names
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
            fill(&mut padded, tensor, &self.input.shape(self.batch));
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
        let name = self.input.name.as_str();
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
        for ((output, value), name) in self.outputs.iter_mut().zip(values.values()).zip(&self.names) {
            copy(&value, output, name)?;
        }
        Ok(&self.outputs)
    }

    fn check(&self, shape: &[usize], view: TensorView<'_>) -> Result<(), InferError> {
        let entries = shape.first().copied().unwrap_or(0);
        let right = view.element() == self.input.element
            && (1..=self.batch).contains(&entries)
            && shape == self.input.shape(entries);
        if right {
            return Ok(());
        }
        Err(InferError::Tensor {
            name: self.input.name.clone(),
            expected: format!(
                "{:?} {:?} with at most {} entries",
                self.input.element,
                self.input.shape(self.batch),
                self.batch
            ),
            found: format!("{:?} {shape:?}", view.element()),
        })
    }

    /// Every output must have an entry for each of the input's.
    fn check_batch_axis(&self) -> Result<(), String> {
        for (name, output) in self.names.iter().zip(&self.outputs) {
            if output.shape.first() != Some(&self.batch) {
                return Err(format!(
                    "output `{name}` is {:?} for {} entries of input `{}`; expected {} entries along its first axis",
                    output.shape, self.batch, self.input.name, self.batch
                ));
            }
        }
        Ok(())
    }
}

fn commit(runtime: &Runtime, model: &ModelDir, threads: usize) -> Result<ort::session::Session, ort::Error> {
    let mut builder = ort::session::Session::builder(runtime.environment())?
        .with_no_environment_execution_providers()?
        .with_execution_providers([CPU::default().with_arena_allocator(true).build().error_on_failure()])?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    builder.commit_from_file(&model.onnx)
}

/// What the exporter left in the graph.
#[derive(Debug, Default)]
struct Exporter {
    names: Option<Vec<String>>,
    task: Option<String>,
    image_size: Option<crate::flow::Size>,
}

impl Exporter {
    fn read(session: &ort::session::Session) -> Result<Self, ort::Error> {
        let found = session.metadata()?;
        Ok(Self {
            names: found.custom("names").and_then(|text| metadata::names(&text)),
            task: found.custom("task"),
            image_size: found.custom("imgsz").and_then(|text| metadata::image_size(&text)),
        })
    }

    fn check_task(&self, model: &ModelDir) -> Result<(), String> {
        use crate::config::manifest::Task;
        let Some(task) = self.task.as_deref() else { return Ok(()) };
        let right = match model.manifest.task {
            Task::Detect => task == "detect",
            Task::Classify => task == "classify",
            Task::Clip => true,
        };
        let said = format!("{:?}", model.manifest.task).to_lowercase();
        if right {
            Ok(())
        } else {
            Err(format!("exported for the task {task}; the manifest's `task` is {said}"))
        }
    }
}

fn labels(model: &ModelDir, exported: Option<Vec<String>>) -> Result<Vec<String>, String> {
    if !model.labels.is_empty() {
        return Ok(model.labels.clone());
    }
    let labels = exported.ok_or(
        "the manifest has no `labels`, and the graph's metadata has no `names`; give `labels` as a list, or as \
         the name of a text file with one a line",
    )?;
    match model.manifest.keep.iter().find(|keep| !labels.contains(keep)) {
        Some(unknown) => Err(format!("`keep`: \"{unknown}\" is none of the graph's {} names", labels.len())),
        None => Ok(labels),
    }
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

/// Copies an output into a tensor of 32-bit floats, reusing its memory.
fn copy(value: &DynValue, output: &mut Tensor, name: &str) -> Result<(), InferError> {
    use half::slice::HalfFloatSliceExt;

    let Tensor { shape, data: TensorData::F32(data), .. } = output else {
        *output = Tensor::zeros(crate::flow::ElementType::F32, &[0]);
        return copy(value, output, name);
    };
    let mut set_shape = |axes: &[i64]| {
        shape.clear();
        shape.extend(axes.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)));
    };
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            let (axes, values) = value.try_extract_tensor::<f32>()?;
            set_shape(axes);
            data.clear();
            data.extend_from_slice(values);
        }
        Some(TensorElementType::Float16) => {
            let (axes, values) = value.try_extract_tensor::<half::f16>()?;
            set_shape(axes);
            data.resize(values.len(), 0.0);
            values.convert_to_f32_slice(data);
        }
        Some(TensorElementType::Int64) => {
            let (axes, values) = value.try_extract_tensor::<i64>()?;
            set_shape(axes);
            data.clear();
            data.extend(values.iter().map(|value| *value as f32));
        }
        _ => {
            return Err(InferError::Tensor {
                name: name.to_owned(),
                expected: "tensors of 32-bit or 16-bit floats".into(),
                found: format!("{} {}", value.dtype(), shown(&[])),
            });
        }
    }
    Ok(())
}
