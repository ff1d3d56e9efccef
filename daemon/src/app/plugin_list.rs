//! `watchpost plugin list`.
//!
//! In: what the running daemon says of its plugins, or the folders where none runs. Out: lines or JSON on standard output.

use serde_json::{Value, json};

use super::client::{ask, micros};
use crate::config::Settings;
use crate::plugins::{Compiler, HostOptions, plugins_offline};
use crate::telemetry::Registry;

/// `watchpost plugin list`: what the running daemon says, or what lies in the folders where none runs.
pub(super) fn run(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let (listed, live) = match ask(settings, "plugins", Value::Null) {
        Ok(listed) => (listed, true),
        Err(_) => {
            let plugins = plugins_offline(HostOptions {
                paths: settings.paths.clone(),
                limits: settings.limits.clone(),
                compiler: Compiler::own()?,
                metrics: Registry::new(),
                on_notice: None,
            })?;
            (json!({ "plugins": plugins, "entries": [] }), false)
        }
    };
    if as_json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    if !live {
        eprintln!("no daemon runs with this configuration; this is what lies in the folders");
    }
    for plugin in listed["plugins"].as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or("-").to_owned();
        println!(
            "{:<18} {:<8} {:<9} {}  {}",
            text("name"),
            text("version"),
            text("state"),
            text("hash").get(..12).unwrap_or("-"),
            text("file")
        );
        println!(
            "    {}",
            plugin["error"].as_str().map_or_else(|| text("summary"), |error| format!("ERROR {error}"))
        );
    }
    for entry in listed["entries"].as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        println!(
            "{}/{}  {} {}  {}  {} calls, p50 {:.0} µs, p99 {:.0} µs, {:.1} MiB, {} failures  {}",
            text("stream"),
            text("entry"),
            text("plugin"),
            text("version"),
            text("state"),
            entry["calls"],
            micros(&entry["p50_seconds"]),
            micros(&entry["p99_seconds"]),
            entry["memory"].as_f64().unwrap_or_default() / 1048576.0,
            entry["failures"],
            entry["message"].as_str().unwrap_or_default(),
        );
    }
    Ok(())
}
