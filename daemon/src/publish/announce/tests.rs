//! Tests of the announcer: what is at the broker after each change, also over lives that end at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::messages::EventRecord;
use super::super::settings::PublishSettings;
use super::super::shared::Shared;
use super::*;
use crate::config::settings::Mqtt;
use crate::flow::{Change, Event, Severity};
use crate::telemetry::Registry;

/// A life of the daemon, with the broker that outlives it.
struct Life<'a> {
    shared: Shared,
    broker: &'a mut BTreeMap<String, String>,
}

impl<'a> Life<'a> {
    fn begin(state: &Path, broker: &'a mut BTreeMap<String, String>) -> Self {
        let settings = PublishSettings::new(&Mqtt::default(), "b", state).unwrap();
        let registry = Registry::new();
        let outbox = crate::publish::outbox::Outbox::start(state, 1 << 20, &registry).unwrap();
        Self { shared: Shared::new(settings, Some(std::sync::Arc::new(outbox)), &registry), broker }
    }

    fn announce(&self, facts: &Facts) {
        self.shared.announcer.announce(&self.shared, facts.clone());
    }

    /// Sends what waits; the messages in their order.
    fn send(&mut self) -> Vec<(String, String)> {
        let mut sent = Vec::new();
        while let Some((topic, payload)) = self.shared.live.next_retained() {
            let payload = String::from_utf8(payload).unwrap();
            match payload.is_empty() {
                true => self.broker.remove(&topic),
                false => self.broker.insert(topic.clone(), payload.clone()),
            };
            sent.push((topic, payload));
        }
        sent
    }

    /// Sends what waits, is acknowledged, and is told the same again, until nothing comes any more.
    fn settle(&mut self, facts: &Facts) {
        self.announce(facts);
        while !self.send().is_empty() {
            self.shared.live.confirm();
            self.announce(facts);
        }
    }

    fn event(&self, incident: u64, change: Change) {
        let record = EventRecord {
            stream: "gate".into(),
            entry: "fights".into(),
            plugin: "violence-alert".into(),
            plugin_version: "1.0.0".into(),
            frame: 1,
            pts: 0,
            captured: 1_795_249_812_481_000,
            event: Event {
                incident,
                kind: "violence".into(),
                change,
                severity: Severity::High,
                tracks: Vec::new(),
                region: None,
                score: 0.5,
                data: serde_json::Map::new(),
            },
            reason: None,
            snapshot: None,
            clip: None,
        };
        self.shared.announcer.event(&self.shared, &record);
    }
}

fn facts(streams: &[&str]) -> Facts {
    let rule = || vec![Rule { entry: "fights".into(), kinds: vec!["violence".into()] }];
    Facts {
        version: "0.1.0".into(),
        streams: streams.iter().map(|stream| ((*stream).to_owned(), rule())).collect(),
        plugins: BTreeSet::from(["violence-alert".to_owned()]),
        homeassistant: HomeAssistant { enabled: true, ..HomeAssistant::default() },
        onvif: Onvif { enabled: true, ..Onvif::default() },
    }
}

const ALERT: &str = "watchpost/b/streams/gate/alerts/violence";
const PROPERTY: &str = "watchpost/b/onvif-ej/RuleEngine/watchpost:violence/&gate/gate/fights";
const DEVICE: &str = "homeassistant/device/watchpost_2fb/config";

fn value(broker: &BTreeMap<String, String>, topic: &str) -> Value {
    serde_json::from_str(broker.get(topic).unwrap_or_else(|| panic!("no {topic} in {:?}", broker.keys())))
        .unwrap()
}

fn state_of(broker: &BTreeMap<String, String>) -> (Value, Value) {
    (value(broker, ALERT)["state"].clone(), value(broker, PROPERTY)["Data"]["State"].clone())
}

