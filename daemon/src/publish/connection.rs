//! The connection to the broker: connects, logs in, sends, matches acknowledgements, and starts over.
//!
//! In: the outbox, the live queues, the wish to stop. Out: packets; requests for `app`; the state in
//! [`super::PublishStatus`]. One task, owned by the publisher. Each connection is a new session with a new
//! rumqttc event loop: what was under way when the last one broke is read from the outbox again. A broker
//! that is away or refuses is tried again with a growing pause, and every change is logged once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::current::Current;
use super::messages::TelemetryMessage;
use super::outbox::Outbox;
use super::requests::{Request, read};
use super::settings::Destination;
use super::shared::{ConnectionState, Shared, json};
use crate::telemetry::progress::{Pulse, Work};

/// Messages handed to rumqttc and not yet written.
const HANDED: usize = 16;
/// QoS 1 messages under way.
const WINDOW: usize = 64;
/// A connection that lasted so long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(10);
/// How long the embedded broker, which is started beside this, may take before its silence is an error; and between two
/// looks.
const OWN_BROKER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
/// Time for connecting, and for a packet to leave.
const NETWORK: u64 = 20;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// Until then everything that waits is sent; then goodbye is said.
    pub drain: Instant,
    /// Then it is over.
    pub end: Instant,
    /// How the broker is left.
    pub parting: Parting,
}

/// How a broker is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The daemon stops, or publishes no more: everything that waits is sent, and the box says that it is `stopped`.
    Stop,
    /// The box goes to another broker, or by another name: events that wait go there, and the box says that it `moved`.
    Move,
    /// The box comes back at once: nothing is said.
    Again,
}

pub(super) struct Connection {
    pub shared: Arc<Shared>,
    /// Where answers go, which may come after this connection has ended.
    pub current: Arc<Current>,
    pub requests: mpsc::Sender<Request>,
    pub stop: watch::Receiver<Option<Deadline>>,
    /// What the task has in hand: nothing, while it waits for the broker or for messages.
    pub pulse: Pulse,
}

/// What a packet under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// QoS 0.
    Fleeting,
    /// QoS 1, from the live queues.
    Live,
    /// An event, by its position in the outbox.
    Event(u64),
    /// The last word.
    Farewell,
}

/// What is under way in one connection.
struct Session {
    client: AsyncClient,
    /// Handed to rumqttc, in order.
    handed: VecDeque<Kind>,
    /// Written, by packet id.
    in_flight: HashMap<u16, Kind>,
    /// Positions sent and not acknowledged.
    unacknowledged: BTreeSet<u64>,
    /// Position after the last one sent.
    sent: u64,
    farewell: bool,
    /// Where Home Assistant's birth is listened for.
    birth: Option<String>,
}

/// How a connection ended.
enum End {
    Stopped,
    Lost(ConnectionState, String),
}

impl Connection {
    pub async fn run(mut self) {
        let (first, longest) = self.shared.settings.backoff;
        let mut pause = first;
        self.await_own_broker().await;
        while self.stop.borrow().is_none() {
            let begin = Instant::now();
            self.pulse.begin(Work::Publish);
            let attempt = self.attempt().await;
            self.pulse.end();
            let (state, error) = match attempt {
                End::Stopped => break,
                End::Lost(state, error) => (state, error),
            };
            if let Some(outbox) = &self.shared.outbox {
                outbox.disconnected();
            }
            self.shared.live.disconnected();
            if self.shared.link(state, Some(error.clone())) {
                let (broker, topic) = (self.shared.settings.address(), self.shared.settings.topics.base());
                tracing::warn!(peer = broker, topic, error, "no connection to the MQTT broker; trying again");
            }
            if begin.elapsed() >= GOOD {
                pause = first;
            }
            if tokio::time::timeout(jitter(pause), self.stop.changed()).await.is_err() {
                pause = (pause * 2).min(longest);
            }
        }
        if let Some(outbox) = &self.shared.outbox {
            outbox.disconnected();
        }
        self.shared.link(ConnectionState::Stopped, None);
    }

