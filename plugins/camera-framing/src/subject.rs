//! What the camera should show: the members of a group, one track, or a ball with the players around it.
//!
//! In: the people and balls of each frame. Out: a box to show, whether it is seen now, and whose it is.
//! Owned by [`crate::Camera`]; serialisable. Nothing here fails.

use serde::{Deserialize, Serialize};
use watchpost_plugin::Rect;

use crate::{Config, Mode};

/// A person or a ball in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// Track id, 0: none.
    pub track: u64,
    /// Confidence.
    pub score: f32,
    /// Where.
    pub bounds: Rect,
}

/// Seconds for which somebody who is not found stays a member, where last seen.
const LINGER: f64 = 0.8;
/// Seconds after which a newcomer, whom the camera aims at from the first, counts as shown.
const SETTLE: f64 = 1.0;
/// Seconds beyond `hold` after which a track that a command asked for is given up.
const GONE: f64 = 5.0;
/// Speeds in frame widths per second beyond which a ball cannot be the same.
const BALL_SPEED: f32 = 2.0;

/// Somebody who is followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Member {
    track: u64,
    since: f64,
    seen: f64,
    bounds: Rect,
}

/// The ball as followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Ball {
    track: u64,
    seen: f64,
    bounds: Rect,
    velocity: (f32, f32),
    hits: u32,
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Aim {
    /// The box to show, before margins; `None`: nothing new to aim at.
    pub bounds: Option<Rect>,
    /// Least width of the view in shares of the frame's width.
    pub least: f32,
    /// Tracks that are followed and should be in the picture by now, sorted.
    pub tracks: Vec<u64>,
}

/// Chooses what to show; remembers who is followed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Subject {
    members: Vec<Member>,
    ball: Option<Ball>,
    /// A ball seen elsewhere, that has yet to prove itself.
    rival: Option<Ball>,
    /// Track that a command asked for, and when it was last there.
    wanted: Option<(u64, f64)>,
    /// Track that is followed in mode track.
    current: Option<u64>,
}

impl Subject {
    /// Forgets everyone: a scene cut.
    pub fn clear(&mut self) {
        *self = Self { wanted: self.wanted, ..Self::default() };
    }

    /// Follows this track, whatever the mode, until it has been gone for long; `None`: by the mode again.
    pub fn follow(&mut self, track: Option<u64>, now: f64) {
        self.wanted = track.map(|track| (track, now));
    }

    /// What is followed at `now`: a track that a command asked for, or what the configuration says.
    #[must_use]
    pub fn mode(&self, now: f64, config: &Config) -> Mode {
        match (self.wanted, config.mode) {
            (Some(_), _) => Mode::Track,
            (None, Mode::Ball) if !self.has_ball(now, f64::from(config.hold)) => Mode::Group,
            (None, mode) => mode,
        }
    }

    /// Multiplies all lengths: the frames changed their size.
    pub fn rescale(&mut self, across: f32, down: f32) {
        let scale = |b: &mut Rect| {
            *b = Rect::new(b.x * across, b.y * down, b.width * across, b.height * down);
        };
        self.members.iter_mut().for_each(|member| scale(&mut member.bounds));
        self.ball = None;
        self.rival = None;
    }

    /// Takes the people and balls of a frame at `now` and says what to show.
    pub fn aim(&mut self, now: f64, width: f32, people: &[Thing], balls: &[Thing], config: &Config) -> Aim {
        self.see(now, people);
        self.see_ball(now, width, balls);
        if let Some((track, seen)) = &mut self.wanted {
            if self.members.iter().any(|member| member.track == *track) {
                *seen = now;
            } else if now - *seen > GONE + f64::from(config.hold) {
                self.wanted = None;
            }
        }
        match self.mode(now, config) {
            Mode::Group => self.group(now, width, config),
            Mode::Track => self.track(),
            Mode::Ball => self.ball(now, width, config),
        }
    }

    fn see(&mut self, now: f64, people: &[Thing]) {
        let tracked = people.iter().any(|person| person.track != 0);
        if tracked {
            for person in people.iter().filter(|person| person.track != 0) {
                if let Some(member) = self.members.iter_mut().find(|member| member.track == person.track) {
                    member.seen = now;
                    member.bounds = person.bounds;
                } else if self.members.len() < 256 {
                    let track = person.track;
                    self.members.push(Member { track, since: now, seen: now, bounds: person.bounds });
                }
            }
            self.members.retain(|member| member.track != 0);
        } else if !people.is_empty() {
            // Without a tracker in front nobody can be told from another: the people of this frame it is.
            self.members.retain(|member| member.track != 0);
            let nobody = |p: &Thing| Member { track: 0, since: now, seen: now, bounds: p.bounds };
            self.members.extend(people.iter().take(256).map(nobody));
        }
        self.members.retain(|member| now - member.seen <= LINGER);
    }

    fn group(&self, now: f64, width: f32, config: &Config) -> Aim {
        let inside = self.without_outliers(width, config);
        let bounds = inside.iter().map(|member| member.bounds).reduce(|a, b| a.union(&b));
        let shown = inside.iter().filter(|member| member.track != 0 && now - member.since >= SETTLE);
        let mut tracks: Vec<u64> = shown.map(|member| member.track).collect();
        tracks.sort_unstable();
        Aim { bounds, least: 0.0, tracks }
    }

