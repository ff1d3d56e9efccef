//! What the daemon answers: on the control socket, and to requests that come over MQTT; and the client's side of it.
//!
//! In: requests. Out: JSON, or an error for a person to read. A configuration that is wrong changes nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::daemon::Core;
use crate::config::Settings;
use crate::control::{Answer, Client, ControlRequest, socket};
use crate::plugins::{Compiler, HostOptions, plugins_offline};
use crate::publish::messages::Timestamp;
use crate::publish::{Action, Request, Target};
use crate::telemetry::Registry;

/// How long the command line waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers requests on the control socket.
pub(super) struct Handler(pub(super) Arc<Core>);

impl crate::control::Handler for Handler {
    fn handle(&self, request: ControlRequest) -> Answer<'_> {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            // Streams may take a while to stop; the control runtime must not wait for them.
            let answered = tokio::task::spawn_blocking(move || answer_control(&core, &request));
            answered.await.map_err(|error| format!("internal error: {error}"))?
        })
    }
}

fn answer_control(core: &Core, request: &ControlRequest) -> Result<Value, String> {
    let text = |key: &str| {
        request.arguments[key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("the request has no \"{key}\""))
    };
    match request.command.as_str() {
        "status" => Ok(status_of(core)),
        "reload" => apply(core).map(|applied| json!(applied)),
        "plugins" => Ok(json!({ "plugins": core.host.plugins(), "entries": core.host.status() })),
        "command" => core.supervisor.command(
            &text("stream")?,
            &text("entry")?,
            &text("name")?,
            request.arguments["arguments"].clone(),
        ),
        "enable" | "disable" => {
            core.supervisor.set_enabled(&text("stream")?, request.command == "enable").map(|()| Value::Null)
        }
        other => Err(format!(
            "unknown command \"{other}\"; known: status, reload, plugins, command, enable, disable"
        )),
    }
}

fn status_of(core: &Core) -> Value {
    let now = Timestamp::now();
    let models = core.supervisor.models().into_iter().map(|model| {
        let mut value = json!(model);
        if let Some(progress) = model.progress(now) {
            value["progress"] = progress.into();
        }
        value
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "box": core.settings().box_.name,
        "since": core.since,
        "mqtt": core.publish.status(),
        "gpu": core.gpus.seen(),
        "models": models.collect::<Vec<_>>(),
        "streams": core.supervisor.report(),
        "plugins": core.host.plugins(),
    })
}

/// Reads the configuration again and applies it; what it did, stream by stream.
pub(super) fn apply(core: &Core) -> Result<crate::pipeline::Applied, String> {
    let Some(file) = &core.config else {
        return Err("this daemon was not started from a file, so there is nothing to read again".into());
    };
    let settings = super::load(file).map_err(|error| {
        let text = format!("{error:#}");
        tracing::error!(error = text, "the new configuration is wrong; the old one stays in force");
        text
    })?;
    let mut current = core.settings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fixed = [
        ("box", current.box_ != settings.box_),
        ("mqtt", current.mqtt != settings.mqtt),
        ("paths", current.paths != settings.paths),
        ("rtsp", current.rtsp != settings.rtsp),
        ("limits", current.limits != settings.limits),
        ("accel", current.accel != settings.accel),
    ];
    if let Some((table, _)) = fixed.iter().find(|(_, changed)| *changed) {
        let text = format!(
            "{table}: a change here needs a restart: systemctl restart watchpost; nothing was changed"
        );
        tracing::error!(error = text, "the new configuration is not applied");
        return Err(text);
    }
    let applied = core.supervisor.apply(&settings);
    *current = settings;
    tracing::info!(started = ?applied.started, restarted = ?applied.restarted, stopped = ?applied.stopped,
        untouched = applied.untouched.len(), "configuration reloaded");
    Ok(applied)
}

