//! A person drawn: looks by identity, and the limbs of a skeleton as shaded capsules, far ones first.
//!
//! In: a skeleton and a look. Out: pixels on the canvas under one owner. Nothing fails.

use super::camera::{Camera, Vec3, lerp};
use super::canvas::{Canvas, Color, Paint, Pattern, color};
use super::pose::Skeleton;
use super::rng::Rng;
use crate::flow::Matrix;

/// What an identity looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Body height, metres.
    pub height: f32,
    /// Build: 1 = average.
    pub build: f32,
    shirt: Paint,
    sleeve: Paint,
    trousers: Paint,
    skin: Paint,
    hair: Paint,
    shoes: Paint,
    short_sleeves: bool,
    shorts: bool,
    skirt: bool,
    long_hair: bool,
    bald: bool,
    cap: bool,
}

fn hsv(h: f32, s: f32, v: f32) -> [f32; 3] {
    let channel = |n: f32| {
        let k = (n + h * 6.0) % 6.0;
        v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

impl Look {
    /// The look of a seed.
    #[must_use]
    pub fn new(seed: u64, matrix: Matrix) -> Self {
        let mut rng = Rng::new(seed);
        let tone = |rgb: [f32; 3]| color(matrix, rgb);
        let mut cloth = |dark: f32| {
            let (saturation, value) = if rng.chance(0.3) {
                (rng.range(0.0, 0.15), rng.range(0.12, 0.95 * dark))
            } else {
                (rng.range(0.35, 0.85), rng.range(0.25, 0.9 * dark))
            };
            tone(hsv(rng.unit(), saturation, value))
        };
        let (shirt, other, trousers, shoes) = (cloth(1.0), cloth(1.0), cloth(0.6), cloth(0.5));
        let skins = [
            [0.93, 0.76, 0.66],
            [0.86, 0.67, 0.54],
            [0.76, 0.56, 0.42],
            [0.58, 0.40, 0.29],
            [0.42, 0.28, 0.20],
        ];
        let hairs = [[0.08, 0.06, 0.05], [0.25, 0.16, 0.10], [0.55, 0.40, 0.22], [0.55, 0.55, 0.55]];
        let pattern = match rng.below(7) {
            0 | 1 => Pattern::Bands(rng.range(3.0, 7.0)),
            2 => Pattern::Checks(rng.range(3.0, 5.0)),
            3 => Pattern::Split(rng.range(0.3, 0.7)),
            _ => Pattern::Plain,
        };
        let shirt = Paint { base: shirt, other, pattern, light: 1.0 };
        let sleeve = if rng.chance(0.25) { Paint::plain(other) } else { Paint::plain(shirt.base) };
        Self {
            height: rng.range(1.58, 1.90),
            build: rng.range(0.92, 1.18),
            shirt,
            sleeve,
            trousers: Paint::plain(trousers),
            skin: Paint::plain(tone(skins[rng.below(skins.len())])),
            hair: Paint::plain(tone(hairs[rng.below(hairs.len())])),
            shoes: Paint::plain(shoes),
            short_sleeves: rng.chance(0.45),
            shorts: rng.chance(0.2),
            skirt: rng.chance(0.15),
            long_hair: rng.chance(0.35),
            bald: rng.chance(0.08),
            cap: rng.chance(0.12),
        }
    }

    /// The same build in a team's colours.
    #[must_use]
    pub fn in_team(mut self, shirt: Color, trousers: Color) -> Self {
        self.shirt = Paint::plain(shirt);
        self.sleeve = Paint::plain(shirt);
        self.trousers = Paint::plain(trousers);
        self.short_sleeves = true;
        self.shorts = true;
        self.skirt = false;
        self
    }
}

/// One piece of a figure: a capsule between two joints.
struct Piece {
    a: Vec3,
    b: Vec3,
    ra: f32,
    rb: f32,
    paint: Paint,
    /// Depth for the order within the figure.
    depth: f32,
}

/// Draws a figure under an owner.
pub fn draw(canvas: &mut Canvas, camera: &Camera, skeleton: &Skeleton, look: &Look, owner: u8) {
    let k = look.height / super::pose::STANDARD;
    let b = look.build * k;
    let s = skeleton;
    let mut pieces: Vec<Piece> = Vec::with_capacity(24);
    let mut piece = |from: Vec3, to: Vec3, ra: f32, rb: f32, paint: Paint, bias: f32| {
        let depth = (from[2] + to[2]) * 0.5 + bias;
        pieces.push(Piece { a: from, b: to, ra, rb, paint, depth });
    };
    for i in 0..2 {
        // The limb farther from the camera is a little darker, as in diffuse light.
        let dim = if s.hips[i][2] > s.hips[1 - i][2] { 0.86 } else { 1.0 };
        let lit = |paint: Paint| Paint { light: paint.light * dim, ..paint };
        let shin = if look.shorts { look.skin } else { look.trousers };
        piece(s.knees[i], s.ankles[i], 0.056 * b, 0.042 * b, lit(shin), 0.0);
        piece(s.hips[i], s.knees[i], 0.085 * b, 0.06 * b, lit(look.trousers), 0.0);
        piece(s.ankles[i], s.toes[i], 0.045 * k, 0.032 * k, lit(look.shoes), -0.02);
        let forearm = if look.short_sleeves { look.skin } else { look.sleeve };
        piece(s.shoulders[i], s.elbows[i], 0.056 * b, 0.046 * b, lit(look.sleeve), -0.01);
        piece(s.elbows[i], s.hands[i], 0.042 * b, 0.034 * b, lit(forearm), -0.02);
        piece(s.hands[i], s.hands[i], 0.047 * k, 0.047 * k, lit(look.skin), -0.03);
        // Half the torso: hip to shoulder.
        let waist = lerp(s.hips[i], s.pelvis, -0.1);
        piece(s.shoulders[i], waist, 0.082 * b, 0.095 * b, look.shirt, 0.0);
    }
    let chest = lerp(s.neck, s.pelvis, 0.18);
    piece(chest, s.pelvis, 0.125 * b, 0.115 * b, look.shirt, 0.0);
    if look.skirt {
        let low = lerp(s.pelvis, lerp(s.knees[0], s.knees[1], 0.5), 0.8);
        piece(s.pelvis, low, 0.13 * b, 0.2 * b, look.trousers, -0.01);
    }
    piece(s.neck, lerp(s.neck, s.head, 0.6), 0.05 * k, 0.045 * k, look.skin, 0.0);
    let chin = lerp(s.head, s.neck, 0.28);
    piece(s.head, chin, 0.105 * k, 0.075 * k, look.skin, -0.05);
    if !look.bald {
        // Hair covers the back and the top: moved against the gaze.
        let back = [s.head[0] - s.gaze[0] * 0.035, s.head[1] + 0.03 * k, s.head[2] - s.gaze[2] * 0.035];
        let front = s.gaze[2] < -0.2;
        let paint = if look.cap { look.shirt } else { look.hair };
        let paint = Paint { pattern: Pattern::Plain, ..paint };
        let lift = if front { 0.04 * k } else { 0.0 };
        let top = [back[0], back[1] + lift, back[2]];
        let radius = if front { 0.088 * k } else { 0.104 * k };
        piece(top, top, radius, radius, paint, -0.06);
        if look.long_hair {
            let tail = lerp(back, s.neck, 0.85);
            let tail = [tail[0] - s.gaze[0] * 0.05, tail[1], tail[2] - s.gaze[2] * 0.05];
            piece(back, tail, 0.09 * k, 0.06 * k, look.hair, if front { 0.1 } else { -0.055 });
        }
    }
    pieces.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    for piece in &pieces {
        let (ax, ay, sa) = camera.project(piece.a);
        let (bx, by, sb) = camera.project(piece.b);
        canvas.capsule((ax, ay), (bx, by), piece.ra * sa, piece.rb * sb, &piece.paint, owner);
    }
}

/// Darkens the ground under a figure.
pub fn draw_shadow(canvas: &mut Canvas, camera: &Camera, skeleton: &Skeleton) {
    let ground = |p: Vec3| camera.project([p[0], 0.0, p[2]]);
    let (x, y, s) = ground(skeleton.pelvis);
    let flat = camera.height / camera.far * 0.5 + 0.12;
    canvas.shadow((x + 0.12 * s, y), 0.48 * s, 0.48 * s * flat, 0.5);
    for ankle in skeleton.ankles {
        let (x, y, s) = ground(ankle);
        canvas.shadow((x + 0.03 * s, y), 0.18 * s, 0.18 * s * flat, 0.5);
    }
}
