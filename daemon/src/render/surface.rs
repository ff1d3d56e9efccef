//! What the painter draws on: a canvas in host memory, or a list for the GPU.
//!
//! In: areas, lines and glyphs in output pixels. Out: whatever the surface makes of them; later ones lie over earlier
//! ones. Whatever lies outside the clip is left alone; nothing fails.

use super::color::Ycc;
use super::font::Glyph;
use super::placement::Area;

/// Full coverage.
pub(super) const FULL: u32 = 256;

/// Something to draw on.
pub(super) trait Surface {
    /// Nothing outside it is drawn.
    fn clip(&self) -> Area;

    /// Draws nothing outside this area from now on.
    fn set_clip(&mut self, clip: Area);

    /// Blends a colour evenly over an area.
    fn rectangle(&mut self, area: Area, color: Ycc, alpha: u32);

    /// A straight line with round ends and smooth edges.
    fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, color: Ycc);

    /// A character that fills an area; in an area of the same size it always has the same glyph.
    fn glyph(&mut self, area: Area, color: Ycc, character: char, glyph: &Glyph);

    /// The outline of an area, `width` pixels wide, inside it.
    fn frame(&mut self, area: Area, width: i32, color: Ycc, alpha: u32) {
        let Area { left, top, right, bottom } = area;
        if area.width() <= 2 * width || area.height() <= 2 * width {
            self.rectangle(area, color, alpha);
            return;
        }
        self.rectangle(Area::new(left, top, right, top + width), color, alpha);
        self.rectangle(Area::new(left, bottom - width, right, bottom), color, alpha);
        self.rectangle(Area::new(left, top + width, left + width, bottom - width), color, alpha);
        self.rectangle(Area::new(right - width, top + width, right, bottom - width), color, alpha);
    }
}