/// Answers a request that came over MQTT.
pub(super) fn answer(core: &Core, request: Request) {
    let result = match (request.target, request.action) {
        (Target::Stream(stream), Action::Enable(enabled)) => {
            core.supervisor.set_enabled(&stream, enabled).map(|()| json!({ "enabled": enabled }))
        }
        (Target::Stream(stream), Action::Command { command, entry, arguments }) => entry
            .map_or_else(|| entry_for(core, &stream, &command), Ok)
            .and_then(|entry| core.supervisor.command(&stream, &entry, &command, arguments)),
        (Target::Box, Action::Command { command, .. }) if command == "reload" => {
            apply(core).map(|applied| json!(applied))
        }
        (Target::Box, Action::Command { command, .. }) if command == "status" => Ok(status_of(core)),
        (target, Action::Command { command, .. }) => {
            Err(format!("{target} knows no command \"{command}\"; the box knows reload and status"))
        }
        (target, Action::Enable(_)) => Err(format!("{target} cannot be turned on or off; a stream can")),
    };
    match result {
        Ok(value) => request.reply.ok(value),
        Err(error) => request.reply.error(error),
    }
}

/// The one entry of a stream whose plugin knows a command.
fn entry_for(core: &Core, stream: &str, command: &str) -> Result<String, String> {
    let plugins = core.host.plugins();
    let knows = |plugin: &str| {
        plugins.iter().any(|info| info.name == plugin && info.commands.iter().any(|known| known == command))
    };
    let mut entries: Vec<String> = core
        .host
        .status()
        .into_iter()
        .filter(|entry| entry.stream == stream && knows(&entry.plugin))
        .map(|entry| entry.entry)
        .collect();
    match entries.len() {
        1 => Ok(entries.remove(0)),
        0 => Err(format!("no plugin of stream {stream} knows the command \"{command}\"")),
        _ => Err(format!(
            "several plugins of stream {stream} know \"{command}\"; name one: {}",
            entries.join(", ")
        )),
    }
}

fn ask(settings: &Settings, command: &str, arguments: Value) -> anyhow::Result<Value> {
    Ok(Client::connect(&socket(&settings.paths.run))?.call(command, arguments, PATIENCE)?)
}

/// `watchpost reload`.
pub(super) fn reload(settings: &Settings) -> anyhow::Result<()> {
    let applied = ask(settings, "reload", Value::Null)?;
    for key in ["started", "restarted", "stopped", "untouched"] {
        let names: Vec<&str> =
            applied[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            println!("{key:<10} {}", names.join(", "));
        }
    }
    Ok(())
}

/// `watchpost enable` and `watchpost disable`.
pub(super) fn set_enabled(settings: &Settings, stream: &str, enabled: bool) -> anyhow::Result<()> {
    let command = if enabled { "enable" } else { "disable" };
    ask(settings, command, json!({ "stream": stream })).map(drop)
}

/// `watchpost status`.
pub(super) fn status(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let status = ask(settings, "status", Value::Null)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    println!(
        "box {}  version {}  since {}",
        text(&status["box"]),
        text(&status["version"]),
        text(&status["since"])
    );
    let mqtt = &status["mqtt"];
    print!("mqtt {} {}  {} events wait", text(&mqtt["broker"]), text(&mqtt["state"]), mqtt["pending"]);
    println!("{}", mqtt["error"].as_str().map(|error| format!("  ({error})")).unwrap_or_default());
    gpu_lines(&status["gpu"]);
    for model in status["models"].as_array().into_iter().flatten() {
        println!("{}", model_line(model));
    }
    for (name, stream) in status["streams"].as_object().into_iter().flatten() {
        println!(
            "\nstream {name}  {}  {}  {}  {} fps  {} frames, inference skipped {}, dropped {}",
            text(&stream["state"]),
            text(&stream["source"]),
            text(&stream["size"]),
            stream["fps"],
            stream["frames"],
            stream["skipped"],
            stream["dropped"],
        );
        if let Some(error) = stream["error"].as_str() {
            println!("  last error: {error}");
        }
        for warning in stream["warnings"].as_array().into_iter().flatten() {
            println!("  warning: {}", text(warning));
        }
        for edge in stream["edges"].as_array().into_iter().flatten() {
            println!("  {:<16} {}", text(&edge["name"]), text(&edge["by"]));
        }
        for plugin in stream["plugins"].as_array().into_iter().flatten() {
            println!(
                "  plugin {:<10} {} {}  {}  {} calls  p50 {:.0} µs  p99 {:.0} µs  {} failures  {}",
                text(&plugin["entry"]),
                text(&plugin["plugin"]),
                text(&plugin["version"]),
                text(&plugin["state"]),
                plugin["calls"],
                micros(&plugin["p50_seconds"]),
                micros(&plugin["p99_seconds"]),
                plugin["failures"],
                plugin["message"].as_str().unwrap_or_default(),
            );
        }
        for output in stream["outputs"].as_array().into_iter().flatten() {
            println!(
                "  output {:<10} {}  {}  {}",
                text(&output["name"]),
                text(&output["state"]),
                text(&output["address"]),
                output["error"].as_str().unwrap_or_default(),
            );
        }
    }
    Ok(())
}

