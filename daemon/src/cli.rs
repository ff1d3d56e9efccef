//! The command line: what `watchpost --help` teaches.
//!
//! In: arguments. Out: a [`Command`], which `main` hands to `app` or to a job.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The usual configuration.
pub const CONFIG: &str = "/etc/watchpost/watchpost.toml";

/// Live video analytics: neural models on video, sandboxed plugins, alerts over MQTT.
#[derive(Debug, Parser)]
#[command(
    name = "watchpost",
    version,
    max_term_width = 100,
    after_help = "\
Start with `watchpost demo`: a rendered scene, the shipped models and plugins, a broker of its own, and an RTSP \
address to watch.

Exit status: 0 done, 1 failed, 2 wrong arguments, 78 wrong configuration or a newer version's state."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground, as the service does.
    Run(RunArgs),
    /// Show what Watchpost does: a rendered scene, shipped models and plugins, a broker and an RTSP server of its own.
    Demo(crate::jobs::demo::DemoArgs),
    /// Check the configuration, and load the models and plugins that it names.
    Check(ConfigArgs),
    /// Make the running daemon read its configuration again: what changed applies, a wrong one changes nothing.
    Reload(ConfigArgs),
    /// Say what this box can do and why not more: GPU, codecs, models, broker, sources, each tried, each with the fix.
    Doctor(DoctorArgs),
    /// Say what the running daemon and its streams are doing.
    Status(StatusArgs),
    /// Turn a stream on until the next start of the daemon, also one that the configuration has turned off; one whose source
    /// was quarantined starts again.
    Enable(StreamArgs),
    /// Turn a stream off until the next start of the daemon.
    Disable(StreamArgs),
    /// Rendered scenes: export video with ground truth.
    #[command(subcommand)]
    Scene(SceneCommand),
    /// Plugins: list, check, replay, start a new one, send a command.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Models: check a model folder on a picture or video; TensorRT's engines of the configured ones.
    #[command(subcommand)]
    Model(ModelCommand),
    /// The GPU: whether it gives what the CPU gives.
    #[command(subcommand)]
    Gpu(GpuCommand),
    /// The GPU runtime: fetch, adopt and choose the ONNX Runtime, CUDA, cuDNN and TensorRT libraries that are used.
    Runtime(crate::jobs::runtime::RuntimeArgs),
    /// Measure this machine: ratios of Watchpost's stages to floors of the same run.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// One part of what the doctor tries, in a process that may crash; the doctor calls this.
    #[command(name = "__doctor", hide = true)]
    DoctorPart(crate::jobs::doctor::PartArgs),
    /// Man pages and completions; whoever makes the package calls this.
    #[command(name = "__package", hide = true)]
    Package(crate::jobs::package::PackageArgs),
    /// The embedded broker in a process that can be killed; the daemon calls this.
    #[command(name = "__broker", hide = true)]
    Broker {
        /// Address to listen on.
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
}

/// Which configuration.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Main file; `conf.d/*.toml` beside it is read too.
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// `watchpost run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Write a trace of every stream into this folder, for `watchpost plugin replay`; as the key trace.folder.
    #[arg(long, value_name = "FOLDER")]
    pub record: Option<PathBuf>,
}

/// `watchpost gpu …`.
#[derive(Debug, Clone, Subcommand)]
pub enum GpuCommand {
    /// Compare the kernels, and with a video the whole lane, with the CPU's; start and stop a stream many times.
    Check(crate::jobs::gpu::CheckArgs),
}

/// `watchpost doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Exit status: 0 the configured streams can run, 1 they cannot (the lines marked WRONG say why), 78 the configuration is \
wrong.")]
pub struct DoctorArgs {
    /// Whose streams, models and broker.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `watchpost status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Which daemon.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `watchpost enable`, `watchpost disable`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Which daemon.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Name of the stream.
    pub stream: String,
}

/// `watchpost scene`.
#[derive(Debug, Subcommand)]
pub enum SceneCommand {
    /// Render a scene into a folder: video, and ground truth as JSON lines.
    Export(crate::jobs::scene::ExportArgs),
}

