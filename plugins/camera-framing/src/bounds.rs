//! Boxes in source pixels. Pure functions; nothing fails.

use serde::{Deserialize, Serialize};

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

    /// Horizontal centre.
    #[must_use]
    pub fn cx(&self) -> f32 {
        self.x + 0.5 * self.w
    }

    /// Vertical centre.
    #[must_use]
    pub fn cy(&self) -> f32 {
        self.y + 0.5 * self.h
    }

    /// Area in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.w * self.h
    }

    /// The smallest box around both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.w).max(other.x + other.w);
        let bottom = (self.y + self.h).max(other.y + other.h);
        Self::new(x, y, right - x, bottom - y)
    }

    /// Distance from a point to the box, 0 inside, in pixels.
    #[must_use]
    pub fn distance(&self, x: f32, y: f32) -> f32 {
        let dx = (self.x - x).max(x - self.x - self.w).max(0.0);
        let dy = (self.y - y).max(y - self.y - self.h).max(0.0);
        dx.hypot(dy)
    }

    /// Whether another box lies inside, but for `slack` pixels.
    #[must_use]
    pub fn holds(&self, other: &Self, slack: f32) -> bool {
        other.x >= self.x - slack
            && other.y >= self.y - slack
            && other.x + other.w <= self.x + self.w + slack
            && other.y + other.h <= self.y + self.h + slack
    }
}
