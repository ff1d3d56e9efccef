//! The fence around SIMD: picks the instruction set once and calls the row kernels compiled for it.
//!
//! In and out: as [`super::kernels`], whose code this compiles again for AVX2 (with FMA) and for AVX-512, except for
//! the horizontal blend, which the compiler cannot vectorise and which is written here with gathers. Nothing fails.
#![allow(unsafe_code)]

use super::axis::Lerp;
use super::color::Fold;
use super::kernels;

/// The instruction set in use. A value that says AVX exists only where the processor has it.
#[derive(Debug, Clone, Copy)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy)]
enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().pop().unwrap_or(Self::baseline())
    }

    /// What every processor of this architecture has.
    #[must_use]
    pub fn baseline() -> Self {
        Self(Level::Baseline)
    }

    /// All that this processor has, the best last.
    #[must_use]
    pub fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut all = vec![Self::baseline()];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                all.push(Self(Level::Avx2));
                // VBMI is asked for though nothing here uses it: processors without it slow down where wide registers
                // are in use.
                if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vbmi") {
                    all.push(Self(Level::Avx512));
                }
            }
        }
        all
    }

    /// Name for logs and benchmarks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }
}

macro_rules! dispatch {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?);)*) => {
        impl Isa {
            $(
                $(#[$doc])*
                #[inline]
                pub fn $name(self, $($arg: $type),*) {
                    match self.0 {
                        Level::Baseline => kernels::$name($($arg),*),
                        // SAFETY: this level is given only where `all` found AVX2, FMA and F16C.
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2 => unsafe { avx2::$name($($arg),*) },
                        // SAFETY: this level is given only where `all` found those and AVX-512 F, BW and VL.
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512 => unsafe { avx512::$name($($arg),*) },
                    }
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::{Fold, kernels};

            $(
                #[target_feature(enable = "avx2,fma,f16c")]
                pub fn $name($($arg: $type),*) {
                    kernels::$name($($arg),*);
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::{Fold, kernels};

            $(
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
                pub fn $name($($arg: $type),*) {
                    kernels::$name($($arg),*);
                }
            )*
        }
    };
}

dispatch! {
    /// See [`kernels::blend_bytes`].
    fn blend_bytes(a: &[u8], b: &[u8], weight: i16, out: &mut [i16]);
    /// See [`kernels::blend_byte_pairs`].
    fn blend_byte_pairs(a: &[u8], b: &[u8], weight: i16, u: &mut [i16], v: &mut [i16]);
    /// See [`kernels::blend_words`].
    fn blend_words(a: &[u8], b: &[u8], weight: i16, out: &mut [i16]);
    /// See [`kernels::blend_word_pairs`].
    fn blend_word_pairs(a: &[u8], b: &[u8], weight: i16, u: &mut [i16], v: &mut [i16]);
    /// See [`kernels::add_bytes`].
    fn add_bytes(row: &[u8], weight: f32, sum: &mut [f32]);
    /// See [`kernels::add_byte_pairs`].
    fn add_byte_pairs(row: &[u8], weight: f32, u: &mut [f32], v: &mut [f32]);
    /// See [`kernels::add_words`].
    fn add_words(row: &[u8], weight: f32, sum: &mut [f32]);
    /// See [`kernels::add_word_pairs`].
    fn add_word_pairs(row: &[u8], weight: f32, u: &mut [f32], v: &mut [f32]);
    /// See [`kernels::convert`].
    fn convert(fold: &Fold, unit: f32, y: &[f32], u: &[f32], v: &[f32], out: &mut [f32]);
    /// See [`kernels::convert_gray`].
    fn convert_gray(fold: &Fold, unit: f32, y: &[f32], out: &mut [f32]);
    /// See [`kernels::interleave`].
    fn interleave(channels: [&[f32]; 3], out: &mut [f32]);
    /// See [`kernels::to_bytes`].
    fn to_bytes(row: &[f32], out: &mut [u8]);
}

impl Isa {
    /// Blends neighbours of a row as the table says; see [`kernels::lerp`].
    ///
    /// # Panics
    /// Where `row` is not longer than [`Lerp::used`].
    pub fn lerp(self, row: &[i16], table: &Lerp, out: &mut [f32]) {
        assert!(row.len() > table.used(), "a row of {} samples for {}", row.len(), table.used());
        let (indices, weights) = (table.indices(), table.weights());
        match self.0 {
            Level::Baseline => kernels::lerp(row, indices, weights, out),
            // SAFETY: this level is given only where `all` found AVX2; every index of a table is non-negative and
            // less than `used`, so `index + 1` lies in the row, as just asserted.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { gather(row, indices, weights, out) },
            // SAFETY: as above, with AVX-512 F and BW.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { gather_wide(row, indices, weights, out) },
        }
    }
}

/// As [`gather`], sixteen pixels at a time.
///
/// # Safety
/// `row[index]` and `row[index + 1]` must exist for every index.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn gather_wide(row: &[i16], indices: &[i32], weights: &[i32], out: &mut [f32]) {
    use std::arch::x86_64::{
        _mm512_cvtepi32_ps, _mm512_i32gather_epi32, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_storeu_ps,
    };

    let groups = indices.chunks_exact(16).zip(weights.chunks_exact(16));
    for (out, (index, weight)) in out.chunks_exact_mut(16).zip(groups) {
        // SAFETY: the three slices hold sixteen elements each, and the caller vouches for the indices: four bytes
        // at `row + 2 × index` are two elements of the row.
        unsafe {
            let index = _mm512_loadu_si512(index.as_ptr().cast());
            let weight = _mm512_loadu_si512(weight.as_ptr().cast());
            let pairs = _mm512_i32gather_epi32::<2>(index, row.as_ptr().cast());
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtepi32_ps(_mm512_madd_epi16(pairs, weight)));
        }
    }
    let done = indices.len().min(out.len()) / 16 * 16;
    kernels::lerp(row, &indices[done..], &weights[done..], &mut out[done..]);
}

/// As [`kernels::lerp`], eight pixels at a time: one gather fetches both neighbours of a pixel as one 32-bit
/// word, and a multiply-add of 16-bit pairs blends them.
///
/// # Safety
/// `row[index]` and `row[index + 1]` must exist for every index.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn gather(row: &[i16], indices: &[i32], weights: &[i32], out: &mut [f32]) {
    use std::arch::x86_64::{
        _mm256_cvtepi32_ps, _mm256_i32gather_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_storeu_ps,
    };

    let groups = indices.chunks_exact(8).zip(weights.chunks_exact(8));
    for (out, (index, weight)) in out.chunks_exact_mut(8).zip(groups) {
        // SAFETY: the three slices hold eight elements each, and the caller vouches for the indices: four bytes
        // at `row + 2 × index` are two elements of the row.
        unsafe {
            let index = _mm256_loadu_si256(index.as_ptr().cast());
            let weight = _mm256_loadu_si256(weight.as_ptr().cast());
            let pairs = _mm256_i32gather_epi32::<2>(row.as_ptr().cast(), index);
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, weight)));
        }
    }
    let done = indices.len().min(out.len()) / 8 * 8;
    kernels::lerp(row, &indices[done..], &weights[done..], &mut out[done..]);
}
