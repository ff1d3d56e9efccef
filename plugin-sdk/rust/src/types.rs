//! What a plugin is given: frames, objects, runs, scores, signals. Plain data; nothing here fails.

use std::ops::{Deref, DerefMut};

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

/// The smaller of two numbers. In WebAssembly `f32::min` is a call of C's `fminf`, which looks for NaN; plugins
/// compare rectangles by the thousand, and a comparison is one instruction. Where one is NaN, it gives `a`: 0
/// stands first where NaN must not pass.
fn least(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// The larger of two numbers, as [`least`].
fn most(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// What is known of a frame. No pixels cross the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Frame {
    /// Counts the stream's frames from 0, without holes.
    pub index: u64,
    /// Stream time in nanoseconds: starts near 0, never goes back, goes on over reconnects.
    pub pts: u64,
    /// Wall clock when the frame was taken, microseconds since 1970.
    pub captured: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// A scene cut lies between the frame before and this one.
    pub cut: bool,
    /// Mean absolute luma change to the frame before, 0 (still) to 1.
    pub motion: f32,
}

impl Frame {
    /// Stream time in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.pts as f64 * 1e-9
    }

    /// The rectangle that covers the frame.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        Rect::new(0.0, 0.0, self.width as f32, self.height as f32)
    }
}

/// An object that a model found, or that a plugin made of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Object {
    /// Index of the model that found it, in [`crate::Context::models`].
    pub model: u32,
    /// Index into that model's labels.
    pub class: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Where it is, in source pixels.
    pub bounds: Rect,
    /// Track id; 0 = none.
    pub track: u64,
}

/// The objects of a frame: a vector that knows whether it may have been changed. Only then it goes back to
/// the host, so a plugin that reads objects pays for one crossing and not for two.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objects {
    items: Vec<Object>,
    changed: bool,
}

impl Objects {
    /// Whether somebody had mutable access to them.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Empties them for the next frame, keeping the memory.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn refill(&mut self) -> &mut Vec<Object> {
        self.changed = false;
        self.items.clear();
        &mut self.items
    }
}

impl From<Vec<Object>> for Objects {
    fn from(items: Vec<Object>) -> Self {
        Self { items, changed: false }
    }
}

impl Deref for Objects {
    type Target = Vec<Object>;

    fn deref(&self) -> &Vec<Object> {
        &self.items
    }
}

impl DerefMut for Objects {
    fn deref_mut(&mut self) -> &mut Vec<Object> {
        self.changed = true;
        &mut self.items
    }
}

impl<'a> IntoIterator for &'a Objects {
    type Item = &'a Object;
    type IntoIter = std::slice::Iter<'a, Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'a> IntoIterator for &'a mut Objects {
    type Item = &'a mut Object;
    type IntoIter = std::slice::IterMut<'a, Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.changed = true;
        self.items.iter_mut()
    }
}

/// A model ran over this span of stream time, and its results are in this call. No run is not "nothing found".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Index of the model, in [`crate::Context::models`].
    pub model: u32,
    /// First frame's pts, nanoseconds.
    pub begin: u64,
    /// Last frame's pts, nanoseconds.
    pub end: u64,
}

/// One score of a classifier or clip model. A clip model's window covers `begin` to `end` and may come late.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Index of the model, in [`crate::Context::models`].
    pub model: u32,
    /// Index into that model's labels.
    pub class: u32,
    /// Probability, 0 to 1.
    pub value: f32,
    /// First frame's pts, nanoseconds.
    pub begin: u64,
    /// Last frame's pts, nanoseconds.
    pub end: u64,
    /// Index into the objects of this call, where the model ran on an object.
    pub object: Option<u32>,
    /// The part of the frame that the model saw, where it did not see all of it.
    pub region: Option<Rect>,
}

/// What happens beside frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// At least once a second, frames or not.
    Tick,
    /// So many nanoseconds of stream time are missing before the next frame.
    Gap(u64),
    /// The source is down.
    SourceLost,
    /// The source is back.
    SourceBack,
    /// Frames have this size from here on: width, height.
    Resized(u32, u32),
    /// The stream ends here; the last call.
    End,
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
