//! `watchpost check`: loads what the configuration names, without starting anything.
//!
//! In: validated settings. Out: a line for each model, plugin and stream; an error that counts what is wrong. Credentials
//! that only the service is given are named, and not checked.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;
use tempfile::TempDir;

use super::plugin_keys;
use crate::config::settings::Stream;
use crate::config::{Problem, Settings};
use crate::plugins::{Compiler, Host, HostOptions};
use crate::telemetry::Registry;

/// Checks state, models, plugins and sources.
pub(super) fn run(settings: &Settings, missing: &[Problem]) -> anyhow::Result<()> {
    // Nothing else matters where a newer daemon's state is in the way.
    crate::service::state::examine(&settings.paths.state)?;
    for credential in missing {
        println!("       {credential}");
    }
    let mut wrong = 0;
    let mut say = |what: String, result: Result<String, String>| match result {
        Ok(fine) => println!("ok     {what}  {fine}"),
        Err(error) => {
            wrong += 1;
            println!("WRONG  {what}  {error}");
        }
    };
    for name in settings.models.keys() {
        say(
            format!("model {name}"),
            crate::pipeline::check_model(settings, name).map_err(|error| error.to_string()),
        );
    }
    let page = settings.http.url().unwrap_or_else(|| "off".to_owned());
    say("status page".to_owned(), crate::http::check(&settings.http).map(|()| page));
    let (_folder, host) = offline(settings, None)?;
    let mut known = BTreeSet::new();
    for plugin in host.plugins() {
        known.insert(plugin.name.clone());
        let what = format!("plugin {} {}", plugin.name, plugin.version);
        say(what, plugin.error.map_or_else(|| Ok(plugin.file.display().to_string()), Err));
    }
    for (name, stream) in &settings.streams {
        say(format!("stream {name}"), source(stream));
        for (entry, used) in &stream.plugins {
            let plugin = used.use_.as_deref().unwrap_or(entry);
            let result = if known.contains(plugin) {
                host.check_config(name, entry, used)
                    .map(|()| plugin.to_owned())
                    .map_err(|error| plugin_keys::problem(settings, error).to_string())
            } else {
                Err(format!(
                    "no plugin \"{plugin}\" in the folders; there are: {}",
                    Vec::from_iter(known.clone()).join(", ")
                ))
            };
            say(format!("stream {name}, plugin entry {entry}"), result);
        }
    }
    for problem in plugin_keys::missing(settings, &host) {
        println!("note   {problem}");
    }
    if wrong > 0 {
        bail!("{wrong} of the things above are wrong");
    }
    Ok(())
}

/// The plugins in the folders, loaded by a host of their own: a daemon may be running on the configured state. `cache`:
/// where compiled code is kept; default: with the state, in the folder that is given too and goes with it.
pub(super) fn offline(settings: &Settings, cache: Option<&Path>) -> anyhow::Result<(TempDir, Host)> {
    let folder = tempfile::tempdir()?;
    let mut paths = settings.paths.clone();
    paths.state = folder.path().to_owned();
    paths.cache = cache.map_or_else(|| folder.path().join("cache"), Path::to_owned);
    let host = Host::new(HostOptions {
        paths,
        limits: settings.limits.clone(),
        compiler: Compiler::own()?,
        metrics: Registry::new(),
        on_notice: None,
    })?;
    Ok((folder, host))
}

/// A stream's source, as it may be shown.
///
/// # Errors
/// What is wrong with the address; whether anything answers there is not looked at.
pub(super) fn source(stream: &Stream) -> Result<String, String> {
    if stream.source.starts_with("scene:") {
        return crate::scene::SceneSpec::parse(&stream.source)
            .map(|spec| spec.to_string())
            .map_err(|error| error.to_string());
    }
    crate::ingest::Location::parse(&stream.source).map(|at| at.to_string()).map_err(|error| error.to_string())
}
