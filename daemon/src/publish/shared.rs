//! What the publisher's handle, its connection and its requests share.
//!
//! In: messages from any thread; what the connection learns. Out: queues for the connection, and
//! [`PublishStatus`]. Owned by all of them together; nothing here blocks longer than a short lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::announce::Announcer;
use super::live::Live;
use super::messages::{
    BoxState, BoxStatus, BoxStatusMessage, Id, OutboxReport, PluginStatus, PluginStatusMessage, StateMessage,
    StreamStatus, StreamStatusMessage, Timestamp,
};
use super::observe::Observers;
use super::outbox::Outbox;
use super::settings::{Destination, PublishSettings};
use crate::telemetry::{Counter, Gauge, Registry};

/// What the connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// `mqtt.url = "off"`.
    Off,
    /// The first attempt, or on the way to another.
    Connecting,
    /// Connected and logged in.
    Connected,
    /// The broker answers and refuses the login.
    Refused,
    /// The broker does not answer, or the connection was lost.
    Unreachable,
    /// Stopped.
    Stopped,
}

/// How publishing is doing, for the status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishStatus {
    /// What the connection does.
    pub state: ConnectionState,
    /// Since when.
    pub since: Timestamp,
    /// The broker, without credentials.
    pub broker: String,
    /// What went wrong last; `None` while connected.
    pub error: Option<String>,
    /// Which start of the daemon this is.
    pub epoch: u64,
    /// Events that the broker has not acknowledged.
    pub pending: u64,
    /// Bytes of the outbox on disk.
    pub outbox_bytes: u64,
    /// How the outbox is doing.
    pub outbox: OutboxReport,
    /// Messages other than events that were dropped.
    pub dropped: u64,
}

#[derive(Debug)]
struct Link {
    state: ConnectionState,
    since: Timestamp,
    error: Option<String>,
    broker_problem: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub settings: PublishSettings,
    /// `None`: publishing is off. The next settings in force have the same.
    pub outbox: Option<Arc<Outbox>>,
    pub live: Live,
    pub registry: Registry,
    pub dropped: Counter,
    pub acknowledged: Counter,
    pub connections: Counter,
    connected: Gauge,
    link: Mutex<Link>,
    box_status: Mutex<Option<BoxStatus>>,
    limiter: Limiter,
    metadata_limiter: Limiter,
    /// The next settings in force have the same: incidents stay open, and what is at the broker remembered.
    pub announcer: Arc<Announcer>,
    /// Who else wants to know of events; the next settings in force have the same.
    pub observers: Arc<Observers>,
    /// Tells the settings in force from those before.
    pub turn: u64,
}

