//! Pixels in host memory, and models on the CPU.
//!
//! In: pictures as decoders laid them out. Out: tensors, objects and scores, views. Nothing is copied between memories.
//! Owned by a stream's worker; the engines by the models' threads.

use super::{Engine, Feed, Lane, LaneError, Loader, Opened, Order};
use crate::config::manifest::Layout;
use crate::encode::{Input as PictureIn, OutputSpec};
use crate::flow::{Decoded, FrameMeta, Letterbox, Picture, Rect, Run, Size, StreamInfo, Tensor, TensorData};
use crate::infer::{ModelDir, Runtime, Session, SessionOptions, gather};
use crate::ingest::SourceSpec;
use crate::pipeline::model::{Answer, Input, answer};
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
    decoder: Decoder,
    layout: Layout,
    /// Where the tensors of a batch or a window are put together.
    batch: Tensor,
}

impl Engine<Tensor> for CpuEngine {
    fn run(&mut self, inputs: &[Input<Tensor>]) -> Result<(), String> {
        let outcome = match inputs {
            [Input::Frame(only)] => self.session.run(only),
            [Input::Frame(_), ..] => {
                stack(inputs, &mut self.batch);
                self.session.run(&self.batch)
            }
            _ => {
                let windows: Vec<Vec<&Tensor>> = inputs.iter().map(frames).collect();
                gather(&windows, self.layout, &mut self.batch);
                self.session.run(&self.batch)
            }
        };
        outcome.map(drop).map_err(|error| error.to_string())
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        Ok(answer(&mut self.decoder, self.session.outputs(), entry, letterbox, run))
    }
}

/// The frames of an input.
fn frames(input: &Input<Tensor>) -> Vec<&Tensor> {
    match input {
        Input::Frame(tensor) => vec![tensor],
        Input::Window(frames) => frames.iter().map(|frame| &***frame).collect(),
    }
}

/// Tensors of batch length 1, and of one shape, as one batch, put together in `batch`.
fn stack(inputs: &[Input<Tensor>], batch: &mut Tensor) {
    for (index, input) in inputs.iter().enumerate() {
        let Input::Frame(tensor) = input else { continue };
        let first = index == 0;
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
    }
    if let Some(entries) = batch.shape.first_mut() {
        *entries = inputs.len();
    }
}

/// The first in place of what was there, the others behind it.
fn append<T: Copy>(all: &mut Vec<T>, first: bool, more: &[T]) {
    if first {
        all.clear();
    }
    all.extend_from_slice(more);
}

/// Opens a model on the CPU, and what reads its outputs.
pub(super) fn open(
    runtime: &Runtime,
    dir: &mut ModelDir,
    options: SessionOptions,
    threshold: Option<f32>,
) -> Result<(Session, Decoder), Box<dyn std::error::Error + Send + Sync>> {
    let session = Session::open(runtime, dir, options)?;
    dir.labels = session.labels().to_vec();
    let decoder = Decoder::new(&ModelInfo {
        decoder: &dir.manifest.output,
        labels: &dir.labels,
        keep: &dir.manifest.keep,
        input: session.input().size,
        names: session.output_names(),
        outputs: session.outputs(),
        threshold,
    })?;
    Ok((session, decoder))
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
        let (session, decoder) = open(runtime, dir, order.options, order.threshold)?;
        let feed = Feed {
            manifest: dir.manifest.clone(),
            size: session.input().size,
            element: session.input().element,
            on_host: true,
        };
        let (batch, threads) = (session.batch(), session.threads());
        let layout = dir.manifest.input.layout;
        let engine = Box::new(CpuEngine { session, decoder, layout, batch: Tensor::default() });
        order.serving.by("CPU", false);
        Ok(Opened { engine, feed, batch, threads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_stacked_along_the_batch_axis() {
        let input = |value: f32| {
            Input::Frame(Tensor::new(vec![1, 2], TensorData::F32(vec![value, value + 1.0])).into())
        };
        let mut batch = Tensor::zeros(crate::flow::ElementType::U8, &[5]);
        // The second time the batch's memory is used again.
        for start in [1.0, 2.0] {
            stack(&[input(start), input(3.0), input(5.0)], &mut batch);
            assert_eq!(batch.shape, [3, 2]);
            assert_eq!(batch.as_f32().unwrap(), [start, start + 1.0, 3.0, 4.0, 5.0, 6.0]);
        }
    }
}
