//! The fused pass on the CPU: for each row of the input, blend source rows, blend neighbours, convert, store.
//!
//! In: a checked picture, a plan, the folds. Out: one batch entry of a tensor. Scratch rows belong to a
//! [`Scratch`] and stay in the processor's first-level cache; nothing of the picture is written anywhere else.
//! Nothing fails: sizes were checked by [`super::Preprocessor`].

use super::color::Fold;
use super::kernels::UNIT;
use super::plan::{Plan, Plane};
use super::simd::Isa;
use super::store::{Element, Target};
use crate::flow::{Picture, PixelFormat};

/// Rows that the pass reuses.
#[derive(Debug, Default)]
pub struct Scratch {
    blended: [Vec<i16>; 3],
    summed: [Vec<f32>; 3],
    samples: [Vec<f32>; 3],
    channels: [Vec<f32>; 3],
    mixed: Vec<f32>,
}

/// Writes the picture of one batch entry; what is around it stays.
pub fn entry<T: Element>(
    isa: Isa,
    picture: &Picture,
    plan: &Plan,
    folds: &[Fold],
    scratch: &mut Scratch,
    target: &mut Target<'_, T>,
) {
    for row in scratch.samples.iter_mut().chain(&mut scratch.channels) {
        row.resize(plan.width, 0.0);
    }
    scratch.mixed.resize(plan.width * folds.len(), 0.0);
    let color = folds.len() > 1;
    for row in 0..plan.height {
        let unit = sample(isa, picture, plan, row, color, scratch);
        let Scratch { samples: [y, u, v], channels, mixed, .. } = scratch;
        for (channel, fold) in folds.iter().enumerate() {
            let convert = |out: &mut [f32]| {
                if color {
                    isa.convert(fold, unit, y, u, v, out);
                } else {
                    isa.convert_gray(fold, unit, y, out);
                }
            };
            match target.direct(plan, channel, row) {
                Some(out) => convert(out),
                None => convert(&mut channels[channel]),
            }
        }
        target.store(isa, plan, row, channels, mixed);
    }
}

/// Fills the rows of Y, Cb and Cr for one row of the input; gives the factor to 8-bit units.
fn sample(isa: Isa, picture: &Picture, plan: &Plan, row: usize, color: bool, scratch: &mut Scratch) -> f32 {
    let Scratch { blended, summed, samples: [y, u, v], .. } = scratch;
    let unit = match &plan.luma {
        Plane::Lerp { x, y: rows } => {
            let pair = rows[row];
            let rows = [pair.upper, pair.lower].map(|row| span(picture, 0, row, x.first(), x.used()));
            let out = sized(&mut blended[0], x.used());
            match picture.format {
                PixelFormat::Nv12 | PixelFormat::I420 => isa.blend_bytes(rows[0], rows[1], pair.weight, out),
                PixelFormat::P010 => isa.blend_words(rows[0], rows[1], pair.weight, out),
            }
            isa.lerp(&blended[0], x, y);
            UNIT
        }
        Plane::Taps { x, y: rows } => {
            let sum = cleared(&mut summed[0], x.used());
            let (start, weights) = rows.at(row);
            for (row, weight) in (start..).zip(weights) {
                let source = span(picture, 0, row, x.first(), x.used());
                match picture.format {
                    PixelFormat::Nv12 | PixelFormat::I420 => isa.add_bytes(source, *weight, sum),
                    PixelFormat::P010 => isa.add_words(source, *weight, sum),
                }
            }
            x.apply(sum, y);
            1.0
        }
    };
    if !color {
        return unit;
    }
    match &plan.chroma {
        Plane::Lerp { x, y: rows } => {
            let pair = rows[row];
            let [_, blended_u, blended_v] = blended;
            let (out_u, out_v) = (sized(blended_u, x.used()), sized(blended_v, x.used()));
            let rows =
                |plane| [pair.upper, pair.lower].map(|row| span(picture, plane, row, x.first(), x.used()));
            let [upper, lower] = rows(1);
            match picture.format {
                PixelFormat::Nv12 => isa.blend_byte_pairs(upper, lower, pair.weight, out_u, out_v),
                PixelFormat::P010 => isa.blend_word_pairs(upper, lower, pair.weight, out_u, out_v),
                PixelFormat::I420 => {
                    isa.blend_bytes(upper, lower, pair.weight, out_u);
                    let [upper, lower] = rows(2);
                    isa.blend_bytes(upper, lower, pair.weight, out_v);
                }
            }
            isa.lerp(blended_u, x, u);
            isa.lerp(blended_v, x, v);
        }
        Plane::Taps { x, y: rows } => {
            let [_, sum_u, sum_v] = summed;
            let (sum_u, sum_v) = (cleared(sum_u, x.used()), cleared(sum_v, x.used()));
            let (start, weights) = rows.at(row);
            for (row, weight) in (start..).zip(weights) {
                let source = |plane| span(picture, plane, row, x.first(), x.used());
                match picture.format {
                    PixelFormat::Nv12 => isa.add_byte_pairs(source(1), *weight, sum_u, sum_v),
                    PixelFormat::P010 => isa.add_word_pairs(source(1), *weight, sum_u, sum_v),
                    PixelFormat::I420 => {
                        isa.add_bytes(source(1), *weight, sum_u);
                        isa.add_bytes(source(2), *weight, sum_v);
                    }
                }
            }
            x.apply(sum_u, u);
            x.apply(sum_v, v);
        }
    }
    unit
}

/// Bytes of `used` samples (pairs, in an interleaved plane) of a row, from sample `first` on.
fn span(picture: &Picture, plane: usize, row: usize, first: usize, used: usize) -> &[u8] {
    let bytes = bytes_per_sample(picture.format, plane);
    let start = row * picture.strides[plane] + first * bytes;
    &picture.plane(plane)[start..start + used * bytes]
}

/// Bytes of a sample, or of a pair of an interleaved plane.
#[must_use]
pub fn bytes_per_sample(format: PixelFormat, plane: usize) -> usize {
    match (format, plane) {
        (PixelFormat::Nv12 | PixelFormat::I420, 0) | (PixelFormat::I420, _) => 1,
        (PixelFormat::Nv12, _) | (PixelFormat::P010, 0) => 2,
        (PixelFormat::P010, _) => 4,
    }
}

/// The first `used` elements; one more follows, which the last pixel's second neighbour may touch with weight 0.
fn sized(row: &mut Vec<i16>, used: usize) -> &mut [i16] {
    row.resize(used + 1, 0);
    &mut row[..used]
}

fn cleared(row: &mut Vec<f32>, used: usize) -> &mut [f32] {
    row.clear();
    row.resize(used, 0.0);
    row
}