/// `watchpost plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins in the folders, and how the running daemon's instances are.
    List {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigArgs,
        /// Say everything that is known of each: file, hash, summary, keys, cameras, commands.
        #[arg(short, long)]
        long: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a plugin over the recorded objects of a trace: print what it emits, or compare.
    Replay(crate::jobs::plugin::ReplayArgs),
    /// Turn a plugin on in all streams, until the next start of the daemon.
    Enable {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigArgs,
        /// Name of the plugin, as `watchpost plugin list` shows it.
        name: String,
    },
    /// Turn a plugin off in all streams, until the next start of the daemon; its open incidents end, its state is kept.
    Disable {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigArgs,
        /// Name of the plugin, as `watchpost plugin list` shows it.
        name: String,
    },
    /// Check a plugin's file: size, imports, description, and a few frames.
    Check(crate::jobs::plugin::CheckArgs),
    /// Write the skeleton of a new plugin.
    New(crate::jobs::plugin::NewArgs),
    /// Send a command to a plugin of the running daemon.
    Command {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigArgs,
        /// STREAM/ENTRY, such as `entrance/follow`.
        target: String,
        /// The command's name.
        name: String,
        /// Its arguments, JSON.
        #[arg(default_value = "{}")]
        arguments: String,
    },
}

/// `watchpost model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Load a model folder, run it on a picture or video, draw what it found.
    Check {
        /// Configuration, for the ONNX Runtime that the daemon uses; default: /etc/watchpost/watchpost.toml where there is
        /// one
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to check.
        #[command(flatten)]
        arguments: crate::jobs::model::CheckArgs,
    },
    /// The TensorRT engines on this box: which are fresh, stale or in use; remove some.
    ///
    /// TensorRT makes an engine of a model on the box itself, once for each kind of GPU, driver and version, which takes
    /// seconds to minutes. The daemon builds what it needs, and at its start removes engines of models that are configured
    /// no more, and stale ones that were not used for a month. What somebody runs on or builds is never removed, so this
    /// may be run beside the daemon. Whether an engine is fresh is known where TensorRT loads.
    #[command(after_help = ENGINES_HELP)]
    Engines {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// What to do.
        #[command(flatten)]
        what: crate::jobs::model::engines::EnginesArgs,
    },
}

const ENGINES_HELP: &str = "\
Examples:
  watchpost model engines
  watchpost model engines --prune
  watchpost model engines --clear && systemctl restart watchpost   (build all anew)";

const LANE_HELP: &str = "\
Examples:
  watchpost bench lane
  watchpost bench lane street.mp4 --model /var/lib/watchpost/models/yolox --encode
  watchpost bench lane 'scene://people?size=1920x1080&fps=30' --json > lane.json";

const STREAMS_HELP: &str = "\
Examples:
  watchpost bench streams
  watchpost bench streams street.mp4 --model yolox --sample fps:10 --plugin tracker --encode
  watchpost bench streams 'scene://people?size=1920x1080&fps=30' --seconds 20 --json > streams.json";

/// `watchpost bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Decode, preprocess, infer, encode and the whole lane, each over the floor of the same run.
    ///
    /// Each part is measured alone, as the daemon does it and with nothing around it: frames a second and CPU
    /// milliseconds a frame, per backend that this box has. The whole lane is the daemon's own pipeline in this process;
    /// its floor is decoding and inference alone, and encoding where it encodes. Run it on a machine that does nothing
    /// else.
    #[command(after_help = LANE_HELP)]
    Lane(crate::jobs::bench::lane::LaneArgs),
    /// How many streams of a kind this box can hold at their own pace, and what is full first.
    ///
    /// Streams play the video as if it came from a camera; their number is doubled until they are not held any more
    /// (frames missing, skipped or dropped, or ever later), then searched in between. A scene is rendered to a file
    /// first, so that video is measured and not rendering. Run it on a machine that does nothing else.
    #[command(after_help = STREAMS_HELP)]
    Streams(crate::jobs::bench::streams::StreamsArgs),
    /// Preprocessing of one picture, beside a copy of its bytes and a plain two-pass way.
    Preprocess(crate::jobs::bench::preprocess::PreprocessArgs),
    /// A plugin's call: with no objects, and for each further one.
    Plugin(crate::jobs::bench::plugin::PluginArgs),
}
