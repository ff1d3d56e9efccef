//! What stands still behind everybody, drawn once: floor, walls, light; and the one thing that moves there.
//!
//! In: a seed, a camera. Out: planes for the canvas to start from, and a distractor drawn anew each frame.
//! Nothing fails.

use super::camera::Camera;
use super::canvas::{Canvas, Color, NOBODY, Paint, Pattern, SCENERY, color};
use super::director::Obstacle;
use super::game::Court;
use super::rng::{Rng, combine, noise, noise2};
use crate::flow::{Matrix, Rect};

/// A place: its surfaces and what moves in the background.
#[derive(Debug, Clone)]
pub struct Backdrop {
    /// Y', Cb, Cr at full size.
    pub planes: [Vec<u8>; 3],
    seed: u64,
    screen: Rect,
    colors: [Color; 3],
    post: Paint,
}

fn grey(rng: &mut Rng, low: f32, high: f32, tint: f32) -> [f32; 3] {
    let v = rng.range(low, high);
    [v + rng.range(-tint, tint), v + rng.range(-tint, tint) * 0.6, v + rng.range(-tint, tint)]
}

impl Backdrop {
    /// Draws the place of a seed: a hall or square, or a court with its lines.
    #[must_use]
    pub fn new(seed: u64, camera: &Camera, matrix: Matrix, court: Option<Court>) -> Self {
        let mut rng = Rng::new(combine(seed, 31));
        let (w, h) = (camera.size.width as usize, camera.size.height as usize);
        let mut canvas = Canvas::new(camera.size);
        let (floor_a, floor_b) = (grey(&mut rng, 0.30, 0.72, 0.07), grey(&mut rng, 0.30, 0.72, 0.07));
        let (wall_a, wall_b) = (grey(&mut rng, 0.35, 0.85, 0.10), grey(&mut rng, 0.25, 0.75, 0.12));
        let turf =
            [[0.25, 0.45, 0.2], [0.62, 0.47, 0.3], [0.25, 0.4, 0.58], [0.58, 0.32, 0.26]][rng.below(4)];
        let (floor_a, floor_b) =
            if court.is_some() { (turf, turf.map(|c| c * 0.8)) } else { (floor_a, floor_b) };
        let floor_kind = rng.below(4);
        let wall_kind = rng.below(4);
        let tile = rng.range(0.5, 1.4);
        let back = camera.far + rng.range(0.6, 2.5);
        let wall_row = camera.horizon + camera.scale(back) * camera.height;
        let sun = (rng.range(0.1, 0.9) * w as f32, rng.range(0.2, 0.9) * h as f32, rng.range(0.1, 0.4));
        let pixel = 1.0 / camera.scale(back);
        for y in 0..h {
            for x in 0..w {
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let rgb = match camera.ground(px, py) {
                    Some(at) if py > wall_row => {
                        let ground = floor(seed, floor_kind, tile, at, camera.height, floor_a, floor_b);
                        let chalk = court.map_or(0.0, |court| lines(&court, at, camera.scale(at.1)));
                        mixed(ground, [0.92; 3], chalk * 0.85)
                    }
                    _ => {
                        let (u, v) = ((px - w as f32 * 0.5) * pixel, (wall_row - py) * pixel);
                        wall(seed, wall_kind, (u, v), wall_a, wall_b)
                    }
                };
                let (dx, dy) = ((px - sun.0) / w as f32, (py - sun.1) / h as f32);
                let lit = 0.82 + sun.2 - 0.55 * (dx * dx + dy * dy);
                let contact = 1.0 - 0.35 * (-((py - wall_row) / (0.02 * h as f32)).abs()).exp();
                let k = lit * contact;
                canvas.put(x, y, color(matrix, rgb.map(|c| (c * k).clamp(0.02, 0.97))));
            }
        }
        let mut paints = [0; 3].map(|_| {
            let rgb = [rng.range(0.15, 0.9), rng.range(0.15, 0.9), rng.range(0.15, 0.9)];
            color(matrix, rgb)
        });
        paints[2] = color(matrix, grey(&mut rng, 0.2, 0.5, 0.05));
        let high = (wall_row * rng.range(0.2, 0.35)).max(6.0);
        let screen =
            Rect::new(rng.range(0.05, 0.7) * w as f32, wall_row * rng.range(0.1, 0.3), high * 1.5, high);
        let post = color(matrix, grey(&mut rng, 0.35, 0.75, 0.08));
        let other = color(matrix, grey(&mut rng, 0.2, 0.6, 0.1));
        let post = Paint { base: post, other, pattern: Pattern::Split(rng.range(0.6, 0.95)), light: 1.0 };
        Self { planes: canvas.into_planes(), seed, screen, colors: paints, post }
    }

