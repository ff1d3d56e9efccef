//! Where a frame is drawn: Y'CbCr planes at full size, and beside them who owns each pixel.
//!
//! In: shapes in pixels with their paint, back to front. Out: an NV12 picture, and for each owner how many
//! pixels its figure has and how many of them are visible. The owner plane is wider than the picture by a
//! margin, so that a figure half outside is counted whole. Nothing fails; what lies outside is not drawn.

use super::rng::mix;
use crate::flow::{Colorimetry, Matrix, Picture, Range, Rect, Size};

/// Owner of pixels that belong to the background.
pub const NOBODY: u8 = 0;
/// Owner of pixels that belong to scenery in front of people.
pub const SCENERY: u8 = 255;

/// A colour as Y' (16–235), Cb, Cr (16–240).
pub type Color = [f32; 3];

/// How the colours of a picture of this size are coded: BT.709 from 720 rows, else BT.601; limited range.
#[must_use]
pub fn colorimetry(size: Size) -> Colorimetry {
    let matrix = if size.height >= 720 { Matrix::Bt709 } else { Matrix::Bt601 };
    Colorimetry { matrix, range: Range::Limited }
}

/// Converts R'G'B' (0 to 1) as ITU-R BT.601 or BT.709 say, limited range.
#[must_use]
pub fn color(matrix: Matrix, rgb: [f32; 3]) -> Color {
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    let y = kr * rgb[0] + (1.0 - kr - kb) * rgb[1] + kb * rgb[2];
    let cb = (rgb[2] - y) / (2.0 * (1.0 - kb));
    let cr = (rgb[0] - y) / (2.0 * (1.0 - kr));
    [16.0 + 219.0 * y, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr]
}

/// What a surface looks like along a limb.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// One colour.
    Plain,
    /// Bands across the limb, this many from end to end.
    Bands(f32),
    /// Squares.
    Checks(f32),
    /// The second colour beyond this share of the length.
    Split(f32),
}

/// Paint of a shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paint {
    /// Main colour.
    pub base: Color,
    /// Second colour of the pattern.
    pub other: Color,
    /// Pattern.
    pub pattern: Pattern,
    /// Brightness, 1 = as the colour says.
    pub light: f32,
}

impl Paint {
    /// One colour.
    #[must_use]
    pub const fn plain(base: Color) -> Self {
        Self { base, other: base, pattern: Pattern::Plain, light: 1.0 }
    }
}

/// What has been drawn for one owner, in pixels of the picture (the margin included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Pixels of the whole figure.
    pub full: u32,
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Tally {
    const EMPTY: Self = Self { full: 0, left: i32::MAX, top: i32::MAX, right: i32::MIN, bottom: i32::MIN };

    /// The box around the figure, clipped to the picture; `None` where nothing of it lies inside.
    #[must_use]
    pub fn bounds(&self, size: Size) -> Option<Rect> {
        if self.full == 0 {
            return None;
        }
        let (left, top) = (self.left.max(0), self.top.max(0));
        let (right, bottom) =
            (self.right.min(size.width as i32 - 1), self.bottom.min(size.height as i32 - 1));
        (right >= left && bottom >= top)
            .then(|| Rect::from_corners(left as f32, top as f32, (right + 1) as f32, (bottom + 1) as f32))
    }
}

/// Planes to draw on.
#[derive(Debug, Clone)]
pub struct Canvas {
    size: Size,
    margin: usize,
    pitch: usize,
    /// Y', Cb, Cr at full size.
    planes: [Vec<u8>; 3],
    owner: Vec<u8>,
    tallies: Vec<Tally>,
}

