//! Which part of the source goes where in the output.
//!
//! In: sizes and a view. Out: a [`Placement`]: the view brought inside the source, and the rectangle of the
//! output that it fills, the rest being black bars. Pure geometry; nothing fails.

use crate::flow::{Rect, Size};

/// A rectangle of whole pixels; `right` and `bottom` are one past the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub left: i32,
    pub top: i32,
    pub right: i32,
    pub bottom: i32,
}

impl Area {
    pub(super) fn new(left: i32, top: i32, right: i32, bottom: i32) -> Self {
        Self { left, top, right, bottom }
    }

    pub(super) fn width(&self) -> i32 {
        (self.right - self.left).max(0)
    }

    pub(super) fn height(&self) -> i32 {
        (self.bottom - self.top).max(0)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let common = self.intersect(other);
        common.width() > 0 && common.height() > 0
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }
}

/// The part of the source that is shown, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placement {
    /// Left edge of the view in source pixels.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Source pixels across.
    pub width: f64,
    /// Source pixels down.
    pub height: f64,
    /// The pixels of the output that show it; left and top are even.
    pub inner: Area,
    output: Size,
}

/// Bars together narrower than this are not worth having: the view is stretched by that much instead.
const BARS: f64 = 2.0;

impl Placement {
    /// Brings `view` inside `source` and fits it into `output`.
    pub(super) fn new(source: Size, view: Rect, output: Size) -> Self {
        let (source_width, source_height) = (f64::from(source.width), f64::from(source.height));
        let usable = view.is_valid() && view.width > 0.0 && view.height > 0.0;
        let view = if usable { view } else { Rect::of_size(source) };
        // A view of less than two source pixels would only magnify rounding.
        let width = f64::from(view.width).clamp(2.0f64.min(source_width), source_width);
        let height = f64::from(view.height).clamp(2.0f64.min(source_height), source_height);
        let x = f64::from(view.x).clamp(0.0, source_width - width);
        let y = f64::from(view.y).clamp(0.0, source_height - height);
        let inner = Self::fit(width / height, output);
        Self { x, y, width, height, inner, output }
    }

    /// The largest centred rectangle of an aspect.
    fn fit(aspect: f64, output: Size) -> Area {
        let (width, height) = (f64::from(output.width), f64::from(output.height));
        let (fitted_width, fitted_height) =
            if aspect * height > width { (width, width / aspect) } else { (height * aspect, height) };
        let (bars_x, bars_y) = (width - fitted_width, height - fitted_height);
        let side = |bars: f64, all: u32| {
            if bars < BARS {
                return (0, all as i32);
            }
            // Even edges, so that chroma samples belong to the picture or to a bar, never to both.
            let before = ((bars / 4.0).round() as i32 * 2).min((all as i32 - 2).max(0));
            let inside = (((f64::from(all) - bars) / 2.0).round() as i32 * 2).max(2);
            (before, (before + inside).min(all as i32))
        };
        let (left, right) = side(bars_x, output.width);
        let (top, bottom) = side(bars_y, output.height);
        Area::new(left, top, right, bottom)
    }

    /// Source pixels to an output pixel, across and down.
    pub(super) fn step(&self) -> (f64, f64) {
        (self.width / f64::from(self.inner.width()), self.height / f64::from(self.inner.height()))
    }

    /// Whether the output is the source, sample for sample.
    pub(super) fn is_identity(&self, source: Size) -> bool {
        let whole = (self.x, self.y, self.width, self.height)
            == (0.0, 0.0, f64::from(source.width), f64::from(source.height));
        whole && source == self.output && !self.has_bars()
    }

    /// Whether black bars fill a part of the output.
    pub(super) fn has_bars(&self) -> bool {
        self.inner != Area::new(0, 0, self.output.width as i32, self.output.height as i32)
    }

    /// A point of the source in output pixels.
    pub(super) fn to_output(self, x: f32, y: f32) -> (f32, f32) {
        let (step_x, step_y) = self.step();
        let out_x = (f64::from(x) - self.x) / step_x + f64::from(self.inner.left);
        let out_y = (f64::from(y) - self.y) / step_y + f64::from(self.inner.top);
        (out_x as f32, out_y as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HD: Size = Size::new(1920, 1080);

    #[test]
    fn same_aspect_fills_the_output() {
        let placement = Placement::new(HD, Rect::new(100.5, 50.25, 640.0, 360.0), Size::new(1280, 720));
        assert!(!placement.has_bars());
        assert_eq!(placement.step(), (0.5, 0.5));
        assert_eq!(placement.to_output(100.5, 50.25), (0.0, 0.0));
        assert_eq!(placement.to_output(420.5, 230.25), (640.0, 360.0));
    }

    #[test]
    fn views_over_the_edge_move_inside() {
        let placement = Placement::new(HD, Rect::new(1800.0, -20.0, 640.0, 360.0), Size::new(640, 360));
        assert_eq!(
            (placement.x, placement.y, placement.width, placement.height),
            (1280.0, 0.0, 640.0, 360.0)
        );
        let large = Placement::new(HD, Rect::new(-100.0, -100.0, 4000.0, 4000.0), HD);
        assert!(large.is_identity(HD));
    }

    #[test]
    fn nonsense_shows_everything() {
        for view in [
            Rect::new(f32::NAN, 0.0, 10.0, 10.0),
            Rect::new(0.0, 0.0, -5.0, 10.0),
            Rect::new(0.0, 0.0, 0.0, 0.0),
            Rect::new(0.0, f32::INFINITY, 1.0, 1.0),
        ] {
            assert!(Placement::new(HD, view, HD).is_identity(HD));
        }
    }

    #[test]
    fn another_aspect_gets_bars() {
        let tall =
            Placement::new(Size::new(360, 640), Rect::new(0.0, 0.0, 360.0, 640.0), Size::new(1280, 720));
        assert_eq!(tall.inner, Area::new(438, 0, 844, 720));
        let wide = Placement::new(HD, Rect::of_size(HD), Size::new(640, 640));
        assert_eq!(wide.inner, Area::new(0, 140, 640, 500));
        // 1920 × 1088 into 1920 × 1080 differs by too little for bars.
        let near =
            Placement::new(Size::new(1281, 720), Rect::new(0.0, 0.0, 1281.0, 720.0), Size::new(1280, 720));
        assert!(!near.has_bars());
    }

    #[test]
    fn tiny_outputs_and_sources() {
        for (source, output) in
            [((1, 1), (1, 1)), ((1, 1), (640, 3)), ((3, 5000), (2, 2)), ((5000, 2), (7, 9))]
        {
            let source = Size::new(source.0, source.1);
            let placement = Placement::new(source, Rect::of_size(source), Size::new(output.0, output.1));
            assert!(placement.inner.width() > 0 && placement.inner.height() > 0);
            assert!(placement.inner.right <= output.0 as i32 && placement.inner.bottom <= output.1 as i32);
        }
    }
}
