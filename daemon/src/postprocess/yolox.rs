//! YOLOX: one tensor of anchors, each with centre, size, objectness and class scores.
//!
//! Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021" (arXiv 2107.08430), section 2.1. Anchor i of the
//! grid of stride s at column x, row y: centre ((c_x + x)·s, (c_y + y)·s), size (exp(w)·s, exp(h)·s); confidence
//! is objectness × class score, both of which the graph has put through a sigmoid.

use super::{ModelInfo, Sink};
use crate::flow::Rect;

/// The decoder of one YOLOX model.
#[derive(Debug)]
pub(super) struct Yolox {
    pub threshold: f32,
    classes: usize,
    grids: Vec<Grid>,
}

#[derive(Debug)]
struct Grid {
    stride: f32,
    columns: usize,
    rows: usize,
}

impl Yolox {
    pub(super) fn new(model: &ModelInfo<'_>, threshold: f32, strides: &[u32]) -> Result<Self, String> {
        let [output] = model.outputs else {
            return Err(format!("expected 1 output, there are {}", model.outputs.len()));
        };
        let [_, anchors, values] = *output.shape.as_slice() else {
            return Err("expected an output of 3 axes, N × anchors × (5 + classes)".into());
        };
        let grids: Vec<Grid> = strides
            .iter()
            .map(|stride| Grid {
                stride: *stride as f32,
                columns: (model.input.width / stride) as usize,
                rows: (model.input.height / stride) as usize,
            })
            .collect();
        let expected: usize = grids.iter().map(|grid| grid.columns * grid.rows).sum();
        if anchors != expected {
            return Err(format!(
                "{anchors} anchors; an input of {} with strides {strides:?} makes {expected}",
                model.input
            ));
        }
        let classes = model.labels.len();
        if values != 5 + classes {
            return Err(format!("{values} values an anchor; {classes} labels make {}", 5 + classes));
        }
        Ok(Self { threshold, classes, grids })
    }

    pub(super) fn candidates(&self, outputs: &[&[f32]], sink: &mut Sink<'_>) {
        let mut anchors = outputs[0].chunks_exact(5 + self.classes);
        for grid in &self.grids {
            for row in 0..grid.rows {
                for (column, anchor) in (0..grid.columns).zip(&mut anchors) {
                    // No class score is above 1, so most anchors end here, by their objectness alone.
                    let objectness = anchor[4];
                    if objectness < self.threshold {
                        continue;
                    }
                    let Some((class, score)) = sink.strongest(anchor[5..].iter().copied()) else { continue };
                    let score = score * objectness;
                    if score < self.threshold {
                        continue;
                    }
                    let bounds = grid.bounds(column, row, anchor);
                    sink.push(class, score, bounds);
                }
            }
        }
    }

    /// Bounds of anchor `index`, counted over all grids, from the first values of its row; `None` where there is none.
    pub(super) fn bounds(&self, index: usize, values: &[f32]) -> Option<Rect> {
        let mut index = index;
        for grid in &self.grids {
            let anchors = grid.columns * grid.rows;
            if index < anchors {
                return Some(grid.bounds(index % grid.columns, index / grid.columns, values));
            }
            index -= anchors;
        }
        None
    }

    /// Anchors, and values of each.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.grids.iter().map(|grid| grid.columns * grid.rows).sum(), 5 + self.classes)
    }
}

impl Grid {
    fn bounds(&self, column: usize, row: usize, values: &[f32]) -> Rect {
        let (width, height) = (values[2].exp() * self.stride, values[3].exp() * self.stride);
        let x = (values[0] + column as f32) * self.stride;
        let y = (values[1] + row as f32) * self.stride;
        Rect::new(x - width / 2.0, y - height / 2.0, width, height)
    }
}
