//! The virtual camera: from what should be shown to a view that moves as a calm operator would move it.
//!
//! In: each frame's time, size, people and balls. Out: one view a frame, of exact aspect and inside the
//! frame, and who is shown. Owned by the plugin or a test; serialisable. Nothing here fails.
//!
//! Three axes follow their goals: the logarithm of the view's width, and how far the view sits from the
//! left (top) of the room it has, 0 to 1. In these coordinates every position at every zoom lies inside
//! the frame, so no hard stop at a border ever jerks the picture. Goals move only when the subject leaves
//! a dead zone, and zoom in only when there is more slack than allowed (hysteresis).

use serde::{Deserialize, Serialize};

use crate::{Aim, Bounds, Config, Follower, Limits, Mode, Subject, Thing};

/// What the camera shows in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// The view, in source pixels.
    pub view: Bounds,
    /// What is followed just now; a ball camera without a ball follows the group.
    pub mode: Mode,
    /// Tracks that are followed, sorted.
    pub tracks: Vec<u64>,
    /// Whether there is anything to follow at all.
    pub found: bool,
}

/// The goal of the view: centre and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Goal {
    cx: f32,
    cy: f32,
    width: f32,
}

/// The camera.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Camera {
    subject: Subject,
    size: (f32, f32),
    now: Option<f64>,
    goal: Option<Goal>,
    zoom: Follower,
    across: Follower,
    down: Follower,
    /// When the subject was last there.
    seen: f64,
    /// The camera may jump to its first subject until then: just after the start or a cut.
    fresh_until: f64,
}

impl Camera {
    /// Follows this track from now on, until it has been gone for long; `None`: by its mode again.
    pub fn follow(&mut self, track: Option<u64>) {
        self.subject.follow(track, self.now.unwrap_or(0.0));
    }

    /// Starts anew at a scene cut at `now`: the view jumps to what it finds first.
    pub fn cut(&mut self, now: f64) {
        self.subject.clear();
        self.goal = None;
        self.fresh_until = now + 0.4;
    }

    /// One frame. `ratio`: width over height of the view.
    pub fn frame(
        &mut self,
        now: f64,
        size: (f32, f32),
        people: &[Thing],
        balls: &[Thing],
        (config, ratio): (&Config, f32),
    ) -> Shot {
        if self.size != size {
            if self.now.is_some() {
                self.subject.rescale(size.0 / self.size.0, size.1 / self.size.1);
            }
            self.size = size;
            self.goal = None;
            self.fresh_until = now + 0.4;
        }
        let before = self.now.replace(now);
        let dt = before.map_or(0.0, |before| (now - before).max(0.0));
        if before.is_none_or(|before| now + 1.0 < before) {
            self.cut(now);
        }
        let aim = self.subject.aim(now, size.0, people, balls, config);
        let found = aim.bounds.is_some();
        let fresh = now <= self.fresh_until;
        if found {
            self.seen = now;
            if fresh {
                self.goal = None;
                self.fresh_until = -1.0;
            }
        }
        let range = Range::new(size, ratio, config);
        let jump = self.goal.is_none();
        let goal = self.next_goal(now, &aim, &range, config);
        self.goal = Some(goal);
        self.drive(goal, if jump { None } else { Some(dt as f32) }, &range, config);
        let mode = self.subject.mode(now, config);
        Shot { view: self.view(&range), mode, tracks: aim.tracks, found }
    }

    fn next_goal(&self, now: f64, aim: &Aim, range: &Range, config: &Config) -> Goal {
        let Some(subject) = aim.bounds else {
            let wide = Goal { cx: 0.5 * self.size.0, cy: 0.5 * self.size.1, width: range.widest };
            let hold = now - self.seen <= f64::from(config.hold);
            return self.goal.filter(|_| hold).unwrap_or(wide);
        };
        let need = range.around(&subject, aim.least, config);
        let Some(goal) = self.goal else { return need };
        // Out as soon as the margins are touched, with a little to spare; in only past the slack.
        let width = if goal.width < need.width * 0.96 {
            need.width * 1.02
        } else {
            goal.width.min(need.width * (1.0 + config.zoom_slack))
        };
        let width = width.clamp(range.narrowest, range.widest);
        let (play_x, play_y) = (config.dead_zone * width, config.dead_zone * width / range.ratio);
        let mut next = Goal {
            cx: goal.cx.clamp(need.cx - play_x, need.cx + play_x),
            cy: goal.cy.clamp(need.cy - play_y, need.cy + play_y),
            width,
        };
        range.show(&subject, config, &mut next);
        range.keep_inside(&mut next);
        next
    }

