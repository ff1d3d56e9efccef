//! Rectangles in source pixels, and the comparisons that are cheap in WebAssembly. Plain data; nothing here fails.

use serde::{Deserialize, Serialize};

/// A rectangle in source pixels; `x`, `y` is the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

impl Rect {
    /// A rectangle from its corner and size.
    #[must_use]
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self { x, y, width, height }
    }

    /// From the corners (`x1`, `y1`) and (`x2`, `y2`).
    #[must_use]
    pub fn from_corners(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self::new(x1, y1, x2 - x1, y2 - y1)
    }

    /// Right edge.
    #[must_use]
    pub fn right(&self) -> f32 {
        self.x + self.width
    }

    /// Bottom edge.
    #[must_use]
    pub fn bottom(&self) -> f32 {
        self.y + self.height
    }

    /// Centre point.
    #[must_use]
    pub fn center(&self) -> (f32, f32) {
        (self.x + self.width * 0.5, self.y + self.height * 0.5)
    }

    /// Middle of the lower edge: where somebody stands.
    #[must_use]
    pub fn foot(&self) -> (f32, f32) {
        (self.x + self.width * 0.5, self.y + self.height)
    }

    /// Area in square pixels; 0 for an empty or inverted rectangle.
    #[must_use]
    pub fn area(&self) -> f32 {
        most(0.0, self.width) * most(0.0, self.height)
    }

    /// The common part; empty (area 0) where there is none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (x, y) = (most(self.x, other.x), most(self.y, other.y));
        let (right, bottom) = (least(self.right(), other.right()), least(self.bottom(), other.bottom()));
        Self::new(x, y, most(0.0, right - x), most(0.0, bottom - y))
    }

    /// The smallest rectangle around both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_corners(
            least(self.x, other.x),
            least(self.y, other.y),
            most(self.right(), other.right()),
            most(self.bottom(), other.bottom()),
        )
    }

    /// Intersection over union, 0 to 1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersect(other).area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// The common area over the area of the smaller, 0 to 1: 1 where one lies inside the other, however much
    /// larger that is.
    #[must_use]
    pub fn cover(&self, other: &Self) -> f32 {
        let smaller = least(self.area(), other.area());
        if smaller > 0.0 { self.intersect(other).area() / smaller } else { 0.0 }
    }

    /// Whether the point lies inside; left and top edges belong to it.
    #[must_use]
    pub fn contains(&self, (x, y): (f32, f32)) -> bool {
        x >= self.x && x < self.right() && y >= self.y && y < self.bottom()
    }

    /// Whether all of another rectangle lies inside, or sticks out by at most `slack` pixels a side; 0 for
    /// none. Common edges count as inside.
    #[must_use]
    pub fn contains_rect(&self, other: &Self, slack: f32) -> bool {
        other.x >= self.x - slack
            && other.y >= self.y - slack
            && other.right() <= self.right() + slack
            && other.bottom() <= self.bottom() + slack
    }

    /// The shortest way from this rectangle to the other, in pixels; 0 where they touch or overlap.
    #[must_use]
    pub fn gap(&self, other: &Self) -> f32 {
        let across = most(0.0, most(other.x - self.right(), self.x - other.right()));
        let down = most(0.0, most(other.y - self.bottom(), self.y - other.bottom()));
        across.hypot(down)
    }

    /// The shortest way from a point to this rectangle, in pixels; 0 inside.
    #[must_use]
    pub fn distance_to(&self, (x, y): (f32, f32)) -> f32 {
        self.gap(&Self::new(x, y, 0.0, 0.0))
    }
}

/// The smaller of two numbers. In WebAssembly `f32::min` is a call of C's `fminf`, which looks for NaN: it took two
/// fifths of the tracker's time, and a comparison is one instruction. Where one is NaN, it gives `a`: 0 stands first
/// where NaN must not pass.
#[inline]
#[must_use]
pub fn least(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// The larger of two numbers, as [`least`].
#[inline]
#[must_use]
pub fn most(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Rect = Rect::new(10.0, 20.0, 100.0, 40.0);

    #[test]
    fn rectangles_in_common_and_around() {
        let other = Rect::new(90.0, 50.0, 40.0, 40.0);
        assert_eq!(WIDE.intersect(&other), Rect::new(90.0, 50.0, 20.0, 10.0));
        assert_eq!(WIDE.union(&other), Rect::new(10.0, 20.0, 120.0, 70.0));
        assert_eq!(WIDE.iou(&other), 200.0 / 5400.0);
        assert_eq!((WIDE.cover(&other), other.cover(&WIDE)), (0.125, 0.125));
        let inside = Rect::new(20.0, 30.0, 5.0, 5.0);
        assert_eq!((WIDE.cover(&inside), WIDE.cover(&Rect::new(20.0, 30.0, 0.0, 5.0))), (1.0, 0.0));
        let apart = Rect::new(200.0, 200.0, 5.0, 5.0);
        assert_eq!((WIDE.intersect(&apart).area(), WIDE.iou(&apart), WIDE.cover(&apart)), (0.0, 0.0, 0.0));
        for broken in [Rect::new(0.0, 0.0, f32::NAN, 5.0), Rect::new(0.0, 0.0, -4.0, -5.0)] {
            assert_eq!((broken.area(), WIDE.cover(&broken), WIDE.iou(&broken)), (0.0, 0.0, 0.0));
        }
    }

    #[test]
    fn a_rectangle_holds_another_but_for_the_slack() {
        assert!(WIDE.contains_rect(&WIDE, 0.0));
        let over = Rect::new(8.0, 20.0, 103.0, 40.0);
        assert!(!WIDE.contains_rect(&over, 1.5) && WIDE.contains_rect(&over, 2.0));
    }

    #[test]
    fn distances_are_pixels_and_zero_inside() {
        assert_eq!(WIDE.distance_to((50.0, 30.0)), 0.0);
        assert_eq!(WIDE.distance_to((50.0, 67.0)), 7.0);
        assert_eq!(WIDE.distance_to((7.0, 16.0)), 5.0);
        assert_eq!(WIDE.gap(&Rect::new(110.0, 0.0, 5.0, 100.0)), 0.0);
        assert_eq!(WIDE.gap(&Rect::new(113.0, 64.0, 5.0, 5.0)), 5.0);
        assert_eq!(Rect::new(113.0, 64.0, 5.0, 5.0).gap(&WIDE), 5.0);
    }
}
