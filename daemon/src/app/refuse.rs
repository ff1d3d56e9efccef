//! What refuses a reload: what is wrong with a configuration beyond its text, looked at before anything is changed.
//!
//! In: the settings in force and the new ones. Out: problems with file, line and key. By the rules of `watchpost check`,
//! for what the reload changes: a model or plugin that does not load, a plugin's wrong configuration, a lane that cannot
//! start. What only is not there at the moment, such as a camera or a broker, is no reason.

use std::path::PathBuf;

use super::check::{offline, source};
use super::daemon::{Core, publishing};
use super::plugin_keys;
use crate::config::settings::PluginUse;
use crate::config::{ConfigError, Problem, Settings};
use crate::plugins::{Host, PluginState};

/// Problems by dotted key.
type Found = Vec<(String, String)>;

/// Tables that a reload can apply. Another one that differs is refused, not left aside.
const TABLES: &[&str] = &[
    "box",
    "mqtt",
    "homeassistant",
    "onvif",
    "http",
    "record",
    "plugins",
    "trace",
    "accel",
    "paths",
    "log",
    "rtsp",
    "infer",
    "runtime",
    "limits",
    "models",
    "streams",
];

/// The problems with where their keys are set, as the configuration's other ones.
pub(super) fn located(settings: &Settings, found: Found) -> ConfigError {
    let problem = |(key, message): (String, String)| Problem {
        origin: settings.origins.find(&key).cloned(),
        key,
        message,
    };
    ConfigError(found.into_iter().map(problem).collect())
}

/// Tables that differ.
pub(super) fn differ(current: &Settings, next: &Settings) -> Vec<String> {
    let tables = |settings: &Settings| match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(tables)) => tables,
        _ => serde_json::Map::new(),
    };
    let before = tables(current);
    let mut differ: Vec<String> = tables(next)
        .into_iter()
        .filter(|(name, table)| before.get(name) != Some(table))
        .map(|it| it.0)
        .collect();
    differ.sort();
    differ
}

/// What cannot change while the daemon runs.
pub(super) fn fixed(current: &Settings, next: &Settings) -> Found {
    let folder = |path: &PathBuf| path.display().to_string();
    let library = |settings: &Settings| settings.infer.library.as_ref().map(folder).unwrap_or_default();
    let places = [
        ("paths.state", folder(&current.paths.state), folder(&next.paths.state)),
        ("paths.cache", folder(&current.paths.cache), folder(&next.paths.cache)),
        ("paths.run", folder(&current.paths.run), folder(&next.paths.run)),
        ("infer.library", library(current), library(next)),
    ];
    let restart = "cannot change while the daemon runs: systemctl restart watchpost; nothing was changed";
    let moved = places.into_iter().filter(|(_, before, after)| before != after);
    let moved = moved.map(|(key, before, _)| {
        let before = if before.is_empty() { String::new() } else { format!(" (it is {before} now)") };
        (key.to_owned(), format!("{restart}{before}"))
    });
    let tables = differ(current, next).into_iter().filter(|table| !TABLES.contains(&table.as_str()));
    moved.chain(tables.map(|table| (table, restart.to_owned()))).collect()
}

/// What is wrong with the new settings.
pub(super) fn wrong(core: &Core, current: &Settings, next: &Settings) -> Found {
    let mut found = Vec::new();
    if let Err(error) = crate::service::logging::check(&next.log.level) {
        found.push(("log.level".into(), error.to_string()));
    }
    let files = |settings: crate::publish::PublishSettings| match current.mqtt == next.mqtt {
        // What is amiss with them since is said by the connection.
        true => Ok(()),
        false => settings.check_files(),
    };
    if let Err(error) = publishing(next).and_then(files) {
        found.push((error.key().unwrap_or("mqtt").into(), error.to_string()));
    }
    if current.http != next.http
        && let Err(why) = crate::http::check(&next.http)
    {
        found.push(("http".into(), why));
    }
    if current.accel != next.accel
        && let Err(why) = core.supervisor.lane(next)
    {
        let key = if current.accel.lane == next.accel.lane { "accel.gpu" } else { "accel.lane" };
        found.push((key.into(), why));
    }
    for name in next.models.keys().filter(|name| core.supervisor.changes_model(next, name)) {
        if let Err(error) = crate::pipeline::check_model(next, name) {
            found.push((format!("models.{name}"), error.to_string()));
        }
    }
    for (name, stream) in &next.streams {
        if let Err(error) = source(stream) {
            found.push((format!("streams.{name}.source"), error));
        }
    }
    plugins(core, current, next, &mut found);
    found
}

