//! The scene's camera: a pinhole with a level optical axis and a shifted lens, so verticals stay vertical.
//!
//! In: points of the world in metres (x right, y up, z away from the camera; the ground is y = 0).
//! Out: pixels. Nothing fails; points must lie in front of the camera (z > 0).

use crate::flow::Size;

/// A point or a direction in the world, metres.
pub type Vec3 = [f32; 3];

/// a + b.
#[must_use]
pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// a - b.
#[must_use]
pub fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// a times k.
#[must_use]
pub fn scale(a: Vec3, k: f32) -> Vec3 {
    [a[0] * k, a[1] * k, a[2] * k]
}

/// Scalar product.
#[must_use]
pub fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// a + (b - a) t.
#[must_use]
pub fn lerp(a: Vec3, b: Vec3, t: f32) -> Vec3 {
    add(a, scale(sub(b, a), t))
}

/// Length.
#[must_use]
pub fn length(a: Vec3) -> f32 {
    dot(a, a).sqrt()
}

/// 0 below `a`, 1 above `b`, smooth between.
#[must_use]
pub fn smoothstep(a: f32, b: f32, x: f32) -> f32 {
    let u = ((x - a) / (b - a)).clamp(0.0, 1.0);
    u * u * (3.0 - 2.0 * u)
}

/// A camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Size of the picture.
    pub size: Size,
    /// Focal length in pixels.
    pub focal: f32,
    /// Row of the horizon in pixels.
    pub horizon: f32,
    /// Height above the ground in metres.
    pub height: f32,
    /// Nearest ground that anybody walks on, metres.
    pub near: f32,
    /// Farthest.
    pub far: f32,
    /// The x that lies in the middle of the picture, metres.
    pub pan: f32,
}

impl Camera {
    /// A camera `height` metres up, under which a person 1.75 m tall measures `large` of the picture's height
    /// at the near end of the ground, whose feet are then at the row `foot` (share of the height), and `small`
    /// at the far end.
    #[must_use]
    pub fn new(size: Size, height: f32, large: f32, small: f32, foot: f32) -> Self {
        let h = size.height as f32;
        let (near_scale, far_scale) = (large * h / 1.75, small * h / 1.75);
        let focal = h * 2.0;
        Self {
            size,
            focal,
            horizon: foot * h - near_scale * height,
            height,
            near: focal / near_scale,
            far: focal / far_scale,
            pan: 0.0,
        }
    }

    /// Pixels a metre at depth z.
    #[must_use]
    pub fn scale(&self, z: f32) -> f32 {
        self.focal / z.max(0.5)
    }

    /// The pixel of a point, and pixels a metre there.
    #[must_use]
    pub fn project(&self, p: Vec3) -> (f32, f32, f32) {
        let s = self.scale(p[2]);
        (self.size.width as f32 * 0.5 + s * (p[0] - self.pan), self.horizon + s * (self.height - p[1]), s)
    }

    /// The ground point (x, z) that a pixel shows; `None` at or above the horizon.
    #[must_use]
    pub fn ground(&self, px: f32, py: f32) -> Option<(f32, f32)> {
        let down = py - self.horizon;
        if down <= 0.5 {
            return None;
        }
        let s = down / self.height;
        Some((self.pan + (px - self.size.width as f32 * 0.5) / s, self.focal / s))
    }

    /// Half the width of the ground that the picture shows at depth z, metres.
    #[must_use]
    pub fn half_width(&self, z: f32) -> f32 {
        self.size.width as f32 * 0.5 / self.scale(z)
    }
}
