//! The daemon's own pipeline in this process: its supervisor, plugin host and publisher, without broker and server.
//!
//! In: a subject's settings, streams to run. Out: what the streams say of themselves, and a cost of the whole lane. A
//! [`Rig`] owns all of it; dropping it stops the streams and waits for them. A stream that fails is told of in its
//! report, which whoever runs it looks at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::runtime::Runtime;

use super::backend::Kind;
use super::copies::{Copies, Counted};
use super::cost::{Clock, Cost, Window};
use super::interrupt::Stop;
use super::subject::Subject;
use crate::config::Settings;
use crate::config::settings::Stream;
use crate::encode::RtspServer;
use crate::pipeline::{Report, Supervisor};
use crate::plugins::{Compiler, Host, HostOptions, InstanceState};
use crate::publish::messages::{Edge, StreamState};
use crate::publish::{PublishSettings, Publisher};
use crate::service::crash::Crashes;
use crate::telemetry::{Distribution, Registry, Value};

/// How often counters are looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How often whole statuses are, in looks.
const STATUS: u32 = 50;
/// A stream that gives no further frame for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon's pipeline.
pub struct Rig {
    settings: Settings,
    supervisor: Supervisor,
    publisher: Option<Publisher>,
    registry: Registry,
    runtime: Runtime,
    model: String,
    passes: u32,
    edges: Vec<Edge>,
}

impl Rig {
    /// Starts it, without streams.
    ///
    /// # Errors
    /// Where the plugin host does not start, or has not a plugin that is wanted.
    pub fn start(subject: &Subject, kind: Kind) -> anyhow::Result<Self> {
        let mut settings = subject.settings.clone();
        settings.accel.lane = kind.lane();
        let registry = Registry::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let publishing = PublishSettings::new(&settings.mqtt, &settings.box_.name, &settings.paths.state)?;
        let publisher = Publisher::start(publishing, &registry, runtime.handle())?;
        let host = Host::new(HostOptions {
            paths: settings.paths.clone(),
            limits: settings.limits.clone(),
            compiler: Compiler::own().context("the own binary cannot be found")?,
            metrics: registry.clone(),
            on_notice: None,
        })?;
        let known: Vec<String> = host.plugins().into_iter().map(|plugin| plugin.name).collect();
        for name in subject.plugins() {
            ensure!(known.contains(name), "--plugin {name}: no such plugin; there are: {}", known.join(", "));
        }
        let crashes = Crashes::without_handler(&settings.paths.state.join("crashes"))?;
        let supervisor = Supervisor::new(
            &settings,
            Arc::new(host),
            publisher.handle(),
            RtspServer::idle().handle(),
            registry.clone(),
            Arc::new(crashes),
            crate::record::RecordHandle::off(),
        );
        let model = subject.model.clone();
        Ok(Self {
            settings,
            supervisor,
            publisher: Some(publisher),
            registry,
            runtime,
            model,
            passes: 0,
            edges: Vec::new(),
        })
    }

    /// Adds streams to those that run, or, with none, stops all.
    pub fn run(&mut self, streams: BTreeMap<String, Stream>) {
        if streams.is_empty() {
            self.settings.streams.clear();
        }
        self.settings.streams.extend(streams);
        self.supervisor.apply(&self.settings);
    }

