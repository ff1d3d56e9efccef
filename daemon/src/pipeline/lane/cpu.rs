//! Pixels in host memory, and models on the CPU.
//!
//! In: pictures as decoders laid them out. Out: tensors, objects and scores, views. Nothing is copied between memories.
//! Owned by a stream's worker; the engines by the models' threads.

use super::{Engine, Feed, Lane, LaneError, Loader, Opened, Order};
use crate::config::manifest::Layout;
use crate::encode::{Input as PictureIn, OutputSpec};
use crate::flow::{
    Decoded, FrameMeta, Letterbox, Picture, Rect, Recycle, Run, Size, StreamInfo, Tensor, TensorData,
};
use crate::infer::{Head, InferError, ModelDir, Runtime, Session, SessionOptions, gather};
use crate::ingest::SourceSpec;
use crate::pipeline::model::{Answer, Input, answer, window};
use crate::postprocess::{Decoder, ModelInfo};
use crate::preprocess::Preprocessor;
use crate::publish::messages::Edge;
use crate::render::{Masks, Overlay, Renderer};

/// Pixels in host memory.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cpu;

impl Lane for Cpu {
    type Pixels = Picture;
    type Tensor = Tensor;
    type Preprocess = Preprocessor;
    type Render = Renderer;
    type Mask = Masks;

    const NAME: &'static str = "cpu";

    fn adopt(&mut self, decoded: Decoded, _: &mut FrameMeta) -> Result<Picture, LaneError> {
        match decoded {
            Decoded::Host(picture) => Ok(picture),
            Decoded::Device(frame) => {
                Err(LaneError::Stream(format!("{frame:?} is in video memory; this is the CPU lane")))
            }
        }
    }

    fn decode_here(&self, _: &mut SourceSpec, _: usize) {}

    fn decode_edge(&self, info: &StreamInfo) -> Edge {
        Edge { name: "decode".into(), by: info.decoder.clone(), copies: false }
    }

    fn masks(&self, polygons: Vec<Vec<[f32; 2]>>) -> Masks {
        Masks::new(polygons)
    }

    fn mask(&self, mask: &mut Masks, pixels: &Picture) -> Result<Picture, LaneError> {
        Ok(mask.apply(pixels))
    }

    fn preprocessor(&self, feed: &Feed) -> Result<Preprocessor, LaneError> {
        Ok(Preprocessor::new(&feed.manifest.input, feed.size, feed.element)?)
    }

    fn preprocess(
        &self,
        preprocess: &mut Preprocessor,
        pixels: &Picture,
        rect: &Rect,
        tensor: &mut Tensor,
    ) -> Result<Letterbox, LaneError> {
        let letterbox = preprocess.letterbox(pixels.size, rect)?;
        preprocess.run(pixels, std::slice::from_ref(rect), tensor)?;
        Ok(letterbox)
    }

    fn encode_here(&self, _: &mut OutputSpec) {}

    fn renderer(&self, size: Size, _: bool) -> Renderer {
        Renderer::new(size)
    }

    fn render(
        &self,
        render: &mut Renderer,
        pixels: &Picture,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Option<PictureIn>, LaneError> {
        Ok(Some(render.render(pixels, view, overlay).into()))
    }

    fn encode_edge(&self, output: &str, encoder: &str, _: bool) -> Edge {
        Edge { name: format!("encode {output}"), by: encoder.into(), copies: false }
    }
}

/// A model on the CPU.
struct CpuEngine {
    session: Session,
    /// Of a two-stage clip model, whose backbone the session is.
    head: Option<Head<Tensor>>,
    decoder: Decoder,
    layout: Layout,
    /// Where the tensors of a batch or a window are put together.
    batch: Tensor,
}

impl CpuEngine {
    fn infer(&mut self, inputs: &[Input<Tensor>]) -> Result<(), InferError> {
        if let Some(head) = &mut self.head {
            for frames in head.wanting(inputs.iter().map(window)).chunks(self.session.batch()) {
                stack(frames.iter().map(|frame| &***frame), &mut self.batch);
                head.keep(frames, self.session.run(&self.batch)?)?;
            }
            let windows: Vec<_> = inputs.iter().map(window).collect();
            return head.run(&windows).map(drop);
        }
        match inputs {
            [Input::Frame(only)] => self.session.run(only),
            [Input::Frame(_), ..] => {
                let frames = inputs.iter().filter_map(|input| match input {
                    Input::Frame(tensor) => Some(&**tensor),
                    Input::Window(_) => None,
                });
                stack(frames, &mut self.batch);
                self.session.run(&self.batch)
            }
            _ => {
                let windows: Vec<Vec<&Tensor>> = inputs
                    .iter()
                    .map(|input| window(input).iter().map(|frame| &***frame).collect())
                    .collect();
                gather(&windows, self.layout, &mut self.batch);
                self.session.run(&self.batch)
            }
        }
        .map(drop)
    }
}

impl Engine<Tensor> for CpuEngine {
    fn run(&mut self, inputs: &[Input<Tensor>]) -> Result<(), String> {
        self.infer(inputs).map_err(|error| error.to_string())
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        let outputs = self.head.as_ref().map_or(self.session.outputs(), Head::outputs);
        Ok(answer(&mut self.decoder, outputs, entry, letterbox, run))
    }
}

/// Tensors of batch length 1, and of one shape, as one batch, put together in `batch`.
fn stack<'a>(tensors: impl IntoIterator<Item = &'a Tensor>, batch: &mut Tensor) {
    let mut entries = 0;
    for tensor in tensors {
        let first = entries == 0;
        match (&mut batch.data, &tensor.data) {
            (TensorData::F32(all), TensorData::F32(more)) => append(all, first, more),
            (TensorData::F16(all), TensorData::F16(more)) => append(all, first, more),
            (TensorData::U8(all), TensorData::U8(more)) => append(all, first, more),
            // The first batch of all: one model has one element type.
            (all, one) => all.clone_from(one),
        }
        if first {
            batch.shape.clone_from(&tensor.shape);
            batch.padding = None;
        }
        entries += 1;
    }
    if let Some(axis) = batch.shape.first_mut() {
        *axis = entries;
    }
}

