//! What a replay emitted, held against what the trace says.
//!
//! In: results of each call, replayed and recorded. Out: the first difference, and counts. Ids of incidents and tracks are
//! compared by the order in which they come up, unless they were there before the plugin: another version may take ids at
//! other times, and that alone is no difference.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Value, json};

use super::run::{At, Done, Told};
use crate::pipeline::trace::lines::{CommandLine, GaveLine};

/// Counts of one kind of result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Count {
    /// In the trace.
    pub recorded: u64,
    /// In the replay.
    pub replayed: u64,
}

/// Where replay and trace differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Difference {
    /// Line of the trace, counted from 1.
    pub line: u64,
    /// Frame, where it is one.
    pub frame: Option<u64>,
    /// Stream time, nanoseconds.
    pub pts: u64,
    /// What differs, such as `events[0].score`.
    pub what: String,
    /// What the trace says; null: nothing.
    pub recorded: Value,
    /// What the plugin gave; null: nothing.
    pub replayed: Value,
}

/// A comparison.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// The entry.
    pub entry: String,
    /// Calls that were compared.
    pub calls: u64,
    /// Calls that gave the same.
    pub equal: u64,
    /// Calls after which objects, events, views, states or shapes differ.
    pub different: u64,
    /// Events.
    pub events: Count,
    /// Views.
    pub views: Count,
    /// States.
    pub states: Count,
    /// Shapes.
    pub shapes: Count,
    /// The first difference.
    pub first: Option<Difference>,
    /// Lines of the trace that were left out.
    pub bad_lines: u64,
    #[serde(skip)]
    pub done: Done,
    #[serde(skip)]
    names: [Names; 2],
    /// States that were known when the trace began, and were not said again yet.
    #[serde(skip)]
    said: BTreeMap<String, Value>,
}

/// Ids by the order in which they came up.
#[derive(Debug, Default)]
struct Names {
    seen: HashMap<u64, usize>,
}

impl Tally {
    pub(super) fn new(entry: String) -> Self {
        Self { entry, ..Self::default() }
    }

    /// Takes the results of a call.
    pub(super) fn take(&mut self, at: At, told: Told<'_>) {
        let (recorded, replayed) = match told {
            Told::Began(said) => {
                self.said.clone_from(said);
                return;
            }
            Told::Gave(replayed, Some(recorded)) => {
                self.count(recorded, replayed);
                let [one, other] = &mut self.names;
                let (recorded, mut replayed) = (one.plain(recorded), other.plain(replayed));
                self.leave_out_said(&recorded, &mut replayed);
                (recorded, replayed)
            }
            // The plugin was not there then: nothing to compare with.
            Told::Gave(_, None) => return,
            Told::Answer(replayed, recorded) => (answer(recorded), answer(replayed)),
            Told::Absent => (json!("a call"), Value::Null),
        };
        self.calls += 1;
        let Some((what, recorded, replayed)) = difference("", &recorded, &replayed) else {
            self.equal += 1;
            return;
        };
        self.different += 1;
        if self.first.is_none() {
            let At { line, frame, pts } = at;
            self.first = Some(Difference { line, frame, pts, what, recorded, replayed });
        }
    }

    /// An instance that goes on from a state says its own states once more, which the one in the trace had no need to.
    fn leave_out_said(&mut self, recorded: &Value, replayed: &mut Value) {
        if self.said.is_empty() {
            return;
        }
        let names = |value: &Value| -> Vec<String> {
            let states = value["states"].as_array().into_iter().flatten();
            states.filter_map(|state| state["name"].as_str().map(str::to_owned)).collect()
        };
        let new = names(recorded);
        if let Some(states) = replayed["states"].as_array_mut() {
            states.retain(|state| {
                let name = state["name"].as_str().unwrap_or_default();
                let again =
                    !new.iter().any(|known| known == name) && self.said.get(name) == Some(&state["value"]);
                if again {
                    self.said.remove(name);
                }
                !again
            });
        }
        for name in new {
            self.said.remove(&name);
        }
        if replayed["states"].as_array().is_some_and(Vec::is_empty)
            && let Some(table) = replayed.as_object_mut()
        {
            table.remove("states");
        }
    }

    /// The trace is over.
    pub(super) fn close(&mut self, done: Done) {
        self.bad_lines = done.bad_lines;
        self.done = done;
    }

    fn count(&mut self, recorded: &GaveLine, replayed: &GaveLine) {
        let lengths =
            |gave: &GaveLine| [gave.events.len(), gave.views.len(), gave.states.len(), gave.shapes.len()];
        let all = [&mut self.events, &mut self.views, &mut self.states, &mut self.shapes];
        for ((count, one), other) in all.into_iter().zip(lengths(recorded)).zip(lengths(replayed)) {
            count.recorded += one as u64;
            count.replayed += other as u64;
        }
    }
}

impl Names {
    /// What was given as plain values, with ids that the plugin was given itself by the order in which they came up.
    fn plain(&mut self, gave: &GaveLine) -> Value {
        for id in &gave.ids {
            let next = self.seen.len();
            self.seen.entry(*id).or_insert(next);
        }
        let mut value = plain(gave);
        if let Some(table) = value.as_object_mut() {
            table.remove("ids");
        }
        for event in list(&mut value["events"]) {
            self.rename(&mut event["incident"]);
            list(&mut event["tracks"]).for_each(|track| self.rename(track));
        }
        if value["objects"].is_object() {
            list(&mut value["objects"]["tracks"]).for_each(|track| self.rename(track));
        }
        value
    }

