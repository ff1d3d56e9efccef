//! Draws an overlay: in output pixels, after scaling, so that lines and text are as sharp as the output.
//!
//! In: an overlay in source pixels and the frame's placement. Out: a canvas with it drawn. Owned by a renderer;
//! keeps its fonts. Line width and text height follow the output's height. Nothing fails: what lies outside
//! the picture is clipped.

use crate::flow::{Colorimetry, Rect, Shape, ShapeKind, Size};

use super::color::{Ycc, contrast, ycc};
use super::font::Font;
use super::overlay::{Banner, BoxMark, Overlay};
use super::placement::{Area, Placement};
use super::surface::{FULL, Surface};

/// How strongly the dark rim around lines covers the picture.
const RIM: u32 = 150;
/// How strongly the plate behind a text covers the picture.
const PLATE: u32 = 225;

/// Draws the overlays of one output.
pub(super) struct Painter {
    /// Width of lines, pixels.
    line: i32,
    label: Font,
    banner: Font,
    /// A smaller one for banners that would not fit.
    narrow: Font,
}

impl Painter {
    /// A painter for an output of this size.
    pub(super) fn new(output: Size) -> Self {
        let height = output.height as f32;
        let text = (height * 0.03).round().max(10.0) as u32;
        Self {
            line: (height * 0.004).round().max(2.0) as i32,
            label: Font::new(text),
            banner: Font::new((height * 0.045).round().max(12.0) as u32),
            narrow: Font::new(text),
        }
    }

    /// Draws everything: boxes, shapes, labels over both, then caption and banners.
    pub(super) fn draw(
        &mut self,
        overlay: &Overlay,
        placement: &Placement,
        color: Colorimetry,
        canvas: &mut impl Surface,
    ) {
        let whole = canvas.clip();
        canvas.set_clip(placement.inner);
        for mark in &overlay.boxes {
            self.outline(mark, placement, color, canvas);
        }
        for shape in &overlay.shapes {
            self.shape(shape, placement, color, canvas);
        }
        // Labels keep clear of the banners and, where there is room, of each other.
        let under = overlay
            .banners
            .iter()
            .fold(canvas.clip().top, |top, banner| self.below(banner, top, canvas.clip()));
        let usable = Area { top: under, ..canvas.clip() };
        let mut placed = Vec::with_capacity(overlay.boxes.len());
        for shape in overlay.shapes.iter().filter(|shape| shape.kind == ShapeKind::Text) {
            if let Some(&(x, y)) = shape.points.first() {
                let (x, y) = whole_point(placement.to_output(x, y));
                let plate = Plate { ink: shape.color, ground: contrast(shape.color) };
                placed.push(text(&mut self.label, &shape.text, (x, y), plate, color, canvas));
            }
        }
        for mark in &overlay.boxes {
            self.box_label(mark, placement, usable, &mut placed, color, canvas);
        }
        if let Some(caption) = &overlay.caption {
            let at = (
                canvas.clip().left + self.line,
                canvas.clip().bottom - plate_height(&self.label) - self.line,
            );
            let plate = Plate { ink: 0x00FF_FFFF, ground: 0 };
            text(&mut self.label, caption, at, plate, color, canvas);
        }
        let mut top = canvas.clip().top;
        for banner in &overlay.banners {
            top = self.banner(banner, top, color, canvas);
        }
        canvas.set_clip(whole);
    }

    fn outline(&self, mark: &BoxMark, placement: &Placement, color: Colorimetry, canvas: &mut impl Surface) {
        let Some(area) = output_area(&mark.bounds, placement) else { return };
        let rim = Area::new(area.left - 1, area.top - 1, area.right + 1, area.bottom + 1);
        canvas.frame(rim, self.line + 2, ycc(0, color), RIM);
        canvas.frame(area, self.line, ycc(mark.color, color), FULL);
    }

    /// The label of a box: above it, else inside at its top, else below it or at its right end.
    fn box_label(
        &mut self,
        mark: &BoxMark,
        placement: &Placement,
        usable: Area,
        placed: &mut Vec<Area>,
        color: Colorimetry,
        canvas: &mut impl Surface,
    ) {
        let Some(area) = output_area(&mark.bounds, placement) else { return };
        let visible = area.intersect(&usable);
        if mark.label.is_empty() || visible.width() == 0 || visible.height() == 0 {
            return;
        }
        let (width, height) = plate_size(&self.label, &mark.label);
        let left = visible.left.min(usable.right - width).max(usable.left);
        let right = (visible.right - width).clamp(usable.left, left.max(usable.left));
        let above = area.top - height;
        let inside = visible.top + self.line;
        let candidates = [
            (left, above),
            (left, inside),
            (left, area.bottom),
            (right, above),
            (right, visible.bottom - height),
        ]
        .map(|(left, top)| Area::new(left, top, left + width, top + height));
        let fits = |place: &&Area| place.top >= usable.top && place.bottom <= usable.bottom;
        let clear = |place: &&Area| placed.iter().all(|other| !place.overlaps(other));
        let found = candidates.iter().filter(fits).find(clear).or(candidates.iter().find(fits));
        let place = *found.unwrap_or(&candidates[1]);
        placed.push(place);
        let plate = Plate { ink: contrast(mark.color), ground: mark.color };
        text(&mut self.label, &mark.label, (place.left, place.top), plate, color, canvas);
    }

