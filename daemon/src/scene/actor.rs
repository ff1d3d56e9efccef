//! One person's life as segments of time: walks along curves, and stays with something to do.
//!
//! In: segments that the director planned. Out: where they are, how they are turned, their pose and action at
//! any time. Owns no shared state; nothing fails: outside a person's life there is simply nobody.

use std::collections::BTreeMap;
use std::f32::consts::{PI, TAU};

use super::camera::{Vec3, smoothstep};
use super::figure::Look;
use super::moves::{self, Strike};
use super::pose::{Pose, Stance};
use super::rng::noise;
use super::truth::Action;

/// A ground point: x, z in metres.
pub type Spot = (f32, f32);

/// Distance between two spots.
#[must_use]
pub fn distance(a: Spot, b: Spot) -> f32 {
    ((a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)).sqrt()
}

/// A fight: who stands where, and who strikes when.
#[derive(Debug, Clone, PartialEq)]
pub struct Fight {
    /// Seed of its noise.
    pub seed: u64,
    /// Begin, seconds.
    pub begin: f64,
    /// End, seconds.
    pub end: f64,
    /// Middle.
    pub center: Spot,
    /// Direction from the middle to the first fighter, radians.
    pub axis: f32,
    /// Ids of the fighters.
    pub ids: Vec<u64>,
    /// Blows in order of time.
    pub strikes: Vec<Strike>,
}

impl Fight {
    /// Distance of the fighters from the middle when it begins.
    pub const RADIUS: f32 = 0.42;

    fn base(&self, who: usize, t: f64) -> Spot {
        let settle = smoothstep(0.0, 0.6, (t - self.begin) as f32);
        let n = |k: u64, rate: f64| noise(self.seed ^ (k * 131), t * rate) * settle;
        let count = self.ids.len() as f32;
        let angle = self.axis + who as f32 / count * TAU + 0.7 * n(1, 0.5) + 0.15 * n(2, 1.7);
        let wide = if self.ids.len() > 2 { 0.08 } else { 0.0 };
        let r = Self::RADIUS + wide + 0.09 * n(3, 1.3);
        let (cx, cz) = (self.center.0 + 0.28 * n(4, 0.6) + 0.1 * n(6, 1.9), self.center.1 + 0.16 * n(5, 0.6));
        (cx + r * angle.cos(), cz + 0.8 * r * angle.sin())
    }

    /// Where a fighter stands.
    #[must_use]
    pub fn spot(&self, who: usize, t: f64) -> Spot {
        let mut at = self.base(who, t);
        for strike in self.strikes.iter().filter(|s| (s.at - t).abs() < 1.3) {
            let amount = if strike.to == who {
                let far = if strike.blow == moves::Blow::Push { 0.5 } else { 0.22 };
                far * strike.recoil(t)
            } else if strike.by == who {
                -0.14 * strike.extension(t)
            } else {
                continue;
            };
            let other = self.base(if strike.to == who { strike.by } else { strike.to }, t);
            let d = distance(at, other).max(0.1);
            at.0 += (at.0 - other.0) / d * amount;
            at.1 += (at.1 - other.1) / d * amount;
        }
        at
    }

    fn opponent(&self, who: usize) -> usize {
        if who == 0 { 1 } else { 0 }
    }

    fn heading(&self, who: usize, t: f64) -> f32 {
        let (at, to) = (self.spot(who, t), self.spot(self.opponent(who), t));
        (to.1 - at.1).atan2(to.0 - at.0) + 0.3 * noise(self.seed ^ (who as u64 + 900), t * 1.6)
    }

    fn pose(&self, who: usize, t: f64, height: f32) -> Pose {
        let stance = Stance { at: self.spot(who, t), heading: self.heading(who, t), height };
        let chest = |i: usize| -> Vec3 {
            let at = self.spot(i, t);
            stance.local([at.0, 1.28, at.1])
        };
        moves::fight(self.seed ^ (who as u64 * 7919), t, who, &self.strikes, &chest)
    }
}

