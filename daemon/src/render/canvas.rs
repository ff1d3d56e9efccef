//! An NV12 picture to draw on: blended areas, lines and glyphs, with coverage for smooth edges.
//!
//! In: byte planes, colours, shapes in output pixels. Out: changed bytes. Borrows the planes for one frame.
//! Whatever lies outside the clip is left alone; nothing fails.

use crate::flow::Size;

use super::color::Ycc;
use super::font::Glyph;
use super::placement::Area;
use super::surface::{FULL, Surface};

/// The planes of one NV12 picture, tightly packed.
pub(super) struct Canvas<'a> {
    clip: Area,
    width: usize,
    height: usize,
    chroma_width: usize,
    luma: &'a mut [u8],
    chroma: &'a mut [u8],
}

impl<'a> Canvas<'a> {
    /// A canvas over planes of this size.
    pub(super) fn new(size: Size, luma: &'a mut [u8], chroma: &'a mut [u8]) -> Self {
        let clip = Area::new(0, 0, size.width as i32, size.height as i32);
        let [width, height, chroma_width] =
            [size.width, size.height, size.width.div_ceil(2)].map(|length| length as usize);
        Self { clip, width, height, chroma_width, luma, chroma }
    }

    /// Every sample: one luma, one value for both kinds of chroma.
    pub(super) fn fill(&mut self, luma: u8, chroma: u8) {
        self.luma.fill(luma);
        self.chroma.fill(chroma);
    }

    /// Row `y` of an area, in luma.
    pub(super) fn luma_row(&mut self, area: Area, y: usize) -> &mut [u8] {
        let start = (area.top as usize + y) * self.width + area.left as usize;
        &mut self.luma[start..start + area.width() as usize]
    }

    /// Chroma row `y` of an area with an even corner, as pairs.
    pub(super) fn chroma_row(&mut self, area: Area, y: usize) -> &mut [u8] {
        let start = ((area.top as usize / 2 + y) * self.chroma_width + area.left as usize / 2) * 2;
        &mut self.chroma[start..start + (area.width() as usize).div_ceil(2) * 2]
    }

    /// Blends a colour over an area; `cover(x, y)` says how much of it, 0 to [`FULL`].
    ///
    /// A chroma sample takes the mean coverage of the up to four pixels it belongs to.
    fn paint(&mut self, area: Area, color: Ycc, cover: impl Fn(i32, i32) -> u32) {
        let area = area.intersect(&self.clip);
        if area.width() == 0 || area.height() == 0 {
            return;
        }
        for cell_y in area.top.div_euclid(2)..(area.bottom + 1).div_euclid(2) {
            let (top, bottom) = ((cell_y * 2).max(area.top), (cell_y * 2 + 2).min(area.bottom));
            for cell_x in area.left.div_euclid(2)..(area.right + 1).div_euclid(2) {
                let (left, right) = ((cell_x * 2).max(area.left), (cell_x * 2 + 2).min(area.right));
                let mut total = 0;
                for y in top..bottom {
                    for x in left..right {
                        let alpha = cover(x, y);
                        if alpha == 0 {
                            continue;
                        }
                        total += alpha;
                        blend(&mut self.luma[y as usize * self.width + x as usize], color.y, alpha);
                    }
                }
                // Most of a glyph's and a line's surroundings they leave alone.
                if total == 0 {
                    continue;
                }
                let cell = (cell_y as usize * self.chroma_width + cell_x as usize) * 2;
                // At an odd edge of the picture a chroma sample has fewer than four pixels.
                let share = total >> self.pixels(cell_x, cell_y);
                blend(&mut self.chroma[cell], color.cb, share);
                blend(&mut self.chroma[cell + 1], color.cr, share);
            }
        }
    }

    /// Pixels that share a chroma sample, as a power of two.
    fn pixels(&self, cell_x: i32, cell_y: i32) -> u32 {
        let across = cell_x as usize * 2 + 1 < self.width;
        let down = cell_y as usize * 2 + 1 < self.height;
        u32::from(across) + u32::from(down)
    }
}

impl Surface for Canvas<'_> {
    fn clip(&self) -> Area {
        self.clip
    }

    fn set_clip(&mut self, clip: Area) {
        self.clip = clip;
    }

    fn rectangle(&mut self, area: Area, color: Ycc, alpha: u32) {
        let area = area.intersect(&self.clip);
        if area.width() == 0 || area.height() == 0 {
            return;
        }
        for y in 0..area.height() as usize {
            let row = self.luma_row(area, y);
            if alpha == FULL {
                row.fill(color.y);
            } else {
                row.iter_mut().for_each(|sample| blend(sample, color.y, alpha));
            }
        }
        let covered = |cell: i32, from: i32, to: i32| (cell * 2 + 2).min(to) - (cell * 2).max(from);
        for cell_y in area.top / 2..(area.bottom + 1) / 2 {
            let rows = covered(cell_y, area.top, area.bottom);
            for cell_x in area.left / 2..(area.right + 1) / 2 {
                let pixels = (rows * covered(cell_x, area.left, area.right)) as u32;
                let share = (alpha * pixels) >> self.pixels(cell_x, cell_y);
                let cell = (cell_y as usize * self.chroma_width + cell_x as usize) * 2;
                blend(&mut self.chroma[cell], color.cb, share);
                blend(&mut self.chroma[cell + 1], color.cr, share);
            }
        }
    }

    fn glyph(&mut self, area: Area, color: Ycc, _: char, glyph: &Glyph) {
        let Area { left, top, right, .. } = area;
        let (width, cover) = (right - left, &glyph.cover);
        self.paint(area, color, |x, y| u32::from(cover[((y - top) * width + x - left) as usize]));
    }

    fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, color: Ycc) {
        let reach = width / 2.0 + 1.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length2 = dx * dx + dy * dy;
        let cover = |x: i32, y: i32| {
            let (px, py) = (x as f32 + 0.5 - from.0, y as f32 + 0.5 - from.1);
            let along = if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
            let (ex, ey) = (px - along * dx, py - along * dy);
            let inside = width / 2.0 + 0.5 - (ex * ex + ey * ey).sqrt();
            (inside.clamp(0.0, 1.0) * FULL as f32) as u32
        };
        let top = (from.1.min(to.1) - reach).floor().max(self.clip.top as f32) as i32;
        let bottom = (from.1.max(to.1) + reach).ceil().min(self.clip.bottom as f32) as i32;
        // Two rows at a time, and of those only the part near the line: cost follows its length.
        let mut y = top & !1;
        while y < bottom {
            let (mut left, mut right) = (from.0.min(to.0), from.0.max(to.0));
            if dy.abs() > 1e-3 {
                let at = |y: f32| from.0 + dx * (y - from.1) / dy;
                let (a, b) = (at(y as f32 - reach), at(y as f32 + 2.0 + reach));
                (left, right) = (left.max(a.min(b)), right.min(a.max(b)));
            }
            let area = Area::new((left - reach).floor() as i32, y, (right + reach).ceil() as i32, y + 2);
            self.paint(area.intersect(&Area { top, bottom, ..area }), color, cover);
            y += 2;
        }
    }
}

fn blend(sample: &mut u8, color: u8, alpha: u32) {
    let old = u32::from(*sample);
    *sample = ((old * (FULL - alpha) + u32::from(color) * alpha + FULL / 2) >> 8) as u8;
}
