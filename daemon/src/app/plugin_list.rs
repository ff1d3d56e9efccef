//! `watchpost plugin list`: the plugin files, and how their instances fare.
//!
//! In: what the running daemon knows, or what lies in the folders where none runs. Out: a line for each plugin and each
//! entry, at most 120 columns, what is wrong below; or everything as JSON. Without a daemon there are no figures, and none
//! are made up.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::ask;
use crate::config::Settings;
use crate::plugins::{
    Compiler, EntryStatus, FolderInfo, Host, HostOptions, InstanceState, PluginInfo, PluginState,
    look_offline,
};
use crate::telemetry::{Distribution, Registry};

/// What is known of all plugins.
struct Known<'a> {
    settings: &'a Settings,
    plugins: Vec<PluginInfo>,
    folders: Vec<FolderInfo>,
    /// Plugins that somebody turned off since the daemon started.
    off: Vec<String>,
    /// `None`: no daemon runs.
    live: Option<(Vec<EntryStatus>, BTreeMap<String, Distribution>)>,
}

/// What the daemon says.
pub(super) fn of_daemon(settings: &Settings, host: &Host) -> Value {
    let live = Some((host.status(), host.call_times()));
    let plugins = host.plugins();
    let off =
        plugins.iter().map(|plugin| plugin.name.clone()).filter(|name| !host.is_enabled(name)).collect();
    Known { settings, plugins, folders: host.folders(), off, live }.json()
}

/// Carries the command out.
pub(super) fn run(settings: &Settings, long: bool, as_json: bool) -> anyhow::Result<()> {
    let listed = match ask(settings, "plugins", Value::Null) {
        Ok(listed) => listed,
        Err(_) => {
            let (plugins, folders) = look_offline(HostOptions {
                paths: settings.paths.clone(),
                limits: settings.limits.clone(),
                compiler: Compiler::own()?,
                metrics: Registry::new(),
                on_notice: None,
            })?;
            Known { settings, plugins, folders, off: Vec::new(), live: None }.json()
        }
    };
    if as_json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    if listed["live"] == false {
        eprintln!("no daemon runs with this configuration; this is what lies in the folders");
    }
    for line in lines(&listed, long) {
        println!("{line}");
    }
    Ok(())
}

impl Known<'_> {
    fn json(&self) -> Value {
        let entries = self.entries();
        let mut plugins: Vec<Value> = self.plugins.iter().map(|info| self.plugin(info, &entries)).collect();
        for entry in &entries {
            let Some(name) = entry["plugin"].as_str() else { continue };
            if !plugins.iter().any(|plugin| plugin["name"] == name) {
                plugins.push(json!({ "name": name, "state": "missing", "streams": streams(name, &entries) }));
            }
        }
        json!({ "live": self.live.is_some(), "folders": self.folders, "plugins": plugins, "entries": entries })
    }

    fn plugin(&self, info: &PluginInfo, entries: &[Value]) -> Value {
        let mut value = json!(info);
        let stands = info.state == PluginState::Ready;
        let of_it = || entries.iter().filter(|entry| stands && entry["plugin"] == info.name.as_str());
        let disabled = self.settings.plugins.get(&info.name).is_some_and(|said| said.enabled == Some(false));
        let quarantined = of_it().any(|entry| entry["state"] == json!(InstanceState::Quarantined));
        value["state"] = match info.state {
            PluginState::Bad => "broken",
            PluginState::Shadowed => "shadowed",
            PluginState::Ready if self.off.contains(&info.name) => "disabled",
            PluginState::Ready if quarantined => "quarantined",
            PluginState::Ready if disabled && of_it().all(|entry| entry["state"] == "disabled") => "disabled",
            PluginState::Ready => "ready",
        }
        .into();
        value["streams"] = if stands { streams(&info.name, entries) } else { json!([]) };
        if let (true, Some((_, times))) = (stands, &self.live) {
            let sum = |key: &str| of_it().filter_map(|entry| entry[key].as_u64()).sum::<u64>();
            for key in ["calls", "errors", "failures", "dropped", "memory", "open_incidents"] {
                value[key] = sum(key).into();
            }
            let times = times.get(&info.name).copied().unwrap_or_default();
            (value["p50_seconds"], value["p99_seconds"]) = (times.p50.into(), times.p99.into());
        }
        value
    }

    /// Every entry of every stream: what the daemon says of it, else what the configuration does.
    fn entries(&self) -> Vec<Value> {
        let status = self.live.as_ref().map(|(status, _)| status.as_slice()).unwrap_or_default();
        let mut all: Vec<Value> = status.iter().map(|entry| json!(entry)).collect();
        for (name, stream) in &self.settings.streams {
            for (entry, used) in &stream.plugins {
                if status.iter().any(|known| known.stream == *name && known.entry == *entry) {
                    continue;
                }
                let (state, message) = match (used.enabled, stream.enabled) {
                    (false, _) => ("disabled", "turned off by the configuration"),
                    (_, false) => ("stopped", "its stream is turned off by the configuration"),
                    _ if self.live.is_some() => ("stopped", "its stream has not started"),
                    _ => ("stopped", ""),
                };
                let plugin = used.plugin(entry);
                all.push(json!({ "stream": name, "entry": entry, "plugin": plugin, "state": state, "message": message }));
            }
        }
        all.sort_by_key(|entry| (entry["stream"].to_string(), entry["entry"].to_string()));
        all
    }
}

