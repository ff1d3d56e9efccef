//! YOLO as Ultralytics and its kin export it: v5, v8–v12, and end-to-end v10, told apart by shape.
//!
//! v5 (and v7): N, A, 5 + classes with centre, size, objectness and class scores. v8 to v12: N, 4 + classes, A
//! with centre, size and class scores. End-to-end (v10, and `nms=True` exports): N, K, 6 with two corners, score
//! and class, already suppressed. All in input pixels, all scores through a sigmoid in the graph.

use super::{ModelInfo, Sink};
use crate::flow::Rect;

/// The decoder of one YOLO model.
#[derive(Debug)]
pub(super) struct Yolo {
    pub threshold: f32,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// N, A, 5 + classes.
    V5 { values: usize },
    /// N, 4 + classes, A.
    V8 { anchors: usize },
    /// N, K, 6.
    EndToEnd,
}

impl Yolo {
    pub(super) fn new(model: &ModelInfo<'_>, threshold: f32) -> Result<Self, String> {
        // Exports of v5 may carry the raw grids beside the joined tensor, which comes first.
        let output = model.outputs.first().ok_or("expected an output, there is none")?;
        let [_, second, third] = *output.shape.as_slice() else {
            return Err(format!("expected a first output of 3 axes, it has {}", output.shape.len()));
        };
        let classes = model.labels.len();
        // The grid of stride 32 and its finer ones make at least this many anchors, far more than any detector
        // has after suppression; so N, K, 6 of one class in v5 form is not taken for end-to-end.
        let cells = |stride: u32| (model.input.width / stride * (model.input.height / stride)) as usize;
        let few = third == 6 && second < cells(32) + cells(16) + cells(8);
        let form = if few {
            Form::EndToEnd
        } else if second == 4 + classes && second < third {
            Form::V8 { anchors: third }
        } else if third == 5 + classes {
            Form::V5 { values: third }
        } else {
            return Err(format!(
                "{second} × {third} fits none of anchors × {} (v5), {} × anchors (v8 to v12), objects × 6 \
                 (end-to-end) for {classes} labels",
                5 + classes,
                4 + classes
            ));
        };
        Ok(Self { threshold, form })
    }

    pub(super) fn needs_nms(&self) -> bool {
        self.form != Form::EndToEnd
    }

    pub(super) fn describe(&self) -> &'static str {
        match self.form {
            Form::V5 { .. } => "yolo (v5 form)",
            Form::V8 { .. } => "yolo (v8 to v12 form)",
            Form::EndToEnd => "yolo (end-to-end form)",
        }
    }

    pub(super) fn candidates(&self, outputs: &[&[f32]], sink: &mut Sink<'_>) {
        let output = outputs[0];
        match self.form {
            Form::V5 { values } => {
                for anchor in output.chunks_exact(values) {
                    if anchor[4] < self.threshold {
                        continue;
                    }
                    let Some((class, score)) = sink.strongest(anchor[5..].iter().copied()) else { continue };
                    let score = score * anchor[4];
                    if score >= self.threshold {
                        sink.push(class, score, centered(anchor[0], anchor[1], anchor[2], anchor[3]));
                    }
                }
            }
            Form::V8 { anchors } => self.columns(output, anchors, sink),
            Form::EndToEnd => {
                for object in output.chunks_exact(6) {
                    let (score, class) = (object[4], object[5]);
                    if score >= self.threshold && class >= 0.0 {
                        let bounds = Rect::from_corners(object[0], object[1], object[2], object[3]);
                        sink.push(class as usize, score, bounds);
                    }
                }
            }
        }
    }

    /// Bounds from the first four values of an anchor or object.
    pub(super) fn bounds(&self, values: &[f32]) -> Rect {
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| values[index]);
        if self.form == Form::EndToEnd { Rect::from_corners(a, b, c, d) } else { centered(a, b, c, d) }
    }

    /// Class scores lie in rows of all anchors: the rows are read through once, and only anchors that pass are
    /// looked at closer.
    fn columns(&self, output: &[f32], anchors: usize, sink: &mut Sink<'_>) {
        let (bounds, scores) = output.split_at(4 * anchors);
        let mut most = vec![f32::MIN; anchors];
        let mut best = vec![u32::MAX; anchors];
        for (class, row) in scores.chunks_exact(anchors).enumerate() {
            if !sink.keeps(class) {
                continue;
            }
            for ((most, best), score) in most.iter_mut().zip(&mut best).zip(row) {
                // Selections and not branches: so the compiler compares many anchors at once.
                let better = *score > *most;
                *most = if better { *score } else { *most };
                *best = if better { class as u32 } else { *best };
            }
        }
        for (anchor, (score, class)) in most.into_iter().zip(best).enumerate() {
            if score >= self.threshold {
                let value = |row: usize| bounds[row * anchors + anchor];
                sink.push(class as usize, score, centered(value(0), value(1), value(2), value(3)));
            }
        }
    }
}

fn centered(x: f32, y: f32, width: f32, height: f32) -> Rect {
    Rect::new(x - width / 2.0, y - height / 2.0, width, height)
}
