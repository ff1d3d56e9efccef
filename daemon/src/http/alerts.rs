//! The last incidents, for the page.
//!
//! In: [`Step`]s, from any thread; at the start the list that an earlier life left. Out: one entry an incident, the newest
//! first, its steps merged; the list as a file, to be written where writing may wait. Bounded; the oldest that is over goes
//! first. What was added since the last [`Alerts::unsaved`] a `kill -9` takes: what must not be lost goes through the
//! outbox.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::flow::{Change, Event, Severity};

/// Incidents that are kept.
const KEPT: usize = 100;

/// One step of an incident.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Name of the plugin's entry in the stream.
    pub entry: Arc<str>,
    /// What the plugin said.
    pub event: Event,
    /// Wall clock of the frame, microseconds since 1970.
    pub captured: u64,
    /// Why the daemon ended the incident in the plugin's place, where it did.
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Incident {
    stream: String,
    plugin: String,
    entry: String,
    id: u64,
    kind: String,
    /// The gravest so far.
    severity: Severity,
    /// The highest so far.
    score: f32,
    /// Where it began, where that was seen.
    begin: Option<u64>,
    last: u64,
    ended: bool,
    reason: Option<String>,
}

/// The last incidents.
#[derive(Debug, Default)]
pub(super) struct Alerts(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    incidents: VecDeque<Incident>,
    /// Whether the file lacks some of it.
    changed: bool,
}

impl Alerts {
    /// The list of an earlier life, out of [`Alerts::unsaved`]'s bytes. What went on when they were written is over by now:
    /// the daemon that saw it is gone.
    ///
    /// # Errors
    /// Where the bytes are no such list.
    pub(super) fn restore(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut incidents: VecDeque<Incident> = serde_json::from_slice(bytes)?;
        for incident in &mut incidents {
            incident.ended = true;
        }
        incidents.drain(..incidents.len().saturating_sub(KEPT));
        Ok(Self(Mutex::new(List { incidents, changed: false })))
    }

    /// The list as a file, where an incident has begun, ended or become graver since the last call.
    pub(super) fn unsaved(&self) -> Option<Vec<u8>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut list.changed) {
            return None;
        }
        serde_json::to_vec(&list.incidents).ok()
    }

    /// The file was not written after all.
    pub(super) fn not_saved(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
    }

    /// Adds a step.
    pub(super) fn add(&self, step: Step) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let List { incidents, changed } = &mut *list;
        let Step { stream, plugin, entry, event, captured, reason } = step;
        let known = incidents.iter_mut().find(|it| it.id == event.incident && *it.stream == *stream);
        let ended = event.change == Change::End;
        if let Some(incident) = known {
            // Not for each update: while an incident goes on they come all the time.
            *changed |= ended || event.severity > incident.severity;
            incident.severity = incident.severity.max(event.severity);
            incident.score = incident.score.max(event.score);
            incident.last = incident.last.max(captured);
            incident.ended |= ended;
            incident.reason = reason.or_else(|| said(&event)).or_else(|| incident.reason.take());
            return;
        }
        *changed = true;
        if incidents.len() >= KEPT {
            let over = incidents.iter().position(|incident| incident.ended).unwrap_or(0);
            incidents.remove(over);
        }
        incidents.push_back(Incident {
            reason: reason.or_else(|| said(&event)),
            stream: stream.to_string(),
            plugin: plugin.to_string(),
            entry: entry.to_string(),
            id: event.incident,
            kind: event.kind,
            severity: event.severity,
            score: event.score,
            begin: (event.change == Change::Begin).then_some(captured),
            last: captured,
            ended,
        });
    }

    /// All of them, the newest first; times in milliseconds since 1970. `clips`: the folder of recordings, of which those
    /// that are there are named.
    pub(super) fn list(&self, clips: &Path) -> Value {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.incidents.iter().rev().map(|incident| incident.value(clips)).collect()
    }
}

impl Incident {
    fn value(&self, clips: &Path) -> Value {
        let recorded = |kind: &str| {
            let file = clips.join(&self.stream).join(format!("{}.{kind}", self.id));
            file.is_file().then(|| format!("/clips/{}/{}.{kind}", self.stream, self.id))
        };
        json!({
            "stream": self.stream,
            "plugin": self.plugin,
            "entry": self.entry,
            "incident": self.id.to_string(),
            "kind": self.kind,
            "severity": self.severity,
            "score": (self.score * 1e3).round() / 1e3,
            "begin": self.begin.map(|time| time / 1000),
            "last": self.last / 1000,
            "ended": self.ended,
            "reason": self.reason,
            "snapshot": recorded("jpg"),
            // One that is still being written is no video yet.
            "clip": recorded("mp4").filter(|_| self.ended),
        })
    }
}