/// The streams in which a plugin is used.
fn streams(plugin: &str, entries: &[Value]) -> Value {
    let used = entries.iter().filter(|entry| entry["plugin"] == plugin && entry["state"] != "disabled");
    let mut names: Vec<Value> = used.map(|entry| entry["stream"].clone()).collect();
    names.dedup();
    names.into()
}

/// The list as lines.
fn lines(listed: &Value, long: bool) -> Vec<String> {
    let plugins = || listed["plugins"].as_array().into_iter().flatten();
    let entries: Vec<&Value> = listed["entries"].as_array().into_iter().flatten().collect();
    let mut lines = Vec::new();
    let mut notes = Vec::new();
    for folder in listed["folders"].as_array().into_iter().flatten() {
        match (folder["error"].as_str(), folder["present"] == false) {
            (Some(error), _) => notes.push(format!("folder {}: {error}", text(&folder["folder"]))),
            (None, true) => notes.push(format!("folder {}: it is not there", text(&folder["folder"]))),
            (None, false) => {}
        }
    }
    let head = ["PLUGIN", "VERSION", "STATE", "FROM", "HASH", "STREAMS"].map(str::to_owned);
    lines.push(plugin_line(&head, &FIGURES.map(str::to_owned)));
    for plugin in plugins() {
        let streams: Vec<String> = plugin["streams"].as_array().into_iter().flatten().map(text).collect();
        let streams = match streams.join(",") {
            none if none.is_empty() => "-".into(),
            fits if fits.chars().count() <= 16 => fits,
            _ => format!("{} streams", streams.len()),
        };
        let hash = text(&plugin["hash"]).chars().take(8).collect::<String>();
        let hash = if hash.is_empty() { "-".into() } else { hash };
        let known = ["name", "version", "state", "origin"].map(|key| text(&plugin[key]));
        let [name, version, state, origin] = known;
        lines.push(plugin_line(&[name, version, state, origin, hash, streams], &figures(plugin)));
        if long {
            lines.extend(details(plugin));
        } else if let Some(error) = plugin["error"].as_str() {
            notes.push(format!("{} {}: {error}", text(&plugin["name"]), text(&plugin["state"])));
        }
    }
    if !entries.is_empty() {
        lines.push(String::new());
        let head = ["STREAM/ENTRY", "PLUGIN", "VERSION", "STATE"].map(str::to_owned);
        lines.push(entry_line(&head, &FIGURES.map(str::to_owned)));
        for entry in entries {
            let name = format!("{}/{}", text(&entry["stream"]), text(&entry["entry"]));
            let [plugin, version, state] = ["plugin", "version", "state"].map(|key| text(&entry[key]));
            lines.push(entry_line(&[name.clone(), plugin, version, state], &figures(entry)));
            if let Some(message) = entry["message"].as_str().filter(|message| !message.is_empty()) {
                notes.push(format!("{name}: {message}"));
            }
        }
    }
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    lines
}

