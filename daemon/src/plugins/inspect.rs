//! One component, looked at outside a daemon: everything that the host asks of it, and a trial run.
//!
//! In: a file and a configuration. Out: an [`Inspection`], or the error with which the host would refuse the
//! file. The trial's frames are made up: people who walk through a scene, a detector that runs on every third
//! frame, a clip model that doubts. What the plugin decides about them means nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::{StreamContext, StreamModel};
use super::error::Error;
use super::guest::Names;
use super::host::{HostOptions, shared};
use super::ids::Ids;
use super::instance::{Given, Instance};
use super::loaded::{self, Loaded};
use super::row::Signal;
use super::shared::Shared;
use crate::config::manifest::Task;
use crate::config::settings::Polygon;
use crate::flow::{FrameMeta, Objects, Rect, Run, Score, Size};
use crate::telemetry::Histogram;

/// What was found out about a component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence of its own.
    pub summary: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub hash: String,
    /// Seconds that compiling took.
    pub compile_seconds: f64,
    /// Interfaces of the contract that it exports.
    pub interfaces: Vec<String>,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Event kinds it may emit.
    pub events: Vec<String>,
    /// States it may publish.
    pub states: Vec<String>,
    /// Its virtual cameras.
    pub cameras: Vec<String>,
    /// Commands it takes.
    pub commands: Vec<String>,
    /// JSON Schema of its configuration.
    pub config_schema: Value,
    /// How it did on made-up frames.
    pub trial: Trial,
}

/// How a plugin did on made-up frames.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Trial {
    /// Frames that it saw.
    pub frames: u64,
    /// Objects in each.
    pub objects: usize,
    /// Median time of a call, seconds.
    pub p50_seconds: f64,
    /// 99th percentile, seconds.
    pub p99_seconds: f64,
    /// Longest, seconds.
    pub max_seconds: f64,
    /// Linear memory at the end, bytes.
    pub memory: u64,
    /// Size of its state at the end, bytes.
    pub state_bytes: usize,
    /// Events it gave.
    pub events: usize,
    /// Views it gave.
    pub views: usize,
    /// States it gave.
    pub states: usize,
    /// Shapes it gave.
    pub shapes: usize,
    /// Why it refuses its configuration.
    pub refused: Option<String>,
    /// Why the host ended it.
    pub failure: Option<String>,
    /// What it gave wrongly, or answered with an error; at most ten of them.
    pub doubts: Vec<String>,
}

/// Looks at a component: reads, compiles, checks it as the host would, and tries it on `frames` frames.
///
/// # Errors
/// Where the host would refuse the file.
pub fn inspect(
    options: HostOptions,
    file: &Path,
    config: Map<String, Value>,
    frames: u64,
) -> Result<Inspection, Error> {
    let shared = shared(options, Ids::passing())?;
    let bytes = loaded::read(file, shared.limits.get().0.file_mib)?;
    let begun = Instant::now();
    let loaded = Arc::new(Loaded::new(&shared, file, &bytes)?);
    let compile_seconds = begun.elapsed().as_secs_f64();
    let descriptor = &loaded.descriptor;
    let types = loaded.pre.component().component_type();
    let engine = &shared.engine.wasm;
    let trial = trial(&shared, &loaded, &Value::Object(config), frames);
    Ok(Inspection {
        name: descriptor.name.clone(),
        version: descriptor.version.clone(),
        summary: descriptor.summary.clone(),
        bytes: bytes.len() as u64,
        hash: loaded.hash.clone(),
        compile_seconds,
        interfaces: types.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        imports: types.imports(engine).map(|(name, _)| name.to_owned()).collect(),
        events: descriptor.events.clone(),
        states: descriptor.states.clone(),
        cameras: descriptor.cameras.iter().map(|(name, _)| name.clone()).collect(),
        commands: descriptor.commands.clone(),
        config_schema: descriptor.schema.clone(),
        trial,
    })
}

fn trial(shared: &Shared, loaded: &Arc<Loaded>, config: &Value, frames: u64) -> Trial {
    let mut trial = Trial::default();
    if let Err((key, reason)) = loaded.descriptor.accepts(config) {
        trial.refused = Some(if key.is_empty() { reason } else { format!("{key}: {reason}") });
        return trial;
    }
    if let Err(failure) = attempt(shared, loaded, config, frames, &mut trial) {
        trial.failure = Some(failure.to_string());
    }
    trial
}