impl Canvas {
    /// An empty canvas.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let (w, h) = (size.width as usize, size.height as usize);
        let margin = h / 4;
        let pitch = w + 2 * margin;
        Self {
            size,
            margin,
            pitch,
            planes: [vec![16; w * h], vec![128; w * h], vec![128; w * h]],
            owner: vec![NOBODY; pitch * (h + 2 * margin)],
            tallies: vec![Tally::EMPTY; 256],
        }
    }

    /// Size of the picture.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Starts a frame from a background of the same size.
    pub fn start(&mut self, background: &[Vec<u8>; 3]) {
        for (plane, from) in self.planes.iter_mut().zip(background) {
            plane.copy_from_slice(from);
        }
        self.forget();
    }

    /// Starts a frame whose picture nobody wants, only the owners.
    pub fn forget(&mut self) {
        self.owner.fill(NOBODY);
        self.tallies.fill(Tally::EMPTY);
    }

    /// Writes one pixel of the picture (backgrounds).
    pub fn put(&mut self, x: usize, y: usize, c: Color) {
        let at = y * self.size.width as usize + x;
        for (plane, value) in self.planes.iter_mut().zip(c) {
            plane[at] = value.clamp(16.0, 240.0) as u8;
        }
    }

    /// Takes the planes as a background.
    #[must_use]
    pub fn into_planes(self) -> [Vec<u8>; 3] {
        self.planes
    }

    /// What has been drawn for an owner.
    #[must_use]
    pub fn tally(&self, owner: u8) -> Tally {
        self.tallies[owner as usize]
    }

    /// Visible pixels of all owners (inside the picture).
    #[must_use]
    pub fn visible(&self) -> [u32; 256] {
        let mut counts = [0; 256];
        let (w, h) = (self.size.width as usize, self.size.height as usize);
        for y in 0..h {
            let from = (y + self.margin) * self.pitch + self.margin;
            for &owner in &self.owner[from..from + w] {
                if owner != NOBODY {
                    counts[owner as usize] += 1;
                }
            }
        }
        counts
    }

    /// A capsule with different radii at its ends, shaded as a round limb; edges are antialiased by distance.
    pub fn capsule(&mut self, a: (f32, f32), b: (f32, f32), ra: f32, rb: f32, paint: &Paint, owner: u8) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let len = (dx * dx + dy * dy).sqrt();
        let inverse = if len > 1e-3 { 1.0 / (len * len) } else { 0.0 };
        let (nx, ny) = if len > 1e-3 { (-dy / len, dx / len) } else { (1.0, 0.0) };
        let reach = ra.max(rb) + 1.0;
        let frame = (a.0.min(b.0) - reach, a.1.min(b.1) - reach, a.0.max(b.0) + reach, a.1.max(b.1) + reach);
        let span = move |y: f32| {
            // The strip around the axis narrows what each row must look at.
            if nx.abs() < 0.15 {
                return (frame.0, frame.2);
            }
            let (p, q) = (a.0 + (reach - ny * (y - a.1)) / nx, a.0 + (-reach - ny * (y - a.1)) / nx);
            (p.min(q).max(frame.0), p.max(q).min(frame.2))
        };
        self.fill(frame, span, owner, |x, y| {
            let (px, py) = (x - a.0, y - a.1);
            let t = ((px * dx + py * dy) * inverse).clamp(0.0, 1.0);
            let (ex, ey) = (px - t * dx, py - t * dy);
            let r = ra + (rb - ra) * t;
            let d = (ex * ex + ey * ey).sqrt();
            let coverage = r - d + 0.5;
            if coverage <= 0.0 {
                return None;
            }
            let across = (ex * nx + ey * ny) / r.max(0.5);
            Some((coverage, shaded(paint, t, across, ex / r.max(0.5))))
        });
    }

    /// An axis-parallel ellipse, shaded as a ball.
    pub fn ellipse(&mut self, center: (f32, f32), rx: f32, ry: f32, paint: &Paint, owner: u8) {
        let (cx, cy) = center;
        let frame = (cx - rx - 1.0, cy - ry - 1.0, cx + rx + 1.0, cy + ry + 1.0);
        let small = rx.min(ry);
        self.fill(
            frame,
            |_| (frame.0, frame.2),
            owner,
            |x, y| {
                let (u, v) = ((x - cx) / rx, (y - cy) / ry);
                let d = (u * u + v * v).sqrt();
                let coverage = (1.0 - d) * small + 0.5;
                (coverage > 0.0).then(|| (coverage, shaded(paint, v * 0.5 + 0.5, u, u)))
            },
        );
    }

    /// An upright rectangle with soft edges, shaded as a round post where `round`.
    pub fn post(&mut self, rect: Rect, paint: &Paint, round: bool, owner: u8) {
        let (l, t, r, b) = (rect.x, rect.y, rect.right(), rect.bottom());
        self.fill(
            (l - 1.0, t - 1.0, r + 1.0, b + 1.0),
            |_| (l - 1.0, r + 1.0),
            owner,
            |x, y| {
                let coverage = (x - l + 0.5).min(r - x + 0.5).min(y - t + 0.5).min(b - y + 0.5);
                let across = if round { (x - l) / (r - l) * 2.0 - 1.0 } else { 0.0 };
                (coverage > 0.0).then(|| (coverage, shaded(paint, (y - t) / (b - t), across, across)))
            },
        );
    }

    /// Darkens an ellipse on the ground: a soft shadow that owns nothing.
    pub fn shadow(&mut self, center: (f32, f32), rx: f32, ry: f32, strength: f32) {
        let (w, h) = (self.size.width as i32, self.size.height as i32);
        let (x0, x1) = (((center.0 - rx) as i32).max(0), ((center.0 + rx) as i32 + 1).min(w));
        let (y0, y1) = (((center.1 - ry) as i32).max(0), ((center.1 + ry) as i32 + 1).min(h));
        for y in y0..y1 {
            let v = (y as f32 + 0.5 - center.1) / ry;
            for x in x0..x1 {
                let u = (x as f32 + 0.5 - center.0) / rx;
                let d = u * u + v * v;
                if d < 1.0 {
                    let keep = 256 - (strength * (1.0 - d) * 256.0) as i32;
                    let at = (y * w + x) as usize;
                    for (plane, zero) in self.planes.iter_mut().zip([16, 128, 128]) {
                        plane[at] = (zero + (((i32::from(plane[at]) - zero) * keep) >> 8)) as u8;
                    }
                }
            }
        }
    }

    /// Fills where `sample` (at pixel centres) gives a coverage above 0 and a colour.
    fn fill(
        &mut self,
        frame: (f32, f32, f32, f32),
        span: impl Fn(f32) -> (f32, f32),
        owner: u8,
        sample: impl Fn(f32, f32) -> Option<(f32, Color)>,
    ) {
        let margin = self.margin as i32;
        let (w, h) = (self.size.width as i32, self.size.height as i32);
        let y0 = (frame.1.floor() as i32).max(-margin);
        let y1 = (frame.3.ceil() as i32).min(h + margin);
        let mut tally = self.tallies[owner as usize];
        for y in y0..y1 {
            let cy = y as f32 + 0.5;
            let (from, to) = span(cy);
            let x0 = (from.floor() as i32).max(-margin);
            let x1 = (to.ceil() as i32).min(w + margin);
            let owners = (y + margin) as usize * self.pitch + margin as usize;
            for x in x0..x1 {
                let Some((coverage, c)) = sample(x as f32 + 0.5, cy) else { continue };
                if coverage >= 0.5 && owner != NOBODY {
                    let slot = &mut self.owner[(owners as i32 + x) as usize];
                    if *slot != owner {
                        *slot = owner;
                        tally.full += 1;
                        tally.left = tally.left.min(x);
                        tally.right = tally.right.max(x);
                        tally.top = tally.top.min(y);
                        tally.bottom = tally.bottom.max(y);
                    }
                }
                if (0..w).contains(&x) && (0..h).contains(&y) {
                    let at = (y * w + x) as usize;
                    for (plane, value) in self.planes.iter_mut().zip(c) {
                        if coverage >= 1.0 {
                            plane[at] = value as u8;
                        } else {
                            let old = f32::from(plane[at]);
                            plane[at] = (old + (value - old) * coverage) as u8;
                        }
                    }
                }
            }
        }
        self.tallies[owner as usize] = tally;
    }

    /// The picture: NV12, brightness times `gain`, and sensor noise of `noise` steps drawn from `seed`.
    #[must_use]
    pub fn picture(&self, gain: f32, noise: &Noise, seed: u64) -> Picture {
        let (w, h) = (self.size.width as usize, self.size.height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let mut luma = vec![0_u8; w * h];
        let factor = (gain * 256.0) as i32;
        for (y, (out, row)) in luma.chunks_exact_mut(w).zip(self.planes[0].chunks_exact(w)).enumerate() {
            let grain = noise.row(mix(seed ^ y as u64), w);
            for ((out, &value), &grain) in out.iter_mut().zip(row).zip(grain) {
                let lit = 16 + (((i32::from(value) - 16) * factor) >> 8) + i32::from(grain);
                *out = lit.clamp(16, 235) as u8;
            }
        }
        let mut chroma = vec![128_u8; cw * 2 * ch];
        for (cy, out) in chroma.chunks_exact_mut(cw * 2).enumerate() {
            let (top, low) = (cy * 2 * w, (cy * 2 + 1).min(h - 1) * w);
            let rows = |plane: usize| (&self.planes[plane][top..top + w], &self.planes[plane][low..low + w]);
            let ((u0, u1), (v0, v1)) = (rows(1), rows(2));
            let pairs = u0.chunks(2).zip(u1.chunks(2)).zip(v0.chunks(2)).zip(v1.chunks(2));
            for (out, (((a, b), c), d)) in out.chunks_exact_mut(2).zip(pairs) {
                out[0] = average(a, b);
                out[1] = average(c, d);
            }
        }
        Picture::nv12(self.size, colorimetry(self.size), luma, chroma)
    }
}

