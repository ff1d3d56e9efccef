//! How bodies move: the pose of each action as a function of time, from noise and rhythm.
//!
//! In: time, phase, a seed. Out: a pose. Everything is defined in continuous time. Nothing fails.

use std::f32::consts::{PI, TAU};

use super::camera::{Vec3, lerp, smoothstep, sub};
use super::pose::{Pose, shoulders};
use super::rng::{Rng, noise};

/// Standing: weight shifts, breath, small looks.
#[must_use]
pub fn stand(seed: u64, t: f64) -> Pose {
    let mut pose = Pose::default();
    let shift = noise(seed, t * 0.35);
    pose.pelvis[0] += 0.03 * shift;
    pose.side -= 0.03 * shift;
    pose.pelvis[1] -= 0.006 + 0.006 * (t as f32 * 1.6).sin();
    pose.twist = 0.15 * noise(seed ^ 1, t * 0.3);
    pose.nod = 0.12 * noise(seed ^ 2, t * 0.4);
    let wide = 0.02 * (seed % 5) as f32 / 4.0;
    pose.feet[0][0] -= wide;
    pose.feet[1][0] += wide;
    pose.feet[0][2] += 0.05 * ((seed >> 3) % 4) as f32 / 3.0;
    for (i, side) in [(0, -1.0), (1, 1.0)] {
        pose.hands[i] = [side * 0.07, -0.52, 0.06 + 0.03 * noise(seed ^ (3 + i as u64), t * 0.4)];
    }
    if seed.is_multiple_of(7) {
        // Arms folded.
        pose.hands = [[0.22, -0.27, 0.2], [-0.22, -0.24, 0.2]];
    }
    pose
}

/// Walking (`run` = 0) to running (`run` = 1): `distance` walked so far in metres drives the legs.
#[must_use]
pub fn gait(seed: u64, distance: f32, speed: f32, run: f32) -> Pose {
    let stride = 1.4 + 1.3 * run;
    let phase = distance / stride * TAU;
    let drive = (speed / (1.1 + 1.6 * run)).clamp(0.0, 1.15);
    let step = (0.30 + 0.12 * run) * drive;
    let lift = (0.10 + 0.28 * run) * drive;
    let mut pose = Pose { lean: 0.04 + 0.2 * run * drive, ..Pose::default() };
    pose.pelvis[1] = 0.945 - 0.025 * run + (0.018 + 0.035 * run) * drive * (2.0 * phase).cos();
    pose.twist = -0.12 * drive * phase.cos();
    let carry = 0.8 + 0.2 * noise(seed, 0.5);
    for (i, turn) in [(0, 0.0), (1, PI)] {
        let (sin, cos) = (phase + turn).sin_cos();
        let side = if i == 0 { -1.0 } else { 1.0 };
        let swing = (-sin).max(0.0);
        pose.feet[i] = [side * 0.09, 0.08 + lift * swing, step * cos - 0.06 * run * swing];
        // Arms swing against the legs; a runner's are bent.
        let arm = -cos * drive * carry;
        let walk = [side * 0.08, -0.52 + 0.04 * arm.abs(), 0.05 + 0.24 * arm];
        let bent = [side * 0.06 - side * 0.06 * arm.max(0.0), -0.30 + 0.14 * arm, 0.14 + 0.27 * arm];
        pose.hands[i] = lerp(walk, bent, run);
    }
    pose
}

/// Talking: gestures with one or both hands, nodding, at a calm pace.
#[must_use]
pub fn talk(seed: u64, t: f64) -> Pose {
    let mut pose = stand(seed, t);
    pose.nod = 0.1 + 0.14 * noise(seed ^ 9, t * 1.4);
    let speaking = smoothstep(-0.1, 0.35, noise(seed ^ 10, t * 0.25));
    for (i, side) in [(0, -1.0_f32), (1, 1.0)] {
        let n = |k: u64, rate: f64| noise(seed ^ (20 + k + 7 * i as u64), t * rate);
        let active = speaking * smoothstep(-0.5, 0.3, n(3, 0.4) + if i == 1 { 0.3 } else { -0.2 });
        let gesture = [side * (0.06 + 0.10 * n(0, 1.1)), -0.27 + 0.13 * n(1, 1.5), 0.27 + 0.09 * n(2, 1.3)];
        pose.hands[i] = lerp(pose.hands[i], gesture, active);
    }
    pose
}

/// Waving with one arm.
#[must_use]
pub fn wave(seed: u64, t: f64) -> Pose {
    let mut pose = stand(seed, t);
    let (i, side) = if seed & 1 == 0 { (1, 1.0) } else { (0, -1.0) };
    let rate = 1.6 + 0.5 * noise(seed ^ 5, 0.5);
    let swing = (t as f32 * TAU * rate).sin();
    pose.hands[i] = [side * (0.22 + 0.17 * swing), 0.42 - 0.06 * swing.abs(), 0.1];
    pose.side = -side * 0.05;
    pose
}

