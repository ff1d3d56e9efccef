//! Random numbers that are the same everywhere: a small generator, hashing, and smooth noise over time.
//!
//! In: seeds. Out: numbers. Owns nothing shared; nothing here fails. Scenes must be reproducible for ever,
//! so the algorithm (SplitMix64, Steele, Lea and Flood 2014) is part of the scene's definition.

/// One SplitMix64 output for a state.
#[must_use]
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seed made of two.
#[must_use]
pub fn combine(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// Hash of a seed and a lattice position, -1 to 1.
#[must_use]
pub fn lattice(seed: u64, at: i64) -> f32 {
    (combine(seed, at as u64) >> 40) as f32 * (2.0 / 16_777_216.0) - 1.0
}

/// Value noise over one dimension: smooth, about one turn per unit, -1 to 1.
#[must_use]
pub fn noise(seed: u64, at: f64) -> f32 {
    let cell = at.floor();
    let u = (at - cell) as f32;
    let w = u * u * (3.0 - 2.0 * u);
    let (a, b) = (lattice(seed, cell as i64), lattice(seed, cell as i64 + 1));
    a + (b - a) * w
}

/// Value noise over the plane, -1 to 1.
#[must_use]
pub fn noise2(seed: u64, x: f32, y: f32) -> f32 {
    let (cx, cy) = (x.floor(), y.floor());
    let (u, v) = (x - cx, y - cy);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let at = |i: i64, j: i64| lattice(combine(seed, (cy as i64 + j) as u64), cx as i64 + i);
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * u;
    let low = at(0, 1) + (at(1, 1) - at(0, 1)) * u;
    top + (low - top) * v
}

/// A small generator.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 16_777_216.0
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in [low, high), in double precision (times).
    pub fn time(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.unit())
    }

    /// Uniform in 0..n; 0 where n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.bits() % n as u64) as usize }
    }

    /// True with this probability.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// 1 or -1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }
}