fn average(top: &[u8], low: &[u8]) -> u8 {
    let last = top.len() - 1;
    let sum = u32::from(top[0]) + u32::from(top[last]) + u32::from(low[0]) + u32::from(low[last]);
    ((sum + 2) >> 2) as u8
}

/// Colour of a round surface: brighter towards the light (left, above), darker at its rims.
fn shaded(paint: &Paint, along: f32, across: f32, side: f32) -> Color {
    let second = match paint.pattern {
        Pattern::Plain => false,
        Pattern::Bands(n) => (along * n * 2.0) as i32 & 1 == 1,
        Pattern::Checks(n) => (((along * n * 2.0) as i32) ^ ((across * 2.0 + 8.0) as i32)) & 1 == 1,
        Pattern::Split(at) => along > at,
    };
    let c = if second { paint.other } else { paint.base };
    let k = paint.light * (1.02 - 0.30 * across * across - 0.14 * side);
    let y = 16.0 + (c[0] - 16.0) * k;
    [y.clamp(16.0, 235.0), 128.0 + (c[1] - 128.0) * k, 128.0 + (c[2] - 128.0) * k]
}

/// A table of sensor noise.
#[derive(Debug, Clone)]
pub struct Noise(Vec<i8>);

impl Noise {
    const SPREAD: usize = 16_384;

    /// Noise of about `sigma` steps, for rows of `width` pixels.
    #[must_use]
    pub fn new(seed: u64, sigma: f32, width: usize) -> Self {
        let mut rng = super::rng::Rng::new(seed);
        let grain = |_| {
            let sum: f32 = (0..4).map(|_| rng.unit() - 0.5).sum();
            (sum * sigma * 1.73).round() as i8
        };
        Self((0..Self::SPREAD + width).map(grain).collect())
    }

    fn row(&self, at: u64, width: usize) -> &[i8] {
        let from = at as usize % Self::SPREAD;
        &self.0[from..from + width]
    }
}