/// Dancing: arms, legs and hips on the beat, in one of a few figures that change every four beats.
#[must_use]
pub fn dance(seed: u64, beat: f64, t: f64) -> Pose {
    let mut pose = stand(seed, t);
    let phase = (beat * f64::from(TAU)).rem_euclid(f64::from(TAU) * 64.0) as f32;
    let bounce = (phase).cos();
    let half = phase * 0.5;
    let bar = (beat / 4.0).floor();
    let into = ((beat / 4.0 - bar) * 4.0) as f32;
    let figure = |bar: f64| (super::rng::combine(seed, bar as i64 as u64) % 4) as u32;
    let hands = |figure: u32, i: usize| -> Vec3 {
        let side = if i == 0 { -1.0 } else { 1.0 };
        let swing = (half + if i == 0 { 0.0 } else { PI }).sin();
        match figure {
            0 => [side * (0.14 + 0.06 * bounce), 0.30 + 0.13 * bounce, 0.12],
            1 => [side * 0.1 + 0.26 * half.sin(), -0.18, 0.26],
            2 => [side * 0.14, 0.02 + 0.38 * swing, 0.24],
            _ => [side * (0.34 + 0.12 * bounce), -0.08 + 0.12 * swing, 0.1],
        }
    };
    let turn = smoothstep(0.0, 0.5, into);
    for i in 0..2 {
        pose.hands[i] = lerp(hands(figure(bar - 1.0), i), hands(figure(bar), i), turn);
    }
    pose.pelvis = [0.09 * half.sin(), 0.925 + 0.035 * bounce, 0.0];
    pose.side = -0.12 * half.sin();
    pose.twist = 0.22 * half.cos();
    pose.nod = 0.1 * bounce;
    for (i, turn) in [(0, 0.0), (1, PI)] {
        let side = if i == 0 { -1.0 } else { 1.0 };
        let lift = (half + turn).sin().max(0.0);
        pose.feet[i] = [side * 0.15 + 0.06 * half.sin(), 0.08 + 0.10 * lift, 0.05 * lift];
    }
    pose
}

/// Embracing: arms around the partner, slow sway; `low` chooses whose arms are the lower ones.
#[must_use]
pub fn hug(seed: u64, t: f64, low: bool) -> Pose {
    let mut pose = stand(seed, t);
    let sway = (t as f32 * TAU * 0.28 + (seed % 6) as f32).sin();
    pose.lean = 0.13;
    pose.side = 0.05 * sway;
    pose.pelvis[0] += 0.025 * sway;
    pose.nod = 0.2;
    let pat = if seed.is_multiple_of(3) { 0.03 * (t as f32 * TAU * 1.3).sin().max(0.0) } else { 0.0 };
    let height = if low { -0.34 } else { -0.06 };
    pose.hands = [[0.12, height, 0.31 - pat], [-0.10, height + 0.06, 0.31 - pat]];
    pose
}

/// What a fighter does to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// A punch with the left (0) or right (1) hand.
    Punch(usize),
    /// A kick with the left (0) or right (1) foot.
    Kick(usize),
    /// Both hands against the chest.
    Push,
    /// Seizing and shaking.
    Grab,
}

/// One blow of a fight.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// When it lands, seconds.
    pub at: f64,
    /// Who, as an index into the fighters.
    pub by: usize,
    /// Whom.
    pub to: usize,
    /// What.
    pub blow: Blow,
    /// How hard, 0.5 to 1; below 0.62 it misses.
    pub force: f32,
}

impl Strike {
    /// Whether it hits.
    #[must_use]
    pub fn hits(&self) -> bool {
        self.force > 0.62
    }

    /// How far the attacker's limb is out at time t, 0 to 1.
    #[must_use]
    pub fn extension(&self, t: f64) -> f32 {
        let u = (t - self.at) as f32;
        match self.blow {
            Blow::Punch(_) => smoothstep(-0.15, 0.0, u) * (1.0 - smoothstep(0.03, 0.24, u)),
            Blow::Kick(_) => smoothstep(-0.26, 0.0, u) * (1.0 - smoothstep(0.06, 0.36, u)),
            Blow::Push => smoothstep(-0.2, 0.0, u) * (1.0 - smoothstep(0.12, 0.42, u)),
            Blow::Grab => smoothstep(-0.2, 0.0, u) * (1.0 - smoothstep(0.7, 0.95, u)),
        }
    }

    /// How strongly the victim still reels, 0 to 1.
    #[must_use]
    pub fn recoil(&self, t: f64) -> f32 {
        let u = (t - self.at) as f32;
        let long = if self.blow == Blow::Push { 1.1 } else { 0.6 };
        if self.hits() {
            smoothstep(0.0, 0.13, u) * (1.0 - smoothstep(0.15, long, u)) * self.force
        } else {
            0.0
        }
    }

