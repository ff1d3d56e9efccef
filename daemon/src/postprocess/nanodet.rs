//! NanoDet: for each stride class scores, and distances to the four sides as distributions.
//!
//! Source: Li et al., "Generalized Focal Loss" (arXiv 2006.04388): each side's distance is the expectation of a
//! softmax over bins 0 … n − 1, times the stride s. The class scores have gone through a sigmoid in the graph.
//! Outputs may come in any order, or as one tensor of both per anchor (NanoDet-Plus); they are told apart by their
//! shapes. NanoDet's anchor of column x stands at the middle pixel of its cell, (x + 1/2)·s − 1/2, NanoDet-Plus'
//! at the cell's corner, x·s.

use super::{ModelInfo, Sink};
use crate::flow::Rect;

/// The decoder of one NanoDet model.
#[derive(Debug)]
pub(super) struct Nanodet {
    pub threshold: f32,
    classes: usize,
    pub bins: usize,
    /// Where in its cell an anchor stands: this times (stride − 1).
    middle: f32,
    pub grids: Vec<Grid>,
}

#[derive(Debug)]
pub(super) struct Grid {
    stride: f32,
    pub columns: usize,
    pub rows: usize,
    pub scores: Part,
    pub distances: Part,
}

/// Where the values of a grid's anchors are: in which output, from which element, how far apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub output: usize,
    pub start: usize,
    pub step: usize,
}

impl Nanodet {
    pub(super) fn new(model: &ModelInfo<'_>, threshold: f32, strides: &[u32]) -> Result<Self, String> {
        let classes = model.labels.len();
        let shapes = model.outputs.iter().map(|output| match *output.shape.as_slice() {
            [_, anchors, values] => Some((anchors, values)),
            _ => None,
        });
        let shapes: Vec<(usize, usize)> =
            shapes.collect::<Option<_>>().ok_or("expected outputs of 3 axes, N × anchors × values")?;
        // A grid covers the input, so a side that the stride does not divide has one cell more (convolutions
        // with padding round up).
        let sizes: Vec<(usize, usize)> = strides
            .iter()
            .map(|stride| {
                (model.input.width.div_ceil(*stride) as usize, model.input.height.div_ceil(*stride) as usize)
            })
            .collect();
        let total: usize = sizes.iter().map(|(columns, rows)| columns * rows).sum();
        if let [(anchors, values)] = shapes[..] {
            return Self::joined(threshold, classes, strides, &sizes, (anchors, values), total);
        }
        let mut bins = None;
        let mut used = vec![false; shapes.len()];
        let mut take = |anchors: usize, wanted: &dyn Fn(usize) -> bool| {
            let free =
                |index: &usize| !used[*index] && shapes[*index].0 == anchors && wanted(shapes[*index].1);
            let found = (0..shapes.len()).find(free)?;
            used[found] = true;
            Some(found)
        };
        let mut grids = Vec::new();
        for (stride, (columns, rows)) in strides.iter().zip(&sizes) {
            let anchors = columns * rows;
            let place = format!("stride {stride} of an input of {} ({anchors} anchors)", model.input);
            let scores = take(anchors, &|values| values == classes)
                .ok_or_else(|| format!("no output has the class scores of {place} × {classes} labels"))?;
            let distances = take(anchors, &|values| values % 4 == 0 && bins.is_none_or(|b| values == 4 * b))
                .ok_or_else(|| format!("no output has the distances of {place} × 4 × bins"))?;
            let values = shapes[distances].1;
            bins = Some(values / 4);
            grids.push(Grid {
                stride: *stride as f32,
                columns: *columns,
                rows: *rows,
                scores: Part { output: scores, start: 0, step: classes },
                distances: Part { output: distances, start: 0, step: values },
            });
        }
        if let Some(index) = used.iter().position(|used| !used) {
            let name = model.names.get(index).map_or("", String::as_str);
            return Err(format!("output `{name}` belongs to none of the strides {strides:?}"));
        }
        let bins = bins.filter(|bins| *bins >= 2).ok_or("expected at least 2 bins a distance")?;
        Ok(Self { threshold, classes, bins, middle: 0.5, grids })
    }

