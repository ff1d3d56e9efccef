//! Home Assistant finds the box: MQTT discovery in the device form.
//!
//! In: [`Facts`]. Out: the one retained message on `<discovery prefix>/device/<id>/config`, with `dev`, `o` and `cmps`, as
//! Home Assistant's documentation of the MQTT integration has it ("Device discovery payload"). Pure functions; nothing
//! fails. The announcer decides when it is published, and remembers what it named.

mod entities;
mod slug;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::slug::id;
use super::announce::Facts;
use super::topics::Topics;

/// A discovery message before it is written: its topic, and its entities by id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Discovery {
    /// Where it goes.
    pub topic: String,
    /// The device and everything that all entities share.
    shared: Map<String, Value>,
    /// The entities, each with its platform in `p`.
    pub components: BTreeMap<String, Value>,
}

impl Discovery {
    /// The message for what is known of the box. `telemetry`: whether there is any.
    pub fn new(prefix: &str, box_: &str, topics: &Topics, facts: &Facts, telemetry: bool) -> Self {
        let device = id(&[topics.base()]);
        let mut shared = Map::new();
        shared.insert(
            "dev".into(),
            json!({
                "ids": [device],
                "name": box_,
                "mf": "Watchpost",
                "mdl": "Watchpost video analytics",
                "sw": facts.version,
            }),
        );
        shared.insert("o".into(), json!({ "name": "watchpost", "sw": facts.version }));
        shared.insert(
            "availability".into(),
            json!([{
                "topic": topics.status(),
                "value_template": "{{ value_json.state }}",
                "payload_available": "online",
                "payload_not_available": "offline",
            }]),
        );
        shared.insert("qos".into(), 1.into());
        Self {
            topic: format!("{}/device/{device}/config", prefix.trim_end_matches('/')),
            shared,
            components: entities::all(&device, topics, facts, telemetry),
        }
    }

    /// Platform of each entity, by id.
    pub fn platforms(&self) -> BTreeMap<String, String> {
        let platform = |entity: &Value| entity["p"].as_str().unwrap_or_default().to_owned();
        self.components.iter().map(|(id, entity)| (id.clone(), platform(entity))).collect()
    }

    /// The payload. What is in `removed` (platform by id) stands with its platform alone, which removes it.
    pub fn payload(&self, removed: &BTreeMap<String, String>) -> Vec<u8> {
        let mut components: BTreeMap<&String, Value> =
            self.components.iter().map(|(id, entity)| (id, entity.clone())).collect();
        for (id, platform) in removed {
            components.entry(id).or_insert_with(|| json!({ "p": platform }));
        }
        let mut message = self.shared.clone();
        message.insert("cmps".into(), json!(components));
        Value::Object(message).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests;
