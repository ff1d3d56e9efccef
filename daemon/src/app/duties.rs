//! What the daemon sees to all the time: readiness, its own turns, statuses of box and plugins.
//!
//! In: the state of streams and plugins, looked at four times a second. Out: systemd notifications, retained statuses.
//! Owned by the control loop; the answers to requests that it starts are joined when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::daemon::Core;
use super::status_line::status_line;
use crate::pipeline::prune_engines;
use crate::plugins::{EntryStatus, InstanceState, PluginState};
use crate::publish::messages::{self, BoxStatus, ModelStatus, PluginInstance, PluginStatus, Timestamp};
use crate::record::{RecordState, RecordStatus};
use crate::service::Notifier;
use crate::telemetry::progress::{Pulse, Who, Work};

/// After so long the daemon calls itself ready even if a stream still waits for its first frame.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long the start waits at most for engines without which no stream can run.
const ENGINES: Duration = Duration::from_secs(1800);
/// How much longer systemd is asked to wait each time, and how often it is asked.
const EXTENSION: Duration = Duration::from_secs(30);
const ASKED: Duration = Duration::from_secs(5);
/// Answers to requests that may be under way at a time; further ones wait with the publisher, which turns away what is
/// too much for it.
const ANSWERS: usize = 32;

/// The daemon's standing duties.
pub(super) struct Duties<R> {
    core: Arc<Core>,
    notifier: Notifier,
    /// The control loop's, which looks after its duties here: each turn of it is progress.
    turns: Pulse,
    started: Instant,
    ready: Option<R>,
    /// Whether the cache of engines still has to be looked through.
    prune: bool,
    /// When systemd was asked last to wait longer.
    extended: Option<Instant>,
    answers: JoinSet<()>,
    /// What `systemctl status` shows.
    line: String,
    plugins: BTreeMap<String, PluginStatus>,
}

impl<R: FnOnce()> Duties<R> {
    pub(super) fn new(core: Arc<Core>, notifier: Notifier, turns: Pulse, ready: R) -> Self {
        Self {
            // Not by a trial, which knows nothing of the box's models.
            prune: core.config.is_some(),
            core,
            notifier,
            turns,
            started: Instant::now(),
            ready: Some(ready),
            extended: None,
            answers: JoinSet::new(),
            line: String::new(),
            plugins: BTreeMap::new(),
        }
    }

    /// Runs something that may wait, beside the loop.
    pub(super) fn spawn(&mut self, work: impl FnOnce() + Send + 'static) {
        // From now on, and not from when a thread takes it up: answers that pile up hang, too.
        let pulse = self.core.progress.worker(Who::named("an answer to a request"));
        pulse.begin(Work::Answer);
        self.answers.spawn_blocking(move || {
            let _until_done = pulse;
            work();
        });
    }

    /// Whether one more answer may be under way.
    pub(super) fn have_room(&self) -> bool {
        self.answers.len() < ANSWERS
    }

    /// Sees to everything once.
    pub(super) fn see_to(&mut self) {
        self.turns.begin(Work::Turn);
        while self.answers.try_join_next().is_some() {}
        self.core.pulse.beat();
        if self.core.vitals.due() {
            let vitals = Arc::clone(&self.core.vitals);
            self.spawn(move || vitals.look());
        }
        let streams = self.core.supervisor.report();
        let running =
            streams.values().filter(|report| report.status.state == messages::StreamState::Running).count();
        let models = self.core.supervisor.models();
        if self.ready.is_some() {
            match start(self.core.supervisor.settled(), self.started.elapsed(), running, &models) {
                Start::Over => {
                    tracing::info!(streams = streams.len(), running, "ready");
                    self.notifier.ready();
                    self.core.is_ready();
                    if let Some(ready) = self.ready.take() {
                        ready();
                    }
                }
                Start::NeedsEngines => self.extend(),
                Start::GoesOn => {}
            }
        }
        if self.ready.is_none() && running > 0 && std::mem::take(&mut self.prune) {
            let settings = self.core.settings();
            self.spawn(move || prune_engines(&settings));
        }
        let mut line = status_line(&streams, &models, &self.core.publish.status(), Timestamp::now());
        if let Some(refused) = self.core.refused() {
            line += &format!("; the last reload was refused: {refused}");
        }
        self.status_line(line);
        crate::service::logging::sum_up(false);
        self.core.crashes.see_to();
        self.box_status(streams.keys().cloned().collect(), models);
        self.plugin_statuses();
        self.core.publish.announce(super::announce::facts(&self.core));
    }

