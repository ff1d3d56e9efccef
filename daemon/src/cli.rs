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

Exit status: 0 done, 1 failed, 2 wrong arguments, 78 wrong configuration."
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
    Run(ConfigArgs),
    /// Show what Watchpost does: a rendered scene, shipped models and plugins, a broker and an RTSP server of its own.
    Demo(crate::jobs::demo::DemoArgs),
    /// Check the configuration, and load the models and plugins that it names.
    Check(ConfigArgs),
    /// Make the running daemon read its configuration again.
    Reload(ConfigArgs),
    /// Say what the running daemon and its streams are doing.
    Status(StatusArgs),
    /// Rendered scenes: export video with ground truth.
    #[command(subcommand)]
    Scene(SceneCommand),
    /// Plugins: list, check, start a new one, send a command.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Models: check a model folder on a picture or video.
    #[command(subcommand)]
    Model(ModelCommand),
    /// The GPU runtime: fetch, adopt and choose the ONNX Runtime, CUDA, cuDNN and TensorRT libraries that are used.
    Runtime(crate::jobs::runtime::RuntimeArgs),
    /// Measure this machine: ratios of Watchpost's stages to floors of the same run.
    #[command(subcommand)]
    Bench(BenchCommand),
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
        /// Print JSON.
        #[arg(long)]
        json: bool,
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
}

/// `watchpost bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Preprocessing of one picture, beside a copy of its bytes and a plain two-pass way.
    Preprocess(crate::jobs::bench::preprocess::PreprocessArgs),
    /// A plugin's call: with no objects, and for each further one.
    Plugin(crate::jobs::bench::plugin::PluginArgs),
}
