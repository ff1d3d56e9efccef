//! The row kernels in plain Rust, written so that the compiler can vectorise them.
//!
//! In: rows of samples and tables. Out: rows of numbers. Owned by [`super::cpu`], which calls them through
//! [`super::simd`]. Nothing fails; lengths are cut to the shortest row.
//!
//! Fixed point: a vertically blended row holds samples with 7 fractional bits (5 for 10-bit samples), which
//! fills 15 bits; horizontal weights have 14 bits; so a horizontally blended value has 21 fractional bits of an
//! 8-bit sample in both cases.

use super::color::Fold;

/// Factor from a horizontally blended value to an 8-bit sample.
pub const UNIT: f32 = 1.0 / (1 << 21) as f32;

/// `a + (b − a) × weight / 32768` with the fractional bits that `a` and `b` carry, rounded to nearest.
#[inline(always)]
fn blend(a: i16, b: i16, weight: i16) -> i16 {
    // The difference of two values of at most 15 bits fits 16 bits; the product is what PMULHRSW computes.
    let product = i32::from(b - a) * i32::from(weight);
    a + (((product >> 14) + 1) >> 1) as i16
}

#[inline(always)]
fn byte(sample: u8) -> i16 {
    i16::from(sample) << 7
}

/// A P010 word (10 bits in the high bits) as a value of 15 bits.
#[inline(always)]
fn word(low: u8, high: u8) -> i16 {
    ((u16::from_le_bytes([low, high]) >> 6) << 5) as i16
}

/// Blends two rows of 8-bit samples.
#[inline(always)]
pub fn blend_bytes(a: &[u8], b: &[u8], weight: i16, out: &mut [i16]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = blend(byte(*a), byte(*b), weight);
    }
}

/// Blends two rows of interleaved 8-bit Cb, Cr.
#[inline(always)]
pub fn blend_byte_pairs(a: &[u8], b: &[u8], weight: i16, u: &mut [i16], v: &mut [i16]) {
    let pairs = a.chunks_exact(2).zip(b.chunks_exact(2));
    for ((u, v), (a, b)) in u.iter_mut().zip(v).zip(pairs) {
        *u = blend(byte(a[0]), byte(b[0]), weight);
        *v = blend(byte(a[1]), byte(b[1]), weight);
    }
}

/// Blends two rows of P010 luma.
#[inline(always)]
pub fn blend_words(a: &[u8], b: &[u8], weight: i16, out: &mut [i16]) {
    for ((out, a), b) in out.iter_mut().zip(a.chunks_exact(2)).zip(b.chunks_exact(2)) {
        *out = blend(word(a[0], a[1]), word(b[0], b[1]), weight);
    }
}

/// Blends two rows of P010 chroma.
#[inline(always)]
pub fn blend_word_pairs(a: &[u8], b: &[u8], weight: i16, u: &mut [i16], v: &mut [i16]) {
    let pairs = a.chunks_exact(4).zip(b.chunks_exact(4));
    for ((u, v), (a, b)) in u.iter_mut().zip(v).zip(pairs) {
        *u = blend(word(a[0], a[1]), word(b[0], b[1]), weight);
        *v = blend(word(a[2], a[3]), word(b[2], b[3]), weight);
    }
}

/// Blends neighbours of a row: `row[index] × low weight + row[index + 1] × high weight`, unscaled.
#[inline(always)]
pub fn lerp(row: &[i16], indices: &[i32], weights: &[i32], out: &mut [f32]) {
    for ((out, index), weights) in out.iter_mut().zip(indices).zip(weights) {
        let index = *index as usize;
        let (low, high) = (i32::from(row[index]), i32::from(row[index + 1]));
        *out = (low * (weights & 0xffff) + high * (weights >> 16)) as f32;
    }
}

/// Adds a weighted row of 8-bit samples to a sum.
#[inline(always)]
pub fn add_bytes(row: &[u8], weight: f32, sum: &mut [f32]) {
    for (sum, sample) in sum.iter_mut().zip(row) {
        *sum += f32::from(*sample) * weight;
    }
}

/// Adds a weighted row of interleaved 8-bit Cb, Cr to two sums.
#[inline(always)]
pub fn add_byte_pairs(row: &[u8], weight: f32, u: &mut [f32], v: &mut [f32]) {
    for ((u, v), pair) in u.iter_mut().zip(v).zip(row.chunks_exact(2)) {
        *u += f32::from(pair[0]) * weight;
        *v += f32::from(pair[1]) * weight;
    }
}

/// Adds a weighted row of P010 luma to a sum, in 8-bit units.
#[inline(always)]
pub fn add_words(row: &[u8], weight: f32, sum: &mut [f32]) {
    let weight = weight / 4.0;
    for (sum, sample) in sum.iter_mut().zip(row.chunks_exact(2)) {
        *sum += f32::from(u16::from_le_bytes([sample[0], sample[1]]) >> 6) * weight;
    }
}

/// Adds a weighted row of P010 chroma to two sums, in 8-bit units.
#[inline(always)]
pub fn add_word_pairs(row: &[u8], weight: f32, u: &mut [f32], v: &mut [f32]) {
    let weight = weight / 4.0;
    for ((u, v), pair) in u.iter_mut().zip(v).zip(row.chunks_exact(4)) {
        *u += f32::from(u16::from_le_bytes([pair[0], pair[1]]) >> 6) * weight;
        *v += f32::from(u16::from_le_bytes([pair[2], pair[3]]) >> 6) * weight;
    }
}

/// Turns a row of Y, Cb, Cr into a row of one channel.
#[inline(always)]
pub fn convert(fold: &Fold, unit: f32, y: &[f32], u: &[f32], v: &[f32], out: &mut [f32]) {
    let (fy, fu, fv) = (fold.y * unit, fold.u * unit, fold.v * unit);
    for (((out, y), u), v) in out.iter_mut().zip(y).zip(u).zip(v) {
        let value = fy * y + fu * u + fv * v + fold.offset;
        *out = value.max(fold.low).min(fold.high);
    }
}

/// Turns a row of Y into a row of gray.
#[inline(always)]
pub fn convert_gray(fold: &Fold, unit: f32, y: &[f32], out: &mut [f32]) {
    let factor = fold.y * unit;
    for (out, y) in out.iter_mut().zip(y) {
        *out = (factor * y + fold.offset).max(fold.low).min(fold.high);
    }
}

/// Interleaves three channels.
#[inline(always)]
pub fn interleave(channels: [&[f32]; 3], out: &mut [f32]) {
    let [a, b, c] = channels;
    for (((out, a), b), c) in out.chunks_exact_mut(3).zip(a).zip(b).zip(c) {
        out[0] = *a;
        out[1] = *b;
        out[2] = *c;
    }
}

/// Rounds to bytes, saturating.
#[inline(always)]
pub fn to_bytes(row: &[f32], out: &mut [u8]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out = (value + 0.5) as u8;
    }
}
