//! Colour conversion, scale, mean and std folded into one 3 × 4 matrix.
//!
//! In: a picture's colorimetry and depth, and the manifest's input. Out: a [`Fold`] that turns raw Y, Cb, Cr
//! samples into the tensor's values. Nothing fails; the manifest's numbers were checked when it was read.

use crate::config::manifest::{Channels, Input};
use crate::flow::{Colorimetry, Matrix, PixelFormat, Range};

/// One channel of the tensor: `clamp(y·Y + u·Cb + v·Cr + offset, low, high)`, with Y, Cb, Cr in 8-bit units
/// (10-bit samples divided by 4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fold {
    /// Factor of Y.
    pub y: f32,
    /// Factor of Cb.
    pub u: f32,
    /// Factor of Cr.
    pub v: f32,
    /// Added.
    pub offset: f32,
    /// What sample 0 becomes.
    pub low: f32,
    /// What sample 255 becomes.
    pub high: f32,
    /// What padding becomes.
    pub pad: f32,
}

/// The folds of an input's channels in tensor order: three, or one for gray.
#[must_use]
pub fn folds(input: &Input, color: Colorimetry, format: PixelFormat) -> Vec<Fold> {
    // ITU-R BT.601-7, BT.709-6 and BT.2020-2: E'Y = Kr·E'R + Kg·E'G + Kb·E'B.
    let (kr, kb) = match color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    let kg = 1.0 - kr - kb;
    // ITU-T H.273 clause 8.3: in full range the largest code stands for 1, which is 1023 / 4 for 10 bits.
    let full = if format == PixelFormat::P010 { 255.75 } else { 255.0 };
    let (y_zero, y_range, c_range) = match color.range {
        Range::Limited => (16.0, 219.0, 224.0),
        Range::Full => (0.0, full, full),
    };
    let (y, c) = (255.0 / y_range, 255.0 / c_range);
    let red = [y, 0.0, c * 2.0 * (1.0 - kr)];
    let green = [y, -c * 2.0 * kb * (1.0 - kb) / kg, -c * 2.0 * kr * (1.0 - kr) / kg];
    let blue = [y, c * 2.0 * (1.0 - kb), 0.0];
    let rows: &[[f64; 3]] = match input.channels {
        Channels::Rgb => &[red, green, blue],
        Channels::Bgr => &[blue, green, red],
        Channels::Gray => &[[y, 0.0, 0.0]],
    };
    rows.iter()
        .enumerate()
        .map(|(channel, row)| {
            let mean = f64::from(pick(&input.mean, channel, 0.0));
            let std = f64::from(pick(&input.std, channel, 1.0));
            let gain = f64::from(input.scale) / std;
            let value = |sample: f64| gain * sample - mean / std;
            Fold {
                y: (gain * row[0]) as f32,
                u: (gain * row[1]) as f32,
                v: (gain * row[2]) as f32,
                offset: value(-row[0] * y_zero - (row[1] + row[2]) * 128.0) as f32,
                low: value(0.0) as f32,
                high: value(255.0) as f32,
                pad: value(f64::from(input.pad)) as f32,
            }
        })
        .collect()
}

/// Folds, and the colorimetry and format they were made for.
pub type Known = (Colorimetry, PixelFormat, Vec<Fold>);

/// The folds of an input for pictures like this one: those known already, where they fit.
pub fn kept<'a>(
    known: &'a mut Option<Known>,
    input: &Input,
    color: Colorimetry,
    format: PixelFormat,
) -> &'a [Fold] {
    let same = known.take().filter(|known| (known.0, known.1) == (color, format));
    let (.., folds) = &*known.insert(same.unwrap_or_else(|| (color, format, folds(input, color, format))));
    folds
}

/// A per-channel number of the manifest: none is the default, one is for all.
fn pick(values: &[f32], channel: usize, default: f32) -> f32 {
    match values {
        [] => default,
        [one] => *one,
        many => many.get(channel).copied().unwrap_or(default),
    }
}
