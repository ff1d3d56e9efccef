//! The retained statuses: of the box, of a stream, of a plugin.
//!
//! In: what `app`, the supervisor and the plugin host know. Out: messages that are published when they
//! change. Plain data; nothing fails. Put no credentials into `source` or `error`: addresses are written
//! without user and password.

use schemars::JsonSchema;
use serde::Serialize;

use super::common::{Id, Name, Timestamp};
use super::model::ModelStatus;

/// What `app` says of the box.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BoxStatus {
    /// Version of Watchpost.
    pub version: String,
    /// When the daemon started.
    pub since: Timestamp,
    /// Lane chosen, and why ("cpu: no NVIDIA driver found").
    pub lane: String,
    /// Names of all configured streams.
    pub streams: Vec<String>,
    /// Names of all loaded plugins.
    pub plugins: Vec<String>,
    /// Models that are loaded or being made ready, once for the CPU lane and once for each GPU: what runs them, and how it
    /// stands with their TensorRT engines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub models: Vec<ModelStatus>,
    /// What is recorded of incidents; absent before the recorder has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordReport>,
    /// What is wrong with the box as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub problems: Vec<String>,
}

/// What the recorder of snapshots and clips does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// Nothing is to be recorded.
    Off,
    /// It records.
    Recording,
    /// The disk is full: nothing is recorded until there is room. Alerts go on.
    Full,
    /// The disk refuses: nothing is recorded until it works again. Alerts go on.
    Failed,
}

/// How recording is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordReport {
    /// What the recorder does.
    pub state: RecordState,
    /// Why it does not record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether the box is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoxState {
    /// Connected.
    Online,
    /// Not connected: stopped, or lost.
    Offline,
}

/// How the events' outbox is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutboxReport {
    /// Whether events are safe on disk before they are sent; if not, `error` says why.
    pub durable: bool,
    /// Events dropped since the daemon's start, since the outbox was full.
    pub dropped: u64,
    /// Damaged records skipped when the outbox was opened.
    pub corrupt: u64,
    /// What is wrong with the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Status of the box; the last will has `state` = `offline` and `reason` = `lost`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.status/1")]
pub struct BoxStatusMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.status/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Whether it is there.
    pub state: BoxState,
    /// Why it is offline: `stopped` (on purpose), `moved` (a reload gave it another name or broker) or `lost` (it crashed,
    /// lost power or its network).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Which start of the daemon this is.
    pub epoch: Id,
    /// The outbox; absent while offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxReport>,
    /// The rest; absent while offline.
    #[serde(flatten)]
    pub status: Option<BoxStatus>,
}

/// What a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// Opening its source and models.
    Starting,
    /// Frames come.
    Running,
    /// No frames come; it tries again.
    Down,
    /// Its file has come to its end.
    Ended,
    /// Turned off, in the configuration or by `set`.
    Disabled,
    /// It cannot run as configured; `error` says why.
    Failed,
    /// Its source crashed the decoder, and the daemon with it, three times: it is not started until its source is
    /// changed or it is turned on by `set`; `error` says how often and when.
    Quarantined,
}

/// A place where frames or tensors are copied between memories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Edge {
    /// `decode`, `infer`, `encode` and the like.
    pub name: String,
    /// What does it ("avdec_h264").
    pub by: String,
    /// Whether it costs a copy between host and GPU.
    pub copies: bool,
}

/// What an output does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputState {
    /// Being set up.
    Starting,
    /// Video leaves, or may be pulled.
    Running,
    /// Its other end is away; it tries again.
    Down,
    /// It cannot run as configured.
    Failed,
}

/// One of a stream's outputs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OutputStatus {
    /// Name.
    pub name: String,
    /// What it does.
    pub state: OutputState,
    /// Where it goes or may be pulled, without credentials.
    pub address: String,
    /// Last thing that went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the supervisor says of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StreamStatus {
    /// What it does.
    pub state: StreamState,
    /// Since when.
    pub since: Timestamp,
    /// Its source, without credentials.
    pub source: String,
    /// The lane its frames take.
    pub lane: String,
    /// Why that one; absent before it was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane_reason: Option<String>,
    /// Copies on the way.
    pub edges: Vec<Edge>,
    /// Size of its frames, `1280x720`; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Frames a second that came lately.
    pub fps: f32,
    /// Times the source was opened again.
    pub reconnects: u64,
    /// Last thing that went wrong; it stays until the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Things that deserve a look, such as a model that was trained on another kind of source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub warnings: Vec<String>,
    /// Its outputs.
    pub outputs: Vec<OutputStatus>,
}

/// Status of a stream.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.stream/1")]
pub struct StreamStatusMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.stream/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Name of the stream.
    pub stream: String,
    /// The rest.
    #[serde(flatten)]
    pub status: StreamStatus,
}

/// Whether a plugin can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Being checked and compiled.
    Loading,
    /// Ready.
    Loaded,
    /// Its file cannot be used; `error` says why. An older, good version may still run.
    Failed,
    /// Its file is gone.
    Removed,
    /// Turned off, in the configuration or by `set`.
    Disabled,
}

/// What an instance of a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// It works.
    Running,
    /// It failed and will be built again.
    Restarting,
    /// It failed too often and is left alone until its file or configuration changes.
    Quarantined,
    /// Turned off.
    Disabled,
}

/// A plugin's instance in one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PluginInstance {
    /// Name of the stream.
    pub stream: String,
    /// Name of the entry.
    pub entry: String,
    /// What it does.
    pub state: InstanceState,
    /// Times it was built again after a failure.
    pub restarts: u64,
    /// Last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the plugin host says of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PluginStatus {
    /// Version in use; empty where none is.
    pub version: String,
    /// One sentence about it.
    pub summary: String,
    /// Whether it can be used.
    pub state: PluginState,
    /// Its file.
    pub path: String,
    /// Why the newest file cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its instances.
    pub instances: Vec<PluginInstance>,
}

/// Status of a plugin.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.plugin/1")]
pub struct PluginStatusMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.plugin/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Name of the plugin.
    pub plugin: String,
    /// The rest.
    #[serde(flatten)]
    pub status: PluginStatus,
}
