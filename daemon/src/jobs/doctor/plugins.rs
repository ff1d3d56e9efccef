//! The plugins that streams name: there, loadable, and content with their configuration.
//!
//! In: the configuration. Out: findings. Works in a folder of its own, since a daemon may be running on the configured
//! one. A stream runs without a plugin that is bad, so nothing here keeps one from running.

use super::finding::Finding;
use crate::config::Settings;
use crate::plugins::{Compiler, Host, HostOptions};
use crate::telemetry::Registry;

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let entries = || {
        let streams = settings.streams.iter().filter(|(_, stream)| stream.enabled);
        streams.flat_map(|(name, stream)| stream.plugins.iter().map(move |(entry, used)| (name, entry, used)))
    };
    if entries().next().is_none() {
        return Vec::new();
    }
    let host = match host(settings) {
        Ok(host) => host,
        Err(error) => {
            let fix = "streams run without plugins; see paths.plugins and what is free in /tmp";
            return vec![Finding::limited("plugin", format!("{error:#}"), fix)];
        }
    };
    let plugins = host.plugins();
    let find = |name: &str| plugins.iter().find(|plugin| plugin.name == name);
    let mut findings = Vec::new();
    let mut fine = std::collections::BTreeSet::new();
    for (stream, entry, used) in entries() {
        let name = used.use_.as_deref().unwrap_or(entry);
        let wrong = match find(name) {
            None => Some((
                format!("no plugin \"{name}\" in the folders"),
                "put its .wasm into a folder of paths.plugins; `watchpost plugin list` shows what is there"
                    .to_owned(),
            )),
            Some(plugin) => match (&plugin.error, host.check_config(stream, entry, used)) {
                (Some(error), _) => Some((
                    format!("{name}: {error}"),
                    format!("watchpost plugin check {}", plugin.file.display()),
                )),
                (None, Err(error)) => {
                    Some((error.to_string(), format!("mend streams.{stream}.plugins.{entry}")))
                }
                (None, Ok(())) => {
                    fine.insert(format!("{name} {}", plugin.version));
                    None
                }
            },
        };
        if let Some((found, fix)) = wrong {
            let found = format!("{stream}/{entry}: {found}; the stream runs without it");
            findings.push(Finding::limited("plugin", found, fix));
        }
    }
    if !fine.is_empty() {
        let names = Vec::from_iter(fine).join(", ");
        findings.insert(0, Finding::good("plugin", format!("{names}: loaded, configuration accepted")));
    }
    findings
}

fn host(settings: &Settings) -> anyhow::Result<Host> {
    let folder = tempfile::tempdir()?;
    let mut paths = settings.paths.clone();
    paths.state = folder.path().to_owned();
    paths.cache = folder.path().join("cache");
    Ok(Host::new(HostOptions {
        paths,
        limits: settings.limits.clone(),
        compiler: Compiler::own()?,
        metrics: Registry::new(),
        on_notice: None,
    })?)
}
