//! The director: plans who goes where and does what with whom, and when they fight.
//!
//! In: seed, number of people, when fights shall be, how far to plan. Out: people with their segments, fights.
//! Owned by the scene. Nothing fails: what finds no partner or no place becomes a walk. Everything comes from
//! the seed, and planning on never changes what was planned before.

use std::collections::VecDeque;
use std::f32::consts::{PI, TAU};

use super::actor::{Fight, Fights, Person, Segment, Spot, What, distance};
use super::camera::Camera;
use super::figure::Look;
use super::moves::Strike;
use super::rng::{Rng, combine};
use super::truth::Action;
use crate::flow::Matrix;

/// A pillar or the like on the ground that people walk around.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Obstacle {
    /// Middle on the ground.
    pub at: Spot,
    /// Half its width, metres.
    pub radius: f32,
    /// Height, metres.
    pub height: f32,
}

/// Plans people's lives.
#[derive(Debug, Clone)]
pub struct Director {
    rng: Rng,
    seed: u64,
    camera: Camera,
    matrix: Matrix,
    obstacles: Vec<Obstacle>,
    next_id: u64,
    next_fight: u64,
    /// Planned fights: earliest begin, seconds.
    pending: VecDeque<f64>,
    /// How much longer than usual people stay: where there are many, fewer are on their way at a time.
    calm: f64,
    /// No fight ends after this.
    last: f64,
    /// Everybody who is or will be about.
    pub people: Vec<Person>,
    /// All fights.
    pub fights: Fights,
}

/// What two or three people can do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    Talk,
    Hug,
    Dance,
    Fight,
}

impl Director {
    /// Begins a plan at `begin` with `count` people about, fights at `pending`, all over before `last`.
    #[must_use]
    pub fn new(
        seed: u64,
        camera: Camera,
        matrix: Matrix,
        obstacles: Vec<Obstacle>,
        (begin, last): (f64, f64),
        (first_id, count): (u64, usize),
        pending: VecDeque<f64>,
    ) -> Self {
        let mut director = Self {
            rng: Rng::new(combine(seed, 77)),
            seed,
            camera,
            matrix,
            obstacles,
            next_id: first_id,
            next_fight: 0,
            pending,
            calm: (count as f64 / 5.0).powf(1.6).clamp(1.3, 4.2),
            last,
            people: Vec::new(),
            fights: Fights::new(),
        };
        for i in 0..count {
            if i < count.div_ceil(3) * 2 {
                let at = director.place(begin, begin + 3.0, &[]);
                let id = director.person();
                let wait = director.rng.time(0.2, 2.5);
                director.stay(id, begin, begin + wait, at, Action::Stand);
            } else {
                let when = begin + director.rng.time(0.0, 4.0);
                director.enter(when);
            }
        }
        director
    }

    /// Adds a fight that begins at `at` or soon after.
    pub fn fight_at(&mut self, at: f64) {
        self.pending.push_back(at);
    }

    /// Plans until everybody knows what to do at time `until`.
    pub fn plan(&mut self, until: f64) {
        while let Some(i) = self.soonest(&[]) {
            let t = self.people[i].end();
            if t >= until {
                break;
            }
            self.decide(i, t);
        }
    }

    /// Forgets what ended before `t`.
    pub fn forget(&mut self, t: f64) {
        self.people.retain(|p| !(p.leaves && p.end() < t));
        for person in &mut self.people {
            let old = person.segments.partition_point(|s| s.end < t).saturating_sub(2);
            person.segments.drain(..old);
        }
        self.fights.retain(|_, f| f.end > t - 2.0);
    }

    fn soonest(&self, except: &[usize]) -> Option<usize> {
        (0..self.people.len())
            .filter(|i| !self.people[*i].leaves && !except.contains(i))
            .min_by(|a, b| self.people[*a].end().total_cmp(&self.people[*b].end()))
    }

