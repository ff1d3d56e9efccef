//! What views a frame allows, and which of them shows a subject.
//!
//! In: the frame's size, the configuration, a subject's box. Out: goals: centre and width of a view. Pure functions;
//! nothing fails.

use serde::{Deserialize, Serialize};
use watchpost_plugin::Rect;

use crate::Config;

/// The goal of the view: centre and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Centre across.
    pub cx: f32,
    /// Centre down.
    pub cy: f32,
    /// Width.
    pub width: f32,
}

/// What the frame's size and the configuration allow.
pub struct Range {
    size: (f32, f32),
    /// Width over height of the view.
    pub ratio: f32,
    /// Widest view, pixels.
    pub widest: f32,
    /// Narrowest view, pixels.
    pub narrowest: f32,
}

impl Range {
    /// For frames of this size.
    pub fn new(size: (f32, f32), ratio: f32, config: &Config) -> Self {
        let whole = size.0.min(size.1 * ratio);
        let widest = whole / config.min_zoom;
        Self { size, ratio, widest, narrowest: (whole / config.max_zoom).max(2.0).min(widest) }
    }

    /// The view that shows a subject with its margins.
    pub fn around(&self, subject: &Rect, least: f32, config: &Config) -> Goal {
        let border = config.border * self.size.0;
        let room = |length: f32| length * (1.0 + 2.0 * config.margin) + 2.0 * border;
        // What is outside the frame cannot be shown.
        let left = subject.x.clamp(0.0, self.size.0);
        let right = subject.right().clamp(0.0, self.size.0);
        let top = subject.y.clamp(0.0, self.size.1);
        let bottom = subject.bottom().clamp(0.0, self.size.1);
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
    pub fn show(&self, subject: &Rect, config: &Config, goal: &mut Goal) {
        let span = |from: f32, length: f32, whole: f32| {
            let room = config.border * self.size.0 + 0.33 * config.margin * length;
            ((from - room).clamp(0.0, whole), (from + length + room).clamp(0.0, whole))
        };
        let (left, right) = span(subject.x, subject.width, self.size.0);
        let (top, bottom) = span(subject.y, subject.height, self.size.1);
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

    /// Whether a view shows all of a subject that the frame does; a pixel or two do not count.
    pub fn holds(&self, view: &Rect, subject: &Rect) -> bool {
        let spare = 0.005 * self.size.0;
        let within = |from: f32, length: f32, low: f32, room: f32, whole: f32| {
            from.clamp(0.0, whole) >= low - spare && (from + length).clamp(0.0, whole) <= low + room + spare
        };
        within(subject.x, subject.width, view.x, view.width, self.size.0)
            && within(subject.y, subject.height, view.y, view.height, self.size.1)
    }

    /// Shifts a goal until none of it lies outside the frame.
    pub fn keep_inside(&self, goal: &mut Goal) {
        let (w, h) = (0.5 * goal.width, 0.5 * goal.width / self.ratio);
        goal.cx = goal.cx.max(w).min((self.size.0 - w).max(w));
        goal.cy = goal.cy.max(h).min((self.size.1 - h).max(h));
    }

    /// Where the goal sits in the room it has, across and down, 0 to 1.
    pub fn place(&self, goal: &Goal) -> (f32, f32) {
        let share = |centre: f32, length: f32, whole: f32| {
            let room = whole - length;
            if room <= 0.002 * whole { 0.5 } else { ((centre - 0.5 * length) / room).clamp(0.0, 1.0) }
        };
        (share(goal.cx, goal.width, self.size.0), share(goal.cy, goal.width / self.ratio, self.size.1))
    }
}
