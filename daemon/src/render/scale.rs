//! Crop and resize: the decoder's NV12, I420 or P010 into the NV12 of the output, in fixed point.
//!
//! In: a picture and a placement. Out: the placement's inner rectangle of a canvas. Owned by a renderer,
//! which keeps its tables and row buffers. Nothing fails.
//!
//! Each output row is first the weighted sum of source rows (8.7 bits, so that pairs multiply in 16-bit
//! lanes), then each output sample the weighted sum of its neighbours in that row. Both loops have fixed
//! trip counts and no branches, so that the compiler makes vector code of them. Chroma is taken as sited
//! left (H.273 `ChromaLocType` 0), as H.264 and H.265 have it unless they say otherwise.

use crate::flow::{Picture, PixelFormat, Size};

use super::axis::Axis;
use super::canvas::Canvas;
use super::placement::Placement;

/// Vertical weights add up to this.
const VERTICAL: i16 = 256;
/// Horizontal weights add up to this.
const HORIZONTAL: i16 = 1 << 14;
/// Rows hold 8-bit samples times this power of two.
const ROW_BITS: u32 = 7;
/// Samples that may be read beyond a row's end with weight 0.
const MARGIN: usize = 16;

/// Tables and row buffers.
pub(super) struct Scaler {
    /// Across and down.
    pub luma: (Axis, Axis),
    /// Across and down.
    pub chroma: (Axis, Axis),
    row: Vec<i16>,
    parts: [Vec<i16>; 2],
    samples: [Vec<u8>; 2],
}

impl Default for Scaler {
    fn default() -> Self {
        let axes = || (Axis::new(HORIZONTAL), Axis::new(VERTICAL));
        Self {
            luma: axes(),
            chroma: axes(),
            row: Vec::new(),
            parts: [Vec::new(), Vec::new()],
            samples: [Vec::new(), Vec::new()],
        }
    }
}

impl Scaler {
    /// Fills the tables for pictures of a size with chroma planes of another.
    pub(super) fn prepare(&mut self, size: Size, chroma: Size, placement: &Placement) {
        let (step_x, step_y) = placement.step();
        let (width, height) = (placement.inner.width() as usize, placement.inner.height() as usize);
        let (across, down) = &mut self.luma;
        across.prepare(width, size.width as usize, placement.x + 0.5 * step_x, step_x, true);
        down.prepare(height, size.height as usize, placement.y + 0.5 * step_y, step_y, false);
        let (across, down) = &mut self.chroma;
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        // A left-sited sample lies over the middle of an even luma column, and between two luma rows.
        let left = placement.x / 2.0 + 0.25 * step_x + 0.25;
        across.prepare(chroma_width, chroma.width as usize, left, step_x, true);
        let top = placement.y / 2.0 + 0.5 * step_y;
        down.prepare(chroma_height, chroma.height as usize, top, step_y, false);
    }

    /// Writes the placement's inner rectangle of the canvas.
    pub(super) fn scale(&mut self, source: &Picture, placement: &Placement, canvas: &mut Canvas<'_>) {
        self.prepare(source.size, source.chroma_size(), placement);
        let inner = placement.inner;
        let (height, chroma_height) = (inner.height() as usize, (inner.height() as usize).div_ceil(2));
        for y in 0..height {
            self.luma_row(source, y, canvas.luma_row(inner, y));
        }
        for y in 0..chroma_height {
            self.chroma_row(source, y, canvas.chroma_row(inner, y));
        }
    }

    fn luma_row(&mut self, source: &Picture, y: usize, out: &mut [u8]) {
        let (across, down) = &self.luma;
        let plane = Rows::new(source, 0, across, 1);
        if let Some(row) = plane.single(down, y).filter(|_| across.identity) {
            out.copy_from_slice(row);
            return;
        }
        plane.sum(down, y, &mut self.row);
        across_row(across, &self.row, out);
    }

    fn chroma_row(&mut self, source: &Picture, y: usize, out: &mut [u8]) {
        let (across, down) = &self.chroma;
        let [first, second] = &mut self.parts;
        if source.format == PixelFormat::I420 {
            Rows::new(source, 1, across, 1).sum(down, y, first);
            Rows::new(source, 2, across, 1).sum(down, y, second);
        } else {
            let plane = Rows::new(source, 1, across, 2);
            if let Some(row) = plane.single(down, y).filter(|_| across.identity) {
                out.copy_from_slice(row);
                return;
            }
            plane.sum(down, y, &mut self.row);
            let pairs = self.row.as_chunks::<2>().0;
            for part in [&mut *first, &mut *second] {
                part.resize(pairs.len(), 0);
            }
            for ((pair, cb), cr) in pairs.iter().zip(first.iter_mut()).zip(second.iter_mut()) {
                (*cb, *cr) = (pair[0], pair[1]);
            }
        }
        let [cb, cr] = &mut self.samples;
        for (part, samples) in [(first, &mut *cb), (second, &mut *cr)] {
            samples.resize(out.len() / 2, 0);
            across_row(across, part, samples);
        }
        for ((pair, cb), cr) in out.as_chunks_mut::<2>().0.iter_mut().zip(cb.iter()).zip(cr.iter()) {
            *pair = [*cb, *cr];
        }
    }
}

/// The rows of one plane, cut to the columns that an axis uses.
struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
    /// Samples in a row of the cut.
    len: usize,
    /// Samples of each kind that lie side by side: 2 where chroma is interleaved.
    interleaved: usize,
    /// Two bytes a sample.
    wide: bool,
}