    /// NanoDet-Plus: one tensor, each anchor's class scores and then its distances, the strides in turn.
    fn joined(
        threshold: f32,
        classes: usize,
        strides: &[u32],
        sizes: &[(usize, usize)],
        (anchors, values): (usize, usize),
        total: usize,
    ) -> Result<Self, String> {
        let bins =
            values.checked_sub(classes).filter(|rest| rest % 4 == 0 && *rest >= 8).map(|rest| rest / 4);
        let bins = bins.ok_or_else(|| {
            format!("{values} values an anchor; {classes} labels and 4 × bins were expected")
        })?;
        if anchors != total {
            return Err(format!(
                "{anchors} anchors; the input's size with strides {strides:?} makes {total}"
            ));
        }
        let mut start = 0;
        let mut grids = Vec::new();
        for (stride, (columns, rows)) in strides.iter().zip(sizes) {
            grids.push(Grid {
                stride: *stride as f32,
                columns: *columns,
                rows: *rows,
                scores: Part { output: 0, start, step: values },
                distances: Part { output: 0, start: start + classes, step: values },
            });
            start += columns * rows * values;
        }
        Ok(Self { threshold, classes, bins, middle: 0.0, grids })
    }

    pub(super) fn candidates(&self, outputs: &[&[f32]], sink: &mut Sink<'_>) {
        for grid in &self.grids {
            let scores = outputs[grid.scores.output];
            let distances = outputs[grid.distances.output];
            for anchor in 0..grid.columns * grid.rows {
                let start = grid.scores.start + anchor * grid.scores.step;
                let row = &scores[start..start + self.classes];
                // Most anchors end here. No early exit: so the compiler compares many scores at once.
                if !row.iter().fold(false, |any, score| any | (*score >= self.threshold)) {
                    continue;
                }
                let Some((class, score)) = sink.strongest(row.iter().copied()) else { continue };
                if score < self.threshold {
                    continue;
                }
                let start = grid.distances.start + anchor * grid.distances.step;
                let sides = &distances[start..start + 4 * self.bins];
                sink.push(class, score, self.corners(grid, anchor, sides));
            }
        }
    }

    /// Bounds of a grid's anchor from its distances' distributions.
    fn corners(&self, grid: &Grid, anchor: usize, sides: &[f32]) -> Rect {
        let mut sides = sides.chunks_exact(self.bins).map(|bins| expectation(bins) * grid.stride);
        let mut side = || sides.next().unwrap_or(0.0);
        let (left, top, right, bottom) = (side(), side(), side(), side());
        let middle = self.middle * (grid.stride - 1.0);
        let x = (anchor % grid.columns) as f32 * grid.stride + middle;
        let y = (anchor / grid.columns) as f32 * grid.stride + middle;
        Rect::from_corners(x - left, y - top, x + right, y + bottom)
    }

    /// Bounds of anchor `index`, counted over all grids, from its `4 × bins` distances; `None` where there is none.
    pub(super) fn bounds(&self, index: usize, sides: &[f32]) -> Option<Rect> {
        let mut index = index;
        for grid in &self.grids {
            let anchors = grid.columns * grid.rows;
            if index < anchors {
                return Some(self.corners(grid, index, sides));
            }
            index -= anchors;
        }
        None
    }
}

/// Expectation of the bin's index under the softmax of the values.
fn expectation(bins: &[f32]) -> f32 {
    let most = bins.iter().copied().fold(f32::MIN, f32::max);
    let (mut total, mut sum) = (0.0, 0.0);
    for (index, value) in bins.iter().enumerate() {
        let weight = (value - most).exp();
        total += weight;
        sum += weight * index as f32;
    }
    sum / total
}
