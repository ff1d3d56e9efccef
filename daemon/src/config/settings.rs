//! The validated settings: what every other room sees of the configuration.
//!
//! Every field has its default here, and its documentation; a test holds the documentation page to them.

mod companions;
mod http;
mod output;
mod plugins;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use companions::{HomeAssistant, Onvif};
pub use http::Http;
pub use output::{Bitrate, VideoCodec, VideoOutput};
pub use plugins::{PluginSettings, Recording, TraceSettings};
pub use record::Record;

use super::origin::Origins;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// This box.
    #[serde(rename = "box")]
    pub box_: BoxSettings,
    /// The MQTT broker.
    pub mqtt: Mqtt,
    /// Home Assistant.
    pub homeassistant: HomeAssistant,
    /// ONVIF Profile M.
    pub onvif: Onvif,
    /// Which lane frames take.
    pub accel: Accel,
    /// Folders.
    pub paths: Paths,
    /// Logging.
    pub log: Log,
    /// The RTSP server inside the daemon.
    pub rtsp: RtspServer,
    /// Health, metrics and the status page.
    pub http: Http,
    /// Inference.
    pub infer: Infer,
    /// Where GPU runtimes come from.
    pub runtime: super::runtime::RuntimeSource,
    /// What is recorded of incidents.
    pub record: Record,
    /// Limits of the plugin host.
    pub limits: Limits,
    /// What holds for a plugin in all streams, by the plugin's name.
    pub plugins: BTreeMap<String, PluginSettings>,
    /// Traces of all streams.
    pub trace: TraceSettings,
    /// Models by name.
    pub models: BTreeMap<String, Model>,
    /// Streams by name.
    pub streams: BTreeMap<String, Stream>,
    /// Where each key came from, for what only shows when it is used: a GPU that is not there.
    #[serde(skip)]
    pub origins: Origins,
}

/// This box.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoxSettings {
    /// Name in topics and payloads; letters, digits, `-`, `_`, `.`. Default: the host's name.
    pub name: String,
}

/// The MQTT broker, and what goes there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// `mqtt://host:port`, `mqtts://host:port`, `embedded` for a broker inside, `off`.
    pub url: String,
    /// User name.
    pub username: Option<String>,
    /// File that holds the password (a systemd credential, say); never the password itself.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the broker's certificate; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// First level of every topic.
    pub prefix: String,
    /// Seconds between pings.
    pub keep_alive: u16,
    /// At most so many object messages a second and stream; 0 turns them off.
    pub objects_rate: f64,
    /// Seconds between telemetry messages.
    pub telemetry_interval: u64,
    /// Address of the embedded broker.
    pub listen: String,
    /// Bytes of QoS 1 messages that the outbox keeps on disk at most; the oldest go first.
    pub outbox_bytes: u64,
    /// Publish the newest snapshot of each stream, as a JPEG.
    pub snapshots: bool,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".into(),
            username: None,
            password_file: None,
            ca_file: None,
            prefix: "watchpost".into(),
            keep_alive: 15,
            objects_rate: 5.0,
            telemetry_interval: 10,
            listen: "127.0.0.1:1883".into(),
            outbox_bytes: 256 << 20,
            snapshots: false,
        }
    }
}

/// Where pixels live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneChoice {
    /// CUDA where it starts, else the CPU, said aloud.
    #[default]
    Auto,
    /// CUDA or an error.
    Cuda,
    /// The CPU.
    Cpu,
}

/// Which lane frames take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accel {
    /// `auto`, `cuda` or `cpu`.
    pub lane: LaneChoice,
    /// Index of the GPU, counted from 0.
    pub gpu: u32,
}