    /// The members less those far from the middle of all: beyond `outliers` times the median distance, by
    /// median centre (the trimmed hull). Half of all, at least, stay.
    fn without_outliers(&self, width: f32, config: &Config) -> Vec<Member> {
        if config.outliers <= 0.0 || self.members.len() < 3 {
            return self.members.clone();
        }
        let median = |mut values: Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values[values.len() / 2]
        };
        let cx = median(self.members.iter().map(|member| member.bounds.center().0).collect());
        let cy = median(self.members.iter().map(|member| member.bounds.center().1).collect());
        let far = |member: &Member| between(member.bounds.center(), (cx, cy));
        let usual = median(self.members.iter().map(far).collect()).max(0.05 * width);
        self.members.iter().filter(|member| far(member) <= config.outliers * usual).copied().collect()
    }

    fn track(&mut self) -> Aim {
        let find = |track: u64| self.members.iter().find(|member| member.track == track);
        let chosen = match self.wanted {
            Some((wanted, _)) => find(wanted),
            None => self
                .current
                .and_then(find)
                .or_else(|| self.members.iter().max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))),
        };
        let chosen = chosen.copied();
        self.current = chosen.map(|member| member.track).filter(|track| *track != 0);
        let tracks = self.current.into_iter().collect();
        Aim { bounds: chosen.map(|member| member.bounds), least: 0.0, tracks }
    }

    /// Follows the ball: the detection nearest to where it should be; one elsewhere only after three frames.
    fn see_ball(&mut self, now: f64, width: f32, balls: &[Thing]) {
        let reach = |ball: &Ball, thing: &Thing| {
            let dt = (now - ball.seen).max(0.0) as f32;
            let (x, y) = ball.bounds.center();
            let way = between(thing.bounds.center(), (x + ball.velocity.0 * dt, y + ball.velocity.1 * dt));
            let same = ball.track != 0 && ball.track == thing.track;
            (same || way <= width * (0.06 + 0.5 * BALL_SPEED * dt.min(1.0))).then_some(way)
        };
        let nearest = |ball: &Option<Ball>| {
            let ball = ball.as_ref()?;
            let near = balls.iter().filter_map(|thing| reach(ball, thing).map(|way| (way, *thing)));
            near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, thing)| thing)
        };
        if let Some(thing) = nearest(&self.ball) {
            self.ball = self.ball.map(|ball| ball.moved(now, &thing, width));
            self.rival = None;
            return;
        }
        if let Some(thing) = nearest(&self.rival) {
            self.rival = self.rival.map(|ball| ball.moved(now, &thing, width));
        } else if let Some(best) = balls.iter().max_by(|a, b| a.score.total_cmp(&b.score)) {
            self.rival = Some(Ball::new(now, best));
        }
        let stale = self.ball.is_none_or(|ball| now - ball.seen > 0.3);
        if stale && self.rival.is_some_and(|rival| rival.hits >= 3) {
            self.ball = self.rival.take();
        }
    }

    fn ball(&self, now: f64, width: f32, config: &Config) -> Aim {
        let Some(ball) = self.ball.filter(|ball| now - ball.seen <= f64::from(config.hold)) else {
            // Lost for good: back to the players.
            return self.group(now, width, config);
        };
        let age = (now - ball.seen) as f32;
        let fading = 1.0 - (age / 0.5).min(1.0);
        let (dx, dy) = (ball.velocity.0 * config.lead * fading, ball.velocity.1 * config.lead * 0.5 * fading);
        let mut bounds =
            ball.bounds.union(&Rect { x: ball.bounds.x + dx, y: ball.bounds.y + dy, ..ball.bounds });
        // Whoever is near the ball is part of the play, as far as the view's least width has room.
        let mut near: Vec<&Member> = self.members.iter().collect();
        let way = |member: &Member| member.bounds.distance_to(ball.bounds.center());
        near.sort_by(|a, b| way(a).total_cmp(&way(b)));
        for member in near.into_iter().filter(|member| way(member) < 0.5 * config.context * width) {
            let with = bounds.union(&member.bounds);
            if with.width <= 0.8 * config.context * width {
                bounds = with;
            }
        }
        let tracks = if ball.track != 0 { vec![ball.track] } else { Vec::new() };
        Aim { bounds: Some(bounds), least: config.context, tracks }
    }

    /// Whether a ball is followed at `now`.
    fn has_ball(&self, now: f64, hold: f64) -> bool {
        self.ball.is_some_and(|ball| now - ball.seen <= hold)
    }
}

/// The straight way between two points, pixels.
fn between(from: (f32, f32), to: (f32, f32)) -> f32 {
    (from.0 - to.0).hypot(from.1 - to.1)
}

impl Ball {
    fn new(now: f64, thing: &Thing) -> Self {
        Self { track: thing.track, seen: now, bounds: thing.bounds, velocity: (0.0, 0.0), hits: 1 }
    }

    fn moved(self, now: f64, thing: &Thing, width: f32) -> Self {
        let dt = (now - self.seen) as f32;
        let mut velocity = self.velocity;
        if dt > 0.0 {
            let keep = (-dt / 0.15).exp();
            let most = BALL_SPEED * width;
            let mix = |old: f32, way: f32| old * keep + (way / dt).clamp(-most, most) * (1.0 - keep);
            let ((x, y), (before_x, before_y)) = (thing.bounds.center(), self.bounds.center());
            velocity = (mix(velocity.0, x - before_x), mix(velocity.1, y - before_y));
        }
        Self {
            track: thing.track,
            seen: now,
            bounds: thing.bounds,
            velocity,
            hits: self.hits.saturating_add(1),
        }
    }
}
