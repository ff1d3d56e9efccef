//! The topics, and what an incoming topic is about.
//!
//! In: names. Out: `<prefix>/<box>/...`. Names come from the validated configuration and from descriptors;
//! what MQTT gives a meaning to (`/`, `+`, `#`, NUL) is replaced by `_` all the same, so that no name can
//! escape its level. Nothing fails.

use std::borrow::Cow;

/// Makes topics for one box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

/// What an incoming message is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The box as a whole.
    Box,
    /// A stream.
    Stream(String),
    /// A plugin.
    Plugin(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Box => f.write_str("the box"),
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Plugin(name) => write!(f, "plugin {name}"),
        }
    }
}

/// Which kind of incoming message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `.../set`
    Set,
    /// `.../command`
    Command,
}

fn level(name: &str) -> Cow<'_, str> {
    const SPECIAL: [char; 4] = ['/', '+', '#', '\0'];
    if name.contains(SPECIAL) { name.replace(SPECIAL, "_").into() } else { name.into() }
}

impl Topics {
    /// Topics below `<prefix>/<box>`. The prefix may have several levels.
    #[must_use]
    pub fn new(prefix: &str, box_: &str) -> Self {
        let prefix = prefix.trim_matches('/').replace(['+', '#', '\0'], "_");
        let box_ = level(box_);
        Self { base: if prefix.is_empty() { box_.into_owned() } else { format!("{prefix}/{box_}") } }
    }

    /// `<prefix>/<box>`
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Status of the box, retained; also the last will.
    #[must_use]
    pub fn status(&self) -> String {
        format!("{}/status", self.base)
    }

    /// Telemetry.
    #[must_use]
    pub fn telemetry(&self) -> String {
        format!("{}/telemetry", self.base)
    }

    /// Status of a stream, retained.
    #[must_use]
    pub fn stream_status(&self, stream: &str) -> String {
        format!("{}/streams/{}/status", self.base, level(stream))
    }

    /// Objects of a stream.
    #[must_use]
    pub fn objects(&self, stream: &str) -> String {
        format!("{}/streams/{}/objects", self.base, level(stream))
    }

    /// Events of one kind of a stream.
    #[must_use]
    pub fn event(&self, stream: &str, kind: &str) -> String {
        format!("{}/streams/{}/events/{}", self.base, level(stream), level(kind))
    }

    /// A retained state of a stream.
    #[must_use]
    pub fn state(&self, stream: &str, name: &str) -> String {
        format!("{}/streams/{}/states/{}", self.base, level(stream), level(name))
    }

    /// Whether any incident of a kind is open, retained.
    #[must_use]
    pub fn alert(&self, stream: &str, kind: &str) -> String {
        format!("{}/streams/{}/alerts/{}", self.base, level(stream), level(kind))
    }

    /// A stream's newest snapshot, JPEG, retained.
    #[must_use]
    pub fn snapshot(&self, stream: &str) -> String {
        format!("{}/streams/{}/snapshot", self.base, level(stream))
    }

    /// Where a stream is turned on and off.
    #[must_use]
    pub fn set_stream(&self, stream: &str) -> String {
        format!("{}/streams/{}/set", self.base, level(stream))
    }

    /// Where a plugin is turned on and off in all streams.
    #[must_use]
    pub fn set_plugin(&self, plugin: &str) -> String {
        format!("{}/plugins/{}/set", self.base, level(plugin))
    }

    /// Everything of a stream that is retained begins with this.
    #[must_use]
    pub fn stream(&self, stream: &str) -> String {
        format!("{}/streams/{}/", self.base, level(stream))
    }

    /// Status of a plugin, retained.
    #[must_use]
    pub fn plugin_status(&self, plugin: &str) -> String {
        format!("{}/plugins/{}/status", self.base, level(plugin))
    }

    /// Where a request is answered.
    #[must_use]
    pub fn result(&self, target: &Target) -> String {
        match target {
            Target::Box => format!("{}/result", self.base),
            Target::Stream(name) => format!("{}/streams/{}/result", self.base, level(name)),
            Target::Plugin(name) => format!("{}/plugins/{}/result", self.base, level(name)),
        }
    }

    /// The filters to subscribe to.
    #[must_use]
    pub fn incoming(&self) -> Vec<String> {
        let below = ["", "streams/+/", "plugins/+/"];
        let verbs = ["set", "command"];
        below.iter().flat_map(|b| verbs.map(|v| format!("{}/{b}{v}", self.base))).collect()
    }

    /// What an incoming topic is about; `None` where it is none of ours.
    #[must_use]
    pub fn parse(&self, topic: &str) -> Option<(Target, Verb)> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        let levels: Vec<&str> = rest.split('/').collect();
        let (verb, target) = levels.split_last()?;
        let verb = match *verb {
            "set" => Verb::Set,
            "command" => Verb::Command,
            _ => return None,
        };
        let target = match *target {
            [] => Target::Box,
            ["streams", name] => Target::Stream(name.to_owned()),
            ["plugins", name] => Target::Plugin(name.to_owned()),
            _ => return None,
        };
        Some((target, verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_as_documented_and_parse_back() {
        let topics = Topics::new("watchpost", "gate-7");
        assert_eq!(topics.event("entrance", "violence"), "watchpost/gate-7/streams/entrance/events/violence");
        assert_eq!(topics.state("a/b", "x#"), "watchpost/gate-7/streams/a_b/states/x_");
        assert_eq!(Topics::new("/site/one/", "b").status(), "site/one/b/status");
        let parse = |t: &str| topics.parse(t);
        assert_eq!(parse("watchpost/gate-7/command"), Some((Target::Box, Verb::Command)));
        assert_eq!(parse("watchpost/gate-7/streams/e/set"), Some((Target::Stream("e".into()), Verb::Set)));
        assert_eq!(
            parse("watchpost/gate-7/plugins/p/command"),
            Some((Target::Plugin("p".into()), Verb::Command))
        );
        for other in ["watchpost/gate-77/set", "watchpost/gate-7/streams/e/x/set", "watchpost/gate-7/status"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
