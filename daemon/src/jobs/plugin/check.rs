//! `watchpost plugin check`: everything that the daemon would ask of a component, and a trial run.
//!
//! In: a file, and the limits of the configuration. Out: what it is and what it used, as text or JSON; an
//! error where the daemon would refuse it or its trial fails. Works in a temporary folder.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::config::settings::Limits;
use crate::plugins::{Inspection, inspect};

/// Arguments of `watchpost plugin check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The component, such as target/wasm32-wasip2/release/NAME.wasm.
    pub file: PathBuf,
    /// Its configuration for the trial run, as JSON: the keys of its entry in a stream.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub entry: String,
    /// Frames of the trial run.
    #[arg(long, default_value_t = 250)]
    pub frames: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Inspects the component.
///
/// # Errors
/// Where the daemon would refuse it.
pub fn check(arguments: &CheckArgs, limits: &Limits) -> anyhow::Result<Inspection> {
    let config = serde_json::from_str(&arguments.entry).context("--entry is no JSON object")?;
    let folder = tempfile::tempdir()?;
    let options = super::aside(folder.path(), limits)?;
    Ok(inspect(options, &arguments.file, config, arguments.frames)?)
}

/// Inspects the component and says what was found.
///
/// # Errors
/// Where the daemon would refuse it, or it fails its trial.
pub fn run(arguments: &CheckArgs, limits: &Limits) -> anyhow::Result<()> {
    let found = check(arguments, limits)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print(&found, limits);
    }
    match (&found.trial.refused, &found.trial.failure) {
        (Some(reason), _) => bail!("it refuses its configuration: {reason}; give one with --entry"),
        (None, Some(failure)) => bail!("it failed its trial: {failure}"),
        _ => Ok(()),
    }
}

fn print(found: &Inspection, limits: &Limits) {
    let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
    println!("{} {}: {}", found.name, found.version, found.summary);
    println!("  file        {:.1} MiB of {} (limits.file_mib)", mib(found.bytes), limits.file_mib);
    println!(
        "  compiled    in {:.1} s of {} (limits.compile_seconds)",
        found.compile_seconds, limits.compile_seconds
    );
    println!("  interfaces  {}", list(&found.interfaces));
    println!("  imports     {}", list(&found.imports));
    println!("  events      {}", list(&found.events));
    println!("  states      {}", list(&found.states));
    println!("  cameras     {}", list(&found.cameras));
    println!("  commands    {}", list(&found.commands));
    if let Some(keys) = found.config_schema["properties"].as_object() {
        println!("  keys        {}", list(&keys.keys().cloned().collect::<Vec<_>>()));
    }
    let trial = &found.trial;
    if trial.frames > 0 {
        println!("  trial       {} frames of {} objects", trial.frames, trial.objects);
        println!(
            "  time        {:.1} µs median, {:.1} µs 99th percentile, {:.1} µs longest; limit {} ms (limits.call_ms)",
            trial.p50_seconds * 1e6,
            trial.p99_seconds * 1e6,
            trial.max_seconds * 1e6,
            limits.call_ms
        );
        println!("  memory      {:.1} MiB of {} (limits.memory_mib)", mib(trial.memory), limits.memory_mib);
        println!(
            "  state       {} bytes of {} MiB (limits.snapshot_mib)",
            trial.state_bytes, limits.snapshot_mib
        );
        println!(
            "  results     {} events, {} views, {} states, {} shapes",
            trial.events, trial.views, trial.states, trial.shapes
        );
    }
    for doubt in &trial.doubts {
        println!("  DOUBT       {doubt}");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
