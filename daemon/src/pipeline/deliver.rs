//! A finished frame on its last stretch: plugins, publisher, outputs.
//!
//! In: frames in order, with what the models found. Out: events, states, objects; pictures for the outputs. Owned by
//! the worker. A plugin that fails is the plugin host's to contain; an output that is away retries by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::inflight::Finished;
use super::lane::{Lane, LaneError};
use super::late::Late;
use super::model::Model;
use super::outputs::Outputs;
use super::recording::Recording;
use super::shot::Shot;
use super::status::SharedStatus;
use super::thumbnail::{self, Seen};
use super::trace::Trace;
use super::trace::lines::{EntryLine, Header};
use super::worker::size_of;
use crate::config::settings::{ModelUse, PluginUse, Sample, Stream};
use crate::flow::{Change, Frame, FrameMeta, Picture, Recycle, Size, StreamInfo};
use crate::plugins::{Host, PluginEvent, RowOutput, Signal, StreamContext, StreamModel, StreamPlugins};
use crate::publish::PublishHandle;
use crate::publish::messages::{EventRecord, Labels, ObjectsRecord, Timestamp};
use serde_json::Value;

use crate::telemetry::progress::{Pulse, Work};
use crate::telemetry::{Counter, Histogram};

/// Frames over which the rate is measured.
const RATE_FRAMES: usize = 50;

/// Handles for what delivery counts.
pub(super) struct Meters {
    pub(super) frames: Counter,
    pub(super) plugins: Histogram,
    pub(super) outputs: Histogram,
    /// From the source's clock to the end of delivery.
    pub(super) latency: Histogram,
    /// What the source left out; counted by the reader or the scene.
    pub(super) left_out: Counter,
    /// What the worker has in hand.
    pub(super) pulse: Pulse,
}

/// What is needed to build a stream's row of plugins, once the source's size and rate are known.
pub(super) struct PluginSetup {
    host: Arc<Host>,
    context: StreamContext,
    uses: BTreeMap<String, PluginUse>,
}

impl PluginSetup {
    pub(super) fn new<T: Recycle>(
        stream: &Arc<str>,
        settings: &Stream,
        models: &[(Arc<Model<T>>, ModelUse)],
        host: Arc<Host>,
    ) -> Self {
        let models = models
            .iter()
            .map(|(model, using)| StreamModel {
                name: model.name.clone(),
                task: model.feed.manifest.task,
                labels: model.dir.labels.clone(),
                rate: match (model.feed.manifest.window, using.sample) {
                    (Some(window), _) => window.fps / window.hop as f64,
                    (None, Some(Sample::Fps(rate))) => rate,
                    (None, _) => 0.0,
                },
            })
            .collect();
        let context = StreamContext {
            stream: stream.to_string(),
            models,
            size: Size::default(),
            rate: 0.0,
            zones: settings.zones.clone(),
        };
        Self { host, context, uses: settings.plugins.clone() }
    }

    /// The row's entries in order, for a trace.
    fn entries(&self) -> Vec<EntryLine> {
        let mut uses: Vec<_> = self.uses.iter().filter(|(_, used)| used.enabled).collect();
        uses.sort_by_key(|(name, used)| (used.order, (*name).clone()));
        uses.into_iter()
            .map(|(entry, used)| EntryLine {
                entry: entry.clone(),
                plugin: used.plugin(entry).to_owned(),
                config: used.config.clone(),
            })
            .collect()
    }
}

/// The last stretch of one stream.
pub(super) struct Delivery<L: Lane> {
    stream: Arc<str>,
    setup: PluginSetup,
    /// Built when the first frame is about to come.
    plugins: Option<StreamPlugins>,
    publish: PublishHandle,
    labels: Vec<Labels>,
    outputs: Outputs<L>,
    thumbnail: Shot<L>,
    /// Who waits for the next frame as a picture.
    watcher: Option<SyncSender<Seen>>,
    recording: Option<Recording<L>>,
    trace: Option<Trace>,
    meters: Meters,
    last: Option<FrameMeta>,
    times: VecDeque<Instant>,
}

impl<L: Lane> Delivery<L> {
    pub(super) fn new(
        stream: Arc<str>,
        setup: PluginSetup,
        publish: PublishHandle,
        labels: Vec<Labels>,
        outputs: Outputs<L>,
        trace: Option<Trace>,
        meters: Meters,
    ) -> Self {
        Self {
            stream,
            setup,
            plugins: None,
            publish,
            labels,
            outputs,
            thumbnail: Shot::new("thumbnail", thumbnail::WIDTH),
            watcher: None,
            recording: None,
            trace,
            meters,
            last: None,
            times: VecDeque::new(),
        }
    }

    /// With its incidents recorded.
    pub(super) fn recorded(self, recording: Recording<L>) -> Self {
        Self { recording: Some(recording), ..self }
    }

    pub(super) fn publisher(&self) -> &PublishHandle {
        &self.publish
    }

