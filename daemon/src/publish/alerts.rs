//! Which incidents are open, by stream, entry and kind.
//!
//! In: every event that is published. Out: retained alerts, and the properties of ONVIF's rule engine: their topics and
//! payloads. Owned by the announcer. Incidents of an earlier life are over by the time this one begins, so nothing is
//! kept on disk: what is not known to be open is off.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::messages::{AlertMessage, AlertState, EventRecord, Id, Timestamp};
use super::onvif::{Property, property};
use super::topics::Topics;
use crate::flow::{Change, Severity};

/// Stream, entry, kind.
type Rule = (String, String, String);

/// What is open of one rule, and since when it stands so.
#[derive(Debug, Default)]
struct Open {
    /// Severity at the begin, by incident.
    incidents: BTreeMap<u64, Severity>,
    /// Wall clock of the last begin or end.
    changed: Option<Timestamp>,
    /// The last event, as ONVIF wants it.
    last: Option<(u64, Severity, f32)>,
}

/// The open incidents of all streams.
#[derive(Debug)]
pub(super) struct Alerts {
    rules: BTreeMap<Rule, Open>,
    /// Since when alerts stand that nothing has changed.
    since: BTreeMap<(String, String), (AlertState, Timestamp)>,
    started: Timestamp,
}

impl Alerts {
    pub fn new() -> Self {
        Self { rules: BTreeMap::new(), since: BTreeMap::new(), started: Timestamp::now() }
    }

    /// Takes an event; true where an incident began or ended.
    pub fn take(&mut self, record: &EventRecord) -> bool {
        let event = &record.event;
        let rule = (record.stream.to_string(), record.entry.to_string(), event.kind.clone());
        let open = self.rules.entry(rule).or_default();
        let changed = match event.change {
            Change::Begin => open.incidents.insert(event.incident, event.severity).is_none(),
            Change::Update => false,
            Change::End => open.incidents.remove(&event.incident).is_some(),
        };
        if changed {
            open.changed = Some(Timestamp(record.captured));
            open.last = Some((event.incident, event.severity, event.score));
            let (stream, kind) = (record.stream.to_string(), event.kind.clone());
            let state = self.state(&stream, &kind);
            let since = self.since.entry((stream, kind)).or_insert((AlertState::Off, self.started));
            if since.0 != state {
                *since = (state, Timestamp(record.captured));
            }
        }
        changed
    }

    /// Forgets a rule that is gone, unless something is open.
    pub fn keep(&mut self, wanted: impl Fn(&str, &str, &str) -> bool) {
        self.rules
            .retain(|(stream, entry, kind), open| !open.incidents.is_empty() || wanted(stream, entry, kind));
        let rules = &self.rules;
        self.since.retain(|(stream, kind), _| rules.keys().any(|rule| rule.0 == *stream && rule.2 == *kind));
    }

    fn of<'a>(&'a self, stream: &'a str, kind: &'a str) -> impl Iterator<Item = (u64, Severity)> + 'a {
        let rules = self.rules.iter().filter(move |(rule, _)| rule.0 == stream && rule.2 == kind);
        rules.flat_map(|(_, open)| open.incidents.iter().map(|(incident, severity)| (*incident, *severity)))
    }

    fn state(&self, stream: &str, kind: &str) -> AlertState {
        if self.of(stream, kind).next().is_some() { AlertState::On } else { AlertState::Off }
    }

    /// The alert of a kind.
    pub fn alert(&self, box_: &Arc<str>, stream: &str, kind: &str) -> AlertMessage {
        let key = (stream.to_owned(), kind.to_owned());
        AlertMessage {
            schema: "watchpost.alert/1",
            box_: box_.into(),
            stream: stream.to_owned(),
            kind: kind.to_owned(),
            state: self.state(stream, kind),
            since: self.since.get(&key).map_or(self.started, |(_, since)| *since),
            incidents: self.of(stream, kind).map(|(incident, _)| Id(incident)).collect(),
            severity: self.of(stream, kind).map(|(_, severity)| severity).max(),
        }
    }

    /// The rule engine's property of a rule: topic and payload.
    pub fn property(&self, topics: &Topics, stream: &str, entry: &str, kind: &str) -> (String, Vec<u8>) {
        let open = self.rules.get(&(stream.to_owned(), entry.to_owned(), kind.to_owned()));
        property(
            topics.base(),
            &Property {
                time: open.and_then(|open| open.changed).unwrap_or(self.started),
                stream,
                rule: entry,
                kind,
                state: open.is_some_and(|open| !open.incidents.is_empty()),
                last: open.and_then(|open| open.last),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Event;

    fn record(entry: &str, incident: u64, change: Change, at: u64) -> EventRecord {
        let severity = if incident == 1 { Severity::Critical } else { Severity::Low };
        EventRecord {
            stream: "gate".into(),
            entry: entry.into(),
            plugin: "p".into(),
            plugin_version: "1.0.0".into(),
            frame: 1,
            pts: 0,
            captured: at,
            event: Event {
                incident,
                kind: "fight".into(),
                change,
                severity,
                tracks: Vec::new(),
                region: None,
                score: 0.5,
                data: serde_json::Map::new(),
            },
            reason: None,
            snapshot: None,
            clip: None,
        }
    }

    #[test]
    fn on_while_any_incident_of_the_kind_is_open_of_whichever_entry() {
        let mut alerts = Alerts::new();
        let box_: Arc<str> = "b".into();
        let state = |alerts: &Alerts| {
            let alert = alerts.alert(&box_, "gate", "fight");
            (alert.state, alert.since.0, alert.incidents.len(), alert.severity)
        };
        let started = alerts.started.0;
        assert_eq!(state(&alerts), (AlertState::Off, started, 0, None));
        assert!(alerts.take(&record("one", 1, Change::Begin, 1000)));
        assert!(alerts.take(&record("two", 2, Change::Begin, 2000)));
        assert!(!alerts.take(&record("two", 2, Change::Update, 2500)));
        assert_eq!(state(&alerts), (AlertState::On, 1000, 2, Some(Severity::Critical)));
        assert!(alerts.take(&record("one", 1, Change::End, 3000)));
        assert_eq!(state(&alerts), (AlertState::On, 1000, 1, Some(Severity::Low)));
        assert!(alerts.take(&record("two", 2, Change::End, 4000)));
        assert_eq!(state(&alerts), (AlertState::Off, 4000, 0, None));
        // The end of an incident of an earlier life changes nothing: it is off already.
        assert!(!alerts.take(&record("one", 77, Change::End, 5000)));
        assert_eq!(state(&alerts), (AlertState::Off, 4000, 0, None));
        alerts.keep(|_, _, _| false);
        assert!(alerts.rules.is_empty() && alerts.since.is_empty());
    }
}
