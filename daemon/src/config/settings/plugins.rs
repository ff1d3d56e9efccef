//! What is said of a plugin once and for all streams, and where traces go.
//!
//! In: the tables `plugins.NAME` and `trace`. Out: each stream's entries and recording with what they take from there, so
//! that a stream's settings alone say what runs. What an entry says itself wins, key by key. What types cannot say is
//! checked in `validate`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PluginUse, Settings};
use crate::config::origin::Origin;

/// What holds for a plugin in all streams. Keys beside `enabled` are its own configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PluginSettings {
    /// Whether its entries run, where they do not say so themselves.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// The plugin's own configuration.
    #[serde(flatten)]
    pub config: Map<String, Value>,
}

/// Traces of all streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// Folder for a trace of each stream, `STREAM.jsonl`; default: only streams with a `trace` of their own are traced.
    pub folder: Option<PathBuf>,
    /// Bytes after which a trace goes on in a new file.
    pub max_bytes: u64,
    /// Files of a trace: the one that is written, and older ones with `.1`, `.2` and so on behind their name.
    pub files: u32,
    /// Bytes that stay free on the disk: where less is left, traces end.
    pub reserve_bytes: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { folder: None, max_bytes: 256 << 20, files: 4, reserve_bytes: 128 << 20 }
    }
}

/// How one stream is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The file that is written.
    pub file: PathBuf,
    /// Bytes after which a new file is begun.
    pub max_bytes: u64,
    /// Files, with the one that is written.
    pub files: u32,
    /// Bytes that stay free on the disk.
    pub reserve_bytes: u64,
}

impl PluginUse {
    /// Name of the plugin that an entry uses.
    #[must_use]
    pub fn plugin<'a>(&'a self, entry: &'a str) -> &'a str {
        self.use_.as_deref().unwrap_or(entry)
    }
}

impl Settings {
    /// Lets entries take what `plugins.NAME` says and they do not, and streams their recording. `raw` is what these
    /// settings were read from: an entry's own `enabled = true` is told from the default there.
    pub(in crate::config) fn inherit(&mut self, raw: &Value) {
        let explicit = |stream: &str, entry: &str| {
            raw["streams"][stream]["plugins"][entry].get("enabled").is_some_and(|value| !value.is_null())
        };
        for (name, stream) in &mut self.streams {
            for (entry, used) in &mut stream.plugins {
                let Some(defaults) = self.plugins.get(used.use_.as_deref().unwrap_or(entry)) else {
                    continue;
                };
                fill(&mut used.config, &defaults.config);
                if let (Some(enabled), false) = (defaults.enabled, explicit(name, entry)) {
                    used.enabled = enabled;
                }
            }
        }
        self.settle_recordings();
    }

    /// Has every stream that has no trace of its own write one into `folder`.
    pub fn record_into(&mut self, folder: &Path) {
        self.trace.folder = Some(folder.to_owned());
        self.settle_recordings();
    }

    fn settle_recordings(&mut self) {
        let TraceSettings { folder, max_bytes, files, reserve_bytes } = &self.trace;
        for (name, stream) in &mut self.streams {
            let in_folder = || folder.as_ref().map(|folder| folder.join(format!("{name}.jsonl")));
            stream.recording = stream.trace.clone().or_else(in_folder).map(|file| Recording {
                file,
                max_bytes: *max_bytes,
                files: *files,
                reserve_bytes: *reserve_bytes,
            });
        }
    }

    /// Where a key of an entry's configuration was set, and under which name: in the entry, or in `plugins.NAME`. An empty
    /// key is the entry itself.
    #[must_use]
    pub fn plugin_key(&self, stream: &str, entry: &str, key: &str) -> (Option<Origin>, String) {
        let below = |table: String| if key.is_empty() { table } else { format!("{table}.{key}") };
        let own = below(format!("streams.{stream}.plugins.{entry}"));
        let used = self.streams.get(stream).and_then(|stream| stream.plugins.get(entry));
        let shared = below(format!("plugins.{}", used.map_or(entry, |used| used.plugin(entry))));
        if !key.is_empty() && self.origins.exact(&own).is_none() && self.origins.exact(&shared).is_some() {
            return (self.origins.exact(&shared).cloned(), shared);
        }
        (self.origins.find(&own).cloned(), own)
    }
}

/// Takes what is missing from `defaults`, also in tables within.
fn fill(own: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    for (key, value) in defaults {
        match (own.get_mut(key), value) {
            (None, _) => {
                own.insert(key.clone(), value.clone());
            }
            (Some(Value::Object(inner)), Value::Object(more)) => fill(inner, more),
            (Some(_), _) => {}
        }
    }
}
