//! The configuration of camera-framing: what a user may set, its defaults, and what makes no sense.
//!
//! In: the plugin entry's keys. Out: a checked [`Config`]. A value that makes no sense is refused with the
//! key, the value and what is expected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the camera follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All people.
    #[default]
    Group,
    /// One track: the one that the command `follow` names, or the largest.
    Track,
    /// The ball, with the players around it.
    Ball,
}

/// Configuration of camera-framing. Lengths are shares of the frame's width, times seconds of stream time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to follow: "group", "track" or "ball".
    pub mode: Mode,
    /// Aspect ratio of the view, "WIDTH:HEIGHT".
    pub aspect: String,
    /// Labels of people.
    pub people: Vec<String>,
    /// Labels of the ball.
    pub ball: Vec<String>,
    /// Objects below this score are ignored.
    pub min_score: f32,
    /// Room around the subject on every side, as a share of the subject's size.
    pub margin: f32,
    /// Room around the subject on every side at least, as a share of the frame's width.
    pub border: f32,
    /// How many times the view may magnify at most (frame width over view width).
    pub max_zoom: f32,
    /// How many times it magnifies at least.
    pub min_zoom: f32,
    /// How far the subject may move before the view follows, as a share of the view.
    pub dead_zone: f32,
    /// How much larger than needed the view may be before it zooms in: 0.25 is a quarter.
    pub zoom_slack: f32,
    /// Fastest movement of the view, frame widths per second.
    pub max_speed: f32,
    /// Greatest change of that speed, frame widths per second squared.
    pub max_acceleration: f32,
    /// Fastest zoom, as the logarithm of magnification per second (0.7 doubles in a second).
    pub max_zoom_speed: f32,
    /// Greatest change of that, per second.
    pub max_zoom_acceleration: f32,
    /// How many times faster than that the view may widen and move while part of its subject lies outside it.
    pub urgency: f32,
    /// How eagerly the view follows: about 1 over the seconds it lags behind.
    pub stiffness: f32,
    /// Seconds for which the view holds still when its subject is lost.
    pub hold: f32,
    /// `group`: people farther than this many times the group's usual spread are left out; 0: nobody is.
    pub outliers: f32,
    /// `ball`: seconds by which the view leads a moving ball.
    pub lead: f32,
    /// `ball`: least width of the view, so that the play around the ball is seen.
    pub context: f32,
}

impl Default for Config {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self {
            mode: Mode::Group,
            aspect: "16:9".to_owned(),
            people: words(&["person", "people", "pedestrian", "player"]),
            ball: words(&["ball", "sports ball"]),
            min_score: 0.3,
            margin: 0.15,
            border: 0.02,
            max_zoom: 4.0,
            min_zoom: 1.0,
            dead_zone: 0.04,
            zoom_slack: 0.2,
            max_speed: 0.6,
            max_acceleration: 1.2,
            max_zoom_speed: 0.8,
            max_zoom_acceleration: 1.6,
            urgency: 2.5,
            stiffness: 3.0,
            hold: 1.5,
            outliers: 0.0,
            lead: 0.3,
            context: 0.4,
        }
    }
}

impl Config {
    /// The aspect ratio as width over height.
    ///
    /// # Errors
    /// Where it is not two positive numbers with a colon, or beyond 8:1 either way.
    pub fn ratio(&self) -> Result<f32, String> {
        let wrong = || format!("aspect = \"{}\": expected WIDTH:HEIGHT, such as \"16:9\"", self.aspect);
        let (width, height) = self.aspect.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|n| n.is_finite() && *n > 0.0);
        let ratio = number(width).ok_or_else(wrong)? / number(height).ok_or_else(wrong)?;
        if (0.125..=8.0).contains(&ratio) { Ok(ratio) } else { Err(wrong()) }
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// Names the key, its value and what is expected.
    pub fn check(&self) -> Result<(), String> {
        self.ratio()?;
        for (key, value, least, most) in [
            ("min_score", self.min_score, 0.0, 1.0),
            ("margin", self.margin, 0.0, 2.0),
            ("border", self.border, 0.0, 0.4),
            ("min_zoom", self.min_zoom, 1.0, 100.0),
            ("max_zoom", self.max_zoom, 1.0, 100.0),
            ("dead_zone", self.dead_zone, 0.0, 0.4),
            ("zoom_slack", self.zoom_slack, 0.0, 4.0),
            ("max_speed", self.max_speed, 0.01, 100.0),
            ("max_acceleration", self.max_acceleration, 0.01, 1000.0),
            ("max_zoom_speed", self.max_zoom_speed, 0.01, 100.0),
            ("max_zoom_acceleration", self.max_zoom_acceleration, 0.01, 1000.0),
            ("urgency", self.urgency, 1.0, 10.0),
            ("stiffness", self.stiffness, 0.1, 30.0),
            ("hold", self.hold, 0.0, 600.0),
            ("outliers", self.outliers, 0.0, 100.0),
            ("lead", self.lead, 0.0, 5.0),
            ("context", self.context, 0.0, 1.0),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{key} = {value}: expected {least} to {most}"));
            }
        }
        if self.max_zoom < self.min_zoom {
            let (max, min) = (self.max_zoom, self.min_zoom);
            return Err(format!("max_zoom = {max} is below min_zoom = {min}: expected max_zoom >= min_zoom"));
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
        assert!((Config::default().ratio().unwrap() - 16.0 / 9.0).abs() < 1e-6);
    }

    #[test]
    fn nonsense_is_refused_by_key() {
        let wrong = [
            ("aspect", Config { aspect: "wide".to_owned(), ..Config::default() }),
            ("aspect", Config { aspect: "16:0".to_owned(), ..Config::default() }),
            ("max_zoom", Config { max_zoom: 1.0, min_zoom: 2.0, ..Config::default() }),
            ("margin", Config { margin: f32::NAN, ..Config::default() }),
            ("dead_zone", Config { dead_zone: 0.9, ..Config::default() }),
            ("max_speed", Config { max_speed: 0.0, ..Config::default() }),
        ];
        for (key, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
