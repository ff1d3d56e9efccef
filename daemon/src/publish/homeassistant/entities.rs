//! The entities of the device: what Home Assistant shows of the box, its streams and plugins.
//!
//! In: what is known of the box. Out: each entity's configuration, by an id that depends on names alone, so that it stays
//! the same over restarts and versions. Every state comes from a retained message that other receivers read too, so
//! there is no second truth.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::announce::Facts;
use super::super::topics::Topics;
use super::slug::id;

/// What [`super::super::messages::StreamState`] may say.
const STATES: [&str; 7] = ["starting", "running", "down", "ended", "disabled", "failed", "quarantined"];

struct Entities<'a> {
    device: &'a str,
    found: BTreeMap<String, Value>,
}

/// All entities.
pub(super) fn all(device: &str, topics: &Topics, facts: &Facts, telemetry: bool) -> BTreeMap<String, Value> {
    let mut entities = Entities { device, found: BTreeMap::new() };
    entities.of_box(topics, telemetry);
    for (stream, rules) in &facts.streams {
        entities.of_stream(topics, stream);
        let kinds: BTreeSet<&str> = rules.iter().flat_map(|rule| &rule.kinds).map(String::as_str).collect();
        for kind in kinds {
            entities.of_kind(topics, stream, kind);
        }
    }
    for plugin in &facts.plugins {
        let name = format!("plugin {plugin}");
        entities.switch(
            &["plugin", plugin, "enabled"],
            &name,
            topics.set_plugin(plugin),
            topics.plugin_status(plugin),
        );
    }
    entities.found
}

impl Entities<'_> {
    fn add(&mut self, parts: &[&str], platform: &str, name: &str, mut entity: Value) {
        let id = id(parts);
        entity["p"] = platform.into();
        entity["name"] = name.into();
        entity["unique_id"] = format!("{}__{id}", self.device).into();
        self.found.insert(id, entity);
    }

    fn switch(&mut self, parts: &[&str], name: &str, command: String, status: String) {
        let entity = json!({
            "command_topic": command,
            "payload_on": "enable",
            "payload_off": "disable",
            "state_topic": status,
            "value_template": "{{ 'OFF' if value_json.state == 'disabled' else 'ON' }}",
            "state_on": "ON",
            "state_off": "OFF",
            "entity_category": "config",
        });
        self.add(parts, "switch", name, entity);
    }

    fn of_box(&mut self, topics: &Topics, telemetry: bool) {
        let status = topics.status();
        let connection = json!({
            "state_topic": status,
            "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "json_attributes_topic": status,
            // It says itself whether the box is there.
            "availability": [],
        });
        self.add(&["box", "connection"], "binary_sensor", "connection", connection);
        let problem = json!({
            "state_topic": status,
            "value_template": "{{ 'ON' if value_json.problems is defined and value_json.problems else 'OFF' }}",
            "device_class": "problem",
            "entity_category": "diagnostic",
        });
        self.add(&["box", "problem"], "binary_sensor", "problem", problem);
        for key in ["version", "lane"] {
            let sensor = json!({
                "state_topic": status,
                // While the box is offline its status has no more than that.
                "value_template": format!("{{{{ value_json.{key} if value_json.{key} is defined else this.state }}}}"),
                "entity_category": "diagnostic",
            });
            self.add(&["box", key], "sensor", key, sensor);
        }
        if telemetry {
            let pending = json!({
                "state_topic": topics.telemetry(),
                "value_template": "{{ (value_json.metrics | selectattr('name', 'eq', 'publish_outbox_pending') \
                                   | map(attribute='value') | list + [0]) | first | int }}",
                "state_class": "measurement",
                "unit_of_measurement": "events",
                "entity_category": "diagnostic",
            });
            self.add(&["box", "pending"], "sensor", "events that wait for the broker", pending);
        }
    }

    fn of_stream(&mut self, topics: &Topics, stream: &str) {
        let status = topics.stream_status(stream);
        let state = json!({
            "state_topic": status,
            "value_template": "{{ value_json.state }}",
            "device_class": "enum",
            "options": STATES,
            "json_attributes_topic": status,
        });
        self.add(&["stream", stream, "state"], "sensor", &format!("{stream} state"), state);
        let fps = json!({
            "state_topic": status,
            "value_template": "{{ value_json.fps }}",
            "state_class": "measurement",
            "unit_of_measurement": "fps",
            "entity_category": "diagnostic",
        });
        self.add(&["stream", stream, "fps"], "sensor", &format!("{stream} frames"), fps);
        let image = json!({ "image_topic": topics.snapshot(stream), "content_type": "image/jpeg" });
        self.add(&["stream", stream, "snapshot"], "image", &format!("{stream} snapshot"), image);
        self.switch(
            &["stream", stream, "enabled"],
            &format!("{stream} enabled"),
            topics.set_stream(stream),
            status,
        );
    }

    fn of_kind(&mut self, topics: &Topics, stream: &str, kind: &str) {
        let words = kind.replace(['-', '_'], " ");
        let alert = topics.alert(stream, kind);
        let sensor = json!({
            "state_topic": alert,
            "value_template": "{{ value_json.state }}",
            "payload_on": "ON",
            "payload_off": "OFF",
            "json_attributes_topic": alert,
        });
        self.add(&["stream", stream, "alert", kind], "binary_sensor", &format!("{stream} {words}"), sensor);
        let event = json!({
            "state_topic": topics.event(stream, kind),
            "event_types": ["begin", "update", "end"],
            "value_template": "{{ dict(value_json, event_type=value_json.change) | to_json }}",
        });
        self.add(&["stream", stream, "event", kind], "event", &format!("{stream} {words} event"), event);
    }
}