    fn rename(&self, id: &mut Value) {
        if let Some(order) = id.as_u64().and_then(|id| self.seen.get(&id)) {
            *id = format!("id {order}").into();
        }
    }
}

fn answer(command: &CommandLine) -> Value {
    plain(&command.answer)
}

/// As it reads in a trace: numbers as they come back from there.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_string(value).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn list(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

/// The first place at which two values differ, and what each has there.
fn difference(path: &str, one: &Value, other: &Value) -> Option<(String, Value, Value)> {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let none = Value::Null;
                difference(&path, left.get(key).unwrap_or(&none), right.get(key).unwrap_or(&none))
            })
        }
        (Value::Array(left), Value::Array(right)) => (0..left.len().max(right.len())).find_map(|index| {
            let none = Value::Null;
            let (left, right) = (left.get(index).unwrap_or(&none), right.get(index).unwrap_or(&none));
            difference(&format!("{path}[{index}]"), left, right)
        }),
        _ if one == other => None,
        _ => Some((path.to_owned(), one.clone(), other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Change, Severity};
    use crate::pipeline::trace::lines::{Columns, EventLine, StateLine};

    fn event(incident: u64, tracks: &[u64], score: f32) -> EventLine {
        EventLine {
            entry: None,
            incident,
            kind: "fuss".into(),
            change: Change::Begin,
            severity: Severity::High,
            tracks: tracks.to_vec(),
            region: None,
            score,
            data: serde_json::Map::new(),
        }
    }

    fn gave(ids: &[u64], events: Vec<EventLine>, tracks: &[u64]) -> GaveLine {
        let objects = Columns { tracks: tracks.to_vec(), ..Columns::default() };
        GaveLine {
            entry: "e".into(),
            ids: ids.to_vec(),
            events,
            objects: Some(objects),
            ..GaveLine::default()
        }
    }

    #[test]
    fn ids_are_compared_by_their_order_and_foreign_ones_by_their_value() {
        let mut tally = Tally::new("e".into());
        let at = |frame| At { line: frame + 2, frame: Some(frame), pts: frame * 40_000_000 };
        // The same with other ids of its own; track 7 was there before.
        let (one, other) = (
            gave(&[10, 11], vec![event(10, &[7], 0.5)], &[11]),
            gave(&[90, 95], vec![event(90, &[7], 0.5)], &[95]),
        );
        tally.take(at(0), Told::Gave(&other, Some(&one)));
        // Later the same incident again.
        let (one, other) =
            (gave(&[], vec![event(10, &[11], 0.5)], &[]), gave(&[], vec![event(90, &[95], 0.5)], &[]));
        tally.take(at(1), Told::Gave(&other, Some(&one)));
        assert_eq!((tally.equal, tally.different), (2, 0), "{:?}", tally.first);
        // Another track than before.
        let other = gave(&[], vec![event(90, &[8], 0.5)], &[]);
        tally.take(at(2), Told::Gave(&other, Some(&one)));
        let first = tally.first.clone().unwrap();
        assert_eq!((first.frame, first.line, first.what.as_str()), (Some(2), 4, "events[0].tracks[0]"));
        assert_eq!((first.recorded, first.replayed), (json!("id 1"), json!(8)));
        // A call that did not come to pass, and one with nothing to compare with.
        tally.take(at(3), Told::Absent);
        tally.take(at(4), Told::Gave(&other, None));
        assert_eq!((tally.calls, tally.equal, tally.different), (4, 2, 2));
        assert_eq!(tally.events, Count { recorded: 3, replayed: 3 });
    }

    #[test]
    fn the_first_difference_is_named() {
        let state = |value: Value| StateLine { entry: None, name: "count".into(), value };
        let line = |states: Vec<StateLine>| GaveLine { states, ..GaveLine::default() };
        let mut tally = Tally::new("e".into());
        let (one, other) =
            (line(vec![state(json!({ "a": [1, 2.5] }))]), line(vec![state(json!({ "a": [1, 2.5000001] }))]));
        tally.take(At::default(), Told::Gave(&other, Some(&one)));
        assert_eq!(tally.first.as_ref().unwrap().what, "states[0].value.a[1]");
        let mut tally = Tally::new("e".into());
        tally.take(At::default(), Told::Gave(&line(Vec::new()), Some(&one)));
        assert_eq!(tally.first.unwrap().what, "states");
        // What was known when the trace began may be said once more, and only once.
        let mut tally = Tally::new("e".into());
        tally.take(At::default(), Told::Began(&[("count".to_owned(), json!(5))].into()));
        let five = line(vec![state(json!(5))]);
        tally.take(At::default(), Told::Gave(&five, Some(&line(Vec::new()))));
        assert_eq!((tally.equal, tally.different), (1, 0), "{:?}", tally.first);
        tally.take(At::default(), Told::Gave(&five, Some(&line(Vec::new()))));
        assert_eq!((tally.equal, tally.different), (1, 1));
    }
}