/// Heads of the columns that only a daemon fills.
const FIGURES: [&str; 5] = ["CALLS", "P50 µs", "P99 µs", "MiB", "FAIL"];

fn figures(value: &Value) -> [String; 5] {
    let micros = |key: &str| value[key].as_f64().map_or_else(|| "-".into(), |s| format!("{:.0}", s * 1e6));
    let count = |key: &str| value[key].as_u64().map_or_else(|| "-".into(), |count| count.to_string());
    let memory = value["memory"]
        .as_f64()
        .map_or_else(|| "-".into(), |bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
    [count("calls"), micros("p50_seconds"), micros("p99_seconds"), memory, count("failures")]
}

fn plugin_line(words: &[String; 6], figures: &[String; 5]) -> String {
    let left = row(words, &[20, 9, 11, 8, 8, 16]);
    format!("{left} {}", right(figures))
}

fn entry_line(words: &[String; 4], figures: &[String; 5]) -> String {
    let left = row(words, &[34, 20, 9, 12]);
    format!("{left} {}", right(figures))
}

/// Columns that begin on the left; what is too long for its column is cut.
fn row(words: &[String], widths: &[usize]) -> String {
    let cell = |(word, width): (&String, &usize)| {
        let (count, width) = (word.chars().count(), *width);
        let cut: String = word.chars().take(width - 1).collect();
        if count > width { format!("{cut}…") } else { format!("{word:<width$}") }
    };
    words.iter().zip(widths).map(cell).collect::<Vec<_>>().join(" ")
}

fn right([calls, p50, p99, memory, failures]: &[String; 5]) -> String {
    format!("{calls:>10} {p50:>6} {p99:>6} {memory:>6} {failures:>5}").trim_end().to_owned()
}

/// Everything else that is known of a plugin.
fn details(plugin: &Value) -> Vec<String> {
    let list = |key: &str| {
        let names: Vec<String> = plugin[key].as_array().into_iter().flatten().map(text).collect();
        names.join(", ")
    };
    let keys: Vec<&String> =
        plugin["config_schema"]["properties"].as_object().into_iter().flat_map(|keys| keys.keys()).collect();
    let keys = keys.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let plain = |key: &str| plugin[key].as_str().unwrap_or_default().to_owned();
    let all = [
        ("error", plain("error")),
        ("summary", plain("summary")),
        ("file", plain("file")),
        ("sha256", plain("hash")),
        ("streams", list("streams")),
        ("events", list("events")),
        ("states", list("states")),
        ("cameras", list("cameras")),
        ("commands", list("commands")),
        ("keys", keys),
    ];
    let known = all.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(key, value)| format!("    {key:<9} {value}")).collect()
}