    /// Tells systemd, where there is news.
    fn status_line(&mut self, line: String) {
        if line != self.line {
            self.notifier.status(&line);
            self.line = line;
        }
    }

    /// Has systemd wait longer for the start.
    fn extend(&mut self) {
        if self.extended.is_none_or(|asked| asked.elapsed() >= ASKED) {
            self.extended = Some(Instant::now());
            self.notifier.extend(EXTENSION);
        }
    }

    fn box_status(&self, streams: Vec<String>, models: Vec<ModelStatus>) {
        let plugins = self.core.host.plugins();
        let record = self.core.record.status();
        let mut problems: Vec<String> = plugins
            .iter()
            .filter_map(|plugin| Some(format!("{}: {}", plugin.file.display(), plugin.error.as_ref()?)))
            .chain(record.error.as_ref().map(|error| format!("nothing is recorded: {error}")))
            .collect();
        problems.extend(self.core.refused().map(|refused| format!("the last reload was refused: {refused}")));
        self.core.publish.box_status(BoxStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.core.since,
            lane: self.core.lane(),
            streams,
            plugins: plugins.into_iter().map(|plugin| plugin.name).collect(),
            models,
            record: Some(record_report(record)),
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
                _ if !self.core.host.is_enabled(&plugin.name) => messages::PluginState::Disabled,
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

fn record_report(status: RecordStatus) -> messages::RecordReport {
    let state = match status.state {
        RecordState::Off => messages::RecordState::Off,
        RecordState::Recording => messages::RecordState::Recording,
        RecordState::Full => messages::RecordState::Full,
        RecordState::Failed => messages::RecordState::Failed,
    };
    messages::RecordReport { state, error: status.error }
}

/// How far the start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Streams are being built.
    GoesOn,
    /// No stream can run before an engine is built, which may take minutes.
    NeedsEngines,
    /// The daemon is ready.
    Over,
}

/// `settled`: every stream has come to a state that the user may be told of. An engine that is built while CUDA serves, or
/// while other streams run, keeps nobody waiting.
fn start(settled: bool, elapsed: Duration, running: usize, models: &[ModelStatus]) -> Start {
    let needed = models.iter().any(|model| model.provider.is_none() && model.is_coming());
    if settled {
        Start::Over
    } else if needed && running == 0 && elapsed < ENGINES {
        Start::NeedsEngines
    } else if elapsed > PATIENCE {
        Start::Over
    } else {
        Start::GoesOn
    }
}

fn instance(entry: EntryStatus) -> PluginInstance {
    let state = match entry.state {
        InstanceState::Running => messages::InstanceState::Running,
        InstanceState::Quarantined => messages::InstanceState::Quarantined,
        InstanceState::Stopped | InstanceState::Refused | InstanceState::Disabled => {
            messages::InstanceState::Disabled
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::messages::{ModelEngine, ModelEngineState};

    fn model(provider: Option<&str>, state: ModelEngineState) -> ModelStatus {
        ModelStatus {
            name: "people".into(),
            lane: "cuda".into(),
            gpu: Some(0),
            provider: provider.map(str::to_owned),
            engine: Some(ModelEngine {
                state,
                since: Timestamp(1_000_000),
                expected_seconds: Some(90),
                reason: None,
            }),
        }
    }

    #[test]
    fn the_start_waits_for_engines_only_where_nothing_can_run_without() {
        use ModelEngineState::{Building, Failed, Missing};
        let long = PATIENCE + Duration::from_secs(1);
        let serves = [model(Some("CUDA"), Building)];
        assert_eq!(start(false, Duration::ZERO, 0, &serves), Start::GoesOn);
        assert_eq!(start(false, long, 0, &serves), Start::Over);
        for state in [Building, Missing] {
            let alone = [model(None, state), model(Some("CPU"), Failed)];
            assert_eq!(start(false, Duration::ZERO, 0, &alone), Start::NeedsEngines);
            assert_eq!(start(false, long, 0, &alone), Start::NeedsEngines);
            assert_eq!(start(false, long, 1, &alone), Start::Over, "another stream runs");
            assert_eq!(start(false, ENGINES, 0, &alone), Start::Over, "not for ever");
            assert_eq!(start(true, Duration::ZERO, 0, &alone), Start::Over);
        }
        assert_eq!(start(false, Duration::ZERO, 0, &[model(None, Failed)]), Start::GoesOn);
    }
}