    fn person(&mut self) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        let seed = combine(self.seed, id);
        let look = Look::new(combine(seed, 5), self.matrix);
        self.people.push(Person { id, seed, look, leaves: false, segments: Vec::new() });
        self.people.len() - 1
    }

    fn enter(&mut self, t: f64) {
        let i = self.person();
        let z = self.rng.range(self.camera.near + 0.3, self.camera.far);
        let from = (self.rng.sign() * (self.camera.half_width(z) + 0.5), z);
        self.walk(i, t, from, None);
    }

    fn stay(&mut self, i: usize, begin: f64, end: f64, at: Spot, action: Action) {
        let facing = match action {
            // Who waves or dances alone shows themselves to the camera more often than not.
            Action::Wave | Action::Dance => -PI / 2.0 + self.rng.range(-0.9, 0.9),
            _ => self.rng.range(0.0, TAU),
        };
        let beats = self.rng.time(1.7, 2.3);
        let what = What::Stay { at, facing, action, beats, low: false };
        self.people[i].segments.push(Segment { begin, end, what });
    }

    fn decide(&mut self, i: usize, t: f64) {
        let at = self.people[i].spot(t, &self.fights).unwrap_or((0.0, self.camera.near));
        if self.pending.front().is_some_and(|&planned| t >= planned - 4.0) {
            let third = self.rng.chance(0.25);
            if self.together(i, t, Together::Fight, if third { 3 } else { 2 }) {
                self.pending.pop_front();
                return;
            }
        }
        let moved = self.people[i].segments.last().is_some_and(|s| matches!(s.what, What::Move { .. }));
        let alive = t - self.people[i].begin();
        let roll = self.rng.unit();
        if !moved || roll < 0.34 {
            if alive > 9.0 && self.rng.chance(0.12) {
                self.leave(i, t, at);
            } else {
                self.walk(i, t, at, Some(at));
            }
            return;
        }
        let pair = match roll {
            r if r < 0.49 => Some((Together::Talk, if self.rng.chance(0.3) { 3 } else { 2 })),
            r if r < 0.60 => Some((Together::Hug, 2)),
            r if r < 0.68 => Some((Together::Dance, 2)),
            _ => None,
        };
        if let Some((what, count)) = pair {
            if self.together(i, t, what, count) {
                return;
            }
            return self.walk(i, t, at, Some(at));
        }
        let (action, low, high) = match roll {
            r if r < 0.77 => (Action::Dance, 4.0, 9.0),
            r if r < 0.84 => (Action::Wave, 2.0, 4.0),
            _ => (Action::Stand, 2.0, 8.0),
        };
        let end = t + self.rng.time(low, high) * if action == Action::Stand { self.calm } else { 1.0 };
        if self.shades(at, t, end, &[i]) > 0.0 {
            return self.walk(i, t, at, Some(at));
        }
        self.stay(i, t, end, at, action);
    }

    /// A walk or run to the best of a few places: nobody is run over, and not too many paths cross in the picture.
    fn walk(&mut self, i: usize, t: f64, from: Spot, inside: Option<Spot>) {
        let run = self.rng.chance(0.17);
        let mut best: Option<(f32, Segment)> = None;
        for _ in 0..36 {
            let to = self.anywhere();
            let long = distance(from, to);
            if inside.is_some() && !(1.5..9.0).contains(&long) {
                continue;
            }
            let segment = self.route(t, from, to, run);
            let lateral = (to.0 - from.0).abs() / long.max(0.1);
            let cost = self.clashes(i, &segment) - 0.3 * lateral
                + self.shades(to, segment.end, segment.end + 1.5, &[i]);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, segment));
            }
        }
        let segment = match best {
            Some((_, segment)) => segment,
            None => {
                let to = self.anywhere();
                self.route(t, from, to, run)
            }
        };
        self.people[i].segments.push(segment);
    }

    fn leave(&mut self, i: usize, t: f64, from: Spot) {
        let run = self.rng.chance(0.15);
        let mut best: Option<(f32, Segment)> = None;
        for _ in 0..6 {
            let z = (from.1 + self.rng.range(-1.5, 1.5)).clamp(self.camera.near + 0.3, self.camera.far);
            let to = (self.rng.sign() * (self.camera.half_width(z) + 0.6), z);
            let segment = self.route(t, from, to, run);
            let cost = self.clashes(i, &segment);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, segment));
            }
        }
        let Some((_, segment)) = best else { return };
        let gone = segment.end;
        self.people[i].segments.push(segment);
        self.people[i].leaves = true;
        let when = gone + self.rng.time(0.0, 2.5);
        self.enter(when);
    }

    fn route(&mut self, t: f64, from: Spot, to: Spot, run: bool) -> Segment {
        let bend = self.rng.range(-0.14, 0.14);
        let via = (
            (from.0 + to.0) * 0.5 - (to.1 - from.1) * bend,
            ((from.1 + to.1) * 0.5 + (to.0 - from.0) * bend).clamp(self.camera.near, self.camera.far + 1.0),
        );
        let speed = if run { self.rng.range(2.4, 3.6) } else { self.rng.range(0.95, 1.55) };
        Segment::travel(t, from, via, to, speed, run)
    }

    fn anywhere(&mut self) -> Spot {
        // More depth than a uniform choice would give: it is there that people pass behind each other.
        let z = self.rng.range(self.camera.near + 0.2, self.camera.far);
        let half = (self.camera.half_width(z) - 0.45).max(0.5);
        (self.rng.range(-half, half), z)
    }

    /// What is wrong with a walk: people and obstacles in the way, hiding.
    fn clashes(&self, i: usize, segment: &Segment) -> f32 {
        let ghost = Person {
            id: 0,
            seed: 0,
            look: self.people[i].look.clone(),
            leaves: false,
            segments: vec![segment.clone()],
        };
        let mut cost = 0.0;
        let steps = ((segment.end - segment.begin) / 0.2) as usize;
        let mut hidden = vec![0_u32; self.people.len()];
        for step in 0..=steps {
            let t = segment.begin + step as f64 * 0.2;
            let Some(at) = ghost.spot(t, &self.fights) else { continue };
            for obstacle in &self.obstacles {
                if distance(at, obstacle.at) < obstacle.radius + 0.35 {
                    cost += 2.0;
                }
            }
            for (k, other) in self.people.iter().enumerate() {
                if k == i {
                    continue;
                }
                let Some(there) = other.spot(t, &self.fights) else { continue };
                if distance(at, there) < 0.6 {
                    cost += 1.5;
                }
                if self.covers(at, there) {
                    hidden[k] += 1;
                } else if hidden[k] > 0 {
                    cost += 1.5 + 0.25 * hidden[k].saturating_sub(6) as f32;
                    hidden[k] = 0;
                }
            }
        }
        cost
    }

    /// Whether one of two people hides much of the other.
    fn covers(&self, a: Spot, b: Spot) -> bool {
        let (sa, sb) = (self.camera.scale(a.1), self.camera.scale(b.1));
        (a.0 * sa - b.0 * sb).abs() < 0.26 * sa.max(sb) && sa.max(sb) < 1.7 * sa.min(sb)
    }

    /// How much somebody staying here would stand before or behind others who stay, or behind an obstacle.
    fn shades(&self, at: Spot, begin: f64, end: f64, except: &[usize]) -> f32 {
        let mut cost = 0.0;
        for obstacle in &self.obstacles {
            let (s, o) = (self.camera.scale(at.1), self.camera.scale(obstacle.at.1));
            let gap = (at.0 * s - obstacle.at.0 * o).abs() - obstacle.radius * o;
            if gap < 0.3 * s && at.1 > obstacle.at.1 || distance(at, obstacle.at) < obstacle.radius + 0.5 {
                cost += 4.0;
            }
        }
        for (k, other) in self.people.iter().enumerate() {
            if except.contains(&k) {
                continue;
            }
            for step in 0..4 {
                let t = begin + (end - begin) * f64::from(step) / 3.0;
                let Some(there) = other.spot(t, &self.fights) else { continue };
                let (sa, sb) = (self.camera.scale(at.1), self.camera.scale(there.1));
                let close = (at.0 * sa - there.0 * sb).abs() < 0.5 * sa.max(sb);
                if !other.travels(t) && (close || distance(at, there) < 1.0) {
                    cost += 1.0;
                }
            }
        }
        cost
    }

    /// A place to stay from `begin` to `end`, the freest of a few.
    fn place(&mut self, begin: f64, end: f64, except: &[usize]) -> Spot {
        let mut best = (f32::INFINITY, (0.0, self.camera.near));
        for _ in 0..24 {
            let mut at = self.anywhere();
            at.0 *= 0.88;
            let cost = self.shades(at, begin, end, except);
            if cost < best.0 {
                best = (cost, at);
            }
        }
        best.1
    }

    /// Where people come together and on which ways: of a few places, the one whose ways cross the fewest others.
    fn meeting(
        &mut self,
        members: &[usize],
        what: Together,
        (t, lasting): (f64, f64),
        (axis, radius): (f32, f32),
        hurry: bool,
    ) -> (Spot, Vec<Spot>, Vec<Segment>) {
        let mut best: Option<(f32, Spot, Vec<Spot>, Vec<Segment>)> = None;
        for _ in 0..5 {
            let mut center = self.place(t + 2.0, t + 2.0 + lasting, members);
            if what == Together::Fight {
                center.0 *= 0.9;
                center.1 = center.1.clamp(self.camera.near + 0.7, self.camera.far - 0.3);
            }
            let mut cost = self.shades(center, t + 2.0, t + 2.0 + lasting, members);
            let (mut slots, mut walks) = (Vec::new(), Vec::new());
            for (n, &k) in members.iter().enumerate() {
                let squash = if what == Together::Fight { 0.8 } else { 1.0 };
                let angle = match what {
                    // The third stands between the others, half a step back: nobody before anybody for long.
                    Together::Talk if n == 2 => PI / 2.0,
                    Together::Talk => axis + n as f32 * PI,
                    _ => axis + n as f32 / members.len() as f32 * TAU,
                };
                let to = (center.0 + radius * angle.cos(), center.1 + squash * radius * angle.sin());
                let begin = self.people[k].end();
                let from = self.people[k].spot(begin, &self.fights).unwrap_or(to);
                let walk = self.route(begin, from, to, hurry && distance(from, to) > 2.0);
                cost += self.clashes(k, &walk);
                slots.push(to);
                walks.push(walk);
            }
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, center, slots, walks));
            }
        }
        best.map_or_else(Default::default, |(_, center, slots, walks)| (center, slots, walks))
    }

    /// Brings people together around a place. False where nobody is free soon.
    fn together(&mut self, first: usize, t: f64, what: Together, count: usize) -> bool {
        let mut members = vec![first];
        let patience = if what == Together::Fight { 9.0 } else { 3.5 };
        let inside = |director: &Self, k: usize| {
            let end = director.people[k].end();
            let at = director.people[k].spot(end, &director.fights);
            at.is_some_and(|at| at.0.abs() < director.camera.half_width(at.1) - 0.2)
        };
        if !inside(self, first) {
            return false;
        }
        let mut looked = vec![first];
        while members.len() < count {
            let Some(k) = self.soonest(&looked) else { break };
            if self.people[k].end() > t + patience {
                break;
            }
            looked.push(k);
            if inside(self, k) {
                members.push(k);
            }
        }
        if members.len() < 2 {
            return false;
        }
        let lasting = match what {
            Together::Talk => self.rng.time(6.0, 12.0) * self.calm,
            Together::Hug => self.rng.time(3.0, 6.0),
            Together::Dance => self.rng.time(5.0, 10.0),
            Together::Fight => self.rng.time(4.5, 11.0),
        };
        // Mostly side by side in the picture, so that one does not hide the other for long.
        let axis = if self.rng.chance(0.5) { 0.0 } else { PI } + self.rng.range(-0.45, 0.45);
        let radius = match what {
            Together::Talk => self.rng.range(0.42, 0.55) * if members.len() > 2 { 1.25 } else { 1.0 },
            Together::Hug => 0.22,
            Together::Dance => self.rng.range(0.42, 0.6),
            Together::Fight => Fight::RADIUS + if members.len() > 2 { 0.08 } else { 0.0 },
        };
        let hurry = what == Together::Fight && self.rng.chance(0.4) || self.rng.chance(0.12);
        let (center, slots, walks) = self.meeting(&members, what, (t, lasting), (axis, radius), hurry);
        let settle = if what == Together::Fight { self.rng.time(0.1, 0.9) } else { 0.25 };
        let begin = walks.iter().map(|w| w.end).fold(t, f64::max) + settle;
        let end = begin + lasting;
        if what == Together::Fight && (end > self.last || self.too_close(begin)) {
            return false;
        }
        let number = self.next_fight;
        if what == Together::Fight {
            self.next_fight += 1;
            let seed = combine(self.seed, 0xF1 + number);
            let ids = members.iter().map(|k| self.people[*k].id).collect();
            let strikes = Strike::plan(seed, begin, end, members.len());
            self.fights.insert(number, Fight { seed, begin, end, center, axis, ids, strikes });
        }
        let beats = self.rng.time(1.7, 2.3);
        for (n, ((&k, at), walk)) in members.iter().zip(slots).zip(walks).enumerate() {
            let arrived = walk.end;
            self.people[k].segments.push(walk);
            let facing = (center.1 - at.1).atan2(center.0 - at.0);
            let mut wait = |action, begin, end| {
                let what = What::Stay { at, facing, action, beats, low: n == 1 };
                self.people[k].segments.push(Segment { begin, end, what });
            };
            match what {
                Together::Talk => wait(Action::Talk, arrived, end),
                Together::Hug | Together::Dance | Together::Fight => {
                    wait(Action::Stand, arrived, begin);
                    match what {
                        Together::Hug => wait(Action::Hug, begin, end),
                        Together::Dance => wait(Action::Dance, begin, end),
                        _ => {
                            let what = What::Fight { fight: number, who: n };
                            self.people[k].segments.push(Segment { begin, end, what });
                        }
                    }
                }
            }
        }
        true
    }

    /// Whether a fight would begin while another one is on, or just over.
    fn too_close(&self, begin: f64) -> bool {
        self.fights.values().any(|f| begin < f.end + 8.0)
    }
}
