//! What leaves over MQTT, and what comes in.
//!
//! In: [`PublishHandle`]'s messages, from any thread, none of which block; requests from the broker. Out:
//! packets to the broker; [`Request`]s for `app`; [`PublishStatus`]. `app` owns the [`Publisher`], which
//! owns the connection's task, the outbox's thread and the embedded broker's process, and ends them all in
//! [`Publisher::stop`]. After the start nothing is an error: a broker that is away or refuses, a full disk
//! or a message that cannot be sent is logged, counted, said in the status and tried again. Events survive
//! all of it in the [`outbox`]; whatever else waits is bounded, and the oldest goes first.

mod alerts;
mod announce;
mod broker;
mod connection;
mod error;
mod homeassistant;
mod live;
mod memory;
pub mod messages;
mod observe;
mod onvif;
pub mod outbox;
mod requests;
pub mod schemas;
mod settings;
mod shared;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::connection::{Connection, Deadline};
use self::messages::{
    BoxStatus, EventMessage, EventRecord, ObjectsMessage, ObjectsRecord, PluginStatus, PluginStatusMessage,
    StateMessage, StreamStatus, StreamStatusMessage,
};
use self::outbox::Outbox;
use self::shared::{Shared, json};
use crate::telemetry::Registry;
use crate::telemetry::progress::Who;

pub use announce::{Facts, Rule};
pub use broker::{BROKER_COMMAND, broker_main};
pub use error::Error;
pub use requests::{Action, Reply, Request};
pub use settings::{Destination, PublishSettings};
pub use shared::{ConnectionState, PublishStatus};
pub use topics::{Target, Topics, Verb};

/// Requests that wait for `app` at most.
const REQUESTS: usize = 64;

/// Owns everything that publishes.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    connection: JoinSet<()>,
    broker: JoinSet<()>,
    stop: watch::Sender<Option<Deadline>>,
    stop_broker: CancellationToken,
    requests: Option<mpsc::Receiver<Request>>,
}

/// Publishes. Cheap to clone; no method blocks.
#[derive(Debug, Clone)]
pub struct PublishHandle(Arc<Shared>);

impl Publisher {
    /// Opens the outbox and starts to connect, on the runtime of `handle`. Does not wait for the broker.
    ///
    /// # Errors
    /// Where another daemon uses the state folder, or the embedded broker's address cannot be used.
    pub fn start(settings: PublishSettings, registry: &Registry, handle: &Handle) -> Result<Self, Error> {
        let mut settings = settings;
        let off = settings.destination == Destination::Off;
        if let Destination::Embedded(listen) = settings.destination {
            let settled = broker::settle(listen).map_err(|source| Error::BrokerListen { listen, source })?;
            settings.destination = Destination::Embedded(settled);
        }
        let outbox = match off {
            true => None,
            false => Some(Outbox::start(&settings.state, settings.outbox_bytes, registry)?),
        };
        let shared = Arc::new(Shared::new(settings, outbox, registry));
        let (stop, stopped) = watch::channel(None);
        let (sender, requests) = mpsc::channel(REQUESTS);
        let (mut connection, mut embedded) = (JoinSet::new(), JoinSet::new());
        let stop_broker = CancellationToken::new();
        if let Destination::Embedded(listen) = shared.settings.destination {
            let supervise = broker::supervise(Arc::clone(&shared), listen, stop_broker.clone());
            embedded.spawn_on(supervise, handle);
        }
        if !off {
            let pulse = registry.progress().worker(Who::named("the MQTT connection"));
            let task = Connection { shared: Arc::clone(&shared), requests: sender, stop: stopped, pulse };
            connection.spawn_on(task.run(), handle);
        }
        Ok(Self { shared, connection, broker: embedded, stop, stop_broker, requests: Some(requests) })
    }

    /// A handle to publish with.
    #[must_use]
    pub fn handle(&self) -> PublishHandle {
        PublishHandle(Arc::clone(&self.shared))
    }

    /// The requests that come in; `None` from the second call on.
    pub fn requests(&mut self) -> Option<mpsc::Receiver<Request>> {
        self.requests.take()
    }

    /// Sends what waits, says goodbye (`offline`, `stopped`), and ends all tasks, the outbox's thread and the
    /// embedded broker. Takes at most about `timeout`, whatever the broker does; events that could not be
    /// delivered are on disk. Without a connection it does not wait for one.
    pub async fn stop(mut self, timeout: Duration) {
        let now = Instant::now();
        self.stop.send_replace(Some(Deadline { drain: now + timeout.mul_f64(0.8), end: now + timeout }));
        while self.connection.join_next().await.is_some() {}
        self.stop_broker.cancel();
        while self.broker.join_next().await.is_some() {}
        if let Some(outbox) = &self.shared.outbox {
            outbox.stop();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The tasks end with their sets, and the broker's process with its task.
        if let Some(outbox) = &self.shared.outbox {
            outbox.stop();
        }
    }
}

impl PublishHandle {
    /// One step of an incident. It has its number at once and is durable shortly after.
    pub fn event(&self, record: EventRecord) {
        self.0.observers.tell(&record);
        let Some(outbox) = &self.0.outbox else { return };
        self.0.announcer.event(&self.0, &record);
        let settings = &self.0.settings;
        outbox.push(|epoch, seq| {
            let topic = settings.topics.event(&record.stream, &record.event.kind);
            let message = EventMessage::new(&settings.box_, epoch, seq, record);
            (topic.into(), json(&message).into())
        });
    }