/// A model: what runs it, and how it stands with its engine.
fn model_line(model: &Value) -> String {
    let place = model["gpu"].as_u64().map_or_else(String::new, |gpu| format!(" on GPU {gpu}"));
    let by = model["provider"].as_str().unwrap_or("nothing yet");
    let engine = &model["engine"];
    let mut line = format!("model {}{place}  {by}", model["name"].as_str().unwrap_or("-"));
    if let Some(state) = engine["state"].as_str() {
        line += &format!("  engine {state}");
        if let Some((_, progress)) = model["progress"].as_str().and_then(|text| text.split_once(": ")) {
            line += &format!(", {progress}");
        }
        if let Some(reason) = engine["reason"].as_str() {
            line += &format!("  ({reason})");
        }
    }
    line
}

/// The GPUs, or why nothing is said of them.
fn gpu_lines(gpu: &Value) {
    if let Some(missing) = gpu["missing"].as_str() {
        println!("gpu none: {missing}");
    }
    for load in gpu["gpus"].as_array().into_iter().flatten() {
        if let Some(lost) = load["lost"].as_str() {
            println!("gpu {}  {}  LOST: {lost}", load["index"], load["name"].as_str().unwrap_or("-"));
            continue;
        }
        let known =
            |key: &str| load[key].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let memory =
            |key: &str| load[key].as_f64().map_or_else(|| "-".to_owned(), |it| format!("{:.1}", it / 1e9));
        print!(
            "gpu {}  {}  kernels {} %  decoder {} %  encoder {} %  memory {} of {} GB  {} °C  {} W",
            load["index"],
            load["name"].as_str().unwrap_or("-"),
            known("sm"),
            known("decoder"),
            known("encoder"),
            memory("memory_used"),
            memory("memory_total"),
            known("temperature"),
            known("power"),
        );
        let held: Vec<&str> =
            load["held_by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        println!(
            "{}",
            if held.is_empty() { String::new() } else { format!("  held back by {}", held.join(", ")) }
        );
    }
}

fn micros(seconds: &Value) -> f64 {
    seconds.as_f64().unwrap_or_default() * 1e6
}

/// `watchpost plugin list`: what the running daemon says, or what lies in the folders where none runs.
pub(super) fn plugin_list(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
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

/// `watchpost plugin command`.
pub(super) fn command(settings: &Settings, target: &str, name: &str, arguments: &str) -> anyhow::Result<()> {
    let (stream, entry) = target.split_once('/').context("expected STREAM/ENTRY, such as entrance/follow")?;
    let arguments: Value = serde_json::from_str(arguments).context("the arguments are no JSON")?;
    let request = json!({ "stream": stream, "entry": entry, "name": name, "arguments": arguments });
    println!("{}", ask(settings, "command", request)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_line() {
        let cpu = json!({ "name": "people", "lane": "cpu", "provider": "CPU" });
        assert_eq!(model_line(&cpu), "model people  CPU");
        let engine = json!({ "state": "building", "reason": "made for driver 1, here is 2" });
        let progress = "engine of people on GPU 1: 42 s of about 90 s";
        let mut gpu =
            json!({ "name": "people", "gpu": 1, "provider": "CUDA", "engine": engine, "progress": progress });
        assert_eq!(
            model_line(&gpu),
            "model people on GPU 1  CUDA  engine building, 42 s of about 90 s  (made for driver 1, here is 2)"
        );
        gpu["provider"] = Value::Null;
        gpu["engine"] = json!({ "state": "missing" });
        gpu["progress"] = Value::Null;
        assert_eq!(model_line(&gpu), "model people on GPU 1  nothing yet  engine missing");
    }
}
