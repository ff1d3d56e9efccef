//! Builds one stream's worker from its settings: source, models, plugins, outputs.
//!
//! In: the settings and what the streams share. Out: a worker and the reader of its source. Errors say which part
//! could not be built; what was built before is dropped, and with it stopped.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::blame;
use super::deliver::{self, Delivery, PluginSetup};
use super::inbox::Message;
use super::lane::{Lane, LaneError};
use super::models::StreamModels;
use super::outputs::Outputs;
use super::pool::Pool;
use super::reader::{AnySource, Credits, Reader};
use super::recording::Recording;
use super::scene_feed::SceneFeed;
use super::status::SharedStatus;
use super::supervisor::Shared;
use super::trace::Trace;
use super::worker::{self, Worker};
use crate::config::manifest::Domain;
use crate::config::settings::Stream;
use crate::flow::Packets;
use crate::ingest::{Source, SourceSpec};
use crate::publish::messages::Labels;
use crate::scene::SceneSpec;
use crate::service::crash::Verdict;
use crate::telemetry::progress::Pulse;

/// Frames between reader and outputs for each that may wait for models.
const CREDITS: usize = 4;

/// Why a stream cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error(transparent)]
    Model(#[from] super::pool::PoolError),
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Source(#[from] crate::ingest::IngestError),
    #[error(transparent)]
    Scene(#[from] crate::scene::SpecError),
    #[error("no thread for its source: {0}")]
    Thread(#[from] std::io::Error),
}

impl BuildError {
    /// What is waited for, where that is all that is wrong.
    pub(super) fn not_yet(&self) -> Option<String> {
        match self {
            Self::Model(super::pool::PoolError::NotYet { why, .. }) => Some(why.to_string()),
            _ => None,
        }
    }
}

/// Builds a stream's worker on this lane, with the models as this lane has them.
#[allow(clippy::too_many_arguments)]
pub(super) fn build<L: Lane>(
    lane: L,
    pool: &Pool<L::Tensor>,
    name: &Arc<str>,
    settings: &Stream,
    shared: &Shared,
    status: &SharedStatus,
    pulse: &Pulse,
    inbox: Sender<Message>,
) -> Result<(Worker<L>, Reader), BuildError> {
    let mut models = Vec::new();
    for (model, using) in &settings.models {
        models.push((pool.get(model)?, using.clone()));
    }
    let scene = settings.source.starts_with("scene:");
    let mut warnings = Vec::new();
    for (model, _) in &models {
        if model.dir.manifest.domain == Domain::Rendered && !scene {
            let warning = format!(
                "model {} knows only rendered scenes; on this source its results mean little: use a model trained on real video",
                model.name
            );
            tracing::warn!(stream = %name, model = %model.name, warning);
            warnings.push(warning);
        }
    }
    let address = status.get().status.source;
    if let Verdict::Fit(crashes @ 1..) = shared.crashes.verdict(name, &address) {
        warnings.push(blame::warning(crashes));
    }
    status.update(|report| report.status.warnings.clone_from(&warnings));

    let labels: Vec<Labels> = models
        .iter()
        .map(|(model, _)| Labels {
            model: Arc::from(model.name.as_str()),
            labels: Arc::from(model.dir.labels.as_slice()),
        })
        .collect();
    let plugins = PluginSetup::new(name, settings, &models, Arc::clone(&shared.host));
    let outputs = Outputs::new(Arc::clone(name), &settings.outputs, shared.server.clone(), &shared.registry);
    let labelled = [(crate::telemetry::fields::STREAM, &**name)];
    let registry = &shared.registry;
    // Of a rendered scene they never were there; of any other source they came and were let go.
    let left_out = if scene { "stream_frames_left_out_total" } else { "stream_frames_dropped_total" };
    let left_out = registry.counter(left_out, &labelled);
    let trace = settings.recording.clone().map(|recording| Trace::new(recording, name));
    let delivery = Delivery::new(
        Arc::clone(name),
        plugins,
        shared.publish.clone(),
        labels,
        outputs,
        trace,
        deliver::Meters {
            frames: registry.counter("stream_frames_total", &labelled),
            plugins: registry.histogram("stream_plugins_seconds", &labelled),
            outputs: registry.histogram("stream_outputs_seconds", &labelled),
            latency: registry.histogram("stream_latency_seconds", &labelled),
            left_out: left_out.clone(),
            pulse: pulse.clone(),
        },
    );
    let stream_models = StreamModels::new(&lane, models, inbox.clone())?;

    let (source, packets) = if scene {
        let spec = SceneSpec::parse(&settings.source)?;
        let feed = SceneFeed::new(name, spec, left_out.clone());
        (AnySource::Scene(Box::new(feed)), Err("a rendered scene has no packets to keep".to_owned()))
    } else {
        let watch = shared.crashes.watch(name, &address);
        let mut spec = SourceSpec { watch, ..SourceSpec::from_settings(name, settings) };
        lane.decode_here(&mut spec, settings.in_flight * CREDITS);
        let source = Source::start(spec)?;
        let packets: Arc<dyn Packets> = Arc::new(source.ring());
        (AnySource::Ingest(Box::new(source)), unclipped(settings).map_or(Ok(packets), Err))
    };
    let delivery = delivery.recorded(Recording::new(Arc::clone(name), shared.record.clone(), packets));
    // A live stream's frames go on to plugins and outputs while models lag: they need room behind those in flight.
    let credits = Credits::new(settings.in_flight * CREDITS);
    let reader = Reader::start(name, source, inbox, Arc::clone(&credits), left_out, registry.progress())?;
    let worker = Worker {
        name: Arc::clone(name),
        models: stream_models,
        masks: (!settings.masks.is_empty())
            .then(|| lane.masks(settings.masks.values().map(|mask| mask.polygon.clone()).collect())),
        delivery,
        credits,
        most_in_flight: settings.in_flight,
        status: status.clone(),
        meters: worker::Meters {
            skipped: registry.counter("stream_inference_skipped_total", &labelled),
            preprocess: registry.histogram("stream_preprocess_seconds", &labelled),
            failures: registry.counter("stream_model_failures_total", &labelled),
            in_flight: registry.gauge("stream_in_flight_frames", &labelled),
            pulse: pulse.clone(),
        },
        live: scene,
        started: false,
        last: 0,
        lane,
    };
    Ok((worker, reader))
}

/// Why no clip may be made of a stream's packets.
fn unclipped(settings: &Stream) -> Option<String> {
    if !settings.masks.is_empty() {
        return Some("it has masks, and no mask covers the source's own packets".into());
    }
    (settings.ring_seconds <= 0.0).then(|| "its packets are not kept (ring_seconds = 0)".into())
}
