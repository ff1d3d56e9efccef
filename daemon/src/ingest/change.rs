//! Motion and scene cuts from a coarse grid of luma samples.
//!
//! In: each picture in order, or its grid where somebody else gathered it (a picture in video memory: `cuda::grid`).
//! Out: [`Change`]: motion, and whether a cut lies before it. One owner per source; cannot fail. A grid of at most
//! 64 × 36 samples is read, whatever the picture's size, so that a frame costs microseconds.
//!
//! A cut is a change that is large in itself, large against the recent motion of this stream, and that a change
//! of brightness alone does not explain: mean absolute difference after removing the mean, and the distance of
//! the luma histograms (both as in Zhang, Kankanhalli and Smoliar, "Automatic partitioning of full-motion video",
//! 1993, with a threshold that adapts to the recent level).

use crate::flow::{Picture, PixelFormat, Range, Size};

/// Samples across at most.
pub(super) const COLUMNS: usize = 64;
/// Samples down at most.
pub(super) const ROWS: usize = 36;
/// Classes of the luma histogram.
const BINS: usize = 32;
/// A cut changes the mean-free luma by at least so much of the full range.
const CUT_DIFFERENCE: f32 = 0.06;
/// A cut is at least so many times the recent motion.
const CUT_RATIO: f32 = 4.0;
/// A cut moves at least so much of the histogram, 0 to 1, once the mean is removed.
const CUT_HISTOGRAM: f32 = 0.20;
/// A change so large is a cut whatever the histogram says (two views of one room have like histograms).
const CUT_CERTAIN: f32 = 0.16;
/// Weight of the newest frame in the recent motion.
const RECENT: f32 = 0.1;

/// What changed from the frame before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Change {
    /// Mean absolute luma change, 0 to 1.
    pub motion: f32,
    /// A scene cut lies between.
    pub cut: bool,
}

/// Compares each picture with the one before.
#[derive(Debug, Default)]
pub struct ChangeMeter {
    before: Vec<u8>,
    now: Vec<u8>,
    size: Size,
    /// Recent level of motion.
    level: f32,
    /// Frames that the level rests on.
    frames: u32,
}

impl ChangeMeter {
    /// Measures the change to the picture before. The first picture, and one of another size, has motion 0; a
    /// change of size counts as a cut.
    pub fn measure(&mut self, picture: &Picture) -> Change {
        std::mem::swap(&mut self.before, &mut self.now);
        sample(picture, &mut self.now);
        self.change(picture.size)
    }

    /// The same, from the samples of a picture of this size: 8 bit and full range, row by row, at the places of the grid.
    pub fn measure_grid(&mut self, size: Size, grid: &[u8]) -> Change {
        std::mem::swap(&mut self.before, &mut self.now);
        self.now.clear();
        self.now.extend_from_slice(grid);
        self.change(size)
    }

    /// From the samples before to those now.
    fn change(&mut self, size: Size) -> Change {
        if self.before.is_empty() || self.now.is_empty() {
            self.size = size;
            return Change::default();
        }
        if size != self.size {
            self.size = size;
            self.frames = 0;
            return Change { motion: 0.0, cut: true };
        }
        let motion = mean_difference(&self.before, &self.now, 0);
        let cut = self.is_cut(motion);
        // Cuts count towards the level: a video that "cuts" at each frame is noise, and soon taken for it.
        self.frames = self.frames.saturating_add(1);
        let weight = RECENT.max(1.0 / self.frames as f32);
        self.level += (motion - self.level) * weight;
        Change { motion, cut }
    }

    fn is_cut(&self, motion: f32) -> bool {
        if motion < CUT_DIFFERENCE {
            return false;
        }
        // A flash or an exposure step shifts all samples alike: look at what remains without the shift.
        let shift = mean(&self.now) - mean(&self.before);
        let remaining = mean_difference(&self.before, &self.now, shift);
        if remaining < CUT_DIFFERENCE || remaining < CUT_RATIO * self.level {
            return false;
        }
        remaining > CUT_CERTAIN || histogram_distance(&self.before, &self.now, shift) > CUT_HISTOGRAM
    }
}

/// Columns and rows of the grid of a picture.
pub(super) fn grid_size(size: Size) -> (usize, usize) {
    (COLUMNS.min(size.width as usize), ROWS.min(size.height as usize))
}

/// Reads the grid, 8 bit and full range.
pub(super) fn sample(picture: &Picture, grid: &mut Vec<u8>) {
    grid.clear();
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    let (bytes, offset) = match picture.format {
        PixelFormat::Nv12 | PixelFormat::I420 => (1, 0),
        // The high byte of a little-endian word whose high ten bits are the sample.
        PixelFormat::P010 => (2, 1),
    };
    let (columns, rows) = grid_size(picture.size);
    let (plane, stride) = (picture.plane(0), picture.strides[0]);
    for row in 0..rows {
        let y = (row * 2 + 1) * height / (rows * 2);
        for column in 0..columns {
            let x = (column * 2 + 1) * width / (columns * 2);
            let Some(&luma) = plane.get(y * stride + x * bytes + offset) else { continue };
            grid.push(match picture.color.range {
                Range::Full => luma,
                Range::Limited => ((i32::from(luma) - 16) * 255 / 219).clamp(0, 255) as u8,
            });
        }
    }
}