    /// Takes a frame through plugins, publisher and outputs; clip scores that are due go with it.
    ///
    /// # Errors
    /// Where the lane cannot render it; everything else is done.
    pub(super) fn deliver(
        &mut self,
        lane: &L,
        finished: Finished<L::Pixels>,
        late: &mut Late,
    ) -> Result<(), LaneError> {
        let Finished { frame, mut runs, objects, mut scores } = finished;
        self.meters.pulse.begin(Work::Plugins);
        late.take(frame.meta.pts, &mut runs, &mut scores);
        let started = Instant::now();
        let found = self.trace.is_some().then(|| objects.clone());
        let row = match &mut self.plugins {
            Some(plugins) => plugins.process(&frame.meta, &runs, objects, &scores),
            None => RowOutput { objects, ..RowOutput::default() },
        };
        self.meters.plugins.record_duration(started.elapsed());
        if let (Some(trace), Some(found)) = (&mut self.trace, &found) {
            self.meters.pulse.begin(Work::Trace);
            trace.frame(&frame.meta, &runs, found, &scores, &row);
            if trace.full() {
                trace.turn(&self.plugins.as_mut().map(StreamPlugins::tape_anew).unwrap_or_default());
            }
        }
        let ran: Vec<u32> = runs.iter().map(|run| run.model).collect();
        self.publish.objects(ObjectsRecord {
            frame: &frame.meta,
            objects: &row.objects,
            models: &self.labels,
            runs: &ran,
        });
        self.last = Some(frame.meta.clone());
        self.meters.pulse.begin(Work::Outputs);
        self.outputs.take(&row, frame.meta.pts);
        let recorded = match &mut self.recording {
            Some(recording) => {
                recording.picture(lane, &frame, &row, || self.outputs.overlay(&row, &self.labels))
            }
            None => Ok(None),
        };
        self.announce(&row, recorded.as_ref().ok().and_then(Option::as_ref));
        let started = Instant::now();
        let rendered = recorded
            .and_then(|_| self.outputs.push(lane, &frame, size_of(&frame), &row, &self.labels))
            .and_then(|()| self.show_frame(lane, &frame, &row));
        self.meters.outputs.record_duration(started.elapsed());
        self.meters.frames.inc();
        let now = Timestamp::now().0;
        self.meters.latency.record(now.saturating_sub(frame.meta.captured) as f64 / 1e6);
        if self.times.len() == RATE_FRAMES {
            self.times.pop_front();
        }
        self.times.push_back(Instant::now());
        rendered
    }

    /// The next frame goes there, as a picture. One asker at a time: who asked before has given up.
    pub(super) fn show(&mut self, watcher: SyncSender<Seen>) {
        self.watcher = Some(watcher);
    }

    fn show_frame(&mut self, lane: &L, frame: &Frame<L::Pixels>, row: &RowOutput) -> Result<(), LaneError> {
        let Some(watcher) = self.watcher.take() else { return Ok(()) };
        let overlay = self.outputs.overlay_with_views(row, &self.labels);
        if let Some(picture) = self.thumbnail.take(lane, &frame.pixels, size_of(frame), &overlay)? {
            // The asker may have given up waiting.
            let _ = watcher.try_send(Seen { meta: frame.meta.clone(), picture });
        }
        Ok(())
    }

    /// Tells the plugins, and publishes what they answer.
    pub(super) fn signal(&mut self, signal: Signal) {
        let now = self.now();
        let Some(plugins) = &mut self.plugins else { return };
        self.meters.pulse.begin(Work::Plugins);
        let row = plugins.signal(now, signal);
        self.write_down(&row, Work::Status);
        self.announce(&row, None);
    }

    /// What happened beside frames goes to the trace; then the worker goes on with something else.
    fn write_down(&mut self, row: &RowOutput, then: Work) {
        if let Some(trace) = &mut self.trace {
            self.meters.pulse.begin(Work::Trace);
            trace.steps(&row.steps);
        }
        self.meters.pulse.begin(then);
    }

    /// The source's first frame is about to come, for the first time or again.
    pub(super) fn started(&mut self, info: &StreamInfo) {
        self.outputs.started(info);
        if let Some(recording) = &mut self.recording {
            recording.started(info);
        }
        if self.plugins.is_none() {
            let mut context = self.setup.context.clone();
            context.size = info.size;
            context.rate =
                if info.rate.1 > 0 { f64::from(info.rate.0) / f64::from(info.rate.1) } else { 0.0 };
            let row = match &mut self.trace {
                Some(trace) => {
                    self.meters.pulse.begin(Work::Trace);
                    trace.begin(Header::new(&context, self.setup.entries()));
                    self.meters.pulse.begin(Work::SetUp);
                    StreamPlugins::recorded(&self.setup.host, &context, &self.setup.uses)
                }
                None => StreamPlugins::new(&self.setup.host, &context, &self.setup.uses),
            };
            match row {
                Ok(plugins) => self.plugins = Some(plugins),
                Err(error) => {
                    tracing::error!(stream = %self.stream, %error, "the stream runs without plugins")
                }
            }
        }
    }

