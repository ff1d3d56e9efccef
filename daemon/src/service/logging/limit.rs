//! Repetition in the log, limited: the same line over and over is counted, and summed up in one.
//!
//! In: events. Out: whether each may pass; and for what was held back, one line for each stream, plugin or model that it
//! is about, when the minute is over ([`Limit::sum_up`], called by the control loop). Two lines are the same where they
//! come from the same place in the code, about the same stream, plugin, entry, model and incident, with the same words;
//! numbers within them do not matter. Lines of `debug` and `trace` are asked for by somebody who wants them all. Bounded:
//! where too many different lines come in a minute, further ones pass.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::fields;

/// So many of the same line pass in a period.
const BURST: u32 = 10;
/// After so long what was held back is summed up, and the line may come again.
const PERIOD: Duration = Duration::from_secs(60);
/// Different lines that are counted at a time.
const MOST: usize = 1024;
/// Lines that sum up are not held back themselves.
const SUMS: &str = "watchpost::repeated";

/// The layer. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(Arc<Mutex<HashMap<u64, Line>>>);

/// What a line is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct About {
    stream: Option<String>,
    plugin: Option<String>,
    entry: Option<String>,
    model: Option<String>,
    incident: Option<String>,
}

#[derive(Debug, Clone)]
struct Line {
    since: Instant,
    passed: u32,
    held: u64,
    level: Level,
    message: String,
    about: About,
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        if *about.level() > Level::INFO || about.target() == SUMS {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let mut hash = DefaultHasher::new();
        (about.callsite(), &words.about).hash(&mut hash);
        for part in words.message.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()) {
            part.hash(&mut hash);
        }
        self.admits(hash.finish(), *about.level(), words, Instant::now())
    }
}

impl Limit {
    fn admits(&self, key: u64, level: Level, words: Words, now: Instant) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get_mut(&key) {
            let passes = line.passed < BURST;
            line.passed += u32::from(passes);
            line.held += u64::from(!passes);
            return passes;
        }
        if lines.len() < MOST {
            let Words { message, about } = words;
            lines.insert(key, Line { since: now, passed: 1, held: 0, level, message, about });
        }
        true
    }

    /// Says how often each line was held back whose period is over; with `all`, whether it is over or not.
    pub(super) fn sum_up(&self, all: bool) {
        for line in self.due(Instant::now(), all) {
            line.say();
        }
    }

    /// The lines whose period is over, and which were held back in it.
    fn due(&self, now: Instant, all: bool) -> Vec<Line> {
        let mut due = Vec::new();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, line| {
            let over = all || now.saturating_duration_since(line.since) >= PERIOD;
            if over && line.held > 0 {
                due.push(line.clone());
            }
            !over
        });
        due
    }
}

impl Line {
    fn say(&self) {
        let About { stream, plugin, entry, model, incident } = &self.about;
        let (stream, plugin, entry) = (stream.as_deref(), plugin.as_deref(), entry.as_deref());
        let (model, incident) = (model.as_deref(), incident.as_deref());
        let (repeated, seconds, message) = (self.held, self.since.elapsed().as_secs(), &self.message);
        macro_rules! say {
            ($level:expr) => {
                tracing::event!(target: SUMS, $level, stream, plugin, entry, model, incident, repeated,
                    "and {repeated} times more within {seconds} s: {message}")
            };
        }
        match self.level {
            Level::ERROR => say!(Level::ERROR),
            Level::WARN => say!(Level::WARN),
            _ => say!(Level::INFO),
        }
    }
}

#[derive(Debug, Default)]
struct Words {
    message: String,
    about: About,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "message" => return value.clone_into(&mut self.message),
            fields::STREAM => &mut self.about.stream,
            fields::PLUGIN => &mut self.about.plugin,
            fields::ENTRY => &mut self.about.entry,
            fields::MODEL => &mut self.about.model,
            fields::INCIDENT => &mut self.about.incident,
            // Events without words of their own are told apart by their states.
            "state" => return self.message.push_str(value),
            _ => return,
        };
        *place = Some(value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What passes.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(Level, About, String)>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut words = Words::default();
            event.record(&mut words);
            self.0.lock().unwrap().push((*event.metadata().level(), words.about, words.message));
        }
    }

    fn with(say: impl FnOnce(&Limit)) -> Vec<(Level, About, String)> {
        let (limit, kept) = (Limit::default(), Kept::default());
        let all = tracing_subscriber::registry().with(kept.clone()).with(limit.clone());
        tracing::subscriber::with_default(all, || say(&limit));
        kept.0.lock().unwrap().clone()
    }

    fn failed(stream: &str, frame: u32) {
        tracing::warn!(stream, "frame {frame} failed");
    }

    #[test]
    fn the_same_line_is_counted_and_summed_up_with_its_fields() {
        let kept = with(|limit| {
            for frame in 0..100 {
                failed("a", frame);
            }
            failed("b", 0);
            limit.sum_up(false);
            limit.sum_up(true);
            failed("a", 7);
        });
        assert_eq!(kept.len(), BURST as usize + 3, "{kept:?}");
        let (level, about, message) = &kept[BURST as usize + 1];
        assert_eq!((*level, about.stream.as_deref()), (Level::WARN, Some("a")));
        assert_eq!(message, "and 90 times more within 0 s: frame 0 failed");
        assert_eq!(kept.last().unwrap().2, "frame 7 failed", "a new period");
    }

    #[test]
    fn other_words_and_other_levels_are_other_lines() {
        let kept = with(|limit| {
            for word in ["one", "two", "three"] {
                for _ in 0..BURST {
                    tracing::info!(plugin = "p", "{word}");
                    tracing::debug!("{word}");
                    tracing::debug!("{word}");
                }
            }
            limit.sum_up(true);
        });
        assert_eq!(kept.len(), 9 * BURST as usize);
    }

    #[test]
    fn a_period_ends_by_itself_and_the_table_is_bounded() {
        let (limit, now) = (Limit::default(), Instant::now());
        for key in 0..2 * MOST as u64 {
            assert!(limit.admits(key, Level::INFO, Words::default(), now));
        }
        assert_eq!(limit.0.lock().unwrap().len(), MOST);
        for _ in 0..2 * BURST {
            limit.admits(1, Level::INFO, Words::default(), now);
        }
        assert_eq!(limit.due(now + PERIOD / 2, false).len(), 0);
        let due = limit.due(now + PERIOD, false);
        assert_eq!((due.len(), due[0].held), (1, u64::from(BURST) + 1));
        assert!(limit.0.lock().unwrap().is_empty());
    }
}