    /// What each stream says of itself.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, Report> {
        self.supervisor.report()
    }

    /// A counter of a stream.
    #[must_use]
    pub fn counted(&self, name: &str, stream: &str) -> u64 {
        match self.registry.value(name, &[("stream", stream)]) {
            Some(Value::Counter(count)) => count,
            _ => 0,
        }
    }

    /// How long a stream's frames took, from source to end.
    #[must_use]
    pub fn latency(&self, stream: &str) -> Distribution {
        match self.registry.value("stream_latency_seconds", &[("stream", stream)]) {
            Some(Value::Histogram(seen)) => seen,
            _ => Distribution::default(),
        }
    }

    /// Seconds in which the model ran, so far.
    #[must_use]
    pub fn inferring(&self) -> f64 {
        match self.registry.value("infer_seconds", &[("model", &self.model)]) {
            Some(Value::Histogram(seen)) => seen.sum,
            _ => 0.0,
        }
    }

    /// Frames, or windows, that the model has seen so far.
    fn inferred(&self) -> u64 {
        match self.registry.value("infer_frames_total", &[("model", &self.model)]) {
            Some(Value::Counter(count)) => count,
            _ => 0,
        }
    }

    /// What has been copied between host and GPU so far.
    #[must_use]
    pub(super) fn copied(&self) -> Counted {
        Counted::now(&self.registry)
    }

    /// What the stream of the last pass took its pictures in by, inferred with and encoded with.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// One stream plays the video once, as fast as it goes; the cost of its window, how often the model ran, and copies a
    /// frame.
    ///
    /// # Errors
    /// Where the stream or one of its plugins fails, or the user wants to stop.
    pub fn pass(
        &mut self,
        stream: Stream,
        window: Window,
        stop: &Stop,
    ) -> anyhow::Result<(Cost, u64, Copies)> {
        self.passes += 1;
        let name = format!("lane-{}", self.passes);
        self.run([(name.clone(), stream)].into());
        let measured = self.measure(&name, window, stop);
        let mut reports = self.report();
        let healthy = reports.values().try_for_each(healthy);
        self.edges = reports.remove(&name).map(|report| report.status.edges).unwrap_or_default();
        self.run(BTreeMap::new());
        healthy.and(measured)
    }

    fn measure(&self, name: &str, window: Window, stop: &Stop) -> anyhow::Result<(Cost, u64, Copies)> {
        let frames = self.registry.counter("stream_frames_total", &[("stream", name)]);
        let (from, inferred, clock) = self.reach(name, || frames.get(), window.from, stop)?;
        let copied = self.copied();
        let (to, inferred_after, _) = self.reach(name, || frames.get(), window.to.max(from + 1), stop)?;
        let cost = clock.stop(to - from);
        Ok((cost, inferred_after - inferred, self.copied().since(&copied, cost.frames)))
    }

    /// Waits until the stream has done so many frames; how many they are then, and what the clocks say.
    fn reach(
        &self,
        name: &str,
        frames: impl Fn() -> u64,
        wanted: u64,
        stop: &Stop,
    ) -> anyhow::Result<(u64, u64, Clock)> {
        let (mut looks, mut last, begun) = (0, (0, Duration::ZERO), Clock::start());
        loop {
            let done = frames();
            if done >= wanted {
                return Ok((done, self.inferred(), Clock::start()));
            }
            if done > last.0 {
                last = (done, begun.elapsed());
            }
            ensure!(begun.elapsed() < last.1 + PATIENCE, "no frame within {} s", PATIENCE.as_secs());
            looks += 1;
            if looks % STATUS == 0 {
                let report = self.report().remove(name).context("the stream is gone")?;
                healthy(&report)?;
                // It may have ended between the two looks.
                let over = report.status.state == StreamState::Ended && frames() < wanted;
                ensure!(!over, "the video ended after {} frames; {wanted} were expected", frames());
            }
            stop.wait(LOOK)?;
        }
    }
}

/// Whether a stream, and all that runs on it, does what it should.
///
/// # Errors
/// What it says of its failure.
pub fn healthy(report: &Report) -> anyhow::Result<()> {
    if matches!(report.status.state, StreamState::Failed | StreamState::Down) {
        bail!("{}", report.status.error.as_deref().unwrap_or("the stream failed and does not say why"));
    }
    for plugin in &report.plugins {
        let fine = [InstanceState::Running, InstanceState::Starting, InstanceState::Stopped];
        ensure!(
            fine.contains(&plugin.state),
            "plugin {}: {}: {}",
            plugin.entry,
            plugin.state,
            plugin.message
        );
    }
    Ok(())
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.supervisor.stop();
        if let Some(publisher) = self.publisher.take() {
            // There is no broker to wait for.
            self.runtime.block_on(publisher.stop(Duration::ZERO));
        }
    }
}
