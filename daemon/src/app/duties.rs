//! What the daemon sees to all the time: readiness, the watchdog, statuses of box and plugins.
//!
//! In: the state of streams and plugins, looked at four times a second. Out: systemd notifications, retained statuses.
//! Owned by the control loop; the answers to requests that it starts are joined when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::daemon::Core;
use crate::plugins::{EntryStatus, InstanceState, PluginState};
use crate::publish::messages::{self, BoxStatus, PluginInstance, PluginStatus};
use crate::service::Notifier;

/// After so long the daemon calls itself ready even if a stream still waits for its first frame.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The daemon's standing duties.
pub(super) struct Duties<R> {
    core: Arc<Core>,
    notifier: Notifier,
    lane: String,
    started: Instant,
    ready: Option<R>,
    answers: JoinSet<()>,
    plugins: BTreeMap<String, PluginStatus>,
}

impl<R: FnOnce()> Duties<R> {
    pub(super) fn new(core: Arc<Core>, notifier: Notifier, lane: String, ready: R) -> Self {
        Self {
            core,
            notifier,
            lane,
            started: Instant::now(),
            ready: Some(ready),
            answers: JoinSet::new(),
            plugins: BTreeMap::new(),
        }
    }

    /// Runs something that may wait, beside the loop.
    pub(super) fn spawn(&mut self, work: impl FnOnce() + Send + 'static) {
        self.answers.spawn_blocking(work);
    }

    /// Sees to everything once.
    pub(super) fn see_to(&mut self) {
        while self.answers.try_join_next().is_some() {}
        let streams = self.core.supervisor.report();
        let running =
            streams.values().filter(|report| report.status.state == messages::StreamState::Running).count();
        if self.ready.is_some() && (self.core.supervisor.settled() || self.started.elapsed() > PATIENCE) {
            tracing::info!(streams = streams.len(), running, "ready");
            self.notifier.ready();
            if let Some(ready) = self.ready.take() {
                ready();
            }
        }
        self.notifier.status(&format!("{running} of {} streams running", streams.len()));
        self.notifier.alive();
        self.core.crashes.see_to();
        self.box_status(streams.keys().cloned().collect());
        self.plugin_statuses();
    }

    fn box_status(&self, streams: Vec<String>) {
        let plugins = self.core.host.plugins();
        let problems = plugins
            .iter()
            .filter_map(|plugin| Some(format!("{}: {}", plugin.file.display(), plugin.error.as_ref()?)))
            .collect();
        self.core.publish.box_status(BoxStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.core.since,
            lane: self.lane.clone(),
            streams,
            plugins: plugins.into_iter().map(|plugin| plugin.name).collect(),
            problems,
        });
    }

    fn plugin_statuses(&mut self) {
        let mut instances: BTreeMap<String, Vec<PluginInstance>> = BTreeMap::new();
        for entry in self.core.host.status() {
            instances.entry(entry.plugin.clone()).or_default().push(instance(entry));
        }
        let mut now = BTreeMap::new();
        for plugin in self.core.host.plugins() {
            if plugin.state == PluginState::Shadowed {
                continue;
            }
            let state = match plugin.state {
                PluginState::Bad => messages::PluginState::Failed,
                _ => messages::PluginState::Loaded,
            };
            let status = PluginStatus {
                version: plugin.version,
                summary: plugin.summary,
                state,
                path: plugin.file.display().to_string(),
                error: plugin.error,
                instances: instances.remove(&plugin.name).unwrap_or_default(),
            };
            now.insert(plugin.name, status);
        }
        for (name, status) in &now {
            if self.plugins.get(name) != Some(status) {
                self.core.publish.plugin_status(name, status.clone());
            }
        }
        for name in self.plugins.keys().filter(|name| !now.contains_key(*name)) {
            self.core.publish.forget_plugin(name);
        }
        self.plugins = now;
    }
}

fn instance(entry: EntryStatus) -> PluginInstance {
    let state = match entry.state {
        InstanceState::Running => messages::InstanceState::Running,
        InstanceState::Quarantined => messages::InstanceState::Quarantined,
        InstanceState::Stopped | InstanceState::Refused => messages::InstanceState::Disabled,
        InstanceState::Waiting | InstanceState::Starting | InstanceState::Restarting => {
            messages::InstanceState::Restarting
        }
    };
    PluginInstance {
        stream: entry.stream,
        entry: entry.entry,
        state,
        restarts: entry.failures,
        error: (!entry.message.is_empty()).then_some(entry.message),
    }
}
