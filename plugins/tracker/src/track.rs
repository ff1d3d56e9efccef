//! One track: its motion, what was last seen of it, and where it is in its life.
//!
//! In: predictions and matched detections. Out: predicted bounds, direction of movement. Owned by
//! [`crate::Tracker`]; all of it is serialisable, for snapshots. Nothing here fails.

use serde::{Deserialize, Serialize};
use watchpost_plugin::most;

use crate::{Bounds, Detection, Lapse, Motion, Noise, Sighting, Sightings};

/// Where a track is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Seen, but too few times to be believed.
    Tentative,
    /// Believed, and found in the last frame that its detector ran on.
    Live,
    /// Believed, and not found in the last such frame.
    Lost,
}

/// Seconds between the sightings from which the direction of movement is taken.
const SPAN: f64 = 0.25;

/// One object through time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Public id; 0 until it is confirmed.
    pub id: u64,
    /// Model that finds it.
    pub model: u32,
    /// Its class as last seen.
    pub class: u32,
    /// Group of classes it can be matched within.
    pub kind: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Score of the last detection.
    pub score: f32,
    /// How many detections it has had.
    pub hits: u32,
    /// Motion, predicted to [`Self::time`].
    pub motion: Motion,
    /// Stream time of `motion`, seconds.
    pub time: f64,
    /// Motion just after the last detection, from which a re-update starts.
    pub anchor: Motion,
    /// The last sightings.
    pub seen: Sightings,
    /// As [`Self::momentum`] gives it; kept, since each detection near the track asks for it.
    #[serde(default)]
    pub heading: Option<(f32, f32)>,
    /// Smoothed height and width while nobody stood in front, pixels.
    pub clear: Option<(f32, f32)>,
}

impl Track {
    /// A tentative track from a detection.
    #[must_use]
    pub fn new(found: &Detection, at: f64, noise: &Noise) -> Self {
        let motion = Motion::new(&found.bounds, noise);
        Self {
            id: 0,
            model: found.model,
            class: found.class,
            kind: found.kind,
            phase: Phase::Tentative,
            score: found.score,
            hits: 1,
            motion,
            time: at,
            anchor: motion,
            seen: Sightings::new(Sighting { at, bounds: found.bounds }),
            heading: None,
            clear: None,
        }
    }

    /// Predicted box at [`Self::time`].
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.motion.bounds()
    }

    /// Whether the predicted box and another one, both grown by this share on every side, overlap. Most pairs do not,
    /// and are through with one subtraction.
    #[inline]
    #[must_use]
    pub fn is_beside(&self, other: &Bounds, grown: f32) -> bool {
        let share = 0.5 + grown;
        (self.motion.x.value - other.cx()).abs() < share * (most(self.motion.w.value, 1.0) + other.w)
            && (self.motion.y.value - other.cy()).abs() < share * (most(self.motion.h.value, 1.0) + other.h)
    }

    /// When and where it was last seen.
    #[must_use]
    pub fn last(&self) -> Sighting {
        self.seen.last()
    }

    /// Moves the prediction on to `now`. `lapse`: what the time of the last call does; tracks share it, for nearly all
    /// were predicted to the same time before.
    pub fn predict(&mut self, now: f64, lapse: &mut Lapse, noise: &Noise) {
        let dt = (now - self.time).max(0.0) as f32;
        if dt != lapse.dt {
            *lapse = noise.over(dt);
        }
        self.motion.predict(lapse, noise);
        self.time = now;
    }

    /// Takes a detection at [`Self::time`]. `doubt` as in [`Motion::update`]; `step`: the usual seconds
    /// between two runs of the detector.
    ///
    /// After an absence the filter goes back to the last sighting and is led along a straight line to this
    /// one, so that the drift of the blind prediction doesn't stay in its velocity (observation-centric
    /// re-update: Cao et al., "Observation-Centric SORT", CVPR 2023, 4.1).
    pub fn update(&mut self, found: &Detection, doubt: f32, step: f64, noise: &Noise) {
        let last = self.last();
        let away = self.time - last.at;
        if away > 1.5 * step && self.hits > 1 {
            let steps = ((away / step.max(0.01)).round() as usize).clamp(1, 30);
            let lapse = noise.over((away / steps as f64) as f32);
            self.motion = self.anchor;
            for index in 1..steps {
                let share = index as f32 / steps as f32;
                self.motion.predict(&lapse, noise);
                self.motion.update(&between(&last.bounds, &found.bounds, share), 0.5, 1.5, noise);
            }
            self.motion.predict(&lapse, noise);
        }
        self.motion.update(&found.bounds, found.score, doubt, noise);
        self.anchor = self.motion;
        self.score = found.score;
        self.class = found.class;
        self.hits = self.hits.saturating_add(1);
        self.seen.push(Sighting { at: self.time, bounds: found.bounds });
        self.heading = self.momentum();
        if doubt <= 1.0 {
            let (h, w) = self.clear.unwrap_or((found.bounds.h, found.bounds.w));
            self.clear = Some((h + 0.2 * (found.bounds.h - h), w + 0.2 * (found.bounds.w - w)));
        }
    }

    /// Velocity between sightings about a quarter second apart, pixels per second; `None` where there is only one.
    /// It knows nothing of the filter's guesses (observation-centric momentum: OC-SORT, 4.2).
    fn momentum(&self) -> Option<(f32, f32)> {
        let last = self.seen.last();
        let mut from = &last;
        for sighting in self.seen.back() {
            from = sighting;
            if last.at - from.at >= SPAN {
                break;
            }
        }
        let dt = (last.at - from.at) as f32;
        (dt > 0.0)
            .then(|| ((last.bounds.cx() - from.bounds.cx()) / dt, (last.bounds.cy() - from.bounds.cy()) / dt))
    }

    /// Multiplies all lengths: the stream's frames changed their size.
    pub fn rescale(&mut self, across: f32, down: f32) {
        self.motion.rescale(across, down);
        self.anchor.rescale(across, down);
        for Sighting { bounds, .. } in self.seen.iter_mut() {
            *bounds = Bounds::new(bounds.x * across, bounds.y * down, bounds.w * across, bounds.h * down);
        }
        self.heading = self.heading.map(|(vx, vy)| (vx * across, vy * down));
        self.clear = self.clear.map(|(h, w)| (h * down, w * across));
    }
}

/// The box on the way from one to another.
fn between(from: &Bounds, to: &Bounds, share: f32) -> Bounds {
    let mix = |a: f32, b: f32| a + (b - a) * share;
    Bounds::new(mix(from.x, to.x), mix(from.y, to.y), mix(from.w, to.w), mix(from.h, to.h))
}