fn text(value: &Value) -> String {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::PluginOrigin;

    fn info(name: &str, state: PluginState, error: Option<&str>) -> PluginInfo {
        PluginInfo {
            name: name.into(),
            version: if state == PluginState::Bad { String::new() } else { "1.2.0".into() },
            summary: "Says what it is.".into(),
            file: format!("/p/{name}.wasm").into(),
            origin: PluginOrigin::User,
            hash: "0123456789abcdef".into(),
            state,
            error: error.map(str::to_owned),
            events: vec!["violence".into()],
            states: Vec::new(),
            cameras: Vec::new(),
            commands: Vec::new(),
            config_schema: json!({ "properties": { "enter": {} } }),
        }
    }

    fn entry(stream: &str, plugin: &str, state: InstanceState, failures: u64) -> EntryStatus {
        EntryStatus {
            stream: stream.into(),
            entry: "a".into(),
            plugin: plugin.into(),
            version: Some("1.2.0".into()),
            state,
            message: if state == InstanceState::Quarantined {
                "failed 5 times".into()
            } else {
                String::new()
            },
            calls: 1_000_000,
            errors: 0,
            failures,
            dropped: 0,
            memory: 3 << 20,
            p50_seconds: 21e-6,
            p99_seconds: 55e-6,
            open_incidents: 0,
        }
    }

    fn settings(text: &str) -> Settings {
        crate::config::merge(&[(std::path::Path::new("w.toml"), text.to_owned())], &Default::default())
            .unwrap()
    }

    const STREAMS: &str = "[plugins.off]\nenabled = false\n[streams.one]\nsource = \"a.mp4\"\nplugins.a = { use = \"good\" }\n\
        [streams.two]\nsource = \"b.mp4\"\nplugins.a = { use = \"good\" }\nplugins.b = { use = \"off\" }\nplugins.c = { use = \"gone\" }\n";

    fn known(settings: &Settings, live: bool) -> Value {
        let plugins = vec![
            info("good", PluginState::Ready, None),
            info("off", PluginState::Ready, None),
            info("out", PluginState::Ready, None),
            info("old", PluginState::Shadowed, Some("/q/old.wasm (1.3.0) has the same name and wins")),
            info("bad", PluginState::Bad, Some("plugin file /p/bad.wasm is not whole")),
        ];
        let folder = FolderInfo { folder: "/p".into(), present: true, error: None };
        let gone = FolderInfo { folder: "/q".into(), present: false, error: None };
        let times = Distribution { count: 2_000_000, p50: 25e-6, p99: 60e-6, ..Distribution::default() };
        let status = vec![
            entry("one", "good", InstanceState::Running, 1),
            entry("two", "good", InstanceState::Quarantined, 5),
        ];
        let live = live.then(|| (status, [("good".to_owned(), times)].into()));
        Known { settings, plugins, folders: vec![folder, gone], off: vec!["out".into()], live }.json()
    }

    #[test]
    fn a_plugin_is_a_line_that_fits() {
        let settings = settings(STREAMS);
        let listed = known(&settings, true);
        let state = |name: &str| {
            let plugins = listed["plugins"].as_array().unwrap();
            plugins.iter().find(|plugin| plugin["name"] == name).unwrap()["state"].clone()
        };
        let states = ["good", "off", "out", "old", "bad", "gone"].map(state);
        assert_eq!(states, ["quarantined", "disabled", "disabled", "shadowed", "broken", "missing"]);
        let good = &listed["plugins"][0];
        assert_eq!(
            (&good["calls"], &good["failures"], &good["streams"]),
            (&json!(2_000_000), &json!(6), &json!(["one", "two"]))
        );
        assert_eq!(good["p99_seconds"], 60e-6);
        let lines = lines(&listed, false);
        assert!(lines.iter().take(12).all(|line| line.chars().count() <= 120), "{lines:#?}");
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            [
                "good",
                "1.2.0",
                "quarantined",
                "user",
                "01234567",
                "one,two",
                "2000000",
                "25",
                "60",
                "6.0",
                "6"
            ]
        );
        let all = lines.join("\n");
        assert!(all.contains("folder /q: it is not there") && all.contains("two/a: failed 5 times"), "{all}");
        assert!(all.contains("bad broken: plugin file /p/bad.wasm is not whole"), "{all}");
    }

    #[test]
    fn without_a_daemon_there_are_no_figures() {
        let settings = settings(STREAMS);
        let listed = known(&settings, false);
        assert_eq!((&listed["live"], &listed["plugins"][0]["calls"]), (&json!(false), &Value::Null));
        assert_eq!(listed["entries"].as_array().unwrap().len(), 4);
        let lines = lines(&listed, true);
        assert!(lines[1].ends_with("-      -      -      -     -"), "{}", lines[1]);
        let all = lines.join("\n");
        assert!(
            all.contains("    keys      enter") && all.contains("    sha256    0123456789abcdef"),
            "{all}"
        );
        assert!(all.contains("two/b: turned off by the configuration"), "{all}");
    }
}