/// What a segment is about.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Walks or runs along a quadratic curve.
    Move {
        /// From here.
        from: Spot,
        /// Bent towards here.
        via: Spot,
        /// To here.
        to: Spot,
        /// Length in metres.
        length: f32,
        /// Cruising speed, metres a second.
        speed: f32,
        /// 0 = walks, 1 = runs.
        run: f32,
    },
    /// Stays here and does something.
    Stay {
        /// Here.
        at: Spot,
        /// Heading, radians.
        facing: f32,
        /// What.
        action: Action,
        /// Beats a second, for dancing.
        beats: f64,
        /// Arms below the partner's, for hugging.
        low: bool,
    },
    /// Fights.
    Fight {
        /// Which fight.
        fight: u64,
        /// As which of the fighters.
        who: usize,
    },
}

/// Seconds to reach cruising speed, and to stop from it.
pub const EASE: f64 = 0.45;

/// A span of a person's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Begin, seconds.
    pub begin: f64,
    /// End, seconds.
    pub end: f64,
    /// What happens.
    pub what: What,
}

impl Segment {
    /// A walk or run that begins at `begin`; its end follows from its length.
    #[must_use]
    pub fn travel(begin: f64, from: Spot, via: Spot, to: Spot, speed: f32, run: bool) -> Self {
        // Length of the quadratic curve, by Gravesen's estimate.
        let length = (2.0 * distance(from, to) + distance(from, via) + distance(via, to)) / 3.0;
        let speed = speed.min(length / EASE as f32).max(0.05);
        let end = begin + f64::from(length / speed) + EASE;
        let run = if run { 1.0 } else { 0.0 };
        Self { begin, end, what: What::Move { from, via, to, length, speed, run } }
    }
}

/// Distance and speed after `u` seconds of a move of this length and cruising speed.
fn progress(u: f64, length: f32, speed: f32) -> (f32, f32) {
    let ease = EASE as f32;
    let total = length / speed + ease;
    let u = (u as f32).clamp(0.0, total);
    if u < ease {
        (speed * u * u / (2.0 * ease), speed * u / ease)
    } else if u > total - ease {
        let rest = total - u;
        (length - speed * rest * rest / (2.0 * ease), speed * rest / ease)
    } else {
        (speed * (u - ease * 0.5), speed)
    }
}

fn curve(from: Spot, via: Spot, to: Spot, u: f32) -> (Spot, Spot) {
    let v = 1.0 - u;
    let at = |a: f32, b: f32, c: f32| v * v * a + 2.0 * v * u * b + u * u * c;
    let slope = |a: f32, b: f32, c: f32| v * (b - a) + u * (c - b);
    (
        (at(from.0, via.0, to.0), at(from.1, via.1, to.1)),
        (slope(from.0, via.0, to.0), slope(from.1, via.1, to.1)),
    )
}

/// The fights of a plan by number.
pub type Fights = BTreeMap<u64, Fight>;

/// A person.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Identity.
    pub id: u64,
    /// Seed of their small motions.
    pub seed: u64,
    /// What they look like.
    pub look: Look,
    /// They leave for good at the end of their last segment.
    pub leaves: bool,
    /// Their life, without holes.
    pub segments: Vec<Segment>,
}

impl Person {
    /// When they first appear.
    #[must_use]
    pub fn begin(&self) -> f64 {
        self.segments.first().map_or(f64::INFINITY, |s| s.begin)
    }

    /// When what is planned for them ends.
    #[must_use]
    pub fn end(&self) -> f64 {
        self.segments.last().map_or(f64::NEG_INFINITY, |s| s.end)
    }

    /// Index of the segment at time t; the last one where nothing is planned yet; `None` outside their life.
    fn segment(&self, t: f64) -> Option<usize> {
        if t < self.begin() || (self.leaves && t >= self.end()) {
            return None;
        }
        Some(self.segments.partition_point(|s| s.end <= t).min(self.segments.len() - 1))
    }