#[test]
fn alerts_and_properties_follow_the_incidents_and_a_new_life_begins_without_any() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    let facts = facts(&["gate"]);
    let mut life = Life::begin(folder.path(), &mut broker);
    // Before anything was announced: it is shown once that has happened.
    life.event(1, Change::Begin);
    assert!(life.send().is_empty());
    life.settle(&facts);
    assert_eq!(state_of(life.broker), ("ON".into(), true.into()));
    life.event(1, Change::End);
    life.send();
    assert_eq!(state_of(life.broker), ("OFF".into(), false.into()));
    life.event(2, Change::Begin);
    life.send();
    assert_eq!(state_of(life.broker), ("ON".into(), true.into()));
    // `kill -9`: what was open is over; the orphan's end comes before the first facts.
    drop(life);
    let mut life = Life::begin(folder.path(), &mut broker);
    life.event(2, Change::End);
    life.settle(&facts);
    assert_eq!(state_of(life.broker), ("OFF".into(), false.into()));
}

#[test]
fn what_is_gone_is_removed_in_this_life_or_a_later_one() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    let mut life = Life::begin(folder.path(), &mut broker);
    life.settle(&facts(&["gate", "hall"]));
    assert_eq!(life.broker.len(), 5);
    let entities = value(life.broker, DEVICE)["cmps"].as_object().unwrap().len();

    // A stream goes: first its entities stand with their platform alone, then not at all.
    life.announce(&facts(&["gate"]));
    let sent = life.send();
    let topics: Vec<&str> = sent.iter().map(|(topic, _)| topic.as_str()).collect();
    assert!(topics.contains(&DEVICE) && topics.contains(&"watchpost/b/streams/hall/alerts/violence"));
    let message = value(life.broker, DEVICE);
    assert_eq!(message["cmps"]["stream__hall__state"], serde_json::json!({"p": "sensor"}));
    assert_eq!(message["cmps"].as_object().unwrap().len(), entities);
    // Killed before the broker acknowledged it: the next life does it again.
    drop(life);
    let mut life = Life::begin(folder.path(), &mut broker);
    life.announce(&facts(&["gate"]));
    life.send();
    assert_eq!(value(life.broker, DEVICE)["cmps"]["stream__hall__state"], serde_json::json!({"p": "sensor"}));
    life.shared.live.confirm();
    life.settle(&facts(&["gate"]));
    assert!(value(life.broker, DEVICE)["cmps"].get("stream__hall__state").is_none());
    assert_eq!(life.broker.len(), 3);
    drop(life);

    // Both are turned off while the daemon is down.
    let mut off = facts(&["gate"]);
    (off.homeassistant.enabled, off.onvif.enabled) = (false, false);
    let mut life = Life::begin(folder.path(), &mut broker);
    life.settle(&off);
    assert_eq!(life.broker.keys().map(String::as_str).collect::<Vec<_>>(), [ALERT]);
    assert!(life.shared.announcer.birth().is_none());
    drop(life);
    let memory = Memory::load(folder.path());
    assert_eq!((memory.get().topics.len(), &memory.get().device), (1, &None));
}

#[test]
fn another_prefix_is_another_device() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    let mut life = Life::begin(folder.path(), &mut broker);
    let mut facts = facts(&["gate"]);
    life.settle(&facts);
    assert_eq!(life.shared.announcer.birth(), Some(("homeassistant/status".into(), DEVICE.into())));
    facts.homeassistant.prefix = "ha".into();
    life.settle(&facts);
    assert!(!life.broker.contains_key(DEVICE));
    assert!(
        value(life.broker, "ha/device/watchpost_2fb/config")["cmps"]["stream__gate__fps"]["name"].is_string()
    );
}

#[test]
fn what_a_forgotten_stream_took_with_it_comes_back_with_the_stream() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    let mut life = Life::begin(folder.path(), &mut broker);
    life.settle(&facts(&["gate"]));
    life.shared.forget_stream("gate");
    life.send();
    assert!(!life.broker.contains_key(ALERT));
    life.settle(&facts(&["gate"]));
    assert!(life.broker.contains_key(ALERT));
}
