//! `watchpost model engines`: the TensorRT engines on this box, and what may go of them.
//!
//! In: the configuration, the cache. Out: a line an engine, or JSON, on stdout. Removes only what is asked for and what
//! nobody runs on or builds. A cache that cannot be read is an error.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::infer::Engine;
use crate::pipeline::{KeptEngine, Verdict, kept_engines, remove_engines};
use crate::publish::messages::Timestamp;

/// What to do with them.
#[derive(Debug, Clone, clap::Args)]
pub struct EnginesArgs {
    /// Remove those that are stale or of no configured model
    #[arg(long, conflicts_with = "clear")]
    pub prune: bool,
    /// Remove all: each is built anew when its model is loaded next
    #[arg(long)]
    pub clear: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Lists the engines; removes some.
///
/// # Errors
/// Where the cache cannot be read, or a folder cannot be removed.
pub fn run(settings: &Settings, args: &EnginesArgs) -> anyhow::Result<()> {
    let folder = settings.paths.cache.join("engines");
    if folder.exists() {
        // It is the service's own.
        std::fs::read_dir(&folder)
            .with_context(|| format!("{}: try it as root, or as the service's user", folder.display()))?;
    }
    let kept = kept_engines(settings, true);
    let chosen = |engine: &KeptEngine| {
        args.clear || (args.prune && matches!(engine.verdict, Verdict::Stale(_) | Verdict::Unconfigured))
    };
    let removed =
        if args.clear || args.prune { remove_engines(settings, &kept, chosen)? } else { Vec::new() };
    let gone = |engine: &Engine| removed.iter().any(|other| other.stamp.key() == engine.stamp.key());
    if args.json {
        let lines: Vec<Value> = kept.iter().map(|kept| value(kept, gone(&kept.engine))).collect();
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    if kept.is_empty() {
        eprintln!("no engines in {}", folder.display());
    }
    for kept in &kept {
        println!("{}", line(kept, gone(&kept.engine)));
    }
    Ok(())
}

fn line(kept: &KeptEngine, gone: bool) -> String {
    let engine = &kept.engine;
    let state = match (gone, kept.in_use) {
        (true, _) => "removed; it was ",
        (false, true) => "in use; ",
        (false, false) => "",
    };
    format!(
        "{:<18} {:<24} {:>8.1} MB  built in {:.0} s  used {}  {state}{}",
        engine.stamp.model,
        engine.stamp.gpu,
        engine.bytes() as f64 / 1e6,
        engine.seconds,
        kept.used.map_or_else(|| "-".to_owned(), day),
        kept.verdict,
    )
}

fn value(kept: &KeptEngine, gone: bool) -> Value {
    let (state, reason) = match &kept.verdict {
        Verdict::Fresh => ("fresh", None),
        Verdict::Stale(why) => ("stale", Some(why)),
        Verdict::Unconfigured => ("unconfigured", None),
        Verdict::Unknown(why) => ("unknown", Some(why)),
    };
    json!({
        "model": kept.engine.stamp.model,
        "state": state,
        "reason": reason,
        "in_use": kept.in_use,
        "removed": gone,
        "bytes": kept.engine.bytes(),
        "build_seconds": kept.engine.seconds,
        "used": kept.used.map(|used| timestamp(used).to_string()),
        "key": kept.engine.stamp.key(),
        "stamp": kept.engine.stamp,
    })
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64)
}

/// The day of a time, UTC.
fn day(time: SystemTime) -> String {
    timestamp(time).to_string().chars().take_while(|c| *c != 'T').collect()
}