    /// Frames have another size from here on.
    pub(super) fn resized(&mut self, size: Size) {
        self.outputs.resized(size);
    }

    /// A command for a plugin's entry.
    pub(super) fn command(&mut self, entry: &str, name: &str, arguments: &Value) -> Result<Value, String> {
        match &mut self.plugins {
            Some(plugins) => plugins.command(entry, name, arguments).map_err(|error| error.to_string()),
            None => Err("the stream has no frame yet, so its plugins have not started".into()),
        }
    }

    /// Brings the status up to date.
    pub(super) fn refresh(&mut self, lane: &L, status: &SharedStatus) {
        let fps = match (self.times.front(), self.times.back()) {
            (Some(first), Some(last)) if self.times.len() > 1 && last.elapsed().as_secs_f64() < 2.0 => {
                (self.times.len() - 1) as f64 / (*last - *first).as_secs_f64().max(1e-6)
            }
            _ => 0.0,
        };
        let plugins = self.plugins.as_ref().map(StreamPlugins::status).unwrap_or_default();
        self.outputs.meter();
        let outputs = self.outputs.status();
        self.thumbnail.rest();
        let mut edges = self.outputs.edges(lane);
        edges.extend(self.thumbnail.edge(lane));
        let mut no_clips = None;
        if let Some(recording) = &mut self.recording {
            recording.rest();
            edges.extend(recording.edge(lane));
            no_clips = recording.no_clips().cloned();
        }
        let (encoded, not_encoded) = self.outputs.counts();
        let problem = self.trace.as_ref().and_then(Trace::problem).map(str::to_owned);
        status.update(|report| {
            // Whole numbers: a retained message that changes with every tick would drown the broker.
            report.status.fps = fps.round() as f32;
            report.frames = self.meters.frames.get();
            report.dropped = self.meters.left_out.get();
            (report.encoded, report.not_encoded) = (encoded, not_encoded);
            report.plugins = plugins;
            if no_clips.is_some() && report.no_clips != no_clips {
                tracing::info!(stream = %self.stream, why = no_clips, "no clips are recorded of this stream");
            }
            report.no_clips = no_clips;
            report.status.outputs = outputs;
            if let Some(problem) = &problem
                && !report.status.warnings.contains(problem)
            {
                report.status.warnings.push(problem.clone());
            }
            report.status.edges.retain(|edge| !edge.name.starts_with("encode "));
            report.status.edges.extend(edges);
        });
        status.publish(&self.stream, &self.publish);
    }

    /// The stream stops: plugins are told, open incidents end, outputs are finalised.
    pub(super) fn stop(mut self) {
        if let Some(mut plugins) = self.plugins.take() {
            let row = plugins.stop();
            self.write_down(&row, Work::Stop);
            self.announce(&row, None);
        }
        if let Some(recording) = &self.recording {
            recording.stop();
        }
        self.outputs.stop();
    }

    /// Stream time of the last frame, nanoseconds.
    fn now(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.pts)
    }

    /// `picture`: of the frame, where an event wants one.
    fn announce(&mut self, row: &RowOutput, picture: Option<&Picture>) {
        let now = self.now();
        for event in &row.events {
            let (frame, captured) = match &self.last {
                Some(last) => (last.index, last.captured),
                // Before the first frame: what a crash left open is ended.
                None => (0, Timestamp::now().0),
            };
            let (incident, kind) = (event.event.incident, event.event.kind.as_str());
            // Who follows an incident in the log wants both ends of it; what happens between them is on MQTT.
            if event.event.change != Change::Update {
                let (stream, plugin, entry) = (&*self.stream, event.plugin.as_str(), event.entry.as_str());
                let (change, severity) = (event.event.change, event.event.severity);
                tracing::info!(stream, plugin, entry, incident, ?change, ?severity, "{kind}");
            }
            let mut record = record(&self.stream, event, frame, now, captured);
            if let Some(recording) = &mut self.recording {
                (record.snapshot, record.clip) = recording.event(&event.event, now, picture);
            }
            self.publish.event(record);
        }
        for (entry, state) in &row.states {
            self.publish.state(&self.stream, entry, state.clone());
        }
    }
}

/// An event as the publisher wants it.
#[must_use]
pub fn record(stream: &str, event: &PluginEvent, frame: u64, pts: u64, captured: u64) -> EventRecord {
    EventRecord {
        stream: Arc::from(stream),
        entry: Arc::from(event.entry.as_str()),
        plugin: Arc::from(event.plugin.as_str()),
        plugin_version: Arc::from(event.version.as_str()),
        frame,
        pts,
        captured,
        event: event.event.clone(),
        reason: None,
        snapshot: None,
        clip: None,
    }
}