    /// Moves the axes towards the goal, or puts them there where `dt` is `None`.
    fn drive(&mut self, goal: Goal, dt: Option<f32>, range: &Range, config: &Config) {
        let (across, down) = range.place(&goal);
        let zoom = goal.width.ln();
        let Some(dt) = dt else {
            (self.zoom, self.across, self.down) =
                (Follower::at(zoom), Follower::at(across), Follower::at(down));
            return;
        };
        let limits = Limits {
            speed: config.max_zoom_speed,
            acceleration: config.max_zoom_acceleration,
            stiffness: config.stiffness,
        };
        self.zoom.step(zoom, dt, &limits);
        self.zoom.at = self.zoom.at.clamp(range.narrowest.ln(), range.widest.ln());
        let width = self.zoom.at.exp();
        for (axis, goal, room) in [
            (&mut self.across, across, self.size.0 - width),
            (&mut self.down, down, self.size.1 - width / range.ratio),
        ] {
            // Pixels of limit become shares of the room there is to move in.
            let unit = self.size.0 / room.max(0.1 * self.size.0);
            let limits = Limits {
                speed: config.max_speed * unit,
                acceleration: config.max_acceleration * unit,
                stiffness: config.stiffness,
            };
            axis.step(goal, dt, &limits);
            axis.at = axis.at.clamp(0.0, 1.0);
        }
    }

    fn view(&self, range: &Range) -> Bounds {
        let width = self.zoom.at.exp().clamp(range.narrowest, range.widest);
        let height = width / range.ratio;
        let x = self.across.at * (self.size.0 - width).max(0.0);
        let y = self.down.at * (self.size.1 - height).max(0.0);
        Bounds::new(x, y, width, height)
    }
}

/// What the frame's size and the configuration allow.
struct Range {
    size: (f32, f32),
    ratio: f32,
    widest: f32,
    narrowest: f32,
}

impl Range {
    fn new(size: (f32, f32), ratio: f32, config: &Config) -> Self {
        let whole = size.0.min(size.1 * ratio);
        let widest = whole / config.min_zoom;
        Self { size, ratio, widest, narrowest: (whole / config.max_zoom).max(2.0).min(widest) }
    }

    /// The view that shows a subject with its margins.
    fn around(&self, subject: &Bounds, least: f32, config: &Config) -> Goal {
        let border = config.border * self.size.0;
        let room = |length: f32| length * (1.0 + 2.0 * config.margin) + 2.0 * border;
        // What is outside the frame cannot be shown.
        let left = subject.x.clamp(0.0, self.size.0);
        let right = (subject.x + subject.w).clamp(0.0, self.size.0);
        let top = subject.y.clamp(0.0, self.size.1);
        let bottom = (subject.y + subject.h).clamp(0.0, self.size.1);
        let width = room(right - left).max(room(bottom - top) * self.ratio).max(least * self.size.0);
        let mut goal = Goal {
            cx: 0.5 * (left + right),
            cy: 0.5 * (top + bottom),
            width: width.clamp(self.narrowest, self.widest),
        };
        self.keep_inside(&mut goal);
        goal
    }

    /// Widens and shifts a goal until it holds the subject with its border and a third of its margin, whatever
    /// dead zone and hysteresis say. Nothing beyond the frame is asked for.
    fn show(&self, subject: &Bounds, config: &Config, goal: &mut Goal) {
        let span = |from: f32, length: f32, whole: f32| {
            let room = config.border * self.size.0 + 0.33 * config.margin * length;
            ((from - room).clamp(0.0, whole), (from + length + room).clamp(0.0, whole))
        };
        let (left, right) = span(subject.x, subject.w, self.size.0);
        let (top, bottom) = span(subject.y, subject.h, self.size.1);
        let least = (right - left).max((bottom - top) * self.ratio);
        goal.width = goal.width.max(least).clamp(self.narrowest, self.widest);
        let slide = |centre: f32, from: f32, to: f32, length: f32| {
            // A subject larger than the view is centred as well as may be.
            if to - from >= length {
                0.5 * (from + to)
            } else {
                centre.clamp(to - 0.5 * length, from + 0.5 * length)
            }
        };
        goal.cx = slide(goal.cx, left, right, goal.width);
        goal.cy = slide(goal.cy, top, bottom, goal.width / self.ratio);
    }

    fn keep_inside(&self, goal: &mut Goal) {
        let (w, h) = (0.5 * goal.width, 0.5 * goal.width / self.ratio);
        goal.cx = goal.cx.max(w).min((self.size.0 - w).max(w));
        goal.cy = goal.cy.max(h).min((self.size.1 - h).max(h));
    }

    /// Where the goal sits in the room it has, across and down, 0 to 1.
    fn place(&self, goal: &Goal) -> (f32, f32) {
        let share = |centre: f32, length: f32, whole: f32| {
            let room = whole - length;
            if room <= 0.002 * whole { 0.5 } else { ((centre - 0.5 * length) / room).clamp(0.0, 1.0) }
        };
        (share(goal.cx, goal.width, self.size.0), share(goal.cy, goal.width / self.ratio, self.size.1))
    }
}