impl<'a> Rows<'a> {
    fn new(source: &'a Picture, plane: usize, across: &Axis, interleaved: usize) -> Self {
        let wide = source.format == PixelFormat::P010;
        let len = (across.end - across.begin) as usize * interleaved;
        let begin = across.begin as usize * interleaved * if wide { 2 } else { 1 };
        Self { bytes: &source.plane(plane)[begin..], stride: source.strides[plane], len, interleaved, wide }
    }

    fn row(&self, y: usize) -> &'a [u8] {
        let start = y * self.stride;
        &self.bytes[start..start + self.len * if self.wide { 2 } else { 1 }]
    }

    /// The one source row that output row `y` is, where it is one, cut for an identity across.
    fn single(&self, down: &Axis, y: usize) -> Option<&'a [u8]> {
        let tap = down.row(y).iter().position(|&weight| weight == VERTICAL)?;
        (!self.wide).then(|| self.row(down.first[y] as usize + tap))
    }

    /// The weighted sum of source rows that output row `y` is.
    fn sum(&self, down: &Axis, y: usize, out: &mut Vec<i16>) {
        out.resize(self.len + MARGIN * self.interleaved, 0);
        out[self.len..].fill(0);
        let out = &mut out[..self.len];
        let first = down.first[y] as usize;
        let weights = down.row(y);
        let used = weights.iter().rposition(|&weight| weight != 0).map_or(1, |last| last + 1);
        let skipped = weights.iter().position(|&weight| weight != 0).unwrap_or(0);
        let row = |tap: usize| self.row(first + tap);
        if self.wide {
            sum_wide(&weights[skipped..used], |tap| row(skipped + tap), out);
            return;
        }
        match &weights[skipped..used] {
            [_] => {
                for (sum, sample) in out.iter_mut().zip(row(skipped)) {
                    *sum = i16::from(*sample) << ROW_BITS;
                }
            }
            [a, b] => {
                let (a, b) = (*a as u16, *b as u16);
                let rows = row(skipped).iter().zip(row(skipped + 1));
                for (sum, (p, q)) in out.iter_mut().zip(rows) {
                    *sum = ((u16::from(*p) * a + u16::from(*q) * b) >> 1) as i16;
                }
            }
            [a, b, c] => {
                let (a, b, c) = (*a as u16, *b as u16, *c as u16);
                let rows = row(skipped).iter().zip(row(skipped + 1)).zip(row(skipped + 2));
                for (sum, ((p, q), r)) in out.iter_mut().zip(rows) {
                    *sum = ((u16::from(*p) * a + u16::from(*q) * b + u16::from(*r) * c) >> 1) as i16;
                }
            }
            many => {
                // The sum fits 16 bits without a sign; halving comes last, when all rows are in.
                out.fill(0);
                for (tap, &weight) in many.iter().enumerate() {
                    for (sum, sample) in out.iter_mut().zip(row(skipped + tap)) {
                        *sum = (*sum as u16).wrapping_add(u16::from(*sample) * weight as u16) as i16;
                    }
                }
                for sum in out.iter_mut() {
                    *sum = (*sum as u16 >> 1) as i16;
                }
            }
        }
    }
}

/// [`Rows::sum`] for ten bits in the high bits of 16: weights add up to 2^8, so 9 bits less make 8.7.
fn sum_wide<'a>(weights: &[i16], row: impl Fn(usize) -> &'a [u8], out: &mut [i16]) {
    out.fill(0);
    for (tap, &weight) in weights.iter().enumerate() {
        let weight = u32::from(weight as u16);
        for (sum, sample) in out.iter_mut().zip(row(tap).as_chunks::<2>().0) {
            *sum += ((u32::from(u16::from_le_bytes(*sample)) * weight) >> 9) as i16;
        }
    }
}

/// The samples of an output row from a row of sums.
fn across_row(axis: &Axis, row: &[i16], out: &mut [u8]) {
    if axis.identity {
        for (sample, sum) in out.iter_mut().zip(row) {
            *sample = ((*sum as u16 + (1 << (ROW_BITS - 1))) >> ROW_BITS).min(255) as u8;
        }
        return;
    }
    match axis.taps {
        2 => across_taps::<2>(axis, row, out),
        4 => across_taps::<4>(axis, row, out),
        8 => across_taps::<8>(axis, row, out),
        _ => across_many(axis, row, out),
    }
}

/// Shift and rounding from a product of both weights to eight bits.
const SHIFT: u32 = ROW_BITS + HORIZONTAL.ilog2();
const HALF: i32 = 1 << (SHIFT - 1);

fn across_taps<const TAPS: usize>(axis: &Axis, row: &[i16], out: &mut [u8]) {
    let weights = axis.weights.as_chunks::<TAPS>().0;
    for ((sample, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let cut = row.get((first - axis.begin) as usize..).and_then(|row| row.first_chunk::<TAPS>());
        let Some(sums) = cut else { continue };
        let mut total = HALF;
        for tap in 0..TAPS {
            total += i32::from(sums[tap]) * i32::from(weights[tap]);
        }
        *sample = (total >> SHIFT).min(255) as u8;
    }
}

fn across_many(axis: &Axis, row: &[i16], out: &mut [u8]) {
    for (index, (sample, &first)) in out.iter_mut().zip(&axis.first).enumerate() {
        let mut total = HALF;
        for (sum, weight) in row[(first - axis.begin) as usize..].iter().zip(axis.row(index)) {
            total += i32::from(*sum) * i32::from(*weight);
        }
        *sample = (total >> SHIFT).min(255) as u8;
    }
}
