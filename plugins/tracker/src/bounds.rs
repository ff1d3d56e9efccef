//! Axis-aligned boxes in source pixels and how much two of them overlap. Pure functions; nothing fails.

use serde::{Deserialize, Serialize};
use watchpost_plugin::{least, most};

/// A box in source pixels: top left corner and size.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

impl Bounds {
    /// A box from its top left corner and size.
    #[must_use]
    pub const fn new(x: f32, y: f32, w: f32, h: f32) -> Self {
        Self { x, y, w, h }
    }

    /// A box from its centre and size.
    #[must_use]
    pub fn centred(cx: f32, cy: f32, w: f32, h: f32) -> Self {
        Self::new(cx - w * 0.5, cy - h * 0.5, w, h)
    }

    /// Horizontal centre.
    #[must_use]
    pub fn cx(&self) -> f32 {
        self.x + self.w * 0.5
    }

    /// Vertical centre.
    #[must_use]
    pub fn cy(&self) -> f32 {
        self.y + self.h * 0.5
    }

    /// Left and right edge of the box grown by `share` of its width on both sides.
    #[must_use]
    pub fn span(&self, share: f32) -> (f32, f32) {
        (self.x - self.w * share, self.x + self.w * (1.0 + share))
    }

    /// Area in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.w * self.h
    }

    /// One length that stands for the size of an object, in pixels: about the height of a standing
    /// person, and for any other shape the side of the square of 2.5 times its area. Noise and gates are
    /// multiples of it, so that near and far objects, and any resolution, are treated alike.
    #[must_use]
    pub fn scale(&self) -> f32 {
        most(self.area() * 2.5, 1.0).sqrt()
    }

    /// Whether all numbers are finite and the box has an area.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.x.is_finite()
            && self.y.is_finite()
            && self.w.is_finite()
            && self.h.is_finite()
            && self.w > 0.0
            && self.h > 0.0
    }

    /// Common area of two boxes, in square pixels.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> f32 {
        let w = least(self.x + self.w, other.x + other.w) - most(self.x, other.x);
        let h = least(self.y + self.h, other.y + other.h) - most(self.y, other.y);
        if w > 0.0 && h > 0.0 { w * h } else { 0.0 }
    }

    /// Intersection over union, 0 to 1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.overlap(other);
        if common <= 0.0 {
            return 0.0;
        }
        common / (self.area() + other.area() - common)
    }

    /// The box grown by `share` of its size on every side: the buffered box of C-BIoU (Yang et al., "Hard
    /// to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering the
    /// Matching Space", WACV 2023).
    #[must_use]
    pub fn grown(&self, share: f32) -> Self {
        Self::new(
            self.x - self.w * share,
            self.y - self.h * share,
            self.w * (1.0 + 2.0 * share),
            self.h * (1.0 + 2.0 * share),
        )
    }

    /// The part inside a frame of the given size; `None` where nothing of it is.
    #[must_use]
    pub fn clipped(&self, width: f32, height: f32) -> Option<Self> {
        let left = self.x.max(0.0);
        let top = self.y.max(0.0);
        let right = (self.x + self.w).min(width);
        let bottom = (self.y + self.h).min(height);
        (right > left && bottom > top).then(|| Self::new(left, top, right - left, bottom - top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_halves_and_strangers() {
        let a = Bounds::new(0.0, 0.0, 10.0, 10.0);
        assert!((a.iou(&a) - 1.0).abs() < 1e-6);
        assert!((a.iou(&Bounds::new(5.0, 0.0, 10.0, 10.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&Bounds::new(10.0, 0.0, 5.0, 5.0)), 0.0);
    }

    #[test]
    fn growing_keeps_the_centre() {
        let grown = Bounds::new(10.0, 20.0, 10.0, 40.0).grown(0.3);
        assert_eq!((grown.cx(), grown.cy()), (15.0, 40.0));
        assert!((grown.w - 16.0).abs() < 1e-5 && (grown.h - 64.0).abs() < 1e-4);
    }

    #[test]
    fn clipping_at_the_frame() {
        let half_out = Bounds::new(-5.0, 2.0, 10.0, 4.0).clipped(100.0, 100.0);
        assert_eq!(half_out, Some(Bounds::new(0.0, 2.0, 5.0, 4.0)));
        assert_eq!(Bounds::new(-15.0, 2.0, 10.0, 4.0).clipped(100.0, 100.0), None);
    }
}
