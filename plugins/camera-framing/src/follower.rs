//! One axis that follows a goal smoothly: limited speed, limited acceleration, no overshoot to speak of.
//!
//! In: a goal and how fast the goal itself moves. Out: a position. Owned by the camera; serialisable.
//! Nothing here fails, at any spacing of frames.
//!
//! A velocity loop inside a position loop (the usual cascade of servo drives), critically damped; far from
//! the goal the wanted speed is the one from which the acceleration limit can still brake in time, the
//! trapezoidal profile (Biagiotti, Melchiorri, "Trajectory Planning for Automatic Machines and Robots",
//! Springer 2008, 3.2).

use serde::{Deserialize, Serialize};

/// Longest step of the integration, seconds.
const STEP: f32 = 0.01;

/// Limits of an axis, in its unit per second and per second squared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Greatest speed.
    pub speed: f32,
    /// Greatest acceleration.
    pub acceleration: f32,
    /// Gain of the position loop, 1/s.
    pub stiffness: f32,
}

/// A position with a speed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Follower {
    /// Where it is.
    pub at: f32,
    /// How fast it moves, per second.
    pub speed: f32,
    /// The goal of the step before, to see how fast the goal moves.
    goal: f32,
    /// That, smoothed.
    goal_speed: f32,
}

impl Follower {
    /// At rest somewhere.
    #[must_use]
    pub fn at(position: f32) -> Self {
        Self { at: position, speed: 0.0, goal: position, goal_speed: 0.0 }
    }

    /// Moves towards `goal` for `dt` seconds.
    pub fn step(&mut self, goal: f32, dt: f32, limits: &Limits) {
        if dt <= 0.0 {
            return;
        }
        // The goal's own speed, smoothed over a third of a second, is fed forward: without it a follower lags
        // a walking person by speed over stiffness.
        let seen = ((goal - self.goal) / dt).clamp(-limits.speed, limits.speed);
        self.goal_speed += (seen - self.goal_speed) * (1.0 - (-dt / 0.3).exp());
        let from = self.goal;
        self.goal = goal;
        let steps = (dt / STEP).ceil().clamp(1.0, 1000.0);
        let small = dt / steps;
        for index in 0..steps as usize {
            let share = (index + 1) as f32 / steps;
            self.small_step(from + (goal - from) * share, small, limits);
        }
    }

    fn small_step(&mut self, goal: f32, dt: f32, limits: &Limits) {
        let error = goal - self.at;
        // A lag in the velocity loop of a quarter of the position loop's makes both together critically damped.
        let braking = (1.2 * limits.acceleration * error.abs()).sqrt();
        let approach = (limits.stiffness * error.abs()).min(braking).copysign(error);
        let wanted = (approach + self.goal_speed).clamp(-limits.speed, limits.speed);
        let change = (wanted - self.speed) * (4.0 * limits.stiffness * dt).min(1.0);
        let most = limits.acceleration * dt;
        let before = self.speed;
        self.speed = (self.speed + change.clamp(-most, most)).clamp(-limits.speed, limits.speed);
        self.at += 0.5 * (before + self.speed) * dt;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::testing::Rng;

    const LIMITS: Limits = Limits { speed: 0.6, acceleration: 1.2, stiffness: 3.0 };

    #[test]
    fn reaches_a_far_goal_without_overshoot() {
        let mut follower = Follower::at(0.0);
        let mut most = 0.0_f32;
        for _ in 0..200 {
            follower.step(1.0, 0.04, &LIMITS);
            most = most.max(follower.at);
        }
        assert!((follower.at - 1.0).abs() < 0.002, "{follower:?}");
        assert!(most < 1.03, "overshoot to {most}");
    }

    #[test]
    fn keeps_up_with_a_goal_that_moves() {
        let mut follower = Follower::at(0.0);
        let mut goal = 0.0;
        for _ in 0..150 {
            goal += 0.2 * 0.04;
            follower.step(goal, 0.04, &LIMITS);
        }
        assert!((goal - follower.at).abs() < 0.01, "lags {}", goal - follower.at);
    }

    #[test]
    fn holds_its_limits_whatever_the_goal_and_the_spacing() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut follower = Follower::at(0.5);
            let mut goal = 0.5;
            for _ in 0..500 {
                if rng.unit() < 0.1 {
                    goal = rng.unit() * 3.0 - 1.0;
                }
                let before = follower;
                let dt = 0.005 + 0.2 * rng.unit() * rng.unit();
                follower.step(goal + 0.01 * rng.normal(), dt, &LIMITS);
                assert!(follower.at.is_finite());
                assert!((follower.at - before.at).abs() <= LIMITS.speed * dt * 1.001 + 1e-6);
                assert!((follower.speed - before.speed).abs() <= LIMITS.acceleration * dt * 1.001 + 1e-6);
            }
        }
    }
}
