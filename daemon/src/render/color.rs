//! Colours for drawing: 0xRRGGBB to the picture's Y'CbCr, stable colours for tracks.
//!
//! In: colours, track ids. Out: samples. Pure functions; nothing fails.

use crate::flow::{Colorimetry, Matrix, Range};

/// One colour in a picture's own Y'CbCr, 8 bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ycc {
    pub y: u8,
    pub cb: u8,
    pub cr: u8,
}

/// The 8-bit luma of black.
pub(super) const fn black_luma(range: Range) -> u8 {
    match range {
        Range::Limited => 16,
        Range::Full => 0,
    }
}

/// 0xRRGGBB in a picture's colorimetry (ITU-T H.273, equations for `MatrixCoefficients` 1, 6 and 9).
pub(super) fn ycc(rgb: u32, color: Colorimetry) -> Ycc {
    let (kr, kb) = match color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    let [_, r, g, b] = rgb.to_be_bytes().map(|byte| f32::from(byte) / 255.0);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let cb = (b - y) / (2.0 * (1.0 - kb));
    let cr = (r - y) / (2.0 * (1.0 - kr));
    let (offset, luma, chroma) = match color.range {
        Range::Limited => (16.0, 219.0, 224.0),
        Range::Full => (0.0, 255.0, 255.0),
    };
    let byte = |value: f32| value.round().clamp(0.0, 255.0) as u8;
    Ycc { y: byte(offset + luma * y), cb: byte(128.0 + chroma * cb), cr: byte(128.0 + chroma * cr) }
}

/// Black or white, whichever reads better on `rgb`.
pub(super) fn contrast(rgb: u32) -> u32 {
    let [_, r, g, b] = rgb.to_be_bytes().map(u32::from);
    // The luma weights of BT.709, times 1000; the threshold lies where both contrasts are equal to the eye.
    if 213 * r + 715 * g + 72 * b > 130_000 { 0x0000_0000 } else { 0x00FF_FFFF }
}

/// A colour for a track: always the same for one id, far apart for ids that follow each other.
///
/// The hue steps by the golden angle, which keeps any run of ids spread around the circle.
pub(super) fn of_track(track: u64) -> u32 {
    // 2^64 over the golden ratio: the fraction of track × 0.618... without losing large ids to rounding.
    let turn = track.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hue = (turn >> 40) as f32 / (1u64 << 24) as f32;
    let lightness = [0.56, 0.68, 0.46][(track % 3) as usize];
    hsl(hue, 0.95, lightness)
}

/// Hue, saturation, lightness (0 to 1 each) to 0xRRGGBB.
fn hsl(hue: f32, saturation: f32, lightness: f32) -> u32 {
    let reach = saturation * lightness.min(1.0 - lightness);
    let channel = |offset: f32| {
        let k = (offset + hue * 12.0) % 12.0;
        let value = lightness - reach * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u32
    };
    channel(0.0) << 16 | channel(8.0) << 8 | channel(4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        let sd = Colorimetry { matrix: Matrix::Bt601, range: Range::Limited };
        let hd = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let full = Colorimetry { matrix: Matrix::Bt601, range: Range::Full };
        // The 100 % red of SMPTE colour bars, as the standards' tables give it.
        assert_eq!(ycc(0xFF0000, sd), Ycc { y: 81, cb: 90, cr: 240 });
        assert_eq!(ycc(0xFF0000, hd), Ycc { y: 63, cb: 102, cr: 240 });
        assert_eq!(ycc(0xFFFFFF, hd), Ycc { y: 235, cb: 128, cr: 128 });
        assert_eq!(ycc(0x000000, hd), Ycc { y: 16, cb: 128, cr: 128 });
        assert_eq!(ycc(0xFFFFFF, full), Ycc { y: 255, cb: 128, cr: 128 });
        assert_eq!(hsl(0.0, 1.0, 0.5), 0xFF0000);
        assert_eq!(hsl(1.0 / 3.0, 1.0, 0.5), 0x00FF00);
    }

    #[test]
    fn tracks_that_follow_each_other_differ() {
        for first in [1u64, 100, 1 << 40, u64::MAX - 8] {
            for a in first..first + 6 {
                for b in a + 1..first + 7 {
                    let distance: i32 = (0..3)
                        .map(|i| {
                            let channel = |c: u32| (c >> (8 * i) & 255) as i32;
                            (channel(of_track(a)) - channel(of_track(b))).abs()
                        })
                        .sum();
                    assert!(distance > 60, "tracks {a} and {b} look alike: {distance}");
                }
            }
        }
        assert_eq!(of_track(42), of_track(42));
    }
}
