//! Tests of the discovery message: what Home Assistant's documentation asks of it, stable ids, removal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::announce::{Facts, Rule};
use super::super::messages::StreamState;
use super::super::topics::Topics;
use super::Discovery;

fn facts(streams: &[&str], plugins: &[&str]) -> Facts {
    let rule = || Rule { entry: "fights".into(), kinds: vec!["violence".into(), "ball-lost".into()] };
    Facts {
        version: "0.1.0".into(),
        streams: streams.iter().map(|stream| ((*stream).to_owned(), vec![rule()])).collect(),
        plugins: plugins.iter().map(|plugin| (*plugin).to_owned()).collect(),
        ..Facts::default()
    }
}

fn discovery(facts: &Facts) -> Discovery {
    Discovery::new("homeassistant", "gate-7", &Topics::new("watchpost", "gate-7"), facts, true)
}

fn payload(discovery: &Discovery, removed: &BTreeMap<String, String>) -> Value {
    serde_json::from_slice(&discovery.payload(removed)).unwrap()
}

#[test]
fn every_entity_has_what_its_platform_asks_for() {
    let discovery = discovery(&facts(&["entrance", "a_b", "a-b", "a.b"], &["tracker", "violence-alert"]));
    assert_eq!(discovery.topic, "homeassistant/device/watchpost_2fgate-7/config");
    let message = payload(&discovery, &BTreeMap::new());
    assert!(!message["dev"]["ids"].as_array().unwrap().is_empty() && message["o"]["name"].is_string());
    let required: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("sensor", &["state_topic"][..]),
        ("binary_sensor", &["state_topic"]),
        ("event", &["state_topic", "event_types"]),
        ("image", &["image_topic", "content_type"]),
        ("switch", &["command_topic", "state_topic"]),
    ]);
    let (mut unique, mut names) = (BTreeSet::new(), BTreeSet::new());
    let components = message["cmps"].as_object().unwrap();
    for (id, component) in components {
        let platform = component["p"].as_str().unwrap();
        for key in required[platform].iter().chain(&["unique_id", "name"]) {
            assert!(!component[*key].is_null(), "{id}: no {key}");
        }
        assert!(unique.insert(component["unique_id"].as_str().unwrap()), "{id}: its unique_id is another's");
        names.insert(component["name"].as_str().unwrap());
        for (key, value) in component.as_object().unwrap().iter().filter(|(key, _)| key.ends_with("_topic")) {
            assert!(value.as_str().unwrap().starts_with("watchpost/gate-7/"), "{id}: {key}");
        }
    }
    // Box 5; a stream 4 and two for each kind; a plugin 1.
    assert_eq!(components.len(), 5 + 4 * (4 + 2 * 2) + 2);
    assert!(names.contains("entrance ball lost") && names.contains("plugin violence-alert"));
    let without = Discovery::new("h", "b", &Topics::new("w", "b"), &facts(&[], &[]), false);
    assert!(!without.components.contains_key("box__pending"), "no telemetry, no figure from it");
}

#[test]
fn the_states_of_a_stream_are_all_named() {
    use StreamState::{Disabled, Down, Ended, Failed, Quarantined, Running, Starting};
    let discovery = discovery(&facts(&["entrance"], &[]));
    let options = &discovery.components["stream__entrance__state"]["options"];
    let all = [Starting, Running, Down, Ended, Disabled, Failed, Quarantined];
    assert_eq!(*options, serde_json::to_value(all).unwrap());
}

#[test]
fn ids_do_not_depend_on_what_else_there_is_and_what_is_gone_has_its_platform_alone() {
    let before = discovery(&facts(&["entrance", "hall"], &["tracker"]));
    let after = discovery(&facts(&["entrance"], &[]));
    for (id, entity) in &after.components {
        assert_eq!(before.components[id], *entity);
    }
    let mut removed = before.platforms();
    removed.retain(|id, _| !after.components.contains_key(id));
    let message = payload(&after, &removed);
    assert_eq!(message["cmps"]["stream__hall__fps"], serde_json::json!({"p": "sensor"}));
    assert_eq!(message["cmps"]["plugin__tracker__enabled"], serde_json::json!({"p": "switch"}));
    assert_eq!(message["cmps"].as_object().unwrap().len(), before.components.len());
    assert_eq!(payload(&after, &BTreeMap::new())["cmps"].as_object().unwrap().len(), after.components.len());
}