/// What the plugin itself said of why.
fn said(event: &Event) -> Option<String> {
    event.data.get("reason")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(incident: u64, change: Change, score: f32, at: u64) -> Step {
        let severity = if score > 0.8 { Severity::High } else { Severity::Medium };
        let event = Event {
            incident,
            kind: "violence".into(),
            change,
            severity,
            tracks: vec![4],
            region: None,
            score,
            data: serde_json::Map::new(),
        };
        Step {
            stream: "gate".into(),
            plugin: "p".into(),
            entry: "fights".into(),
            event,
            captured: at,
            reason: None,
        }
    }

    #[test]
    fn steps_are_merged_into_incidents() {
        let alerts = Alerts::default();
        let clips = tempfile::tempdir().unwrap();
        alerts.add(step(7, Change::Begin, 0.7, 1_000_000));
        alerts.add(step(7, Change::Update, 0.9, 2_000_000));
        alerts.add(step(8, Change::Begin, 0.5, 2_500_000));
        std::fs::create_dir(clips.path().join("gate")).unwrap();
        std::fs::write(clips.path().join("gate/7.jpg"), b"x").unwrap();
        std::fs::write(clips.path().join("gate/7.mp4"), b"x").unwrap();
        let list = alerts.list(clips.path());
        assert_eq!(list[0]["incident"], "8");
        assert_eq!(list[1]["clip"], Value::Null, "still being written");
        alerts
            .add(Step { reason: Some("the source was lost".into()), ..step(7, Change::End, 0.2, 3_000_000) });
        let seven = &alerts.list(clips.path())[1];
        assert_eq!(
            (&seven["begin"], &seven["last"], &seven["ended"]),
            (&json!(1000), &json!(3000), &json!(true))
        );
        assert_eq!((&seven["severity"], &seven["score"]), (&json!("high"), &json!(0.9f32)));
        assert_eq!(seven["reason"], "the source was lost");
        assert_eq!(seven["snapshot"], "/clips/gate/7.jpg");
        assert_eq!(seven["clip"], "/clips/gate/7.mp4");
    }

    #[test]
    fn a_later_life_knows_them_and_none_goes_on() {
        let alerts = Alerts::default();
        assert_eq!(alerts.unsaved(), None, "nothing to write yet");
        alerts.add(step(7, Change::Begin, 0.7, 1_000_000));
        alerts.add(step(8, Change::Begin, 0.9, 2_000_000));
        let bytes = alerts.unsaved().unwrap();
        assert_eq!(alerts.unsaved(), None, "written already");
        alerts.not_saved();
        assert_eq!(alerts.unsaved().as_ref(), Some(&bytes));

        let later = Alerts::restore(&bytes).unwrap();
        assert_eq!(later.unsaved(), None);
        let nowhere = Path::new("/nonexistent");
        let list = later.list(nowhere);
        assert_eq!((&list[0]["incident"], &list[0]["ended"]), (&json!("8"), &json!(true)));
        // The end that the daemon says in place of the one that is gone.
        later.add(Step { reason: Some("daemon-restarted".into()), ..step(7, Change::End, 0.1, 5_000_000) });
        let list = later.list(nowhere);
        assert_eq!(list.as_array().unwrap().len(), 2);
        assert_eq!((&list[1]["begin"], &list[1]["last"]), (&json!(1000), &json!(5000)));
        assert_eq!(list[1]["reason"], "daemon-restarted");
        assert!(Alerts::restore(b"[{\"stream\":").is_err());
    }

    #[test]
    fn the_oldest_that_is_over_goes_first() {
        let alerts = Alerts::default();
        alerts.add(step(1, Change::Begin, 0.5, 1));
        alerts.add(step(2, Change::End, 0.5, 2));
        for id in 3..=KEPT as u64 + 1 {
            alerts.add(step(id, Change::Begin, 0.5, id));
        }
        let list = alerts.list(Path::new("/nonexistent"));
        let ids: Vec<&str> =
            list.as_array().unwrap().iter().filter_map(|it| it["incident"].as_str()).collect();
        assert_eq!(ids.len(), KEPT);
        assert!(ids.contains(&"1") && !ids.contains(&"2"), "2 was over");
        alerts.add(step(500, Change::Begin, 0.5, 500));
        assert_eq!(alerts.list(Path::new("/nonexistent")).as_array().unwrap().len(), KEPT);
    }
}
