//! The command line's side of the control socket: asks the running daemon, and prints what it said.
//!
//! In: settings, which say where the socket is. Out: lines or JSON on standard output. Without a daemon there is an error
//! that says how to look for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::control::{Client, Error, socket};

/// How long the command line waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for a reload: models are loaded to try them, and outputs finalised.
const RELOAD: Duration = Duration::from_secs(300);

pub(super) fn ask(settings: &Settings, command: &str, arguments: Value) -> anyhow::Result<Value> {
    Ok(Client::connect(&socket(&settings.paths.run))?.call(command, arguments, PATIENCE)?)
}

/// The daemon that runs with a file, also where what is in the file by now is wrong or says that its socket is elsewhere.
fn reach(file: &Path) -> anyhow::Result<Client> {
    let settings = super::look_up(file);
    let at = settings.as_ref().ok().map(|settings| socket(&settings.paths.run));
    match (daemon_of(file, at.as_deref()), settings, at) {
        (Some(daemon), _, _) => Ok(daemon),
        // What is wrong with the file is of more use than that nobody reads it.
        (None, Err(error), _) => Err(error),
        (None, Ok(_), Some(at)) => Err(Client::connect(&at).err().unwrap_or(Error::NotRunning(at)).into()),
        (None, Ok(_), None) => Err(anyhow::anyhow!("no daemon was found")),
    }
}

/// Asks the daemon that runs with a file.
fn ask_of(file: &Path, command: &str, arguments: Value) -> anyhow::Result<Value> {
    Ok(reach(file)?.call(command, arguments, PATIENCE)?)
}

/// `watchpost reload`. The daemon itself judges the configuration; where it is wrong, it is asked all the same, so that
/// its log and status say so, too.
pub(super) fn reload(file: &Path) -> anyhow::Result<()> {
    let applied = reach(file)?.call("reload", Value::Null, RELOAD)?;
    for key in ["applied", "started", "restarted", "stopped", "untouched"] {
        let names: Vec<&str> =
            applied[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            println!("{key:<10} {}", names.join(", "));
        }
    }
    Ok(())
}

/// The daemon that was started from a file. It may listen elsewhere than the file says by now: then it is the one among
/// those on this machine that says that the file is its own.
fn daemon_of(file: &Path, at: Option<&Path>) -> Option<Client> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut first = at.and_then(|at| Client::connect(at).ok());
    let is_its_own = |daemon: &mut Client| {
        let says = daemon.call("config", Value::Null, PATIENCE).ok()?;
        Some(says["file"].as_str().is_some_and(|its| Path::new(its) == file))
    };
    // One that does not say is of an earlier version: the socket was what counted.
    if first.as_mut().is_some_and(|daemon| is_its_own(daemon).unwrap_or(true)) {
        return first;
    }
    let mut others = sockets().into_iter().filter_map(|path| Client::connect(&path).ok());
    others.find_map(|mut daemon| is_its_own(&mut daemon).unwrap_or(false).then_some(daemon)).or(first)
}

/// Every control socket on this machine: proc_net(5) lists sockets by their paths.
fn sockets() -> Vec<PathBuf> {
    let name = socket(Path::new("/"));
    let list = std::fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let paths = list.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let ours = paths.map(PathBuf::from).filter(|path| path.file_name() == name.file_name());
    // Each connection has a line, too.
    BTreeSet::from_iter(ours).into_iter().collect()
}

/// `watchpost enable` and `watchpost disable`.
pub(super) fn set_enabled(file: &Path, stream: &str, enabled: bool) -> anyhow::Result<()> {
    let command = if enabled { "enable" } else { "disable" };
    ask_of(file, command, json!({ "stream": stream })).map(drop)
}

/// `watchpost plugin enable` and `watchpost plugin disable`.
pub(super) fn set_plugin_enabled(file: &Path, plugin: &str, enabled: bool) -> anyhow::Result<()> {
    let command = if enabled { "enable" } else { "disable" };
    ask_of(file, command, json!({ "plugin": plugin })).map(drop)
}

/// `watchpost status`.
pub(super) fn status(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let status = ask_of(file, "status", Value::Null)?;
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
    if let Some(refused) = status["refused"].as_str() {
        println!("the last reload was refused: {refused}");
    }
    println!("{}", page_line(&status["http"]));
    gpu_lines(&status["gpu"]);
    if let Some(line) = record_line(&status["record"]) {
        println!("{line}");
    }
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
        if let Some(why) = stream["no_clips"].as_str() {
            println!("  no clips: {why}");
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

/// What is recorded, or why nothing is.
fn record_line(record: &Value) -> Option<String> {
    let state = record["state"].as_str()?;
    let megabytes = record["bytes"].as_f64().unwrap_or_default() / 1e6;
    let mut line = format!("record {state}  {} files  {megabytes:.1} MB", record["files"]);
    if let Some(dropped) = record["dropped"].as_u64().filter(|dropped| *dropped > 0) {
        line += &format!("  {dropped} not recorded");
    }
    if let Some(error) = record["error"].as_str() {
        line += &format!("  ({error})");
    }
    Some(line)
}

/// The status page: where it is, or why it is not.
fn page_line(http: &Value) -> String {
    let url = http["url"].as_str().unwrap_or("-");
    match (http["state"].as_str().unwrap_or("-"), http["error"].as_str()) {
        ("off", _) => "page off".to_owned(),
        ("listening", _) if http["token"] == true => format!("page {url}  asks for the token"),
        ("listening", _) => format!("page {url}"),
        (state, error) => format!("page {url} {state}  ({})", error.unwrap_or_default()),
    }
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

pub(super) fn micros(seconds: &Value) -> f64 {
    seconds.as_f64().unwrap_or_default() * 1e6
}

/// `watchpost plugin command`.
pub(super) fn command(file: &Path, target: &str, name: &str, arguments: &str) -> anyhow::Result<()> {
    let (stream, entry) = target.split_once('/').context("expected STREAM/ENTRY, such as entrance/follow")?;
    let arguments: Value = serde_json::from_str(arguments).context("the arguments are no JSON")?;
    let request = json!({ "stream": stream, "entry": entry, "name": name, "arguments": arguments });
    println!("{}", ask_of(file, "command", request)?);
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

    #[test]
    fn what_is_recorded_is_a_line() {
        let mut record = json!({ "state": "recording", "files": 3, "bytes": 1_500_000, "dropped": 0 });
        assert_eq!(record_line(&record).unwrap(), "record recording  3 files  1.5 MB");
        record["state"] = "full".into();
        record["dropped"] = 2.into();
        record["error"] = "the disk is full".into();
        let line = record_line(&record).unwrap();
        assert_eq!(line, "record full  3 files  1.5 MB  2 not recorded  (the disk is full)");
        assert_eq!(record_line(&Value::Null), None);
    }
}
