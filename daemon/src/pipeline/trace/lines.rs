//! The lines of a trace, `watchpost.trace/2`: what [`super::Trace`] writes and a replay reads.
//!
//! In: what walks the corridor, and the steps of a row of plugins. Out: one JSON object a line, and back. Numbers are exact
//! both ways. A line says by its keys what it is: `schema` (the first one), `started`, `gone`, `signal`, `command`, or a
//! frame. Nothing of a stream's source is in here: an address may hold a password.

mod convert;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::manifest::Task;
use crate::flow::{Change, Severity};
use crate::plugins::Signal;

/// What the first line calls itself.
pub const SCHEMA: &str = "watchpost.trace/2";

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// The stream.
    pub stream: String,
    /// Its models, in the order by which objects, runs and scores name them.
    pub models: Vec<ModelLine>,
    /// Its zones: corners in source pixels.
    pub zones: BTreeMap<String, Vec<[f32; 2]>>,
    /// Width and height of its frames.
    pub size: [u32; 2],
    /// Nominal frames a second; 0 where unknown.
    pub rate: f64,
    /// Its row of plugins, in order.
    pub entries: Vec<EntryLine>,
}

/// A model of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelLine {
    /// Its name in the configuration.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// Its labels.
    pub labels: Vec<String>,
    /// How often a second it runs; 0: on every frame.
    pub rate: f64,
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryLine {
    /// Its name.
    pub entry: String,
    /// The plugin it names.
    pub plugin: String,
    /// Its configuration.
    pub config: Map<String, Value>,
}

/// Any line but the first.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A frame.
    Frame(Box<FrameLine>),
    /// Anything else.
    Step(StepLine),
}

/// What happens beside frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepLine {
    /// An instance took its entry's seat.
    Started(StartedLine),
    /// It is gone.
    Gone {
        /// The entry.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The instances were told of something.
    Signal {
        /// Stream time, nanoseconds.
        now: u64,
        /// What.
        what: Signal,
        /// What each gave.
        entries: Vec<GaveLine>,
    },
    /// One was given a command.
    Command(CommandLine),
}

/// How an instance was set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedLine {
    /// The entry.
    pub entry: String,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub hash: String,
    /// Stream time, nanoseconds.
    pub now: u64,
    /// The context, the very text that `configure` got.
    pub context: String,
    /// The configuration, the very text that `configure` got.
    pub config: String,
    /// The state that it was handed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BlobLine>,
    /// What it had said of its states, where the trace begins in its midst.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<String, Value>,
}

/// A plugin's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlobLine {
    /// Version of its layout.
    pub version: u32,
    /// Its bytes, hexadecimal.
    pub hex: String,
}

/// A command, and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The entry.
    pub entry: String,
    /// Stream time, nanoseconds.
    pub now: u64,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
    /// Ids that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u64>,
    /// The answer.
    pub answer: Result<Value, String>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameLine {
    /// Its index.
    pub frame: u64,
    /// Stream time, nanoseconds.
    pub pts: u64,
    /// Wall clock, microseconds since 1970.
    pub captured: u64,
    /// Width and height.
    pub size: [u32; 2],
    /// Whether a scene cut lies before it.
    pub cut: bool,
    /// Nanoseconds missing before it.
    pub gap: u64,
    /// Mean luma change.
    pub motion: f32,
    /// Model, begin and end of each run.
    pub runs: Vec<(u32, u64, u64)>,
    /// What the models found.
    pub found: Vec<ObjectLine>,
    /// Scores of classifiers and clip models.
    pub scores: Vec<ScoreLine>,
    /// What the last plugin left.
    pub objects: Vec<ObjectLine>,
    /// What the host let through of the plugins' events.
    pub events: Vec<EventLine>,
    /// Views, `ENTRY/CAMERA`.
    pub views: Vec<ViewLine>,
    /// Values that changed.
    pub states: Vec<StateLine>,
    /// What each entry's plugin gave; entries that did not run are not here.
    #[serde(default)]
    pub entries: Vec<GaveLine>,
}

/// What an entry's plugin gave in one call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GaveLine {
    /// The entry.
    pub entry: String,
    /// Ids that `new-id` gave it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u64>,
    /// The objects, where it changed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Columns>,
    /// Events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventLine>,
    /// Views.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewLine>,
    /// States.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateLine>,
    /// Shapes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<ShapeLine>,
    /// What the host dropped at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// It answered with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The host ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Objects as columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// Indices of models.
    pub models: Vec<u32>,
    /// Indices of labels.
    pub classes: Vec<u32>,
    /// Confidences.
    pub scores: Vec<f32>,
    /// x, y, width, height in source pixels.
    pub bounds: Vec<[f32; 4]>,
    /// Tracks; 0: none.
    pub tracks: Vec<u64>,
}

/// An object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObjectLine {
    /// Index of the model.
    pub model: u32,
    /// Index of the label.
    pub class: u32,
    /// Confidence.
    pub score: f32,
    /// x, y, width, height in source pixels.
    pub bounds: [f32; 4],
    /// Track; 0: none.
    pub track: u64,
}

/// A score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreLine {
    /// Index of the model.
    pub model: u32,
    /// Index of the label.
    pub class: u32,
    /// 0 to 1.
    pub value: f32,
    /// First frame's pts.
    pub begin: u64,
    /// Last frame's pts.
    pub end: u64,
    /// Index of the object it is about.
    pub object: Option<u32>,
    /// The part of the frame that the model saw.
    pub region: Option<[f32; 4]>,
}

/// A step of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// The entry; not where the line around it names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The incident.
    pub incident: u64,
    /// Its kind.
    pub kind: String,
    /// Which step.
    pub change: Change,
    /// How grave.
    pub severity: Severity,
    /// Tracks that take part.
    pub tracks: Vec<u64>,
    /// Where.
    pub region: Option<[f32; 4]>,
    /// Confidence.
    pub score: f32,
    /// The plugin's own data.
    pub data: Map<String, Value>,
}

/// Where a virtual camera looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewLine {
    /// The camera.
    pub camera: String,
    /// The frame.
    pub frame: u64,
    /// x, y, width, height in source pixels.
    pub bounds: [f32; 4],
}

/// A retained value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateLine {
    /// The entry; not where the line around it names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapeLine {
    /// `polyline`, `polygon`, `rectangle`, `text`.
    pub kind: String,
    /// Points in source pixels.
    pub points: Vec<(f32, f32)>,
    /// The text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// 0xRRGGBB.
    pub color: u32,
}
