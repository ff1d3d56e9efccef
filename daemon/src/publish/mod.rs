//! What leaves over MQTT, and what comes in.
//!
//! In: [`PublishHandle`]'s messages, from any thread, none of which block; requests from the broker. Out:
//! packets to the broker; [`Request`]s for `app`; [`PublishStatus`]. `app` owns the [`Publisher`], which
//! owns the connection's task, the outbox's thread and the embedded broker's process, goes over to other settings in
//! [`Publisher::apply`], and ends them all in [`Publisher::stop`]. After the start nothing is an error: a broker that is away or refuses, a full disk
//! or a message that cannot be sent is logged, counted, said in the status and tried again. Events survive
//! all of it in the [`outbox`]; whatever else waits is bounded, and the oldest goes first.

mod alerts;
mod announce;
mod broker;
mod connection;
mod current;
mod error;
mod homeassistant;
mod live;
mod memory;
pub mod messages;
mod moving;
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
use tokio::sync::mpsc;

use self::connection::Parting;
use self::current::Current;
use self::messages::{
    BoxStatus, EventMessage, EventRecord, ObjectsMessage, ObjectsRecord, PluginStatus, StreamStatus,
};
use self::moving::{Asked, Embedded, Link};
use self::outbox::Outbox;
use self::shared::{Shared, json};
use crate::telemetry::Registry;

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
    current: Arc<Current>,
    asked: Asked,
    registry: Registry,
    runtime: Handle,
    link: Option<Link>,
    embedded: Option<Embedded>,
    sender: mpsc::Sender<Request>,
    requests: Option<mpsc::Receiver<Request>>,
}

/// Publishes. Cheap to clone; no method blocks. Goes on where the publisher goes over to other settings.
#[derive(Debug, Clone)]
pub struct PublishHandle(Arc<Current>);

impl Publisher {
    /// Opens the outbox and starts to connect, on the runtime of `handle`. Does not wait for the broker.
    ///
    /// # Errors
    /// Where another daemon uses the state folder, or the embedded broker's address cannot be used.
    pub fn start(settings: PublishSettings, registry: &Registry, handle: &Handle) -> Result<Self, Error> {
        let asked = Asked::new(&settings);
        let settings = moving::settle(settings)?;
        let off = settings.destination == Destination::Off;
        let outbox = match off {
            true => None,
            false => Some(Arc::new(Outbox::start(&settings.state, settings.outbox_bytes, registry)?)),
        };
        let current = Current::new(Arc::new(Shared::new(settings, outbox, registry)));
        let (sender, requests) = mpsc::channel(REQUESTS);
        let embedded = Embedded::start(&current, handle);
        let link = (!off).then(|| Link::start(&current, sender.clone(), handle));
        let (registry, runtime) = (registry.clone(), handle.clone());
        Ok(Self { current, asked, registry, runtime, link, embedded, sender, requests: Some(requests) })
    }

    /// A handle to publish with.
    #[must_use]
    pub fn handle(&self) -> PublishHandle {
        PublishHandle(Arc::clone(&self.current))
    }

    /// The requests that come in; `None` from the second call on.
    pub fn requests(&mut self) -> Option<mpsc::Receiver<Request>> {
        self.requests.take()
    }

    /// Sends what waits, says goodbye (`offline`, `stopped`), and ends all tasks, the outbox's thread and the
    /// embedded broker. Takes at most about `timeout`, whatever the broker does; events that could not be
    /// delivered are on disk. Without a connection it does not wait for one.
    pub async fn stop(mut self, timeout: Duration) {
        if let Some(link) = self.link.take() {
            link.end(timeout, Parting::Stop).await;
        }
        if let Some(embedded) = self.embedded.take() {
            embedded.end().await;
        }
        if let Some(outbox) = &self.current.now().outbox {
            outbox.stop();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The tasks end with their sets, and the broker's process with its task.
        if let Some(outbox) = &self.current.now().outbox {
            outbox.stop();
        }
    }
}

impl PublishHandle {
    /// One step of an incident. It has its number at once and is durable shortly after.
    pub fn event(&self, record: EventRecord) {
        let shared = self.0.now();
        shared.observers.tell(&record);
        let Some(outbox) = &shared.outbox else { return };
        shared.announcer.event(&shared, &record);
        let settings = &shared.settings;
        outbox.push(|epoch, seq| {
            let topic = settings.topics.event(&record.stream, &record.event.kind);
            let message = EventMessage::new(&settings.box_, epoch, seq, record);
            (topic.into(), json(&message).into())
        });
    }