    /// The embedded broker's process has only just been started: that nobody listens yet is nothing to warn of.
    async fn await_own_broker(&mut self) {
        let Destination::Embedded(listen) = self.shared.settings.destination else { return };
        let until = Instant::now() + OWN_BROKER;
        while self.stop.borrow().is_none()
            && Instant::now() < until
            && TcpStream::connect(listen).await.is_err()
        {
            // Where the wish to stop comes, or nobody is there any more to say it.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, self.stop.changed()).await {
                return;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn attempt(&mut self) -> End {
        let shared = Arc::clone(&self.shared);
        let options = match shared.settings.options(json(&shared.offline("lost"))) {
            Ok(options) => options,
            Err(error) => return End::Lost(ConnectionState::Unreachable, error.to_string()),
        };
        let (client, mut event_loop) = AsyncClient::new(options, 2 * HANDED);
        let mut network = event_loop.network_options();
        network.set_connection_timeout(NETWORK).set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        let mut session = Session::new(client);
        let mut connected = false;
        let interval = shared.settings.telemetry_interval;
        let mut telemetry = Instant::now() + interval;
        loop {
            let event = {
                // The one future lives until it is done: dropped half-way it could lose a packet.
                let poll = event_loop.poll();
                tokio::pin!(poll);
                loop {
                    self.pulse.begin(Work::Publish);
                    let deadline: Option<Deadline> = *self.stop.borrow();
                    if connected {
                        session.listen(&shared);
                        session.feed(&shared, deadline.map(|deadline| deadline.parting));
                    } else if deadline.is_some() {
                        return End::Stopped;
                    }
                    self.pulse.end();
                    tokio::select! {
                        biased;
                        event = &mut poll => break event,
                        () = until(deadline.map(|d| d.drain)), if deadline.is_some() && !session.farewell => {
                            session.say_farewell(&shared, deadline.map(|d| d.parting));
                        }
                        () = until(deadline.map(|d| d.end)), if deadline.is_some() => return End::Stopped,
                        changed = self.stop.changed(), if deadline.is_none() => {
                            if changed.is_err() {
                                return End::Stopped;
                            }
                        }
                        () = ready(shared.outbox.as_deref()), if connected => shared.refresh_box_status(),
                        () = shared.live.ready.notified(), if connected => {}
                        () = tokio::time::sleep_until(telemetry), if connected && !interval.is_zero() => {
                            telemetry = Instant::now() + interval;
                            send_telemetry(&shared);
                        }
                    }
                }
            };
            self.pulse.begin(Work::Publish);
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    connected = true;
                    self.connected(&session);
                }
                Ok(Event::Incoming(packet)) => self.incoming(&mut session, packet),
                Ok(Event::Outgoing(Outgoing::Publish(id))) => session.written(id),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return End::Stopped,
                Ok(Event::Outgoing(_)) => {}
                // After the farewell the broker may hang up first.
                Err(_) if session.farewell => return End::Stopped,
                Err(error) => {
                    let (state, error) = explain(&error);
                    return End::Lost(state, error);
                }
            }
        }
    }

