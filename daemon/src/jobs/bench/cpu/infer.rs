//! Inference alone: the daemon's session and what reads its results, and ONNX Runtime with nothing around it.
//!
//! In: a model's folder, a tensor of a picture. Out: what a frame costs; with batches a run is as many frames as it takes.
//! Owns two sessions of the same graph, opened with the same options and warm.

use std::time::Duration;

use anyhow::Context;
use ort::ep::CPU;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use crate::flow::{Letterbox, Objects, Rect, Tensor, TensorData};
use crate::infer::{ModelDir, Runtime, Session, SessionOptions};
use crate::jobs::bench::cost::{Cost, run_for};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::subject::Subject;
use crate::pipeline::lane::Feed;
use crate::postprocess::{Decoder, ModelInfo};

/// The daemon's way to results, and the bare one.
pub(super) struct Parts {
    session: Session,
    /// None for the backbone of a two-stage clip model, which gives features.
    decoder: Option<Decoder>,
    feed: Feed,
    bare: ort::session::Session,
    /// Name of the graph's input.
    input: String,
    /// As many entries as a run takes.
    tensor: Tensor,
    letterbox: Letterbox,
}

impl Parts {
    /// Opens both sessions.
    pub(super) fn open(subject: &Subject) -> anyhow::Result<Self> {
        let model = subject.settings.models.get(&subject.model).context("no model in the settings")?;
        let runtime = Runtime::load(subject.settings.infer.library.as_deref())?;
        let dir = ModelDir::open(&crate::pipeline::find_model(&subject.settings, &subject.model)?)?;
        let options = SessionOptions { threads: model.threads, batch: dir.batch(model.batch) };
        let session = Session::open(&runtime, &dir, options)?;
        let decoder = match dir.manifest.head {
            Some(_) => None,
            None => Some(Decoder::new(&ModelInfo {
                decoder: &dir.manifest.output,
                labels: session.labels(),
                keep: &dir.manifest.keep,
                input: session.input().size,
                names: session.output_names(),
                outputs: session.outputs(),
                threshold: model.threshold,
            })?),
        };
        let bare = bare(&runtime, &dir, session.threads())?;
        let input = session.input();
        let feed =
            Feed { manifest: dir.manifest.clone(), size: input.size, element: input.element, on_host: true };
        let tensor = Tensor::zeros(input.element, &input.shape(session.batch()));
        let letterbox = Letterbox { source: Rect::default(), target: Rect::default() };
        Ok(Self { decoder, feed, bare, input: input.name.clone(), tensor, letterbox, session })
    }

    /// What the model wants to be fed.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Every entry, and every frame of a clip, becomes this picture.
    pub(super) fn fill(&mut self, ready: &Tensor, letterbox: Letterbox) {
        self.letterbox = letterbox;
        match (&mut self.tensor.data, &ready.data) {
            (TensorData::F32(all), TensorData::F32(one)) => repeat(all, one),
            (TensorData::F16(all), TensorData::F16(one)) => repeat(all, one),
            (TensorData::U8(all), TensorData::U8(one)) => repeat(all, one),
            // A tensor for this very model has its element type.
            _ => {}
        }
    }

    /// Frames in one run.
    fn entries(&self) -> u64 {
        self.tensor.shape.first().map_or(1, |entries| *entries as u64)
    }

    /// As the daemon does it: run, then find objects or scores.
    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let entries = self.entries();
        let Self { session, decoder, tensor, letterbox, .. } = self;
        let (mut objects, mut scores) = (Objects::default(), Vec::new());
        run_for(time, stop, || {
            let outputs = session.run(tensor)?;
            let Some(decoder) = decoder.as_mut() else { return Ok(entries) };
            for entry in 0..entries as usize {
                objects = Objects::default();
                scores.clear();
                decoder.objects(outputs, entry, letterbox, 0, &mut objects);
                decoder.scores(outputs, entry, 0, 0, 0, &mut scores);
            }
            Ok(entries)
        })
    }

    /// ONNX Runtime alone.
    pub(super) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let entries = self.entries();
        let Self { bare, tensor, input, .. } = self;
        let dims: Vec<i64> = tensor.shape.iter().map(|axis| *axis as i64).collect();
        run_for(time, stop, || {
            let (name, dims) = (input.as_str(), dims.clone());
            let ran = match &tensor.data {
                TensorData::F32(data) => {
                    bare.run(ort::inputs![name => TensorRef::from_array_view((dims, data.as_slice()))?])
                }
                TensorData::F16(data) => {
                    bare.run(ort::inputs![name => TensorRef::from_array_view((dims, data.as_slice()))?])
                }
                TensorData::U8(data) => {
                    bare.run(ort::inputs![name => TensorRef::from_array_view((dims, data.as_slice()))?])
                }
            };
            ran.map(drop)?;
            Ok(entries)
        })
    }
}

/// The graph with the options that infer/session.rs opens it with.
fn bare(runtime: &Runtime, dir: &ModelDir, threads: usize) -> Result<ort::session::Session, ort::Error> {
    let mut builder = ort::session::Session::builder(runtime.environment())?
        .with_no_environment_execution_providers()?
        .with_execution_providers([CPU::default().with_arena_allocator(true).build().error_on_failure()])?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    builder.commit_from_file(&dir.onnx)
}

fn repeat<T: Copy>(all: &mut [T], one: &[T]) {
    for entry in all.chunks_mut(one.len().max(1)) {
        entry.copy_from_slice(&one[..entry.len()]);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_picture_fills_every_entry() {
        let mut all = [0; 7];
        super::repeat(&mut all, &[1, 2, 3]);
        assert_eq!(all, [1, 2, 3, 1, 2, 3, 1]);
    }
}
