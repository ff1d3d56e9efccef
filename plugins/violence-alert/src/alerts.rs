//! All places of one stream: who is there, which scores came, which incidents are open.
//!
//! In: frames with people, scores of clip models, signals. Out: [`Alert`]s. Owned by the plugin or a test;
//! serialisable for snapshots. Nothing here fails.

use serde::{Deserialize, Serialize};

use crate::{Alert, Config, People, Person, Place, Reason, Score};

/// Most places watched at once.
const MOST: usize = 64;

/// The alert logic of one stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Alerts {
    people: People,
    places: Vec<Place>,
    now: f64,
}

impl Alerts {
    /// One frame at `now` seconds of stream time, with its tracked people and the scores that came with it.
    pub fn frame(
        &mut self,
        now: f64,
        people: &[Person],
        scores: &[Score],
        config: &Config,
        new_id: &mut dyn FnMut() -> u64,
        alerts: &mut Vec<Alert>,
    ) {
        if now + 1.0 < self.now {
            // Stream time began anew: whoever restarted the stream has ended what was open.
            *self = Self::default();
        }
        self.now = self.now.max(now);
        self.people.see(now, people);
        for score in scores {
            let place = self.place(score, now);
            let people = &self.people;
            let region = score.region;
            alerts.extend(self.places[place].score(
                now,
                *score,
                config,
                || people.involved(score.begin, score.end, region.as_ref()),
                new_id,
            ));
        }
        self.tick(now, config, alerts);
    }

    /// Time has passed, with or without frames.
    pub fn tick(&mut self, now: f64, config: &Config, alerts: &mut Vec<Alert>) {
        let now = now.max(self.now);
        self.now = now;
        for place in &mut self.places {
            alerts.extend(place.tick(now, config));
        }
        let forget = f64::from(config.timeout.max(config.cooldown)) * 2.0;
        self.places.retain(|place| place.open().is_some() || now - place.heard() < forget);
    }

    /// Video is missing for so many seconds before the next frame.
    pub fn gap(&mut self, seconds: f64, config: &Config, alerts: &mut Vec<Alert>) {
        if seconds > f64::from(config.timeout) {
            self.end(Reason::Gap, alerts);
        }
    }

    /// Ends everything: the source is gone, or the stream ends.
    pub fn end(&mut self, reason: Reason, alerts: &mut Vec<Alert>) {
        for place in &mut self.places {
            alerts.extend(place.end(reason));
        }
        self.places.clear();
        self.people.clear();
    }

    /// Incidents that are open.
    pub fn open(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.iter().filter_map(Place::open)
    }

    /// The place a score speaks of: the whole frame, or one whose region covers much the same.
    fn place(&mut self, score: &Score, now: f64) -> usize {
        let same = |place: &Place| match (&place.region, &score.region) {
            (None, None) => true,
            (Some(a), Some(b)) => a.cover(b) > 0.4,
            _ => false,
        };
        if let Some(index) = self.places.iter().position(same) {
            return index;
        }
        if self.places.len() >= MOST {
            // The one heard of longest ago without an incident, or else the oldest.
            let quiet = self.places.iter().position(|place| place.open().is_none());
            if let Some(index) = quiet {
                self.places.remove(index);
            } else {
                return 0;
            }
        }
        self.places.push(Place::new(score.region, now));
        self.places.len() - 1
    }
}
