//! The configuration of violence-alert: what a user may set, its defaults, and what makes no sense.
//!
//! In: the plugin entry's keys. Out: a checked [`Config`]. A value that makes no sense is refused with the
//! key, the value and what is expected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Configuration of violence-alert. Times are seconds of stream time, scores from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Labels of clip models that mean violence; compared without regard to case.
    pub labels: Vec<String>,
    /// Labels of people among the tracked objects.
    pub people: Vec<String>,
    /// A score at or above this speaks for an incident.
    pub enter: f32,
    /// A score below this speaks against it.
    pub exit: f32,
    /// At least one of the scores that begin an incident must reach this, unless all of the last
    /// `sustain` seconds were at or above `enter`: a score that hovers around `enter` is no incident.
    pub sure: f32,
    /// How many of the last `enter_of` scores must be at or above `enter` for an incident to begin.
    pub enter_count: u32,
    /// See `enter_count`.
    pub enter_of: u32,
    /// How many of the last `exit_of` scores must be below `exit` for an incident to calm down.
    pub exit_count: u32,
    /// See `exit_count`.
    pub exit_of: u32,
    /// Seconds at or above `enter`, every score, that begin an incident without any reaching `sure`.
    pub sustain: f32,
    /// Seconds for which an incident lasts at least.
    pub hold: f32,
    /// Seconds for which a calmed incident stays open: a score that rises again within them continues it,
    /// and is no new incident.
    pub cooldown: f32,
    /// Seconds without any score, or of missing video, after which an open incident is ended.
    pub timeout: f32,
    /// Least seconds between two updates of an incident.
    pub update_every: f32,
}

impl Default for Config {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self {
            labels: words(&["fight", "violence", "fighting", "violent"]),
            people: words(&["person", "people", "pedestrian"]),
            enter: 0.7,
            exit: 0.4,
            sure: 0.85,
            enter_count: 2,
            enter_of: 4,
            exit_count: 3,
            exit_of: 4,
            sustain: 5.0,
            hold: 3.0,
            cooldown: 5.0,
            timeout: 8.0,
            update_every: 1.0,
        }
    }
}

impl Config {
    /// Whether the values make sense together.
    ///
    /// # Errors
    /// Names the key, its value and what is expected.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("enter", self.enter), ("exit", self.exit), ("sure", self.sure)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{key} = {value}: expected a score from 0 to 1"));
            }
        }
        if self.exit >= self.enter {
            let (exit, enter) = (self.exit, self.enter);
            return Err(format!("exit = {exit} is not below enter = {enter}: expected exit < enter"));
        }
        if self.sure < self.enter {
            return Err(format!(
                "sure = {} is below enter = {}: expected sure >= enter",
                self.sure, self.enter
            ));
        }
        for (key, count, of) in
            [("enter", self.enter_count, self.enter_of), ("exit", self.exit_count, self.exit_of)]
        {
            if count == 0 || count > of || of > 100 {
                return Err(format!(
                    "{key}_count = {count} of {key}_of = {of}: expected 1 <= {key}_count <= {key}_of <= 100"
                ));
            }
        }
        for (key, value, least) in [
            ("sustain", self.sustain, 0.5),
            ("hold", self.hold, 0.0),
            ("cooldown", self.cooldown, 0.0),
            ("timeout", self.timeout, 0.5),
            ("update_every", self.update_every, 0.1),
        ] {
            if !(least..=3600.0).contains(&value) {
                return Err(format!("{key} = {value}: expected {least} to 3600 seconds"));
            }
        }
        if self.labels.is_empty() {
            return Err("labels = []: expected at least one label that means violence".to_owned());
        }
        Ok(())
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
        let wrong = [
            ("enter", Config { enter: f32::NAN, ..Config::default() }),
            ("exit", Config { exit: 0.7, ..Config::default() }),
            ("sure", Config { sure: 0.5, ..Config::default() }),
            ("enter_count", Config { enter_count: 5, ..Config::default() }),
            ("exit_count", Config { exit_count: 0, ..Config::default() }),
            ("hold", Config { hold: -1.0, ..Config::default() }),
            ("labels", Config { labels: Vec::new(), ..Config::default() }),
        ];
        for (key, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