    fn shape(&self, shape: &Shape, placement: &Placement, color: Colorimetry, canvas: &mut impl Surface) {
        let usable = shape.points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let place = |&(x, y): &(f32, f32)| placement.to_output(x, y);
        let mut points: Vec<_> = if usable { shape.points.iter().map(place).collect() } else { Vec::new() };
        match shape.kind {
            ShapeKind::Text => return,
            ShapeKind::Rectangle => {
                if let [(x1, y1), (x2, y2)] = points[..] {
                    points = vec![(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)];
                }
            }
            ShapeKind::Polygon => points.extend(points.first().copied()),
            ShapeKind::Polyline => {}
        }
        let near: Vec<_> =
            points.windows(2).filter_map(|ends| clip_line(ends[0], ends[1], canvas.clip())).collect();
        let width = self.line as f32;
        for &(from, to) in &near {
            canvas.line(from, to, width + 2.0, ycc(contrast(shape.color), color));
        }
        for &(from, to) in &near {
            canvas.line(from, to, width, ycc(shape.color, color));
        }
    }

    /// The font in which a banner fits.
    fn banner_font(&mut self, banner: &Banner, clip: Area) -> &mut Font {
        let fits = self.banner.width(&banner.text) + self.banner.advance <= clip.width();
        if fits { &mut self.banner } else { &mut self.narrow }
    }

    /// Where a banner that starts at `top` ends; at `top` itself where there is no room for it.
    ///
    /// Banners take the upper two fifths of the picture at most: what they are about must stay visible.
    fn below(&mut self, banner: &Banner, top: i32, clip: Area) -> i32 {
        let bottom = top + self.banner_font(banner, clip).height * 3 / 2;
        if bottom - clip.top > clip.height() * 2 / 5 { top } else { bottom }
    }

    /// Draws a banner from `top` down; gives where the next one starts.
    fn banner(&mut self, banner: &Banner, top: i32, color: Colorimetry, canvas: &mut impl Surface) -> i32 {
        let clip = canvas.clip();
        let bottom = self.below(banner, top, clip);
        if bottom == top {
            return top;
        }
        let font = self.banner_font(banner, clip);
        canvas.rectangle(Area::new(clip.left, top, clip.right, bottom), ycc(banner.color(), color), FULL);
        let x = clip.left + ((clip.width() - font.width(&banner.text)) / 2).max(font.advance / 4);
        let y = top + (bottom - top - font.height) / 2 + font.height / 16;
        ink(font, &banner.text, (x, y), ycc(0x00FF_FFFF, color), canvas);
        bottom
    }
}

/// Colours of a text and what is behind it, 0xRRGGBB.
struct Plate {
    ink: u32,
    ground: u32,
}

fn plate_height(font: &Font) -> i32 {
    font.height + 2 * margin(font)
}

/// Width and height of a text with its plate.
fn plate_size(font: &Font, text: &str) -> (i32, i32) {
    (font.width(text) + 2 * margin(font), plate_height(font))
}

fn margin(font: &Font) -> i32 {
    (font.height / 8).max(1)
}

/// A text on a plate, moved so that as much of it as fits lies within the clip; gives where the plate is.
fn text(
    font: &mut Font,
    text: &str,
    at: (i32, i32),
    plate: Plate,
    color: Colorimetry,
    canvas: &mut impl Surface,
) -> Area {
    let (width, height) = plate_size(font, text);
    let clip = canvas.clip();
    let left = at.0.min(clip.right - width).max(clip.left);
    let top = at.1.min(clip.bottom - height).max(clip.top);
    let area = Area::new(left, top, left + width, top + height);
    canvas.rectangle(area, ycc(plate.ground, color), PLATE);
    let corner = (left + margin(font), top + margin(font));
    ink(font, text, corner, ycc(plate.ink, color), canvas);
    area
}

/// The characters alone.
fn ink(font: &mut Font, text: &str, corner: (i32, i32), color: Ycc, canvas: &mut impl Surface) {
    let (mut x, y) = corner;
    let (width, height) = (font.advance, font.height);
    for character in text.chars() {
        if x >= canvas.clip().right {
            return;
        }
        if character != ' ' {
            let glyph = font.glyph(character);
            canvas.glyph(Area::new(x, y, x + width, y + height), color, character, glyph);
        }
        x += width;
    }
}

/// A rectangle of the source in whole output pixels; `None` where it is none.
fn output_area(bounds: &Rect, placement: &Placement) -> Option<Area> {
    if !bounds.is_valid() {
        return None;
    }
    let (left, top) = whole_point(placement.to_output(bounds.x, bounds.y));
    let (right, bottom) = whole_point(placement.to_output(bounds.right(), bounds.bottom()));
    Some(Area::new(left, top, right.max(left + 1), bottom.max(top + 1)))
}

/// The nearest whole pixel; far outside stays far outside, but small enough to add to.
fn whole_point((x, y): (f32, f32)) -> (i32, i32) {
    let whole = |value: f32| value.round().clamp(-1e6, 1e6) as i32;
    (whole(x), whole(y))
}

type Point = (f32, f32);

/// The part of a line near an area (Liang and Barsky, 1984), with room for its width.
fn clip_line(from: Point, to: Point, area: Area) -> Option<(Point, Point)> {
    const ROOM: f32 = 64.0;
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut begin, mut end) = (0.0f32, 1.0f32);
    let sides = [
        (-dx, from.0 - (area.left as f32 - ROOM)),
        (dx, area.right as f32 + ROOM - from.0),
        (-dy, from.1 - (area.top as f32 - ROOM)),
        (dy, area.bottom as f32 + ROOM - from.1),
    ];
    for (outward, inside) in sides {
        if outward == 0.0 {
            if inside < 0.0 {
                return None;
            }
        } else if outward < 0.0 {
            begin = begin.max(inside / outward);
        } else {
            end = end.min(inside / outward);
        }
    }
    let at = |part: f32| (from.0 + dx * part, from.1 + dy * part);
    (begin <= end).then(|| (at(begin), at(end)))
}
