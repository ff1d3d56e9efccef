//! What every kind of session asks of a graph: what its input takes, its labels, the names of its outputs.
//!
//! In: a graph that ONNX Runtime has read, the model's folder. Out: a [`Graph`], held against the manifest, and the
//! options that all sessions share. Owned by the session. A graph that does not fit is refused in words that name its
//! file, the tensor and the mismatch.

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Outlet;

use super::model_dir::Stage;
use super::{InferError, InputSpec, ModelDir, Runtime, input, metadata};
use crate::config::manifest::Task;
use crate::flow::ElementType;

/// What a graph is.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// What its input takes.
    pub(super) input: InputSpec,
    /// Class names, from the manifest or the graph's metadata.
    pub(super) labels: Vec<String>,
    /// Names of the outputs, in the graph's order.
    pub(super) names: Vec<String>,
    /// Their element types; `None` where a tensor here cannot have it.
    pub(super) elements: Vec<Option<ElementType>>,
}

impl Graph {
    /// Reads a graph and holds it against the manifest.
    pub(super) fn read(session: &Session, model: &ModelDir) -> Result<Self, InferError> {
        let exporter = Exporter::read(session)?;
        exporter.check_task(model).map_err(|problem| refused(model, problem))?;
        let input = match (&model.manifest.head, model.manifest.window, model.stage) {
            (Some(head), Some(window), Stage::Features) => {
                InputSpec::features(session.inputs(), head, window)
            }
            _ => InputSpec::new(session.inputs(), &model.manifest, exporter.image_size),
        };
        let element = |outlet: &Outlet| outlet.dtype().tensor_type().and_then(input::element);
        Ok(Self {
            input: input.map_err(|problem| refused(model, problem))?,
            labels: labels(model, exporter.names).map_err(|problem| refused(model, problem))?,
            names: session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect(),
            elements: session.outputs().iter().map(element).collect(),
        })
    }

    /// Most entries of one run, where `wanted` are wished for.
    pub(super) fn batch(&self, wanted: usize) -> usize {
        self.input.batch.unwrap_or_else(|| wanted.max(1))
    }

    /// Every output must have an entry for each of the input's.
    pub(super) fn check_batch_axis<'a>(
        &self,
        shapes: impl Iterator<Item = &'a [usize]>,
        batch: usize,
    ) -> Result<(), String> {
        for (name, shape) in self.names.iter().zip(shapes) {
            if shape.first() != Some(&batch) {
                return Err(format!(
                    "output `{name}` is {shape:?} for {batch} entries of input `{}`; expected {batch} entries along \
                     its first axis",
                    self.input.name
                ));
            }
        }
        Ok(())
    }
}

/// The model cannot be run as it is.
pub(super) fn refused(model: &ModelDir, problem: String) -> InferError {
    InferError::Graph { file: model.onnx.clone(), problem }
}

/// What to say of a trial run that failed.
pub(super) fn trial_failed(shape: &[usize], error: &impl std::fmt::Display) -> String {
    let many = shape.first().is_some_and(|batch| *batch > 1);
    let hint = if many { "; where it was exported for one frame, set `batch = 1`" } else { "" };
    format!("a trial run on zeros of {shape:?} failed{hint}: {error}")
}

/// Threads within one run: so many, or half the processors where 0 is given.
pub(super) fn threads(wanted: usize) -> usize {
    match wanted {
        0 => (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).max(1),
        threads => threads,
    }
}

/// The options of every session, but for its execution providers. Threads wait without spinning, since they share the
/// processor with decoders and encoders.
pub(super) fn builder(runtime: &Runtime, threads: usize) -> Result<SessionBuilder, ort::Error> {
    let builder = Session::builder(runtime.environment())?
        .with_no_environment_execution_providers()?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    Ok(builder)
}

/// What the exporter left in the graph.
#[derive(Debug, Default)]
struct Exporter {
    names: Option<Vec<String>>,
    task: Option<String>,
    image_size: Option<crate::flow::Size>,
}

impl Exporter {
    fn read(session: &Session) -> Result<Self, ort::Error> {
        let found = session.metadata()?;
        Ok(Self {
            names: found.custom("names").and_then(|text| metadata::names(&text)),
            task: found.custom("task"),
            image_size: found.custom("imgsz").and_then(|text| metadata::image_size(&text)),
        })
    }

    fn check_task(&self, model: &ModelDir) -> Result<(), String> {
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
