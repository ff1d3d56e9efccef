//! How a rectangle of a picture lies in a model's input: the map between source pixels and input pixels.
//!
//! Preprocess makes it, postprocess reads it. Pure data; nothing fails.

use super::Rect;

/// Where a rectangle of the source was put in a model's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// The part of the picture that the input shows, in source pixels.
    pub source: Rect,
    /// Where in the input it lies, in input pixels; the rest of the input is padding.
    pub target: Rect,
}

impl Letterbox {
    /// Bounds in input pixels as bounds in source pixels. Not clipped.
    #[must_use]
    pub fn to_source(&self, bounds: Rect) -> Rect {
        map(bounds, &self.target, &self.source)
    }

    /// Bounds in source pixels as bounds in input pixels. Not clipped.
    #[must_use]
    pub fn to_input(&self, bounds: Rect) -> Rect {
        map(bounds, &self.source, &self.target)
    }
}

fn map(bounds: Rect, from: &Rect, to: &Rect) -> Rect {
    let x_scale = to.width / from.width;
    let y_scale = to.height / from.height;
    Rect::new(
        (bounds.x - from.x) * x_scale + to.x,
        (bounds.y - from.y) * y_scale + to.y,
        bounds.width * x_scale,
        bounds.height * y_scale,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_there_and_back() {
        let letterbox = Letterbox {
            source: Rect::new(100.0, 50.0, 1280.0, 720.0),
            target: Rect::new(0.0, 91.0, 416.0, 234.0),
        };
        let corner = letterbox.to_input(Rect::new(100.0, 50.0, 640.0, 360.0));
        assert!(corner.iou(&Rect::new(0.0, 91.0, 208.0, 117.0)) > 0.9999, "{corner:?}");
        let bounds = Rect::new(300.0, 200.0, 50.0, 90.0);
        let back = letterbox.to_source(letterbox.to_input(bounds));
        assert!(back.iou(&bounds) > 0.9999, "{back:?}");
    }
}