    /// Calls `observer` with each event from here on, on the thread that says it and also where publishing is off. It must
    /// not block.
    pub fn observe(&self, observer: impl Fn(&EventRecord) + Send + Sync + 'static) {
        self.0.now().observers.add(observer);
    }

    /// Whether every event so far is on disk, or known not to get there.
    #[must_use]
    pub fn events_settled(&self) -> bool {
        self.0.now().outbox.as_ref().is_none_or(|outbox| outbox.settled())
    }

    /// The objects of a frame; most calls do nothing, since `mqtt.objects_rate` and `onvif.metadata_rate` allow a few a
    /// second.
    pub fn objects(&self, record: ObjectsRecord<'_>) {
        let shared = self.0.now();
        let stream = &record.frame.stream;
        // To ONVIF an empty frame means that nothing was found, so it must have been looked for.
        let looked = !record.runs.is_empty() || !record.objects.is_empty();
        let due = (shared.objects_due(stream), looked && shared.metadata_due(stream));
        if due == (false, false) {
            return;
        }
        let settings = &shared.settings;
        let message = ObjectsMessage::new(&settings.box_, record);
        if due.0 {
            shared.live.fleeting(settings.topics.objects(stream), json(&message));
        }
        if due.1 {
            let (topic, payload) = onvif::frame(settings.topics.base(), &message);
            shared.live.fleeting(topic, payload);
        }
    }

    /// What there is to announce: alerts of every kind that may come, ONVIF's rules, Home Assistant's device. To be told
    /// again and again; where nothing has changed it does next to nothing. Writes a small file where something has.
    pub fn announce(&self, facts: Facts) {
        let shared = self.0.now();
        if !shared.is_off() {
            shared.announcer.announce(&shared, facts);
        }
    }

    /// A plugin's retained value.
    pub fn state(&self, stream: &str, entry: &str, state: crate::flow::State) {
        let (key, value) = ((stream.to_owned(), state.name.clone()), (entry.to_owned(), state.clone()));
        self.0.say(|said| drop(said.states.insert(key, value)), |shared| shared.state(stream, entry, state));
    }

    /// The newest picture of an incident of a stream, a JPEG.
    pub fn snapshot(&self, stream: &str, jpeg: &[u8]) {
        self.0.say(
            |said| drop(said.snapshots.insert(stream.to_owned(), jpeg.to_vec())),
            |shared| shared.snapshot(stream, jpeg.to_vec()),
        );
    }

    /// What a stream does.
    pub fn stream_status(&self, stream: &str, status: StreamStatus) {
        let noted = status.clone();
        self.0.say(
            |said| drop(said.streams.insert(stream.to_owned(), noted)),
            |shared| shared.stream_status(stream, status),
        );
    }

    /// A stream is no longer configured: its retained messages are removed from the broker.
    pub fn forget_stream(&self, stream: &str) {
        self.0.say(|said| said.forget_stream(stream), |shared| shared.forget_stream(stream));
    }

    /// What a plugin does.
    pub fn plugin_status(&self, plugin: &str, status: PluginStatus) {
        let noted = status.clone();
        self.0.say(
            |said| drop(said.plugins.insert(plugin.to_owned(), noted)),
            |shared| shared.plugin_status(plugin, status),
        );
    }

    /// A plugin is gone: its retained messages are removed from the broker.
    pub fn forget_plugin(&self, plugin: &str) {
        self.0.say(
            |said| drop(said.plugins.remove(plugin)),
            |shared| shared.live.clear(&shared.settings.topics.plugin_status(plugin)),
        );
    }

    /// What there is to say of the box.
    pub fn box_status(&self, status: BoxStatus) {
        self.0.say(|_| {}, |shared| shared.set_box_status(status));
    }

    /// Publishes every metric now, beside the regular times (`mqtt.telemetry_interval`).
    pub fn telemetry(&self) {
        connection::send_telemetry(&self.0.now());
    }

    /// How publishing is doing.
    #[must_use]
    pub fn status(&self) -> PublishStatus {
        self.0.now().status()
    }

    /// The topics of this box, as they are now.
    #[must_use]
    pub fn topics(&self) -> Topics {
        self.0.now().settings.topics.clone()
    }

    /// Which start of the daemon this is; 0 where publishing is off.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.now().epoch()
    }
}