/// Folders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// State: outbox, incidents, plugin snapshots, ids.
    pub state: PathBuf,
    /// What can be made again: compiled plugins.
    pub cache: PathBuf,
    /// The control socket.
    pub run: PathBuf,
    /// Where plugins are looked for; a later folder wins over an earlier one on the same name.
    pub plugins: Vec<PathBuf>,
    /// Where a relative `models.NAME.path` is looked for, in order.
    pub models: Vec<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state: "/var/lib/watchpost".into(),
            cache: "/var/cache/watchpost".into(),
            run: "/run/watchpost".into(),
            plugins: vec!["/usr/lib/watchpost/plugins".into(), "/var/lib/watchpost/plugins".into()],
            models: vec!["/var/lib/watchpost/models".into(), "/usr/lib/watchpost/models".into()],
        }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filter directives such as `info,watchpost::ingest=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}

/// The RTSP server inside the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtspServer {
    /// Address to listen on.
    pub address: String,
    /// Port.
    pub port: u16,
}

impl Default for RtspServer {
    fn default() -> Self {
        Self { address: "127.0.0.1".into(), port: 8554 }
    }
}

/// Inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Infer {
    /// `libonnxruntime.so`; default: the runtime that is chosen, beside the binary, in /usr/lib/watchpost, the system's.
    pub library: Option<PathBuf>,
    /// Threads a model; 0: half the cores, at least one.
    pub threads: usize,
    /// How long a batch waits for further frames, milliseconds.
    pub batch_wait_ms: u64,
    /// What runs the models of streams on the CUDA lane: the first of these that loads. The CPU lane takes the CPU.
    pub providers: Vec<Provider>,
    /// Replay runs as CUDA graphs, where a model's shapes are fixed.
    pub cuda_graphs: bool,
}

impl Default for Infer {
    fn default() -> Self {
        let providers = vec![Provider::TensorRt, Provider::Cuda, Provider::Cpu];
        Self { library: None, threads: 0, batch_wait_ms: 4, providers, cuda_graphs: false }
    }
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// The CPU.
    Cpu,
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TensorRt => "TensorRT",
            Self::Cuda => "CUDA",
            Self::Cpu => "CPU",
        })
    }
}

/// Limits of the plugin host; each is enforced for each instance alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU milliseconds a call of `process` may take.
    pub call_ms: u64,
    /// CPU milliseconds `describe`, `configure`, `restore` and `command` may take.
    pub setup_ms: u64,
    /// Linear memory of an instance, MiB.
    pub memory_mib: u64,
    /// Elements of all tables of an instance.
    pub table_elements: u64,
    /// Bytes that a call may make the host allocate for its results, MiB.
    pub result_mib: u64,
    /// Events, views, states and shapes a call may return, each.
    pub results: usize,
    /// Objects that a call may return.
    pub objects: usize,
    /// Log lines a second of an instance; further ones are counted and dropped.
    pub log_lines: u32,
    /// Size of a plugin's file, MiB.
    pub file_mib: u64,
    /// Seconds that compiling a plugin may take.
    pub compile_seconds: u64,
    /// Memory that compiling a plugin may take, MiB.
    pub compile_mib: u64,
    /// Size of a state snapshot, MiB.
    pub snapshot_mib: u64,
    /// Failures within ten minutes after which an instance is quarantined.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_ms: 50,
            setup_ms: 2000,
            memory_mib: 64,
            table_elements: 100_000,
            result_mib: 8,
            results: 256,
            objects: 4096,
            log_lines: 20,
            file_mib: 32,
            compile_seconds: 60,
            compile_mib: 2048,
            snapshot_mib: 4,
            failures: 5,
        }
    }
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Folder with `model.toml`: absolute, or below one of `paths.models`.
    pub path: PathBuf,
    /// Frames in one run, where the model allows more than one.
    #[serde(default = "one")]
    pub batch: usize,
    /// Threads; 0: as `infer.threads`.
    #[serde(default)]
    pub threads: usize,
    /// Confidence threshold in place of the manifest's.
    #[serde(default)]
    pub threshold: Option<f32>,
    /// Numbers that TensorRT calculates in; default: 16-bit floats, and 8-bit integers where the folder holds a
    /// calibration table or the graph is quantized.
    #[serde(default)]
    pub precision: Option<Precision>,
}

/// Numbers that TensorRT calculates in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 8-bit integers where TensorRT has them, 16-bit floats elsewhere.
    Int8,
}

fn one() -> usize {
    1
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// `rtsp://`, `rtsps://`, `file:` or a path, `scene://`.
    pub source: String,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Which lane, in place of `accel.lane`.
    #[serde(default)]
    pub lane: Option<LaneChoice>,
    /// Which GPU, in place of `accel.gpu`.
    #[serde(default)]
    pub gpu: Option<u32>,
    /// RTSP transport.
    #[serde(default)]
    pub transport: Transport,
    /// Jitter buffer of a network source, milliseconds.
    #[serde(default = "latency")]
    pub latency_ms: u64,
    /// Without a frame for so many seconds a live source counts as down.
    #[serde(default = "stall")]
    pub stall_seconds: f64,
    /// A file starts over at its end.
    #[serde(default, rename = "loop")]
    pub loop_: bool,
    /// Play a file at its own pace, as if it were live.
    #[serde(default)]
    pub realtime: bool,
    /// Frames in flight at most.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// Seconds of compressed packets kept for recording.
    #[serde(default = "ring")]
    pub ring_seconds: f64,
    /// A file for the stream's trace: what went into its plugins and what came out, frame by frame.
    #[serde(default)]
    pub trace: Option<PathBuf>,
    /// How it is recorded, by its own `trace` or by `trace.folder`.
    #[serde(skip)]
    pub recording: Option<Recording>,
    /// Models that look at it.
    #[serde(default)]
    pub models: BTreeMap<String, ModelUse>,
    /// Plugins, by the entry's name.
    #[serde(default)]
    pub plugins: BTreeMap<String, PluginUse>,
    /// Parts of the frame that nobody may see: blacked out in every output, snapshot and tensor.
    #[serde(default)]
    pub masks: BTreeMap<String, Polygon>,
    /// Named polygons that plugins may use.
    #[serde(default)]
    pub zones: BTreeMap<String, Polygon>,
    /// Video that leaves.
    #[serde(default)]
    pub outputs: BTreeMap<String, VideoOutput>,
}