    /// Where they are at time t.
    #[must_use]
    pub fn spot(&self, t: f64, fights: &Fights) -> Option<Spot> {
        self.segment(t).map(|i| self.spot_in(i, t, fights))
    }

    /// Whether they travel at time t.
    #[must_use]
    pub fn travels(&self, t: f64) -> bool {
        self.segment(t).is_some_and(|i| matches!(self.segments[i].what, What::Move { .. }))
    }

    fn spot_in(&self, i: usize, t: f64, fights: &Fights) -> Spot {
        let segment = &self.segments[i];
        match &segment.what {
            What::Move { from, via, to, length, speed, .. } => {
                let (gone, _) = progress(t - segment.begin, *length, *speed);
                curve(*from, *via, *to, gone / length.max(1e-3)).0
            }
            What::Stay { at, .. } => *at,
            What::Fight { fight, who } => {
                fights.get(fight).map_or((0.0, 0.0), |f| f.spot(*who, t.min(segment.end)))
            }
        }
    }

    fn heading_in(&self, i: usize, t: f64, fights: &Fights) -> f32 {
        let segment = &self.segments[i];
        match &segment.what {
            What::Move { from, via, to, length, speed, .. } => {
                let (gone, _) = progress(t - segment.begin, *length, *speed);
                let slope = curve(*from, *via, *to, gone / length.max(1e-3)).1;
                slope.1.atan2(slope.0)
            }
            What::Stay { facing, .. } => *facing + 0.12 * noise(self.seed ^ 55, t * 0.4),
            What::Fight { fight, who } => {
                fights.get(fight).map_or(0.0, |f| f.heading(*who, t.min(segment.end)))
            }
        }
    }

    fn pose_in(&self, i: usize, t: f64, fights: &Fights) -> Pose {
        let segment = &self.segments[i];
        let seed = self.seed ^ (segment.begin * 1000.0) as u64;
        match &segment.what {
            What::Move { length, speed, run, .. } => {
                let (gone, now) = progress(t - segment.begin, *length, *speed);
                moves::gait(self.seed, gone * super::pose::STANDARD / self.look.height, now, *run)
            }
            What::Stay { action, beats, low, .. } => match action {
                Action::Talk => moves::talk(seed, t),
                Action::Wave => moves::wave(seed, t),
                Action::Dance => moves::dance(seed, (t - segment.begin) * beats, t),
                Action::Hug => moves::hug(seed, t, *low),
                _ => moves::stand(seed, t),
            },
            What::Fight { fight, who } => fights
                .get(fight)
                .map_or_else(Pose::default, |f| f.pose(*who, t.min(segment.end), self.look.height)),
        }
    }

    /// Stance, pose and action at time t; `None` outside their life.
    #[must_use]
    pub fn at(&self, t: f64, fights: &Fights) -> Option<(Stance, Pose, Action)> {
        let i = self.segment(t)?;
        let segment = &self.segments[i];
        let mut heading = self.heading_in(i, t, fights);
        let mut pose = self.pose_in(i, t, fights);
        let since = (t - segment.begin) as f32;
        if i > 0 {
            // Out of what they did before: they turn, and limbs take their time.
            let into = |over: f32| smoothstep(0.0, over, since);
            let before = self.segments[i - 1].end;
            if since < 0.5 {
                let old = self.heading_in(i - 1, before, fights);
                let turn = (heading - old + PI).rem_euclid(TAU) - PI;
                heading = old + turn * into(0.5);
            }
            let over = if matches!(segment.what, What::Fight { .. }) { 0.2 } else { 0.4 };
            if since < over {
                pose = self.pose_in(i - 1, t, fights).blend(&pose, into(over));
            }
        }
        let action = match &segment.what {
            What::Move { run, .. } if *run > 0.5 => Action::Run,
            What::Move { .. } => Action::Walk,
            What::Stay { action, .. } => *action,
            What::Fight { .. } => Action::Fight,
        };
        let at = self.spot_in(i, t, fights);
        Some((Stance { at, heading, height: self.look.height }, pose, action))
    }
}