    fn connected(&self, session: &Session) {
        let shared = &self.shared;
        shared.connections.inc();
        shared.link(ConnectionState::Connected, None);
        tracing::info!(peer = shared.settings.address(), "connected to the MQTT broker");
        let filters = shared.settings.topics.incoming();
        let filters = filters.into_iter().map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce });
        if session.client.try_subscribe_many(filters).is_err() {
            tracing::error!("cannot ask the MQTT broker for requests");
        }
        if let Some(outbox) = &shared.outbox {
            outbox.connected();
        }
        shared.refresh_box_status();
        send_telemetry(shared);
    }

    fn incoming(&self, session: &mut Session, packet: Packet) {
        match packet {
            Packet::PubAck(ack) => session.acknowledged(&self.shared, ack.pkid),
            Packet::SubAck(ack) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                tracing::error!("the MQTT broker does not let this user subscribe to its requests");
            }
            Packet::Publish(publish) if session.birth.as_ref() == Some(&publish.topic) => {
                self.born(&publish.payload);
            }
            Packet::Publish(publish) => self.request(&publish),
            _ => {}
        }
    }

    /// Home Assistant has started: it wants to be told of the device again.
    fn born(&self, payload: &[u8]) {
        if payload == b"online"
            && let Some((_, discovery)) = self.shared.announcer.birth()
        {
            tracing::info!(topic = discovery, "Home Assistant has started: the box is announced again");
            self.shared.live.repeat(&discovery);
        }
    }

    fn request(&self, publish: &Publish) {
        let Some(request) =
            read(&self.shared, &self.current, &publish.topic, &publish.payload, publish.retain)
        else {
            return;
        };
        match self.requests.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(request)) => {
                request.reply.error("too many requests wait already; try again later");
            }
            Err(mpsc::error::TrySendError::Closed(request)) => {
                request.reply.error("the daemon takes no requests now; it may be stopping");
            }
        }
    }
}

impl Session {
    fn new(client: AsyncClient) -> Self {
        Self {
            client,
            handed: VecDeque::new(),
            in_flight: HashMap::new(),
            unacknowledged: BTreeSet::new(),
            sent: 0,
            farewell: false,
            birth: None,
        }
    }

    /// Listens for Home Assistant's birth, since it was turned on or its topic was changed.
    fn listen(&mut self, shared: &Shared) {
        let birth = shared.announcer.birth().map(|(birth, _)| birth);
        if birth != self.birth
            && birth.as_ref().is_none_or(|birth| self.client.try_subscribe(birth, QoS::AtLeastOnce).is_ok())
        {
            self.birth = birth;
        }
    }

    /// Whether every message of the live queues that was sent is acknowledged.
    fn is_quiet(&self) -> bool {
        !self.handed.iter().chain(self.in_flight.values()).any(|kind| *kind == Kind::Live)
    }

    /// Hands rumqttc what there is room for, in order of urgency.
    fn feed(&mut self, shared: &Shared, parting: Option<Parting>) {
        // Who comes back says it then; who goes elsewhere takes the events along.
        let stays = parting != Some(Parting::Again);
        let events = stays && parting != Some(Parting::Move);
        while self.handed.len() < HANDED && !self.farewell {
            let waits = self.handed.iter().filter(|kind| **kind != Kind::Fleeting).count();
            let room = waits + self.in_flight.len() < WINDOW;
            if room && let Some((topic, payload)) = shared.live.next_answer() {
                self.publish(Kind::Live, topic, payload, false);
            } else if room
                && stays
                && let Some((topic, payload)) = shared.live.next_retained()
            {
                self.publish(Kind::Live, topic, payload, true);
            } else if room
                && events
                && let Some(record) = shared.outbox.as_ref().and_then(|outbox| outbox.pop())
            {
                self.unacknowledged.insert(record.position);
                self.sent = record.position + 1;
                self.publish(
                    Kind::Event(record.position),
                    record.topic.to_string(),
                    record.payload.to_vec(),
                    false,
                );
            } else if parting.is_none()
                && let Some((topic, payload)) = shared.live.next_picture()
            {
                self.publish(Kind::Fleeting, topic, payload, true);
            } else if parting.is_none()
                && let Some((topic, payload)) = shared.live.next_fleeting()
            {
                self.publish(Kind::Fleeting, topic, payload, false);
            } else if let Some(parting) = parting.filter(|parting| self.is_done(shared, *parting)) {
                self.say_farewell(shared, Some(parting));
            } else {
                return;
            }
        }
    }

    fn say_farewell(&mut self, shared: &Shared, parting: Option<Parting>) {
        self.farewell = true;
        let reason = match parting {
            Some(Parting::Again) => return self.hang_up(),
            Some(Parting::Move) => "moved",
            Some(Parting::Stop) | None => "stopped",
        };
        self.publish(Kind::Farewell, shared.settings.topics.status(), json(&shared.offline(reason)), true);
    }

