//! Motion of one box: a Kalman filter with constant velocity in continuous time, for frames at any spacing.
//!
//! In: observed boxes with their confidence, and time steps. Out: the predicted box, its velocity and how
//! uncertain its centre is. The four axes (centre x, centre y, width, height) are independent, so that each
//! is a filter of two numbers and three covariances: no matrices, no heap. Nothing here fails.
//!
//! The model is that of SORT (Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016) and DeepSORT
//! (Wojke et al., ICIP 2017) with noise in proportion to the object's size, as white-noise acceleration
//! (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, 6.2.2)
//! so that it doesn't depend on the frame rate, and with the observation noise lowered for confident
//! detections (NSA: Du et al., "GIAOTracker", ICCV Workshops 2021).

use serde::{Deserialize, Serialize};
use watchpost_plugin::most;

use crate::Bounds;

/// Noise of the motion model, in multiples of the object's scale ([`Bounds::scale`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation of an observed centre of an object found with score 0.5.
    pub observed: f32,
    /// Standard deviation of an observed width or height, likewise.
    pub observed_size: f32,
    /// Spectral density of the centre's acceleration, squared scales per second cubed.
    pub acceleration: f32,
    /// The same of the size's.
    pub size_acceleration: f32,
    /// Standard deviation of a new object's speed, scales per second.
    pub speed: f32,
    /// Seconds after which an unobserved change of size has decayed to 1/e: people do not shrink for ever.
    pub size_decay: f32,
    /// The same for the velocity of the centre.
    pub speed_decay: f32,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            observed: 0.065,
            observed_size: 0.065,
            acceleration: 0.4,
            size_acceleration: 0.045,
            speed: 0.8,
            size_decay: 0.55,
            speed_decay: 30.0,
        }
    }
}

impl Noise {
    /// What `dt` seconds, at least 0, do to a motion.
    #[must_use]
    pub fn over(&self, dt: f32) -> Lapse {
        Lapse { dt, centre: Decay::over(dt, self.speed_decay), size: Decay::over(dt, self.size_decay) }
    }
}

/// What a span of time does to a motion, computed once for all tracks: an exponential is dear in WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lapse {
    /// Seconds.
    pub dt: f32,
    centre: Decay,
    size: Decay,
}

/// A rate that decays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Decay {
    /// The share of the rate that is left.
    keep: f32,
    /// By how much the value has moved, for a rate of 1: seconds.
    reach: f32,
}

impl Decay {
    /// `seconds`: to 1/e.
    fn over(dt: f32, seconds: f32) -> Self {
        let keep = (-dt / seconds).exp();
        Self { keep, reach: seconds * (1.0 - keep) }
    }
}

/// One axis: value and rate of change with their covariance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Estimate, pixels.
    pub value: f32,
    /// Estimated rate, pixels per second.
    pub rate: f32,
    /// Variance of the value.
    pub var: f32,
    /// Covariance of value and rate.
    pub cov: f32,
    /// Variance of the rate.
    pub rate_var: f32,
}

impl Axis {
    fn new(value: f32, var: f32, rate_var: f32) -> Self {
        Self { value, rate: 0.0, var, cov: 0.0, rate_var }
    }

    /// Moves the estimate on by `dt` seconds. `density`: of the acceleration.
    fn predict(&mut self, dt: f32, density: f32, Decay { keep, reach }: Decay) {
        self.value += self.rate * reach;
        self.rate *= keep;
        let (var, cov, rate_var) = (self.var, self.cov, self.rate_var);
        self.var = var + 2.0 * reach * cov + reach * reach * rate_var + density * dt * dt * dt / 3.0;
        self.cov = keep * (cov + reach * rate_var) + density * dt * dt / 2.0;
        self.rate_var = keep * keep * rate_var + density * dt;
    }

    /// Corrects the estimate by an observation with variance `noise`.
    fn update(&mut self, observed: f32, noise: f32) {
        let total = self.var + noise;
        let (gain, rate_gain) = (self.var / total, self.cov / total);
        let residual = observed - self.value;
        self.value += gain * residual;
        self.rate += rate_gain * residual;
        // In this order: each line reads what the next one overwrites.
        self.rate_var -= rate_gain * self.cov;
        self.cov *= 1.0 - gain;
        self.var *= 1.0 - gain;
    }
}

/// The motion of one box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Motion {
    /// Centre x.
    pub x: Axis,
    /// Centre y.
    pub y: Axis,
    /// Width.
    pub w: Axis,
    /// Height.
    pub h: Axis,
}

impl Motion {
    /// The motion of a box just seen for the first time.
    #[must_use]
    pub fn new(seen: &Bounds, noise: &Noise) -> Self {
        let scale = seen.scale();
        let square = |share: f32| (share * scale) * (share * scale);
        let (var, size_var) = (square(noise.observed), square(noise.observed_size));
        let (rate, size_rate) = (square(noise.speed), square(0.3 * noise.speed));
        Self {
            x: Axis::new(seen.cx(), var, rate),
            y: Axis::new(seen.cy(), var, rate * 0.25),
            w: Axis::new(seen.w, size_var, size_rate),
            h: Axis::new(seen.h, size_var, size_rate),
        }
    }

