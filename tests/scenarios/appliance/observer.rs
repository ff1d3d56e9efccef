//! Somebody who acts on alerts: a subscriber in the box that the broker keeps a place for, so that what was lost shows.
//!
//! In: the box. Out: every event that arrived, by its number; at most one subscriber, which ends with the observer.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::appliance::Appliance;
use serde_json::Value;

/// Where it writes, in the box.
const FILE: &str = "/srv/events";

/// A subscriber of all events.
pub struct Observer(Child);

impl Observer {
    /// Subscribes; what came before stays in its file.
    pub fn start(appliance: &Appliance) -> Self {
        // QoS 1, and a session that the broker keeps: what is sent while this one is away comes afterwards.
        let command = format!(
            "exec mosquitto_sub -i observer -c -q 1 -t 'watchpost/+/streams/+/events/#' >> {FILE} 2>> {FILE}.log"
        );
        let child = appliance.inside(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(child)
    }

    /// Every event so far, by epoch and number, each once.
    pub fn events(appliance: &Appliance) -> BTreeMap<(u64, u64), Value> {
        let text = std::fs::read_to_string(appliance.path(FILE)).unwrap_or_default();
        let number = |event: &Value, key: &str| event[key].as_str().unwrap().parse::<u64>().unwrap();
        // The last line may be half-written.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.map(|event| ((number(&event, "epoch"), number(&event, "seq")), event)).collect()
    }

    /// Waits for an event after `after` that is as wished; gives its number.
    pub fn wait(
        appliance: &Appliance,
        after: (u64, u64),
        within: Duration,
        wish: impl Fn(&Value) -> bool,
    ) -> (u64, u64) {
        let begun = std::time::Instant::now();
        loop {
            let events = Self::events(appliance);
            if let Some((number, _)) = events.iter().find(|(number, event)| **number > after && wish(event)) {
                return *number;
            }
            let last = events.last_key_value();
            assert!(begun.elapsed() < within, "no such event within {within:?}; the last one: {last:?}");
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// The number of the last event, or of none.
    pub fn last(appliance: &Appliance) -> (u64, u64) {
        Self::events(appliance).last_key_value().map_or((0, 0), |(number, _)| *number)
    }

    /// Numbers that are missing: within one epoch each event's number is one more than that before.
    pub fn holes(appliance: &Appliance) -> Vec<(u64, u64)> {
        let numbers: Vec<_> = Self::events(appliance).into_keys().collect();
        let gap = |pair: &[(u64, u64)]| pair[0].0 == pair[1].0 && pair[1].1 != pair[0].1 + 1;
        numbers.windows(2).filter(|pair| gap(pair)).map(|pair| pair[0]).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
