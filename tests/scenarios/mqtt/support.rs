//! A publisher as a box has one, and events to publish.

use std::path::Path;
use std::time::Duration;

use e2e::mosquitto::{Message, until};
use tokio::runtime::Runtime;
use watchpost::config::settings::Mqtt;
use watchpost::flow::{Change, Event, Rect, Severity};
use watchpost::publish::messages::EventRecord;
use watchpost::publish::{ConnectionState, PublishHandle, PublishSettings, PublishStatus, Publisher};
use watchpost::telemetry::{Registry, Value};

/// The `mqtt` part of a configuration for this broker.
pub fn mqtt(url: &str) -> Mqtt {
    Mqtt { url: url.into(), ..Mqtt::default() }
}

/// A publisher with a runtime of its own.
pub struct Box {
    pub runtime: Runtime,
    pub registry: Registry,
    pub publisher: Option<Publisher>,
    pub handle: PublishHandle,
}

impl Box {
    /// Box `b` with this configuration and state folder.
    pub fn start(mqtt: &Mqtt, state: &Path) -> Self {
        let mut settings = PublishSettings::new(mqtt, "b", state).unwrap();
        settings.backoff = (Duration::from_millis(10), Duration::from_millis(100));
        Self::with(settings)
    }

    pub fn with(settings: PublishSettings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = Registry::new();
        let publisher = Publisher::start(settings, &registry, runtime.handle()).unwrap();
        let handle = publisher.handle();
        Self { runtime, registry, publisher: Some(publisher), handle }
    }

    /// Stops in an orderly way.
    pub fn stop(mut self) {
        let publisher = self.publisher.take().unwrap();
        self.runtime.block_on(publisher.stop(Duration::from_secs(20)));
    }

    pub fn counter(&self, name: &str) -> u64 {
        match self.registry.value(name, &[]) {
            Some(Value::Counter(value)) => value,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn status(&self) -> PublishStatus {
        self.handle.status()
    }

    pub fn wait_connected(&self) {
        let connected = || self.status().state == ConnectionState::Connected;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the box is connected", connected)
        }));
        assert!(waited.is_ok(), "{:?}", self.status());
    }

    /// Publishes events with these numbers in their data.
    pub fn events(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.handle.event(event(number, "")));
    }
}

/// An event of stream `entrance` that carries `number` and some text.
pub fn event(number: u64, text: &str) -> EventRecord {
    let data = serde_json::json!({ "number": number, "text": text });
    EventRecord {
        stream: "entrance".into(),
        entry: "fights".into(),
        plugin: "violence-alert".into(),
        plugin_version: "0.1.0".into(),
        frame: number,
        pts: number * 40_000_000,
        captured: 1_795_249_812_481_000 + number * 40_000,
        event: Event {
            incident: u64::MAX - number,
            kind: "violence".into(),
            change: Change::Begin,
            severity: Severity::High,
            tracks: vec![412, 415],
            region: Some(Rect { x: 611.04, y: 220.0, width: 402.0, height: 498.0 }),
            score: 0.91,
            data: data.as_object().unwrap().clone(),
        },
        reason: None,
        snapshot: None,
        clip: None,
    }
}

/// (epoch, seq, number) of each event, in the order they came.
pub fn identities(messages: &[Message]) -> Vec<(u64, u64, u64)> {
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse().unwrap();
    let events = messages.iter().filter(|message| message.topic.contains("/events/"));
    let identity = |message: &Message| {
        let json = message.json();
        (number(&json["epoch"]), number(&json["seq"]), json["data"]["number"].as_u64().unwrap())
    };
    events.map(identity).collect()
}

/// The numbers of distinct events, in the order they first came; the same number always has the same identity.
pub fn distinct(messages: &[Message]) -> Vec<u64> {
    let mut seen = std::collections::BTreeMap::new();
    let mut order = Vec::new();
    for (epoch, seq, number) in identities(messages) {
        let first = *seen.entry(number).or_insert((epoch, seq));
        assert_eq!(first, (epoch, seq), "event {number} came again under another name");
        if !order.contains(&number) {
            order.push(number);
        }
    }
    order
}