fn mean(grid: &[u8]) -> i32 {
    grid.iter().map(|&v| i32::from(v)).sum::<i32>() / grid.len().max(1) as i32
}

/// Mean absolute difference once `shift` is taken from `b`, 0 to 1.
fn mean_difference(a: &[u8], b: &[u8], shift: i32) -> f32 {
    let sum: i64 =
        a.iter().zip(b).map(|(&a, &b)| i64::from((i32::from(b) - shift - i32::from(a)).abs())).sum();
    sum as f32 / (a.len().min(b.len()).max(1) as f32 * 255.0)
}

/// Half the L1 distance of the histograms once `shift` is taken from `b`, 0 (same) to 1 (disjoint).
fn histogram_distance(a: &[u8], b: &[u8], shift: i32) -> f32 {
    let mut bins = [0i32; BINS];
    let bin = |v: i32| (v.clamp(0, 255) as usize * BINS) / 256;
    a.iter().for_each(|&v| bins[bin(i32::from(v))] += 1);
    b.iter().for_each(|&v| bins[bin(i32::from(v) - shift)] -= 1);
    bins.iter().map(|n| n.abs()).sum::<i32>() as f32 / (a.len() + b.len()).max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Colorimetry, Matrix};

    fn picture(width: u32, height: u32, luma: impl Fn(usize, usize) -> u8) -> Picture {
        let color = Colorimetry { matrix: Matrix::Bt601, range: Range::Full };
        let (w, h) = (width as usize, height as usize);
        let bytes = (0..w * h).map(|i| luma(i % w, i / w)).collect();
        let chroma = vec![128; w.div_ceil(2) * 2 * h.div_ceil(2)];
        Picture::nv12(Size::new(width, height), color, bytes, chroma)
    }

    /// A textured scene, moved to the right by `by` pixels.
    fn scene(seed: usize, by: usize) -> Picture {
        picture(320, 180, |x, y| {
            let (x, y) = ((x + 4000 - by) / 24, y / 24);
            (60 + (x * 37 + y * 91 + x * y * seed) * (seed + 3) % 120) as u8
        })
    }

    #[test]
    fn a_still_picture_has_no_motion() {
        let mut meter = ChangeMeter::default();
        for _ in 0..3 {
            assert_eq!(meter.measure(&scene(5, 0)), Change::default());
        }
    }

    #[test]
    fn motion_is_the_mean_change() {
        let mut meter = ChangeMeter::default();
        meter.measure(&picture(64, 36, |_, _| 100));
        let change = meter.measure(&picture(64, 36, |x, _| if x < 32 { 151 } else { 100 }));
        assert!((change.motion - 0.1).abs() < 1e-3, "{change:?}");
    }

    #[test]
    fn another_scene_is_a_cut_and_motion_is_none() {
        let mut meter = ChangeMeter::default();
        for by in 0..40 {
            let change = meter.measure(&scene(5, by * 2));
            assert!(!change.cut, "at {by}: {change:?}");
        }
        assert!(meter.measure(&scene(11, 0)).cut);
        assert!(!meter.measure(&scene(11, 2)).cut);
    }

    #[test]
    fn light_switched_on_is_no_cut() {
        let mut meter = ChangeMeter::default();
        let lit =
            |add: u8| picture(320, 180, move |x, y| (40 + (x / 20 * 31 + y / 20 * 17) % 90) as u8 + add);
        for _ in 0..5 {
            meter.measure(&lit(0));
        }
        let change = meter.measure(&lit(90));
        assert!(change.motion > 0.3 && !change.cut, "{change:?}");
    }

    #[test]
    fn wild_motion_raises_the_threshold() {
        let noise = |seed: usize| {
            picture(64, 36, move |x, y| ((x * 7919 + y * 104_729 + seed * 1_299_709) % 251) as u8)
        };
        let mut meter = ChangeMeter::default();
        let cuts = (0..50).filter(|&i| meter.measure(&noise(i)).cut).count();
        assert!(cuts <= 1, "{cuts} cuts in noise");
    }

    #[test]
    fn ten_bit_and_limited_range() {
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let make = |code: u16| {
            let luma: Vec<u8> = (0..64 * 36).flat_map(|_| (code << 6).to_le_bytes()).collect();
            let planes = std::sync::Arc::new(vec![luma, vec![0; 64 * 36]]);
            Picture::new(PixelFormat::P010, Size::new(64, 36), [128, 128, 0], color, planes)
        };
        let mut meter = ChangeMeter::default();
        meter.measure(&make(64));
        let change = meter.measure(&make(940));
        assert!((change.motion - 1.0).abs() < 0.01, "{change:?}");
    }

    #[test]
    fn a_new_size_is_a_cut_and_tiny_pictures_are_fine() {
        let mut meter = ChangeMeter::default();
        meter.measure(&picture(64, 36, |_, _| 9));
        assert!(meter.measure(&picture(1, 1, |_, _| 9)).cut);
        assert!(!meter.measure(&picture(1, 1, |_, _| 9)).cut);
    }
}
