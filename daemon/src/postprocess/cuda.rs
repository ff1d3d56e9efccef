//! A detector's candidates, found on the GPU: what the kernels are given, and what becomes of what they found.
//!
//! In: the addresses of a model's outputs in video memory; later the kernel's records. Out: the kernel's arguments, and
//! objects. The kernel chooses anchors by their scores and copies their boxes as they are; bounds are made here by
//! the CPU lane's own functions, and the candidates sorted into its order before NMS. So the objects are the CPU lane's
//! to the last bit. No device is touched here. [`Decoder::found`] fails where the records were too few.

use super::yolo::Form;
use super::{Candidate, Decoder, Kind, Sink as Taken};
use crate::flow::{Letterbox, Objects};
use crate::gpu::kernels::{BOXES_COLUMNS, BOXES_CORNERS, BOXES_GRIDS, BOXES_ROWS};
use crate::gpu::params::{Columns, Grid, Grids, Rows, Sink};

/// Words of a record before the box: anchor, class, score.
const HEAD: usize = 3;

/// What to launch for a model's outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Boxes {
    /// The first argument, which also says which kernel.
    pub layout: Layout,
    /// The second argument but for the addresses; `capacity` has room for every anchor.
    pub sink: Sink,
    /// Threads along x; along y there are as many as batch entries, which are the third argument.
    pub anchors: usize,
}

/// The kernels' first arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// YOLOX and YOLO v5.
    Rows(Rows),
    /// YOLO v8 to v12.
    Columns(Columns),
    /// YOLO end-to-end.
    Corners(Rows),
    /// NanoDet.
    Grids(Box<Grids>),
}

impl Layout {
    /// The kernel's name.
    #[must_use]
    pub fn kernel(&self) -> &'static str {
        match self {
            Self::Rows(_) => BOXES_ROWS,
            Self::Columns(_) => BOXES_COLUMNS,
            Self::Corners(_) => BOXES_CORNERS,
            Self::Grids(_) => BOXES_GRIDS,
        }
    }
}

impl Boxes {
    /// 32-bit words that the records of so many batch entries take at most.
    #[must_use]
    pub fn words(&self, entries: usize) -> usize {
        entries * self.anchors * self.record()
    }

    /// 32-bit words of a record.
    #[must_use]
    pub fn record(&self) -> usize {
        HEAD + self.sink.values as usize
    }
}

/// More candidates than records: some are missing.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("the GPU found {found} candidates and handed over {records}")]
pub struct Overflow {
    /// Candidates counted.
    pub found: usize,
    /// Records there are.
    pub records: usize,
}

impl Decoder {
    /// What to launch for outputs at these addresses, in the order of their names; `None` for a model without boxes,
    /// one with other outputs than the trial's, or one with more strides than the kernel has room for.
    #[must_use]
    pub fn boxes(&self, outputs: &[u64]) -> Option<Boxes> {
        if outputs.len() != self.shapes.len() {
            return None;
        }
        let float = size_of::<f32>();
        let axes = |output: usize| match *self.shapes.get(output)?.as_slice() {
            [_, second, third] => Some((second, third)),
            _ => None,
        };
        let (layout, anchors, values, threshold) = match &self.kind {
            Kind::Yolox(yolox) => {
                let (anchors, step) = yolox.shape();
                (Layout::Rows(rows(outputs[0], anchors, step)), anchors, 4, yolox.threshold)
            }
            Kind::Yolo(yolo) => {
                let (second, third) = axes(0)?;
                let (layout, anchors) = match yolo.form {
                    Form::V5 { .. } => (Layout::Rows(rows(outputs[0], second, third)), second),
                    Form::EndToEnd => (Layout::Corners(rows(outputs[0], second, third)), second),
                    Form::V8 { anchors } => {
                        let columns = Columns { output: outputs[0], anchors: anchors as i32, reserved: 0 };
                        (Layout::Columns(columns), anchors)
                    }
                };
                (layout, anchors, 4, yolo.threshold)
            }
            Kind::Nanodet(nanodet) => {
                let mut grids = Grids { count: nanodet.grids.len() as i32, ..Grids::default() };
                if nanodet.grids.len() > Grids::MOST {
                    return None;
                }
                let mut total = 0;
                for (to, grid) in grids.grids.iter_mut().zip(&nanodet.grids) {
                    let address = |part: super::nanodet::Part| {
                        Some(outputs.get(part.output)? + (part.start * float) as u64)
                    };
                    let entry =
                        |part: super::nanodet::Part| axes(part.output).map(|(rows, step)| rows * step);
                    let anchors = grid.columns * grid.rows;
                    *to = Grid {
                        scores: address(grid.scores)?,
                        distances: address(grid.distances)?,
                        score_step: grid.scores.step as i32,
                        distance_step: grid.distances.step as i32,
                        score_entry: entry(grid.scores)? as i32,
                        distance_entry: entry(grid.distances)? as i32,
                        anchors: anchors as i32,
                        reserved: 0,
                    };
                    total += anchors;
                }
                (Layout::Grids(Box::new(grids)), total, 4 * nanodet.bins, nanodet.threshold)
            }
            Kind::Classes(_) => return None,
        };
        let sink = Sink {
            capacity: anchors as i32,
            values: values as i32,
            classes: self.kept.len() as i32,
            threshold,
            ..Sink::default()
        };
        Some(Boxes { layout, sink, anchors })
    }

    /// For each class a byte that says whether it is kept, as the kernel wants it.
    #[must_use]
    pub fn kept(&self) -> Vec<u8> {
        self.kept.iter().map(|kept| u8::from(*kept)).collect()
    }

    /// As [`Decoder::objects`], from what the kernel found in one batch entry: its counter, and its first records (all
    /// of them, or as many as the counter says).
    ///
    /// # Errors
    /// Where the counter says more than there are records: then the outputs themselves are needed.
    pub fn found(
        &mut self,
        boxes: &Boxes,
        counter: i32,
        records: &[u32],
        letterbox: &Letterbox,
        model: u32,
        objects: &mut Objects,
    ) -> Result<usize, Overflow> {
        let found = usize::try_from(counter).unwrap_or(0);
        let mut all: Vec<&[u32]> = records.chunks_exact(boxes.record()).take(found).collect();
        if all.len() < found {
            return Err(Overflow { found, records: all.len() });
        }
        // The CPU lane meets them in this order, and among equal scores the first stays first.
        all.sort_unstable_by_key(|record| record[0]);
        let mut candidates: Vec<Candidate> = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut sink = Taken { kept: &self.kept, candidates: &mut candidates };
        let mut values = Vec::with_capacity(boxes.record() - HEAD);
        for record in all {
            values.clear();
            values.extend(record[HEAD..].iter().map(|bits| f32::from_bits(*bits)));
            let anchor = record[0] as usize;
            let bounds = match &self.kind {
                Kind::Yolox(yolox) => yolox.bounds(anchor, &values),
                Kind::Yolo(yolo) => Some(yolo.bounds(&values)),
                Kind::Nanodet(nanodet) => nanodet.bounds(anchor, &values),
                Kind::Classes(_) => None,
            };
            if let Some(bounds) = bounds {
                sink.push(record[1] as usize, f32::from_bits(record[2]), bounds);
            }
        }
        self.candidates = candidates;
        Ok(self.suppressed(letterbox, model, objects))
    }
}

fn rows(output: u64, anchors: usize, step: usize) -> Rows {
    Rows { output, anchors: anchors as i32, step: step as i32 }
}

#[cfg(test)]
mod tests;
