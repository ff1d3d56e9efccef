//! The command line: arguments in, an exit status out. The lead's full command line replaces this one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::SceneSpec;

#[derive(Parser)]
#[command(name = "watchpost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rendered scenes.
    Scene {
        #[command(subcommand)]
        command: SceneCommand,
    },
}

#[derive(Subcommand)]
enum SceneCommand {
    /// Writes a rendered scene and its ground truth into a folder.
    Export {
        /// The scene, such as 'scene://people?seed=1&seconds=60'.
        #[arg(long)]
        uri: String,
        /// The folder.
        #[arg(long)]
        out: PathBuf,
        /// Raw NV12 frames (frames.nv12) instead of H.264 (video.mp4).
        #[arg(long)]
        raw: bool,
        /// At most so many frames.
        #[arg(long)]
        frames: Option<u64>,
        /// Kilobits a second of the H.264 video.
        #[arg(long)]
        bitrate: Option<u32>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // The process that compiles a plugin limits itself before it does anything else.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == watchpost::plugins::SUBCOMMAND) {
        return Ok(watchpost::plugins::compile_child(arguments));
    }
    let Command::Scene { command: SceneCommand::Export { uri, out, raw, frames, bitrate } } =
        Arguments::parse().command;
    let spec = SceneSpec::parse(&uri)?;
    let options = ExportOptions { raw, frames, bitrate, progress: true };
    let done = export(&spec, &out, &options).context("scene export")?;
    eprintln!("{} frames: {} {}", done.frames, done.video.display(), done.truth.display());
    Ok(ExitCode::SUCCESS)
}
