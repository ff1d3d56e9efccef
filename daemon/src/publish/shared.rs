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
use super::messages::{BoxState, BoxStatus, BoxStatusMessage, Id, OutboxReport, Timestamp};
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
    /// `None`: publishing is off.
    pub outbox: Option<Outbox>,
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
    pub announcer: Announcer,
    /// Who else wants to know of events.
    pub observers: Observers,
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
    pub fn new(settings: PublishSettings, outbox: Option<Outbox>, registry: &Registry) -> Self {
        let off = settings.destination == Destination::Off;
        let state = if off { ConnectionState::Off } else { ConnectionState::Connecting };
        let dropped = registry.counter("publish_messages_dropped_total", &[]);
        let announcer = Announcer::new(&settings.state);
        Self {
            settings,
            outbox,
            announcer,
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
            observers: Observers::default(),
        }
    }

    pub fn is_off(&self) -> bool {
        self.outbox.is_none()
    }

    pub fn epoch(&self) -> u64 {
        self.outbox.as_ref().map_or(0, Outbox::epoch)
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
            pending: self.outbox.as_ref().map_or(0, Outbox::pending),
            outbox_bytes: self.outbox.as_ref().map_or(0, Outbox::bytes),
            outbox: self.outbox.as_ref().map_or(good, Outbox::report),
            dropped: self.dropped.get(),
        }
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
            outbox: self.outbox.as_ref().map(Outbox::report),
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
