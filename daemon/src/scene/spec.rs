//! What scene to render: parsed from `scene://people?seed=7&size=640x360&fps=25&seconds=60`.
//!
//! In: a URI. Out: a [`SceneSpec`]. A wrong URI is refused with the key, the value and what was expected.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::flow::Size;

/// What kind of scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SceneKind {
    /// People on a square or in a hall, as a surveillance camera sees them.
    People,
    /// A ball game.
    Ball,
}

/// Why a scene URI was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a scene URI at all.
    #[error("\"{0}\" is no scene URI; expected scene://people or scene://ball, then ?key=value&...")]
    Scheme(String),
    /// No such kind.
    #[error("\"{uri}\": there is no scene \"{kind}\"; there are people and ball")]
    Kind {
        /// The URI.
        uri: String,
        /// The kind it names.
        kind: String,
    },
    /// No such key.
    #[error("\"{uri}\": unknown key \"{key}\"; known are seed, size, fps, seconds, people, fights, cuts")]
    Key {
        /// The URI.
        uri: String,
        /// The key it names.
        key: String,
    },
    /// A value that cannot be.
    #[error("\"{uri}\": {key}={value}: expected {expected}")]
    Value {
        /// The URI.
        uri: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// A scene, completely described: the same spec renders the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneSpec {
    /// Kind.
    pub kind: SceneKind,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Size of the frames.
    pub size: Size,
    /// Frames a second, as a fraction.
    pub rate: (u32, u32),
    /// Length; 0 = endless.
    pub seconds: f64,
    /// How many people are about; `None`: chosen by the seed.
    pub people: Option<u32>,
    /// How many fights (per minute where endless); `None`: zero to two a minute, chosen by the seed.
    pub fights: Option<u32>,
    /// How many scene cuts (none where endless).
    pub cuts: u32,
}

impl Default for SceneSpec {
    fn default() -> Self {
        Self {
            kind: SceneKind::People,
            seed: 1,
            size: Size::new(640, 360),
            rate: (25, 1),
            seconds: 0.0,
            people: None,
            fights: None,
            cuts: 0,
        }
    }
}

impl SceneSpec {
    /// Parses a scene URI.
    ///
    /// # Errors
    /// Another scheme, an unknown kind or key, a value out of range.
    pub fn parse(uri: &str) -> Result<Self, SpecError> {
        let rest = uri.strip_prefix("scene://").ok_or_else(|| SpecError::Scheme(uri.to_owned()))?;
        let (kind, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kind = match kind.trim_end_matches('/') {
            "people" => SceneKind::People,
            "ball" => SceneKind::Ball,
            other => return Err(SpecError::Kind { uri: uri.to_owned(), kind: other.to_owned() }),
        };
        let mut spec = Self { kind, ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            spec.set(uri, key, value)?;
        }
        Ok(spec)
    }

    fn set(&mut self, uri: &str, key: &str, value: &str) -> Result<(), SpecError> {
        let wrong = |expected: &'static str| SpecError::Value {
            uri: uri.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            expected,
        };
        let count = |low: u32, high: u32, expected: &'static str| {
            value.parse::<u32>().ok().filter(|n| (low..=high).contains(n)).ok_or_else(|| wrong(expected))
        };
        match key {
            "seed" => self.seed = value.parse().map_err(|_| wrong("a whole number from 0 to 2^64-1"))?,
            "size" => {
                self.size = value
                    .parse::<Size>()
                    .ok()
                    .filter(|s| (64..=7680).contains(&s.width) && (64..=4320).contains(&s.height))
                    .ok_or_else(|| wrong("WIDTHxHEIGHT, from 64x64 to 7680x4320, such as 640x360"))?;
            }
            "fps" => {
                let expected = "frames a second from 1 to 240, such as 25 or 30000/1001";
                self.rate = parse_rate(value).ok_or_else(|| wrong(expected))?;
            }
            "seconds" => {
                self.seconds = value
                    .parse::<f64>()
                    .ok()
                    .filter(|s| *s == 0.0 || (1.0..=86_400.0).contains(s))
                    .ok_or_else(|| wrong("0 (endless) or 1 to 86400"))?;
            }
            "people" => self.people = Some(count(1, 24, "a whole number from 1 to 24")?),
            "fights" => self.fights = Some(count(0, 60, "a whole number from 0 to 60")?),
            "cuts" => self.cuts = count(0, 60, "a whole number from 0 to 60")?,
            _ => return Err(SpecError::Key { uri: uri.to_owned(), key: key.to_owned() }),
        }
        Ok(())
    }

    /// Frames in the scene; `None` where it is endless.
    #[must_use]
    pub fn frames(&self) -> Option<u64> {
        (self.seconds > 0.0).then(|| (self.seconds * self.fps()).round() as u64)
    }

    /// Frames a second.
    #[must_use]
    pub fn fps(&self) -> f64 {
        f64::from(self.rate.0) / f64::from(self.rate.1)
    }

    /// Stream time of a frame in nanoseconds.
    #[must_use]
    pub fn pts(&self, index: u64) -> u64 {
        let nanos = u128::from(index) * 1_000_000_000 * u128::from(self.rate.1) / u128::from(self.rate.0);
        nanos as u64
    }
}

fn parse_rate(value: &str) -> Option<(u32, u32)> {
    let (num, den) = match value.split_once('/') {
        Some((num, den)) => (num.parse().ok()?, den.parse().ok()?),
        None => match value.parse::<u32>() {
            Ok(whole) => (whole, 1),
            Err(_) => ((value.parse::<f64>().ok()? * 1000.0).round() as u32, 1000),
        },
    };
    (den > 0 && num >= den && u64::from(num) <= 240 * u64::from(den)).then_some((num, den))
}

impl fmt::Display for SceneSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SceneKind::People => "people",
            SceneKind::Ball => "ball",
        };
        write!(f, "scene://{kind}?seed={}&size={}&fps={}", self.seed, self.size, self.rate.0)?;
        if self.rate.1 != 1 {
            write!(f, "/{}", self.rate.1)?;
        }
        write!(f, "&seconds={}", self.seconds)?;
        if let Some(people) = self.people {
            write!(f, "&people={people}")?;
        }
        if let Some(fights) = self.fights {
            write!(f, "&fights={fights}")?;
        }
        if self.cuts > 0 { write!(f, "&cuts={}", self.cuts) } else { Ok(()) }
    }
}

impl Serialize for SceneSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_printed_back() {
        let uri = "scene://people?seed=7&size=320x180&fps=30000/1001&seconds=60&people=9&fights=1&cuts=2";
        let spec = SceneSpec::parse(uri).unwrap();
        assert_eq!(spec.to_string(), uri);
        assert_eq!((spec.people, spec.fights, spec.cuts), (Some(9), Some(1), 2));
        assert_eq!(spec.pts(30000), 1_001_000_000_000);
        assert_eq!(SceneSpec::parse("scene://ball").unwrap().frames(), None);
        assert_eq!(SceneSpec::parse("scene://ball?fps=12.5").unwrap().fps(), 12.5);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (uri, part) in [
            ("file://x", "no scene URI"),
            ("scene://dogs", "no scene \"dogs\""),
            ("scene://people?sed=1", "unknown key \"sed\""),
            ("scene://people?size=10", "size=10: expected WIDTHxHEIGHT"),
            ("scene://people?fps=0", "fps=0"),
            ("scene://people?people=99", "1 to 24"),
            ("scene://people?seconds=-1", "seconds=-1"),
        ] {
            let message = SceneSpec::parse(uri).unwrap_err().to_string();
            assert!(message.contains(part), "{uri}: {message}");
        }
    }
}