    /// Calls `observer` with each event from here on, on the thread that says it and also where publishing is off. It must
    /// not block.
    pub fn observe(&self, observer: impl Fn(&EventRecord) + Send + Sync + 'static) {
        self.0.observers.add(observer);
    }

    /// Whether every event so far is on disk, or known not to get there.
    #[must_use]
    pub fn events_settled(&self) -> bool {
        self.0.outbox.as_ref().is_none_or(Outbox::settled)
    }

    /// The objects of a frame; most calls do nothing, since `mqtt.objects_rate` and `onvif.metadata_rate` allow a few a
    /// second.
    pub fn objects(&self, record: ObjectsRecord<'_>) {
        let stream = &record.frame.stream;
        // To ONVIF an empty frame means that nothing was found, so it must have been looked for.
        let looked = !record.runs.is_empty() || !record.objects.is_empty();
        let due = (self.0.objects_due(stream), looked && self.0.metadata_due(stream));
        if due == (false, false) {
            return;
        }
        let settings = &self.0.settings;
        let message = ObjectsMessage::new(&settings.box_, record);
        if due.0 {
            self.0.live.fleeting(settings.topics.objects(stream), json(&message));
        }
        if due.1 {
            let (topic, payload) = onvif::frame(settings.topics.base(), &message);
            self.0.live.fleeting(topic, payload);
        }
    }

    /// What there is to announce: alerts of every kind that may come, ONVIF's rules, Home Assistant's device. To be told
    /// again and again; where nothing has changed it does next to nothing. Writes a small file where something has.
    pub fn announce(&self, facts: Facts) {
        if !self.0.is_off() {
            self.0.announcer.announce(&self.0, facts);
        }
    }

    /// A plugin's retained value.
    pub fn state(&self, stream: &str, entry: &str, state: crate::flow::State) {
        let topic = self.0.settings.topics.state(stream, &state.name);
        let message = StateMessage {
            schema: "watchpost.state/1",
            box_: (&self.0.settings.box_).into(),
            stream: stream.to_owned(),
            entry: entry.to_owned(),
            name: state.name,
            value: state.value,
        };
        self.retain(topic, &message);
    }

    /// The newest picture of an incident of a stream, a JPEG.
    pub fn snapshot(&self, stream: &str, jpeg: &[u8]) {
        if !self.0.is_off() {
            self.0.live.picture(self.0.settings.topics.snapshot(stream), jpeg.to_vec());
        }
    }

    /// What a stream does.
    pub fn stream_status(&self, stream: &str, status: StreamStatus) {
        let message = StreamStatusMessage {
            schema: "watchpost.stream/1",
            box_: (&self.0.settings.box_).into(),
            stream: stream.to_owned(),
            status,
        };
        self.retain(self.0.settings.topics.stream_status(stream), &message);
    }

    /// A stream is no longer configured: its retained messages are removed from the broker.
    pub fn forget_stream(&self, stream: &str) {
        self.0.forget_stream(stream);
    }

    /// What a plugin does.
    pub fn plugin_status(&self, plugin: &str, status: PluginStatus) {
        let message = PluginStatusMessage {
            schema: "watchpost.plugin/1",
            box_: (&self.0.settings.box_).into(),
            plugin: plugin.to_owned(),
            status,
        };
        self.retain(self.0.settings.topics.plugin_status(plugin), &message);
    }

    /// A plugin is gone: its retained messages are removed from the broker.
    pub fn forget_plugin(&self, plugin: &str) {
        self.0.live.clear(&self.0.settings.topics.plugin_status(plugin));
    }

    /// What there is to say of the box.
    pub fn box_status(&self, status: BoxStatus) {
        self.0.set_box_status(status);
    }

    /// Publishes every metric now, beside the regular times (`mqtt.telemetry_interval`).
    pub fn telemetry(&self) {
        connection::send_telemetry(&self.0);
    }

    /// How publishing is doing.
    #[must_use]
    pub fn status(&self) -> PublishStatus {
        self.0.status()
    }

    /// The topics of this box.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.0.settings.topics
    }

    /// Which start of the daemon this is; 0 where publishing is off.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn retain(&self, topic: String, message: &impl serde::Serialize) {
        if !self.0.is_off() {
            self.0.live.retain(topic, json(message));
        }
    }
}