/// An entry of a stream, and whether it is as it was.
struct Entry<'a> {
    stream: &'a str,
    name: &'a str,
    used: &'a PluginUse,
    as_before: bool,
}

fn plugins(core: &Core, current: &Settings, next: &Settings, found: &mut Found) {
    let host_differs = current.paths.plugins != next.paths.plugins || current.limits != next.limits;
    let entries: Vec<Entry<'_>> = next
        .streams
        .iter()
        .flat_map(|(stream, settings)| {
            let before = current.streams.get(stream).map(|before| &before.plugins);
            settings.plugins.iter().map(move |(name, used)| Entry {
                stream,
                name,
                used,
                as_before: before.and_then(|before| before.get(name)) == Some(used),
            })
        })
        .filter(|entry| host_differs || !entry.as_before)
        .collect();
    if entries.is_empty() {
        return;
    }
    // Beside the host that runs, which is not to notice anything yet.
    let (_folder, host) = match offline(next, Some(&next.paths.cache)) {
        Ok(offline) => offline,
        Err(error) => return found.push(("paths.plugins".into(), error.to_string())),
    };
    let running = names(&core.host);
    let known = names(&host);
    for Entry { stream, name, used, as_before } in entries {
        let plugin = used.use_.as_deref().unwrap_or(name);
        let key = format!("streams.{stream}.plugins.{name}");
        if known.iter().any(|known| known == plugin) {
            if let Err(error) = host.check_config(stream, name, used) {
                let problem = plugin_keys::problem(next, error);
                found.push((if problem.key.is_empty() { key } else { problem.key }, problem.message));
            }
        } else if !as_before || running.iter().any(|running| running == plugin) {
            // One that waits for its plugin already goes on waiting.
            let bad =
                host.plugins().into_iter().filter(|info| info.name == plugin).find_map(|info| info.error);
            let there = known.join(", ");
            let why = || format!("no plugin \"{plugin}\" in the folders; there are: {there}");
            found.push((key, bad.unwrap_or_else(why)));
        }
    }
}

/// Plugins that can be used.
fn names(host: &Host) -> Vec<String> {
    let ready = host.plugins().into_iter().filter(|info| info.state == PluginState::Ready);
    let mut names: Vec<String> = ready.map(|info| info.name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> Settings {
        let text = format!("box.name = \"b\"\n{text}");
        crate::config::merge(&[(Path::new("w.toml"), text)], &HashMap::new()).unwrap()
    }

    #[test]
    fn what_cannot_move_is_named_with_its_line_and_the_way_out() {
        let before = settings("");
        let next = settings("log.level = \"warn\"\npaths.state = \"/srv/state\"\n");
        let text = located(&next, fixed(&before, &next)).to_string();
        assert!(text.starts_with("w.toml:3: paths.state: cannot change while the daemon runs"), "{text}");
        assert!(
            text.contains("systemctl restart watchpost") && text.contains("/var/lib/watchpost"),
            "{text}"
        );
        assert_eq!(fixed(&before, &settings("rtsp.port = 99\npaths.plugins = []\nlimits.call_ms = 9\n")), []);
        let library = settings("infer.library = \"/srv/libonnxruntime.so\"\n");
        assert_eq!(fixed(&before, &library)[0].0, "infer.library");
    }

    #[test]
    fn tables_that_differ_are_told_and_every_table_is_known() {
        let next = settings("mqtt.url = \"off\"\n[streams.x]\nsource = \"a.mp4\"\n");
        assert_eq!(differ(&settings(""), &next), ["mqtt", "streams"]);
        assert!(differ(&next, &next.clone()).is_empty());
    }
}
