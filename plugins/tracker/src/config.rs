//! The tracker's configuration: what a user may set, its defaults, and what makes no sense.
//!
//! In: the plugin entry's keys. Out: a checked [`Config`]. A value that makes no sense is refused with
//! the key, the value and what is expected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Noise;

/// Configuration of the tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Detections with at least this score are matched first, and may begin a track.
    pub high: f32,
    /// Detections below this score are ignored; between `low` and `high` they only continue tracks.
    pub low: f32,
    /// A detection needs at least this score to begin a track.
    pub birth: f32,
    /// How many detections make a track certain: it gets its id with this one.
    pub confirm: u32,
    /// Seconds of stream time without a detection after which a track is given up.
    pub max_lost: f32,
    /// The same where another track stands before the place where it was last seen.
    pub max_hidden: f32,
    /// Seconds for which the predicted box of a track that is not found goes on being reported.
    pub coast: f32,
    /// Labels to track; empty: all. Objects with other labels pass through without a track.
    pub classes: Vec<String>,
    /// Groups of labels that a detector confuses (such as car and truck): a track may change among them.
    pub alike: Vec<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            high: 0.5,
            low: 0.1,
            birth: 0.5,
            confirm: 3,
            max_lost: 1.0,
            max_hidden: 20.0,
            coast: 0.3,
            classes: Vec::new(),
            alike: Vec::new(),
        }
    }
}

impl Config {
    /// Whether the values make sense together.
    ///
    /// # Errors
    /// Names the key, its value and what is expected.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("high", self.high), ("low", self.low), ("birth", self.birth)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{key} = {value}: expected a score from 0 to 1"));
            }
        }
        if self.low > self.high {
            return Err(format!("low = {} is above high = {}: expected low <= high", self.low, self.high));
        }
        if self.birth < self.low {
            return Err(format!("birth = {} is below low = {}: expected birth >= low", self.birth, self.low));
        }
        if !(1..=100).contains(&self.confirm) {
            return Err(format!("confirm = {}: expected 1 to 100 detections", self.confirm));
        }
        if !(0.0..=60.0).contains(&self.max_lost) {
            return Err(format!("max_lost = {}: expected 0 to 60 seconds", self.max_lost));
        }
        if !(0.0..=600.0).contains(&self.max_hidden) {
            return Err(format!("max_hidden = {}: expected 0 to 600 seconds", self.max_hidden));
        }
        if !(0.0..=60.0).contains(&self.coast) {
            return Err(format!("coast = {}: expected 0 to 60 seconds", self.coast));
        }
        Ok(())
    }
}

/// What tuning has settled and no user needs to touch. Lengths are in multiples of [`crate::Bounds::scale`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// Noise of the motion model.
    pub noise: Noise,
    /// By how much boxes are grown before their overlap is taken.
    pub grow: f32,
    /// Least overlap of grown boxes in the first association.
    pub overlap: f32,
    /// Least overlap (not grown) in the second association, with detections below `high`.
    pub low_overlap: f32,
    /// Weight of disagreement in direction.
    pub direction: f32,
    /// Weight of disagreement in size (absolute log of the ratio of heights).
    pub size: f32,
    /// Standard deviations of a detection's centre across, foot line, height and width, in the first association.
    pub exactness: [f32; 4],
    /// Degrees of freedom of their distribution: the fewer, the less a single wrong side counts.
    pub tail: f32,
    /// Weight of the filter's own uncertainty against a match: a lost track claims less than a live one.
    pub spread: f32,
    /// Weight of missing overlap in the first association.
    pub misfit: f32,
    /// Cost of a match in the first association from which both are better left alone.
    pub worst: f32,
    /// Weight of the detection's lack of confidence.
    pub confidence: f32,
    /// Standard deviations within which a lost track may be found again.
    pub gate: f32,
    /// Share of a lost track's last box that another one covers where it may be hidden by it.
    pub hides: f32,
    /// Seconds after which the gate of a lost track grows no more.
    pub wander_max: f32,
    /// How fast the gate of a lost track grows beyond what the filter says, scales per second.
    pub wander: f32,
    /// Disadvantage of a lost track against a live one in the first association.
    pub lost: f32,
    /// Factor on the observation noise of a detection that two tracks could own.
    pub doubt: f32,
    /// Overlap with a believed track from which a newcomer counts as beside it.
    pub near: f32,
    /// Score that a newcomer beside a believed track needs.
    pub birth_near: f32,
    /// A new detection that overlaps a matched one this much is taken for a duplicate.
    pub duplicate: f32,
    /// Overlap from which two tracks are close enough to be taken for each other.
    pub close: f32,
    /// Seconds after which two who have parted are no longer taken for each other.
    pub parted: f32,
    /// Cost of an exchange, nats.
    pub exchange: f32,
    /// By how many nats an exchange must be likelier to be believed.
    pub margin: f32,
    /// What a detection that cannot be this track's costs, nats.
    pub absurd: f32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            noise: Noise::default(),
            grow: 0.1,
            overlap: 0.09,
            low_overlap: 0.1,
            direction: 0.07,
            size: 0.5,
            exactness: [0.1, 0.11, 0.045, 0.12],
            tail: 1.7,
            spread: 0.23,
            misfit: 2.7,
            worst: 27.0,
            confidence: 0.12,
            gate: 2.3,
            hides: 0.2,
            wander_max: 0.5,
            wander: 0.16,
            lost: 0.03,
            doubt: 2.0,
            near: 0.03,
            birth_near: 0.95,
            duplicate: 0.6,
            close: 0.07,
            parted: 0.7,
            exchange: 0.8,
            margin: 1.6,
            absurd: 15.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn nonsense_is_refused_by_key() {
        let wrong: [(&str, Config); 6] = [
            ("high", Config { high: 1.5, ..Config::default() }),
            ("low", Config { low: 0.9, ..Config::default() }),
            ("birth", Config { birth: 0.05, ..Config::default() }),
            ("confirm", Config { confirm: 0, ..Config::default() }),
            ("max_lost", Config { max_lost: f32::NAN, ..Config::default() }),
            ("coast", Config { coast: -1.0, ..Config::default() }),
        ];
        for (key, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
