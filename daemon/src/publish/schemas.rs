//! The JSON Schemas of all payloads, as published in `docs/schemas`.
//!
//! In: the message types. Out: a schema for each, by file name. A test holds the published files to the
//! types; run it with `UPDATE_SCHEMAS=1` to write them anew. Nothing else fails.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::messages::{
    AlertMessage, BoxStatusMessage, CommandPayload, EventMessage, ObjectsMessage, PluginStatusMessage,
    ResultMessage, SetPayload, StateMessage, StreamStatusMessage, TelemetryMessage,
};

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn incoming<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Every payload's JSON Schema (draft 2020-12), by the value of its `schema` field ("watchpost.event/1").
#[must_use]
pub fn all() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("watchpost.status/1", schema::<BoxStatusMessage>()),
        ("watchpost.telemetry/1", schema::<TelemetryMessage>()),
        ("watchpost.stream/1", schema::<StreamStatusMessage>()),
        ("watchpost.objects/1", schema::<ObjectsMessage>()),
        ("watchpost.event/1", schema::<EventMessage>()),
        ("watchpost.alert/1", schema::<AlertMessage>()),
        ("watchpost.state/1", schema::<StateMessage>()),
        ("watchpost.plugin/1", schema::<PluginStatusMessage>()),
        ("watchpost.result/1", schema::<ResultMessage>()),
        ("watchpost.set/1", incoming::<SetPayload>()),
        ("watchpost.command/1", incoming::<CommandPayload>()),
    ])
}

/// The file in `docs/schemas` of a payload: `watchpost.event/1` is in `event.1.json`.
#[must_use]
pub fn file_name(schema: &str) -> String {
    format!("{}.json", schema.trim_start_matches("watchpost.").replace('/', "."))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn published_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
        let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
        if update {
            std::fs::create_dir_all(&folder).unwrap();
        }
        let mut expected = Vec::new();
        for (name, schema) in all() {
            let path = folder.join(file_name(name));
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            if update {
                std::fs::write(&path, &text).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(published, text, "docs/schemas is stale: run this test with UPDATE_SCHEMAS=1");
            assert_eq!(schema["title"], name);
            expected.push(file_name(name));
        }
        let mut found: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "docs/schemas has files that no payload has, or lacks some");
    }

    #[test]
    fn every_payload_is_documented() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mqtt.md");
        let page = std::fs::read_to_string(page).unwrap();
        for name in all().into_keys() {
            assert!(page.contains(&file_name(name)), "docs/mqtt.md does not name {}", file_name(name));
        }
    }
}
