//! What the box announces beside its own topics: alerts that are retained, ONVIF's properties, Home Assistant's device.
//!
//! In: [`Facts`], told again and again by `app`; every event. Out: retained messages. One lives in the publisher, behind
//! a lock that is never held over the network. What was announced is remembered on disk ([`super::memory`]) before it is
//! published: what a later life does not announce any more is removed from the broker, and the memory of it goes only
//! once the broker has acknowledged that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::alerts::Alerts;
use super::homeassistant::Discovery;
use super::memory::{Device, Memory, Retained};
use super::messages::EventRecord;
use super::shared::{Shared, json};
use crate::config::settings::{HomeAssistant, Onvif};

/// What there is to announce.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Version of Watchpost.
    pub version: String,
    /// The streams that are configured, and what their plugins may raise.
    pub streams: BTreeMap<String, Vec<Rule>>,
    /// The plugins that can be turned on and off.
    pub plugins: BTreeSet<String>,
    /// Whether and where Home Assistant is told.
    pub homeassistant: HomeAssistant,
    /// Whether events and objects are published for ONVIF, too.
    pub onvif: Onvif,
}

/// A plugin's entry in a stream that may raise events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name of the entry.
    pub entry: String,
    /// Kinds of its events.
    pub kinds: Vec<String>,
}

/// Announces, and remembers what it has announced.
#[derive(Debug)]
pub(super) struct Announcer(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// What was announced last, under which settings of the publisher.
    announced: Option<(u64, Facts)>,
    alerts: Alerts,
    memory: Memory,
    /// The topics that shall hold a message now.
    topics: BTreeSet<String>,
    discovery: Option<Discovery>,
}

impl Announcer {
    pub fn new(state: &Path) -> Self {
        Self(Mutex::new(Inner {
            announced: None,
            alerts: Alerts::new(),
            memory: Memory::load(state),
            topics: BTreeSet::new(),
            discovery: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the broker to what the facts say; does next to nothing where they are as before.
    pub fn announce(&self, shared: &Shared, facts: Facts) {
        let mut inner = self.lock();
        if inner.announced.as_ref().is_none_or(|(of, last)| *of != shared.turn || *last != facts) {
            inner.plan(shared, &facts);
            inner.announced = Some((shared.turn, facts));
        }
        inner.settle(shared);
    }

    /// Announces everything anew with the next facts: something was removed from the broker meanwhile.
    pub fn again(&self) {
        self.lock().announced = None;
    }

    /// Takes an event on its way out.
    pub fn event(&self, shared: &Shared, record: &EventRecord) {
        let mut inner = self.lock();
        if inner.alerts.take(record) {
            inner.show(shared, &record.stream, &record.entry, &record.event.kind);
        }
    }

    /// ONVIF metadata frames a second and stream; 0: none.
    pub fn metadata_rate(&self) -> f64 {
        let inner = self.lock();
        let onvif = inner.announced.as_ref().map(|(_, facts)| &facts.onvif);
        onvif.filter(|onvif| onvif.enabled).map_or(0.0, |onvif| onvif.metadata_rate)
    }

    /// Where Home Assistant says that it has started, and where the discovery message is; `None`: it is not told.
    pub fn birth(&self) -> Option<(String, String)> {
        let inner = self.lock();
        let (_, facts) = inner.announced.as_ref()?;
        Some((facts.homeassistant.birth.clone(), inner.discovery.as_ref()?.topic.clone()))
    }
}

impl Inner {
    /// Publishes one rule's messages, if it is announced. One that is not yet will be with the next facts.
    fn show(&self, shared: &Shared, stream: &str, entry: &str, kind: &str) {
        let topics = &shared.settings.topics;
        let topic = topics.alert(stream, kind);
        if !self.topics.contains(&topic) {
            return;
        }
        shared.live.retain(topic, json(&self.alerts.alert(&shared.settings.box_, stream, kind)));
        let (topic, payload) = self.alerts.property(topics, stream, entry, kind);
        if self.topics.contains(&topic) {
            shared.live.retain(topic, payload);
        }
    }

    fn plan(&mut self, shared: &Shared, facts: &Facts) {
        let known = |stream: &str, entry: &str, kind: &str| {
            let rules = facts.streams.get(stream).into_iter().flatten();
            rules.filter(|rule| rule.entry == entry).any(|rule| rule.kinds.iter().any(|known| known == kind))
        };
        self.alerts.keep(known);
        let topics = &shared.settings.topics;
        let mut messages = BTreeMap::new();
        for (stream, rules) in &facts.streams {
            for (rule, kind) in rules.iter().flat_map(|rule| rule.kinds.iter().map(move |kind| (rule, kind)))
            {
                let alert = self.alerts.alert(&shared.settings.box_, stream, kind);
                messages.insert(topics.alert(stream, kind), json(&alert));
                if facts.onvif.enabled {
                    messages.extend([self.alerts.property(topics, stream, &rule.entry, kind)]);
                }
            }
        }
        let homeassistant = &facts.homeassistant;
        self.discovery = homeassistant.enabled.then(|| {
            let telemetry = !shared.settings.telemetry_interval.is_zero();
            Discovery::new(&homeassistant.prefix, &shared.settings.box_, topics, facts, telemetry)
        });
        if let Some(discovery) = &self.discovery {
            messages.insert(discovery.topic.clone(), discovery.payload(&self.removed(discovery)));
        }
        self.topics = messages.keys().cloned().collect();
        let stale: Vec<String> = self.memory.get().topics.difference(&self.topics).cloned().collect();
        // On disk before it is at the broker, so that nothing is there that nobody knows of.
        let mut retained = self.memory.get().clone();
        retained.topics.extend(self.topics.iter().cloned());
        if let Some(discovery) = &self.discovery {
            let mut components = self.removed(discovery);
            components.extend(discovery.platforms());
            retained.device = Some(Device { topic: discovery.topic.clone(), components });
        }
        self.memory.set(retained);
        for topic in stale {
            shared.live.erase(topic);
        }
        for (topic, payload) in messages {
            shared.live.retain(topic, payload);
        }
    }

    /// Entities that Home Assistant may know of this device, and that are no more: platform by id.
    fn removed(&self, discovery: &Discovery) -> BTreeMap<String, String> {
        let known = self.memory.get().device.as_ref().filter(|device| device.topic == discovery.topic);
        let mut known = known.map(|device| device.components.clone()).unwrap_or_default();
        known.retain(|id, _| !discovery.components.contains_key(id));
        known
    }

    /// Forgets what is gone, once the broker knows it.
    fn settle(&mut self, shared: &Shared) {
        let now = Retained {
            topics: self.topics.clone(),
            device: self.discovery.as_ref().map(|discovery| Device {
                topic: discovery.topic.clone(),
                components: discovery.platforms(),
            }),
        };
        if *self.memory.get() == now || !shared.live.is_confirmed() {
            return;
        }
        let discovery = self.discovery.as_ref().filter(|discovery| !self.removed(discovery).is_empty());
        // Home Assistant wants a message without the entities that are gone after the one that removed them.
        let clean = discovery.map(|discovery| (discovery.topic.clone(), discovery.payload(&BTreeMap::new())));
        self.memory.set(now);
        if let Some((topic, payload)) = clean {
            shared.live.retain(topic, payload);
        }
    }
}

#[cfg(test)]
mod tests;
