//! What is wrong with what the configuration says of plugins, as far as only the plugins themselves know.
//!
//! In: settings, and the plugins that were found. Out: problems with file, line and key. Nothing fails: an entry whose
//! configuration is wrong is refused by the host when it starts, and the stream runs on without it.

use crate::config::{Problem, Settings};
use crate::plugins::{Error, Host};

/// Keys that a plugin's schema refuses.
pub(super) fn wrong(settings: &Settings, host: &Host) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for (stream, entry, used) in entries(settings) {
        if let Some(problem) =
            host.check_config(stream, entry, used).err().map(|error| problem(settings, error))
            && !found.contains(&problem)
        {
            found.push(problem);
        }
    }
    found
}

/// Plugins that are named and are not there: they may come yet.
pub(super) fn missing(settings: &Settings, host: &Host) -> Vec<Problem> {
    let known: Vec<String> = host.plugins().into_iter().map(|plugin| plugin.name).collect();
    let unknown = settings.plugins.keys().filter(|name| !known.contains(name));
    unknown
        .map(|name| {
            let key = format!("plugins.{name}");
            let origin = settings.origins.find(&key).cloned();
            let message =
                format!("no plugin of that name in the folders yet; there are: {}", known.join(", "));
            Problem { origin, key, message }
        })
        .collect()
}

/// Says both in the log.
pub(super) fn say(settings: &Settings, host: &Host) {
    for problem in wrong(settings, host) {
        tracing::error!("{problem}; the entry is refused");
    }
    for problem in missing(settings, host) {
        tracing::warn!("{problem}");
    }
}

/// An error of the host, with the place in the configuration that it is about.
pub(super) fn problem(settings: &Settings, error: Error) -> Problem {
    match error {
        Error::Config { stream, entry, plugin, key, reason } => {
            let (origin, key) = settings.plugin_key(&stream, &entry, &key);
            Problem { origin, key, message: format!("{reason} (plugin {plugin})") }
        }
        other => Problem { origin: None, key: String::new(), message: other.to_string() },
    }
}

fn entries(
    settings: &Settings,
) -> impl Iterator<Item = (&String, &String, &crate::config::settings::PluginUse)> {
    let streams = settings.streams.iter();
    streams.flat_map(|(name, stream)| stream.plugins.iter().map(move |(entry, used)| (name, entry, used)))
}
