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
use watchpost_plugin::Rect;

use crate::range::{Goal, Range};
use crate::{Aim, Config, Follower, Limits, Mode, Subject, Thing};

/// What the camera shows in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// The view, in source pixels.
    pub view: Rect,
    /// What is followed just now; a ball camera without a ball follows the group.
    pub mode: Mode,
    /// Tracks that are followed, sorted.
    pub tracks: Vec<u64>,
    /// Whether there is anything to follow at all.
    pub found: bool,
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
    /// Part of the subject was outside the view, and the view is still on its way there.
    hurries: bool,
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
        // A hurry lasts until the view rests: braking needs the limits that allowed the speed.
        let cut_off = aim.bounds.is_some_and(|subject| !range.holds(&self.view(&range), &subject));
        self.hurries = cut_off || self.hurries && self.moves(config);
        let urgency = if self.hurries { config.urgency } else { 1.0 };
        self.drive(goal, if jump { None } else { Some(dt as f32) }, &range, (config, urgency));
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

    /// Moves the axes towards the goal, or puts them there where `dt` is `None`; `urgency` times as fast as usual.
    fn drive(&mut self, goal: Goal, dt: Option<f32>, range: &Range, (config, urgency): (&Config, f32)) {
        let (across, down) = range.place(&goal);
        let zoom = goal.width.ln();
        let Some(dt) = dt else {
            (self.zoom, self.across, self.down) =
                (Follower::at(zoom), Follower::at(across), Follower::at(down));
            return;
        };
        let limits = Limits {
            speed: urgency * config.max_zoom_speed,
            acceleration: urgency * config.max_zoom_acceleration,
            stiffness: urgency.sqrt() * config.stiffness,
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
                speed: urgency * config.max_speed * unit,
                acceleration: urgency * config.max_acceleration * unit,
                stiffness: urgency.sqrt() * config.stiffness,
            };
            axis.step(goal, dt, &limits);
            axis.at = axis.at.clamp(0.0, 1.0);
        }
    }

    fn moves(&self, config: &Config) -> bool {
        let moving = |axis: &Follower, most: f32| axis.speed.abs() > 0.25 * most;
        moving(&self.zoom, config.max_zoom_speed)
            || moving(&self.across, config.max_speed)
            || moving(&self.down, config.max_speed)
    }

    fn view(&self, range: &Range) -> Rect {
        let width = self.zoom.at.exp().clamp(range.narrowest, range.widest);
        let height = width / range.ratio;
        let x = self.across.at * (self.size.0 - width).max(0.0);
        let y = self.down.at * (self.size.1 - height).max(0.0);
        Rect::new(x, y, width, height)
    }
}