    /// Moves the estimate on by a span of time, as [`Noise::over`] gives it for the same noise.
    pub fn predict(&mut self, lapse: &Lapse, noise: &Noise) {
        let Lapse { dt, centre, size } = *lapse;
        if dt <= 0.0 {
            return;
        }
        let square = self.bounds().scale().powi(2);
        self.x.predict(dt, noise.acceleration * square, centre);
        // Across the floor people move as they like; up and down the picture only as far as perspective lets them.
        self.y.predict(dt, noise.acceleration * 0.25 * square, centre);
        self.w.predict(dt, noise.size_acceleration * square, size);
        self.h.predict(dt, noise.size_acceleration * square, size);
    }

    /// Corrects the estimate by an observed box. `doubt` scales the standard deviation of the observation:
    /// 1 for an ordinary one, more for one that may be cut off or somebody else's.
    pub fn update(&mut self, seen: &Bounds, score: f32, doubt: f32, noise: &Noise) {
        let scale = seen.scale() * doubt * (1.5 - score.clamp(0.0, 1.0));
        let var = (noise.observed * scale).powi(2);
        let size_var = (noise.observed_size * scale).powi(2);
        self.x.update(seen.cx(), var);
        self.y.update(seen.cy(), var);
        self.w.update(seen.w, size_var);
        self.h.update(seen.h, size_var);
    }

    /// The estimated box; its sides never fall below one pixel.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds::centred(self.x.value, self.y.value, most(self.w.value, 1.0), most(self.h.value, 1.0))
    }

    /// Multiplies all lengths: the stream's frames changed their size.
    pub fn rescale(&mut self, across: f32, down: f32) {
        for (axis, by) in
            [(&mut self.x, across), (&mut self.w, across), (&mut self.y, down), (&mut self.h, down)]
        {
            axis.value *= by;
            axis.rate *= by;
            axis.var *= by * by;
            axis.cov *= by * by;
            axis.rate_var *= by * by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_a_constant_velocity_at_uneven_spacing() {
        let noise = Noise::default();
        let at = |t: f32| Bounds::new(100.0 + 60.0 * t, 50.0 + 12.0 * t, 40.0, 100.0);
        let mut motion = Motion::new(&at(0.0), &noise);
        let mut now = 0.0;
        for step in 0..40 {
            let dt = if step % 3 == 0 { 0.1 } else { 0.04 };
            now += dt;
            motion.predict(&noise.over(dt), &noise);
            motion.update(&at(now), 0.9, 1.0, &noise);
        }
        assert!((motion.x.rate - 60.0).abs() < 1.5, "{motion:?}");
        assert!((motion.y.rate - 12.0).abs() < 1.0, "{motion:?}");
        motion.predict(&noise.over(1.0), &noise);
        assert!(motion.bounds().iou(&at(now + 1.0)) > 0.8, "{motion:?}");
    }

    #[test]
    fn a_prediction_in_one_step_or_ten_is_the_same() {
        let noise = Noise::default();
        let mut one = Motion::new(&Bounds::new(10.0, 10.0, 40.0, 90.0), &noise);
        one.x.rate = 80.0;
        let mut ten = one;
        one.predict(&noise.over(0.5), &noise);
        (0..10).for_each(|_| ten.predict(&noise.over(0.05), &noise));
        assert!((one.x.value - ten.x.value).abs() < 0.01);
        assert!((one.x.var / ten.x.var - 1.0).abs() < 0.02, "{} {}", one.x.var, ten.x.var);
    }

    #[test]
    fn variances_stay_positive_and_symmetric_in_value() {
        let noise = Noise::default();
        let mut motion = Motion::new(&Bounds::new(0.0, 0.0, 30.0, 70.0), &noise);
        for step in 0..2000 {
            motion.predict(&noise.over(if step % 50 == 0 { 3.0 } else { 0.033 }), &noise);
            motion.update(&Bounds::new((step % 7) as f32, 0.0, 30.0, 70.0), 1.0, 1.0, &noise);
            for axis in [motion.x, motion.y, motion.w, motion.h] {
                assert!(axis.var > 0.0 && axis.rate_var > 0.0, "step {step}: {axis:?}");
                assert!(axis.cov * axis.cov <= axis.var * axis.rate_var * 1.001, "step {step}: {axis:?}");
            }
        }
    }

    #[test]
    fn a_confident_observation_moves_the_estimate_more() {
        let noise = Noise::default();
        let start = Motion::new(&Bounds::new(0.0, 0.0, 30.0, 70.0), &noise);
        let moved = |score: f32, doubt: f32| {
            let mut motion = start;
            motion.predict(&noise.over(0.04), &noise);
            motion.update(&Bounds::new(10.0, 0.0, 30.0, 70.0), score, doubt, &noise);
            motion.x.value
        };
        assert!(moved(0.95, 1.0) > moved(0.4, 1.0));
        assert!(moved(0.95, 1.0) > moved(0.95, 3.0));
    }
}
