//! Output tensors become objects and scores. Pure functions, one file per decoder.
//!
//! In: a model's outputs in 32-bit floats, which batch entry, and where the picture lies in the input. Out:
//! objects in source pixels, clipped to the part of the picture that the model saw, or scores. A [`Decoder`] is
//! made once per model against the shapes of a trial run, where everything that can be wrong is found; it owns
//! its scratch memory. Decoding a tensor of another shape than the trial's gives nothing.

mod classes;
mod cuda;
mod nanodet;
mod nms;
#[cfg(test)]
mod tests;
mod yolo;
mod yolox;

use crate::config::manifest::Decoder as Manifest;
use crate::flow::{Letterbox, Objects, Rect, Score, Size, Tensor};

pub use cuda::{Boxes, Layout, Overflow};
pub use nms::{Candidate, suppress};

/// Most objects of one frame; the strongest are kept.
pub const MAX_OBJECTS: usize = 1000;

/// Smaller objects, in source pixels along either side, are dropped.
const SMALLEST: f32 = 1.0;

/// An output that is not what the decoder needs.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("decoder {decoder}: {problem}; the graph's outputs are {outputs}")]
pub struct DecodeError {
    /// Name of the decoder.
    pub decoder: &'static str,
    /// The tensor, what was expected, what is there.
    pub problem: String,
    /// Names and shapes of all outputs.
    pub outputs: String,
}

/// What a decoder needs to know of a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelInfo<'a> {
    /// The manifest's decoder.
    pub decoder: &'a Manifest,
    /// Class names.
    pub labels: &'a [String],
    /// Labels to keep; empty: all.
    pub keep: &'a [String],
    /// Size of the input.
    pub input: Size,
    /// Names of the outputs.
    pub names: &'a [String],
    /// Outputs of a trial run, in the order of their names.
    pub outputs: &'a [Tensor],
    /// Confidence threshold in place of the manifest's.
    pub threshold: Option<f32>,
}

#[derive(Debug)]
enum Kind {
    Yolox(yolox::Yolox),
    Yolo(yolo::Yolo),
    Nanodet(nanodet::Nanodet),
    Classes(classes::Classes),
}

/// Turns the outputs of one model into objects or scores.
#[derive(Debug)]
pub struct Decoder {
    kind: Kind,
    kept: Vec<bool>,
    nms: Option<f32>,
    shapes: Vec<Vec<usize>>,
    candidates: Vec<Candidate>,
}

impl Decoder {
    /// A decoder for a model, checked against the outputs of a trial run.
    ///
    /// # Errors
    /// Where an output is missing or its shape does not fit the input's size, the strides or the labels.
    pub fn new(model: &ModelInfo<'_>) -> Result<Self, DecodeError> {
        let outputs = model.names.iter().zip(model.outputs);
        let shown: Vec<String> =
            outputs.map(|(name, output)| format!("`{name}` {:?}", output.shape)).collect();
        let (decoder, made) = match model.decoder {
            Manifest::Yolox { threshold, nms, strides } => {
                let threshold = model.threshold.unwrap_or(*threshold);
                let kind = yolox::Yolox::new(model, threshold, strides).map(Kind::Yolox);
                ("yolox", kind.map(|kind| (kind, Some(*nms))))
            }
            Manifest::Yolo { threshold, nms } => {
                let kind = yolo::Yolo::new(model, model.threshold.unwrap_or(*threshold));
                let with_nms = |kind: yolo::Yolo| {
                    let nms = kind.needs_nms().then_some(*nms);
                    (Kind::Yolo(kind), nms)
                };
                ("yolo", kind.map(with_nms))
            }
            Manifest::Nanodet { threshold, nms, strides } => {
                let threshold = model.threshold.unwrap_or(*threshold);
                let kind = nanodet::Nanodet::new(model, threshold, strides).map(Kind::Nanodet);
                ("nanodet", kind.map(|kind| (kind, Some(*nms))))
            }
            Manifest::Classes { activation } => {
                let kind = classes::Classes::new(model, *activation).map(Kind::Classes);
                ("classes", kind.map(|kind| (kind, None)))
            }
        };
        let (kind, nms) = made.map_err(|problem| {
            let outputs = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            DecodeError { decoder, problem, outputs }
        })?;
        Ok(Self {
            kind,
            kept: model.labels.iter().map(|l| model.keep.is_empty() || model.keep.contains(l)).collect(),
            nms,
            shapes: model.outputs.iter().map(|output| output.shape.clone()).collect(),
            candidates: Vec::new(),
        })
    }

