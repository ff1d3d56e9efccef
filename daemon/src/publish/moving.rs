//! Going over to other settings while the daemon runs: another broker, another name, another password.
//!
//! In: settings. Out: the connection and the embedded broker as they say. Owned by the publisher. Events are not lost:
//! they stay in the outbox until a broker has acknowledged them, so one under way when its connection is ended goes to the
//! next broker, again if need be. The old place is left in order: a box that goes elsewhere says so, and takes its other
//! retained messages away; one that only logs in anew says nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Deadline, Parting};
use super::current::Current;
use super::outbox::Outbox;
use super::settings::{Destination, PublishSettings};
use super::shared::{ConnectionState, Shared};
use super::{Error, Publisher, Request, broker};
use crate::telemetry::progress::Who;

/// How long a broker may take to acknowledge what is under way, before it is left.
const LEAVING: Duration = Duration::from_millis(2500);
/// How long events wait for being sent under the name under which they happened.
const DRAINING: Duration = Duration::from_secs(2);
/// How often it is looked whether they were.
const LOOK: Duration = Duration::from_millis(20);

/// The connection's task.
#[derive(Debug)]
pub(super) struct Link {
    task: JoinSet<()>,
    stop: watch::Sender<Option<Deadline>>,
}

impl Link {
    pub fn start(current: &Arc<Current>, requests: mpsc::Sender<Request>, runtime: &Handle) -> Self {
        let (stop, stopped) = watch::channel(None);
        let mut task = JoinSet::new();
        let shared = current.now();
        let pulse = shared.registry.progress().worker(Who::named("the MQTT connection"));
        let connection = Connection { shared, current: Arc::clone(current), requests, stop: stopped, pulse };
        task.spawn_on(connection.run(), runtime);
        Self { task, stop }
    }

    /// Ends it, in about `timeout` at most.
    pub async fn end(mut self, timeout: Duration, parting: Parting) {
        let now = Instant::now();
        let deadline = Deadline { drain: now + timeout.mul_f64(0.8), end: now + timeout, parting };
        self.stop.send_replace(Some(deadline));
        while self.task.join_next().await.is_some() {}
    }
}

/// The embedded broker's task.
#[derive(Debug)]
pub(super) struct Embedded {
    listen: SocketAddr,
    task: JoinSet<()>,
    stop: CancellationToken,
}

impl Embedded {
    /// Starts one where the settings in force want it.
    pub fn start(current: &Arc<Current>, runtime: &Handle) -> Option<Self> {
        let Destination::Embedded(listen) = current.now().settings.destination else { return None };
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn_on(broker::supervise(Arc::clone(current), listen, stop.clone()), runtime);
        Some(Self { listen, task, stop })
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// What the publisher was asked for, with the state of the files that the settings name.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    settings: PublishSettings,
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

impl Asked {
    pub fn new(settings: &PublishSettings) -> Self {
        let files = [&settings.password_file, &settings.ca_file].into_iter().flatten();
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        Self { settings: settings.clone(), files: files.map(|path| (path.clone(), changed(path))).collect() }
    }
}

/// The settings with the port that the embedded broker gets, where any will do.
pub(super) fn settle(mut settings: PublishSettings) -> Result<PublishSettings, Error> {
    if let Destination::Embedded(listen) = settings.destination {
        let settled = broker::settle(listen).map_err(|source| Error::BrokerListen { listen, source })?;
        settings.destination = Destination::Embedded(settled);
    }
    Ok(settings)
}

impl Publisher {
    /// Goes over to other settings; gives whether anything was to be done. Also where the settings are the same, a
    /// connection that does not stand is tried again at once, and one whose password or certificate file has changed is
    /// made anew. Takes a few seconds at most, whatever the old broker does; does not wait for the new one.
    ///
    /// # Errors
    /// Where an outbox is wanted and none was, and it cannot be opened, or the embedded broker's address cannot be used:
    /// then everything is as before.
    pub async fn apply(&mut self, settings: PublishSettings) -> Result<bool, Error> {
        let before = self.current.now();
        let stands = matches!(before.status().state, ConnectionState::Connected | ConnectionState::Off);
        let asked = Asked::new(&settings);
        if self.asked == asked && stands {
            return Ok(false);
        }
        let mut next = settings;
        if next.destination == self.asked.settings.destination {
            // The port that it got, where any would do.
            next.destination.clone_from(&before.settings.destination);
        } else {
            next = settle(next)?;
        }
        // The folder cannot move while the daemon runs.
        next.state.clone_from(&before.settings.state);
        let outbox = match (&next.destination, &before.outbox) {
            (Destination::Off, _) => None,
            (_, Some(outbox)) => {
                outbox.limit(next.outbox_bytes);
                Some(Arc::clone(outbox))
            }
            (_, None) => Some(Arc::new(Outbox::start(&next.state, next.outbox_bytes, &self.registry)?)),
        };
        let renamed = before.settings.topics != next.topics;
        let parting = if outbox.is_none() {
            Parting::Stop
        } else if renamed || before.settings.destination != next.destination {
            Parting::Move
        } else {
            Parting::Again
        };
        if renamed {
            drain(&before).await;
        }
        let from = before.settings.address();
        let next = Shared::after(&before, next, outbox, &self.registry);
        let before = self.current.turn_to(Arc::new(next));
        let now = self.current.now();
        tracing::info!(
            from,
            to = now.settings.address(),
            topic = now.settings.topics.base(),
            "MQTT starts anew"
        );
        if parting == Parting::Move {
            before.live.leave(&before.settings.topics.status());
        }
        if let Some(link) = self.link.take() {
            link.end(LEAVING, parting).await;
        }
        if let (None, Some(outbox)) = (&now.outbox, &before.outbox) {
            outbox.stop();
        }
        let listens = self.embedded.as_ref().map(|embedded| Destination::Embedded(embedded.listen));
        if listens.is_some_and(|listens| listens != now.settings.destination)
            && let Some(embedded) = self.embedded.take()
        {
            embedded.end().await;
        }
        if self.embedded.is_none() {
            self.embedded = Embedded::start(&self.current, &self.runtime);
        }
        if now.outbox.is_some() {
            self.link = Some(Link::start(&self.current, self.sender.clone(), &self.runtime));
        }
        self.asked = asked;
        Ok(true)
    }
}

/// Lets the connection send what happened under the old name, as long as it can.
async fn drain(shared: &Shared) {
    let mut look = tokio::time::interval(LOOK);
    let until = Instant::now() + DRAINING;
    let waits = || {
        let status = shared.status();
        status.state == ConnectionState::Connected && status.pending > 0
    };
    while waits() && Instant::now() < until {
        look.tick().await;
    }
}