fn yes() -> bool {
    true
}
fn latency() -> u64 {
    200
}
fn stall() -> f64 {
    5.0
}
fn in_flight() -> usize {
    4
}
fn ring() -> f64 {
    10.0
}

/// RTSP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the TCP connection.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How a stream uses a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelUse {
    /// Which frames: `every:N`, `fps:X`; default every frame (a clip model: its window's rate).
    pub sample: Option<Sample>,
}

/// Which frames a model sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// Every N-th frame.
    Every(u32),
    /// At most so many a second of stream time.
    Fps(f64),
}

impl std::str::FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("\"{text}\" is no sampling; expected every:N (N ≥ 1) or fps:X (0 < X ≤ 1000)");
        match text.split_once(':') {
            Some(("every", n)) => n.parse().ok().filter(|n| *n >= 1).map(Self::Every).ok_or_else(wrong),
            Some(("fps", x)) => {
                x.parse().ok().filter(|x| *x > 0.0 && *x <= 1000.0).map(Self::Fps).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Every(n) => write!(f, "every:{n}"),
            Self::Fps(x) => write!(f, "fps:{x}"),
        }
    }
}

impl Serialize for Sample {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a stream uses a plugin. Keys beside these are the plugin's own configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PluginUse {
    /// Place in the stream's row of plugins; lower comes first, equal ones by name.
    #[serde(default)]
    pub order: i64,
    /// Name of the plugin; default: the entry's name.
    #[serde(default, rename = "use")]
    pub use_: Option<String>,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The plugin's own configuration.
    #[serde(flatten)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// A polygon in source pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polygon {
    /// At least three corners.
    pub polygon: Vec<[f32; 2]>,
}