fn attempt(
    shared: &Shared,
    loaded: &Arc<Loaded>,
    config: &Value,
    frames: u64,
    trial: &mut Trial,
) -> Result<(), super::Failure> {
    let context = scene();
    let labels: Arc<[usize]> = context.models.iter().map(|model| model.labels.len()).collect();
    let make = || {
        let plugin = loaded.descriptor.name.as_str().into();
        let names = Names { stream: "check".into(), entry: "check".into(), plugin };
        let mut made = Instance::new(shared, loaded, names, Arc::clone(&labels))?;
        let answer = made.configure(&context.json("check", context.size), &config.to_string())?;
        Ok((made, answer))
    };
    let (mut instance, answer) = make()?;
    if let Err(reason) = answer {
        trial.refused = Some(reason);
        return Ok(());
    }
    let times = Histogram::new();
    for index in 0..frames {
        let (meta, runs, objects, scores) = frame(index);
        trial.objects = trial.objects.max(objects.len());
        let begun = Instant::now();
        let given = instance.process(&meta, &runs, &objects, &scores)?;
        times.record_duration(begun.elapsed());
        trial.frames += 1;
        trial.take(given);
        if index % 25 == 24 {
            let given = instance.signal(meta.pts, index, Signal::Tick)?;
            trial.take(given);
        }
    }
    let seen = times.distribution();
    (trial.p50_seconds, trial.p99_seconds, trial.max_seconds) = (seen.p50, seen.p99, seen.max);
    trial.memory = instance.memory() as u64;
    let now = frames * 40_000_000;
    if let Some(state) = instance.snapshot()? {
        trial.state_bytes = state.bytes.len();
        let (mut next, _) = make()?;
        if let Err(reason) = next.restore(now, &state)? {
            trial.doubt(format!("it does not take its own state: {reason}"));
        }
    }
    let given = instance.signal(now, frames.saturating_sub(1), Signal::End)?;
    trial.take(given);
    Ok(())
}

impl Trial {
    fn take(&mut self, given: Result<Given, String>) {
        match given {
            Ok(Given { output, dropped }) => {
                self.events += output.events.len();
                self.views += output.views.len();
                self.states += output.states.len();
                self.shapes += output.shapes.len();
                dropped.into_iter().for_each(|reason| self.doubt(format!("it gave {reason}")));
            }
            Err(reason) => self.doubt(format!("a call failed: {reason}")),
        }
    }

    fn doubt(&mut self, doubt: String) {
        if self.doubts.len() < 10 && !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }
}

/// A stream with a detector and a clip model, and a zone in the middle called "zone".
fn scene() -> StreamContext {
    let model = |name: &str, task, labels: [&str; 2], rate| StreamModel {
        name: name.into(),
        task,
        labels: labels.map(String::from).to_vec(),
        rate,
    };
    let zone = Polygon { polygon: vec![[300.0, 100.0], [900.0, 100.0], [900.0, 700.0], [300.0, 700.0]] };
    StreamContext {
        stream: "check".into(),
        models: vec![
            model("people", Task::Detect, ["person", "ball"], 25.0 / 3.0),
            model("violence", Task::Clip, ["calm", "fight"], 2.0),
        ],
        size: Size::new(1280, 720),
        rate: 25.0,
        zones: [("zone".to_owned(), zone)].into(),
    }
}

fn frame(index: u64) -> (FrameMeta, Vec<Run>, Objects, Vec<Score>) {
    let pts = index * 40_000_000;
    let meta = FrameMeta {
        stream: "check".into(),
        index,
        pts,
        captured: 1_700_000_000_000_000 + index * 40_000,
        width: 1280,
        height: 720,
        cut: index == 120,
        motion: 0.02,
        gap: 0,
    };
    let (mut runs, mut objects, mut scores) = (Vec::new(), Objects::default(), Vec::new());
    if index.is_multiple_of(3) {
        runs.push(Run { model: 0, begin: pts, end: pts });
        for person in 0..20u8 {
            let turn = index as f32 * 0.02 + f32::from(person);
            let (x, y) = (600.0 + 550.0 * turn.sin(), 300.0 + 120.0 * (turn * 0.7).cos());
            let score = 0.35 + 0.6 * (turn * 3.0).sin().abs();
            objects.push(0, u32::from(person == 19), score, Rect::new(x, y, 50.0, 140.0));
            if let Some(track) = objects.tracks.last_mut() {
                *track = u64::from(person) + 1;
            }
        }
    }
    if index.is_multiple_of(12) {
        let begin = pts.saturating_sub(2_000_000_000);
        runs.push(Run { model: 1, begin, end: pts });
        let value = 0.5 + 0.5 * (index as f32 * 0.05).sin();
        scores.push(Score { model: 1, class: 1, value, begin, end: pts, object: None, region: None });
    }
    (meta, runs, objects, scores)
}