/// A message's bytes.
pub(super) fn json(message: &impl Serialize) -> Vec<u8> {
    // Maps with keys that are no strings are the only thing serde_json refuses, and no message has one.
    serde_json::to_vec(message).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(settings: PublishSettings, outbox: Option<Arc<Outbox>>, registry: &Registry) -> Self {
        let announcer = Arc::new(Announcer::new(&settings.state));
        Self::with(settings, outbox, registry, (announcer, Arc::default()), 0)
    }

    /// What follows on `before`.
    pub fn after(
        before: &Self,
        settings: PublishSettings,
        outbox: Option<Arc<Outbox>>,
        registry: &Registry,
    ) -> Self {
        let lasting = (Arc::clone(&before.announcer), Arc::clone(&before.observers));
        Self::with(settings, outbox, registry, lasting, before.turn + 1)
    }

    fn with(
        settings: PublishSettings,
        outbox: Option<Arc<Outbox>>,
        registry: &Registry,
        (announcer, observers): (Arc<Announcer>, Arc<Observers>),
        turn: u64,
    ) -> Self {
        let off = settings.destination == Destination::Off;
        let state = if off { ConnectionState::Off } else { ConnectionState::Connecting };
        let dropped = registry.counter("publish_messages_dropped_total", &[]);
        Self {
            settings,
            outbox,
            announcer,
            observers,
            turn,
            live: Live::new(dropped.clone(), registry.gauge("publish_queue_messages", &[])),
            registry: registry.clone(),
            dropped,
            acknowledged: registry.counter("publish_events_acknowledged_total", &[]),
            connections: registry.counter("publish_connections_total", &[]),
            connected: registry.gauge("publish_connected", &[]),
            link: Mutex::new(Link { state, since: Timestamp::now(), error: None, broker_problem: None }),
            box_status: Mutex::default(),
            limiter: Limiter::default(),
            metadata_limiter: Limiter::default(),
        }
    }

    pub fn is_off(&self) -> bool {
        self.outbox.is_none()
    }

    pub fn epoch(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.epoch())
    }

    /// Notes what the connection does; true where that is news.
    pub fn link(&self, state: ConnectionState, error: Option<String>) -> bool {
        self.connected.set(f64::from(u8::from(state == ConnectionState::Connected)));
        let mut link = lock(&self.link);
        let news = link.state != state || link.error != error;
        if link.state != state {
            link.since = Timestamp::now();
        }
        link.state = state;
        link.error = error;
        news
    }

    /// Notes what is wrong with the embedded broker; true where that is news.
    pub fn broker_problem(&self, problem: Option<String>) -> bool {
        let mut link = lock(&self.link);
        let news = link.broker_problem != problem;
        link.broker_problem = problem;
        news
    }

    pub fn status(&self) -> PublishStatus {
        let link = lock(&self.link);
        let good = OutboxReport { durable: true, dropped: 0, corrupt: 0, error: None };
        PublishStatus {
            state: link.state,
            since: link.since,
            broker: self.settings.address(),
            error: link.broker_problem.clone().or_else(|| link.error.clone()),
            epoch: self.epoch(),
            pending: self.outbox.as_ref().map_or(0, |outbox| outbox.pending()),
            outbox_bytes: self.outbox.as_ref().map_or(0, |outbox| outbox.bytes()),
            outbox: self.outbox.as_ref().map_or(good, |outbox| outbox.report()),
            dropped: self.dropped.get(),
        }
    }

    /// What was said of the box last.
    pub fn box_status(&self) -> Option<BoxStatus> {
        lock(&self.box_status).clone()
    }

    pub fn set_box_status(&self, status: BoxStatus) {
        *lock(&self.box_status) = Some(status);
        self.refresh_box_status();
    }

    /// Publishes the box's status, where it or the outbox's report has changed.
    pub fn refresh_box_status(&self) {
        let message = BoxStatusMessage {
            state: BoxState::Online,
            reason: None,
            outbox: self.outbox.as_ref().map(|outbox| outbox.report()),
            status: lock(&self.box_status).clone(),
            ..self.offline("")
        };
        self.live.retain(self.settings.topics.status(), json(&message));
    }

    /// The status of a box that is away.
    pub fn offline(&self, reason: &'static str) -> BoxStatusMessage {
        BoxStatusMessage {
            schema: "watchpost.status/1",
            box_: (&self.settings.box_).into(),
            state: BoxState::Offline,
            reason: Some(reason),
            epoch: Id(self.epoch()),
            outbox: None,
            status: None,
        }
    }

    /// A plugin's retained value.
    pub fn state(&self, stream: &str, entry: &str, state: crate::flow::State) {
        let topic = self.settings.topics.state(stream, &state.name);
        let message = StateMessage {
            schema: "watchpost.state/1",
            box_: (&self.settings.box_).into(),
            stream: stream.to_owned(),
            entry: entry.to_owned(),
            name: state.name,
            value: state.value,
        };
        self.retain(topic, &message);
    }

    /// What a stream does.
    pub fn stream_status(&self, stream: &str, status: StreamStatus) {
        let message = StreamStatusMessage {
            schema: "watchpost.stream/1",
            box_: (&self.settings.box_).into(),
            stream: stream.to_owned(),
            status,
        };
        self.retain(self.settings.topics.stream_status(stream), &message);
    }

    /// What a plugin does.
    pub fn plugin_status(&self, plugin: &str, status: PluginStatus) {
        let message = PluginStatusMessage {
            schema: "watchpost.plugin/1",
            box_: (&self.settings.box_).into(),
            plugin: plugin.to_owned(),
            status,
        };
        self.retain(self.settings.topics.plugin_status(plugin), &message);
    }

    /// The newest picture of a stream, a JPEG.
    pub fn snapshot(&self, stream: &str, jpeg: Vec<u8>) {
        if !self.is_off() {
            self.live.picture(self.settings.topics.snapshot(stream), jpeg);
        }
    }

    fn retain(&self, topic: String, message: &impl Serialize) {
        if !self.is_off() {
            self.live.retain(topic, json(message));
        }
    }

    /// Whether a stream may publish objects now; if so it has had its turn.
    pub fn objects_due(&self, stream: &Arc<str>) -> bool {
        !self.is_off() && self.limiter.due(stream, self.settings.objects_rate)
    }

    /// Whether a stream may publish a metadata frame for ONVIF now; if so it has had its turn.
    pub fn metadata_due(&self, stream: &Arc<str>) -> bool {
        !self.is_off() && self.metadata_limiter.due(stream, self.announcer.metadata_rate())
    }

    pub fn forget_stream(&self, stream: &str) {
        self.limiter.forget(stream);
        self.metadata_limiter.forget(stream);
        self.live.clear(&self.settings.topics.stream(stream));
        self.announcer.again();
    }
}

/// Gives each stream so many turns a second.
#[derive(Debug, Default)]
struct Limiter(Mutex<HashMap<Arc<str>, Instant>>);

impl Limiter {
    fn due(&self, stream: &Arc<str>, rate: f64) -> bool {
        if !rate.is_finite() || rate <= 0.0 {
            return false;
        }
        let pause = Duration::from_secs_f64((1.0 / rate).min(1e6));
        let now = Instant::now();
        let mut limiter = lock(&self.0);
        match limiter.get_mut(stream) {
            Some(next) if *next > now => false,
            Some(next) => {
                // Keeping to the grid holds the mean rate where frames come between its points.
                *next = (*next + pause).max(now);
                true
            }
            None => {
                limiter.insert(Arc::clone(stream), now + pause);
                true
            }
        }
    }

    fn forget(&self, stream: &str) {
        lock(&self.0).remove(stream);
    }
}