/// The first in place of what was there, the others behind it.
fn append<T: Copy>(all: &mut Vec<T>, first: bool, more: &[T]) {
    if first {
        all.clear();
    }
    all.extend_from_slice(more);
}

/// A model on the CPU and what reads its outputs.
pub(super) struct OnCpu<T: Recycle> {
    /// The model, or the backbone of a two-stage clip model.
    pub(super) session: Session,
    /// The head of a two-stage clip model.
    pub(super) head: Option<Head<T>>,
    pub(super) decoder: Decoder,
    /// What it wants to be fed.
    pub(super) feed: Feed,
    /// Most inputs of one run.
    pub(super) batch: usize,
}

/// Opens a model on the CPU.
pub(super) fn open<T: Recycle>(
    runtime: &Runtime,
    dir: &mut ModelDir,
    options: SessionOptions,
    threshold: Option<f32>,
) -> Result<OnCpu<T>, Box<dyn std::error::Error + Send + Sync>> {
    let first = SessionOptions { batch: dir.batch(options.batch), ..options };
    let session = Session::open(runtime, dir, first)?;
    let head = Head::open(runtime, dir, &session, options)?;
    dir.labels = session.labels().to_vec();
    let last = head.as_ref().map_or(&session, Head::session);
    let decoder = Decoder::new(&ModelInfo {
        decoder: &dir.manifest.output,
        labels: &dir.labels,
        keep: &dir.manifest.keep,
        input: session.input().size,
        names: last.output_names(),
        outputs: last.outputs(),
        threshold,
    })?;
    let (size, element) = (session.input().size, session.input().element);
    let feed = Feed { manifest: dir.manifest.clone(), size, element, on_host: true };
    let batch = last.batch();
    Ok(OnCpu { session, head, decoder, feed, batch })
}

/// Opens models on ONNX Runtime's CPU provider.
#[derive(Debug, Default, Clone, Copy)]
pub struct CpuLoader;

impl Loader<Tensor> for CpuLoader {
    fn open(
        &self,
        runtime: &Runtime,
        dir: &mut ModelDir,
        order: &Order<'_>,
    ) -> Result<Opened<Tensor>, Box<dyn std::error::Error + Send + Sync>> {
        let OnCpu { session, head, decoder, feed, batch } =
            open(runtime, dir, order.options, order.threshold)?;
        let (threads, layout) = (session.threads(), dir.manifest.input.layout);
        let engine = Box::new(CpuEngine { session, head, decoder, layout, batch: Tensor::default() });
        order.serving.by("CPU", false);
        Ok(Opened { engine, feed, batch, threads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_stacked_along_the_batch_axis() {
        let input = |value: f32| Tensor::new(vec![1, 2], TensorData::F32(vec![value, value + 1.0]));
        let mut batch = Tensor::zeros(crate::flow::ElementType::U8, &[5]);
        // The second time the batch's memory is used again.
        for start in [1.0, 2.0] {
            stack(&[input(start), input(3.0), input(5.0)], &mut batch);
            assert_eq!(batch.shape, [3, 2]);
            assert_eq!(batch.as_f32().unwrap(), [start, start + 1.0, 3.0, 4.0, 5.0, 6.0]);
        }
    }
}