    /// Whether it gives objects, and not scores.
    #[must_use]
    pub fn gives_objects(&self) -> bool {
        !matches!(self.kind, Kind::Classes(_))
    }

    /// What the outputs were recognised as, for people.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Yolox(_) => "yolox",
            Kind::Yolo(yolo) => yolo.describe(),
            Kind::Nanodet(_) => "nanodet",
            Kind::Classes(_) => "classes",
        }
    }

    /// Appends the objects of batch entry `entry`, the strongest first: index of the model `model`, bounds in
    /// source pixels within `letterbox.source`. Gives how many.
    pub fn objects(
        &mut self,
        outputs: &[Tensor],
        entry: usize,
        letterbox: &Letterbox,
        model: u32,
        objects: &mut Objects,
    ) -> usize {
        self.candidates.clear();
        let Some(entries) = self.entries(outputs, entry) else { return 0 };
        let mut sink = Sink { kept: &self.kept, candidates: &mut self.candidates };
        match &self.kind {
            Kind::Yolox(yolox) => yolox.candidates(&entries, &mut sink),
            Kind::Yolo(yolo) => yolo.candidates(&entries, &mut sink),
            Kind::Nanodet(nanodet) => nanodet.candidates(&entries, &mut sink),
            Kind::Classes(_) => return 0,
        }
        self.suppressed(letterbox, model, objects)
    }

    /// What NMS leaves of the candidates, as objects.
    fn suppressed(&mut self, letterbox: &Letterbox, model: u32, objects: &mut Objects) -> usize {
        suppress(&mut self.candidates, self.nms, MAX_OBJECTS);
        let before = objects.len();
        for candidate in &self.candidates {
            let bounds = letterbox.to_source(candidate.bounds).intersect(&letterbox.source);
            if bounds.width >= SMALLEST && bounds.height >= SMALLEST {
                objects.push(model, candidate.class, candidate.score.min(1.0), bounds);
            }
        }
        objects.len() - before
    }

    /// Appends the scores of batch entry `entry`, one for each class that is kept, in the order of the labels:
    /// index of the model `model`, over the stream time from `begin` to `end` (nanoseconds). Gives how many.
    pub fn scores(
        &self,
        outputs: &[Tensor],
        entry: usize,
        model: u32,
        begin: u64,
        end: u64,
        scores: &mut Vec<Score>,
    ) -> usize {
        let (Kind::Classes(classes), Some(entries)) = (&self.kind, self.entries(outputs, entry)) else {
            return 0;
        };
        let before = scores.len();
        for (class, value) in classes.probabilities(&entries).into_iter().enumerate() {
            if self.kept.get(class).copied().unwrap_or(false) && value.is_finite() {
                let class = class as u32;
                scores.push(Score { model, class, value, begin, end, object: None, region: None });
            }
        }
        scores.len() - before
    }

    /// The elements of one batch entry of each output; `None` where the shapes are not those of the trial.
    fn entries<'a>(&self, outputs: &'a [Tensor], entry: usize) -> Option<Vec<&'a [f32]>> {
        if outputs.len() != self.shapes.len() {
            return None;
        }
        let one = |(output, shape): (&'a Tensor, &Vec<usize>)| {
            let length: usize = shape.get(1..)?.iter().product();
            if output.shape.get(1..)? != &shape[1..] {
                return None;
            }
            output.as_f32()?.get(entry * length..(entry + 1) * length)
        };
        outputs.iter().zip(&self.shapes).map(one).collect()
    }
}

/// Takes what a decoder finds, and refuses what is not finite, not kept, or has no area.
struct Sink<'a> {
    kept: &'a [bool],
    candidates: &'a mut Vec<Candidate>,
}

impl Sink<'_> {
    /// Whether a class is among those to keep.
    fn keeps(&self, class: usize) -> bool {
        self.kept.get(class).copied().unwrap_or(false)
    }

    fn push(&mut self, class: usize, score: f32, bounds: Rect) {
        let valid = score.is_finite() && bounds.is_valid() && bounds.width > 0.0 && bounds.height > 0.0;
        if valid && self.keeps(class) {
            self.candidates.push(Candidate { class: class as u32, score, bounds });
        }
    }

    /// The strongest of a row of class scores that are kept.
    fn strongest(&self, scores: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
        let mut best: Option<(usize, f32)> = None;
        for (class, score) in scores.enumerate() {
            if best.is_none_or(|(_, most)| score > most) && self.keeps(class) {
                best = Some((class, score));
            }
        }
        best
    }
}