    /// In order, so that the broker does not publish the last will.
    fn hang_up(&self) {
        if self.client.try_disconnect().is_err() {
            tracing::warn!("cannot say goodbye to the MQTT broker");
        }
    }

    fn is_done(&self, shared: &Shared, parting: Parting) -> bool {
        let sent = self.handed.is_empty() && self.in_flight.is_empty();
        match parting {
            Parting::Again => sent,
            Parting::Move => sent && shared.live.is_drained(),
            Parting::Stop => {
                sent && shared.live.is_drained()
                    && shared.outbox.as_ref().is_none_or(|outbox| outbox.pending() == 0)
            }
        }
    }

    fn publish(&mut self, kind: Kind, topic: String, payload: Vec<u8>, retain: bool) {
        let qos = if kind == Kind::Fleeting { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        match self.client.try_publish(topic.as_str(), qos, retain, payload) {
            Ok(()) => self.handed.push_back(kind),
            // The channel has room for all that may be handed over, so the topic is at fault. An event that
            // can never be sent must not hold up those behind it.
            Err(_) => {
                tracing::error!(topic, "a message cannot be published on this topic; dropped");
                if let Kind::Event(position) = kind {
                    self.unacknowledged.remove(&position);
                }
            }
        }
    }

    /// rumqttc wrote the oldest message handed to it, under this packet id (0: QoS 0).
    fn written(&mut self, id: u16) {
        if let Some(kind) = self.handed.pop_front()
            && kind != Kind::Fleeting
        {
            self.in_flight.insert(id, kind);
        }
    }

    fn acknowledged(&mut self, shared: &Shared, id: u16) {
        match self.in_flight.remove(&id) {
            Some(Kind::Event(position)) => {
                self.unacknowledged.remove(&position);
                shared.acknowledged.inc();
                let mark = self.unacknowledged.first().copied().unwrap_or(self.sent);
                if let Some(outbox) = &shared.outbox {
                    outbox.ack(mark);
                }
            }
            Some(Kind::Live) if self.is_quiet() => shared.live.confirm(),
            Some(Kind::Farewell) => self.hang_up(),
            _ => {}
        }
    }
}

/// Publishes every metric.
pub(super) fn send_telemetry(shared: &Shared) {
    let message = TelemetryMessage::new(&shared.settings.box_, shared.epoch(), shared.registry.snapshot());
    shared.live.fleeting(shared.settings.topics.telemetry(), json(&message));
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn ready(outbox: Option<&Outbox>) {
    match outbox {
        Some(outbox) => outbox.ready().await,
        None => std::future::pending().await,
    }
}

/// Between half of the pause and all of it, so that boxes do not come back in step.
fn jitter(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = (RandomState::new().hash_one(0) % 1024) as f64 / 1024.0;
    pause.mul_f64(0.5 + share / 2.0)
}

fn explain(error: &ConnectionError) -> (ConnectionState, String) {
    let text = match error {
        ConnectionError::ConnectionRefused(code) => {
            let answer = match code {
                ConnectReturnCode::BadUserNamePassword => {
                    "the broker refuses the user name or password; see mqtt.username and mqtt.password_file"
                }
                ConnectReturnCode::NotAuthorized => {
                    "the broker does not let this user in; see mqtt.username and mqtt.password_file"
                }
                ConnectReturnCode::BadClientId => "the broker refuses the client id; see box.name",
                ConnectReturnCode::ServiceUnavailable => "the broker says that it is unavailable",
                _ => "the broker does not speak MQTT 3.1.1",
            };
            return (ConnectionState::Refused, answer.into());
        }
        ConnectionError::NetworkTimeout => "the broker does not answer".into(),
        ConnectionError::FlushTimeout => "the broker takes no data".into(),
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::Tls(error) => error.to_string(),
        ConnectionError::MqttState(rumqttc::StateError::AwaitPingResp) => {
            "the broker does not answer pings".into()
        }
        ConnectionError::MqttState(error) => error.to_string(),
        other => other.to_string(),
    };
    (ConnectionState::Unreachable, text)
}