    /// All the blows of a fight among `fighters`, irregular in time.
    #[must_use]
    pub fn plan(seed: u64, begin: f64, end: f64, fighters: usize) -> Vec<Self> {
        let mut rng = Rng::new(seed);
        let mut strikes = Vec::new();
        let mut t = begin + rng.time(0.1, 0.3);
        let mut by = rng.below(fighters);
        while t < end - 0.25 {
            // Bursts of one attacker, then the other answers.
            if rng.chance(0.4) {
                by = rng.below(fighters);
            }
            let to = if by == 0 { 1 + rng.below(fighters - 1) } else { 0 };
            let blow = match rng.below(12) {
                0..=6 => Blow::Punch(rng.below(2)),
                7 | 8 => Blow::Kick(rng.below(2)),
                9 | 10 => Blow::Push,
                _ => Blow::Grab,
            };
            strikes.push(Self { at: t, by, to, blow, force: rng.range(0.5, 1.0) });
            t += if blow == Blow::Grab { rng.time(0.7, 1.0) } else { rng.time(0.2, 0.62) };
        }
        strikes
    }
}

/// The pose of fighter `who`: guard, blows towards the opponents' bodies, and reeling from theirs.
/// `body(i)` is where fighter i's chest is, in this body's frame.
#[must_use]
pub fn fight(seed: u64, t: f64, who: usize, strikes: &[Strike], body: &dyn Fn(usize) -> Vec3) -> Pose {
    let mut pose = Pose::default();
    let n = |k: u64, rate: f64| noise(seed ^ (k * 77), t * rate);
    // Boxing stance, restless feet.
    pose.pelvis = [0.06 * n(1, 2.2), 0.90 + 0.03 * n(2, 2.6), 0.04 * n(3, 2.4)];
    pose.lean = 0.16 + 0.1 * n(4, 1.9);
    pose.twist = 0.25 * n(5, 2.3);
    pose.side = 0.1 * n(6, 1.8);
    for (i, side) in [(0, -1.0), (1, 1.0)] {
        let k = 10 + 5 * i as u64;
        pose.feet[i] = [
            side * (0.16 + 0.05 * n(k, 2.0)),
            0.08 + 0.09 * n(k + 1, 3.1).max(0.0),
            -side * 0.15 + 0.12 * n(k + 2, 2.4),
        ];
        pose.hands[i] =
            [-side * 0.06 + 0.08 * n(k + 3, 2.9), -0.06 + 0.1 * n(k + 4, 2.7), 0.30 + 0.06 * n(k + 1, 2.2)];
    }
    let near = |s: &&Strike| (s.at - t).abs() < 1.3;
    for strike in strikes.iter().filter(near) {
        if strike.to == who {
            let r = strike.recoil(t);
            let wild = ((t - strike.at) as f32 * 13.0).sin();
            pose.lean -= 0.55 * r;
            pose.side += 0.3 * r * if strike.blow == Blow::Punch(0) { -1.0 } else { 1.0 };
            pose.nod -= 0.5 * r;
            pose.pelvis[2] -= 0.12 * r;
            for (i, side) in [(0, -1.0), (1, 1.0)] {
                pose.hands[i][0] += side * 0.3 * r;
                pose.hands[i][1] += (0.12 + 0.16 * side * wild) * r;
                pose.feet[i][2] -= (0.16 + 0.18 * side * wild) * r;
                pose.feet[i][1] += 0.1 * (side * wild).max(0.0) * r;
            }
        }
        if strike.by == who {
            let e = strike.extension(t);
            let chest = body(strike.to);
            pose.lean += 0.18 * e;
            match strike.blow {
                Blow::Punch(i) => {
                    pose.twist += if i == 1 { 0.55 } else { -0.55 } * e;
                    pose.pelvis[2] += 0.10 * e;
                    let low = shoulders(&pose)[i];
                    let aim = [chest[0], chest[1] + 0.22 * (strike.force - 0.7), chest[2] - 0.05];
                    pose.hands[i] = lerp(pose.hands[i], sub(aim, low), e);
                }
                Blow::Kick(i) => {
                    pose.lean -= 0.5 * e;
                    let high = 0.45 + 0.7 * (strike.force - 0.5);
                    pose.feet[i] = lerp(pose.feet[i], [chest[0], high, chest[2].max(0.65)], e);
                }
                Blow::Push | Blow::Grab => {
                    pose.pelvis[2] += 0.12 * e;
                    let shake = if strike.blow == Blow::Grab { (t as f32 * 24.0).sin() * 0.09 } else { 0.0 };
                    let low = shoulders(&pose);
                    for (i, side) in [(0, -1.0), (1, 1.0)] {
                        let aim = [chest[0] + side * 0.12 + shake, chest[1] - 0.05, chest[2] + shake];
                        pose.hands[i] = lerp(pose.hands[i], sub(aim, low[i]), e);
                    }
                    pose.side += shake * 1.5 * e;
                }
            }
        }
    }
    pose
}