    /// Draws what moves in the background: a screen whose picture changes, and a sign that swings.
    pub fn distract(&self, canvas: &mut Canvas, t: f64) {
        let s = self.screen;
        canvas.post(s, &Paint::plain(self.colors[2]), false, NOBODY);
        let inner = Rect::new(s.x + s.width * 0.06, s.y + s.height * 0.09, s.width * 0.88, s.height * 0.82);
        let bright = 0.9 + 0.1 * noise(self.seed ^ 8, t * 1.5);
        canvas.post(inner, &Paint { light: bright, ..Paint::plain(self.colors[0]) }, false, NOBODY);
        let travel = 0.5 + 0.45 * (t as f32 * 0.9 + (self.seed % 7) as f32).sin();
        let bar = Rect::new(inner.x + inner.width * 0.7 * travel, inner.y, inner.width * 0.25, inner.height);
        canvas.post(bar, &Paint::plain(self.colors[1]), false, NOBODY);
        let swing = 0.35 * (t as f32 * 1.7).sin() + 0.1 * noise(self.seed ^ 9, t * 2.0);
        let w = canvas.size().width as f32;
        let top = (w * 0.1 + (self.seed % 97) as f32 / 97.0 * w * 0.8, 0.0);
        let long = s.height * 1.1 + 4.0;
        let end = (top.0 + long * swing.sin(), long * swing.cos());
        canvas.capsule(top, end, 1.0, 1.0, &Paint::plain(self.colors[2]), NOBODY);
        let r = long * 0.14;
        canvas.post(Rect::new(end.0 - r, end.1, 2.0 * r, r), &Paint::plain(self.colors[1]), false, NOBODY);
    }

    /// Draws an obstacle.
    pub fn obstacle(&self, canvas: &mut Canvas, camera: &Camera, obstacle: &Obstacle) {
        let (x, foot, s) = camera.project([obstacle.at.0, 0.0, obstacle.at.1]);
        let r = obstacle.radius * s;
        let high = obstacle.height * s;
        canvas.post(Rect::new(x - r, foot - high, 2.0 * r, high), &self.post, obstacle.height > 1.0, SCENERY);
    }
}

/// Share of chalk at a point of a court: sidelines, halfway line, circle, goal areas.
fn lines(court: &Court, at: (f32, f32), scale: f32) -> f32 {
    let (x, z) = (at.0, at.1 - court.middle());
    let deep = (court.far - court.near) * 0.5;
    let inside = x.abs() < court.half + 0.05 && z.abs() < deep + 0.05;
    if !inside {
        return 0.0;
    }
    let goal = ((x.abs() - court.half).powi(2) + z * z).sqrt();
    let nearest = (x.abs() - court.half)
        .abs()
        .min((z.abs() - deep).abs())
        .min(x.abs())
        .min((x.hypot(z) - 1.8).abs())
        .min((goal - 3.0).abs());
    // As wide as chalk, and softened over about a pixel.
    1.0 - ((nearest - 0.04) * scale * 0.6).clamp(0.0, 1.0)
}

/// Share of the second colour at a line of width `w` around whole numbers, softened over `blur`.
fn line(v: f32, w: f32, blur: f32) -> f32 {
    let d = (v - v.round()).abs();
    1.0 - ((d - w) / blur.max(1e-4)).clamp(0.0, 1.0)
}

fn mixed(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

fn floor(seed: u64, kind: usize, tile: f32, at: (f32, f32), up: f32, a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    let (x, z) = at;
    let blur = 0.004 * z * z / up / 8.0 + 0.01;
    let rough = 0.05 * noise2(seed ^ 3, x * 5.0, z * 5.0) + 0.05 * noise2(seed ^ 4, x * 1.1, z * 0.9);
    let base = match kind {
        0 => mixed(a, mixed(a, b, 0.6), line(x / tile, 0.02, blur).max(line(z / tile, 0.02, blur * 2.0))),
        1 => {
            let odd = ((x / tile).floor() as i64 + (z / tile).floor() as i64) & 1;
            mixed(a, b, 0.35 * odd as f32)
        }
        2 => {
            let plank = (x / (tile * 0.3)).floor();
            let shade = 0.5 + 0.5 * noise(seed ^ 6, f64::from(plank) + 0.5);
            let grain = 0.06 * noise2(seed ^ 7, x * 14.0, z * 1.5);
            mixed(a, b, (0.4 * shade + grain).clamp(0.0, 1.0))
        }
        _ => {
            let speck = noise2(seed ^ 5, x * 16.0, z * 12.0);
            mixed(a, b, (0.15 + 0.12 * speck).clamp(0.0, 1.0))
        }
    };
    base.map(|c| c * (1.0 + rough))
}

fn wall(seed: u64, kind: usize, at: (f32, f32), a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    let (u, v) = at;
    let rough = 0.04 * noise2(seed ^ 13, u * 3.0, v * 3.0);
    let base = match kind {
        0 => {
            let row = (v / 0.25).floor();
            let shift = if row as i64 & 1 == 0 { 0.0 } else { 0.5 };
            let joint = line(v / 0.25, 0.06, 0.1).max(line(u / 0.6 + shift, 0.03, 0.05));
            mixed(a, b, 0.5 * joint)
        }
        1 => {
            // Windows in a row.
            let (fu, fv) = ((u / 2.6).rem_euclid(1.0), v / 2.4);
            let glass = (0.2..0.8).contains(&fu) && (0.35..0.85).contains(&fv);
            if glass { [0.45, 0.55, 0.66] } else { a }
        }
        2 => mixed(a, b, 0.5 * line(u / 1.2, 0.01, 0.02)),
        _ => mixed(a, b, (v / 3.0).clamp(0.0, 1.0) * 0.6),
    };
    let skirting = if v < 0.12 { 0.75 } else { 1.0 };
    base.map(|c| c * (1.0 + rough) * skirting)
}
