//! What the host says of plugins and their instances, for the log, the status, MQTT and the command line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How an entry of a stream fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// There is no plugin of that name yet; it starts when its file appears.
    Waiting,
    /// It is being made.
    Starting,
    /// It runs.
    Running,
    /// It failed, and is made anew after a while.
    Restarting,
    /// It failed too often. A new file, or a reload, starts it again.
    Quarantined,
    /// Its configuration is wrong; a reload with a right one starts it.
    Refused,
    /// The plugin is turned off.
    Disabled,
    /// The stream has ended.
    Stopped,
}

impl std::fmt::Display for InstanceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
            Self::Disabled => "disabled",
            Self::Stopped => "stopped",
        })
    }
}

/// An entry's state has changed, or something about it is worth saying.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The stream.
    pub stream: String,
    /// The entry.
    pub entry: String,
    /// The plugin it names.
    pub plugin: String,
    /// Version of the plugin that runs, or ran last.
    pub version: Option<String>,
    /// How it fares now.
    pub state: InstanceState,
    /// Why; empty where all is well.
    pub message: String,
}

/// How an entry of a stream fares, with figures since the daemon started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryStatus {
    /// The stream.
    pub stream: String,
    /// The entry.
    pub entry: String,
    /// The plugin it names.
    pub plugin: String,
    /// Version of the plugin that runs, or ran last.
    pub version: Option<String>,
    /// How it fares.
    pub state: InstanceState,
    /// Why, or what is wrong beside; empty where all is well.
    pub message: String,
    /// Calls so far.
    pub calls: u64,
    /// Calls that the plugin itself answered with an error.
    pub errors: u64,
    /// Times that the host had to end its instance.
    pub failures: u64,
    /// Events, views, states and shapes that the host dropped.
    pub dropped: u64,
    /// Linear memory, bytes.
    pub memory: u64,
    /// Median time of a call, seconds.
    pub p50_seconds: f64,
    /// 99th percentile of the time of a call, seconds.
    pub p99_seconds: f64,
    /// Incidents that are open.
    pub open_incidents: usize,
}

/// A plugin file, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// The plugin's name; the file's, where it never loaded.
    pub name: String,
    /// Its version; empty where it never loaded.
    pub version: String,
    /// One sentence of its own.
    pub summary: String,
    /// The file.
    pub file: PathBuf,
    /// Whose folder it lies in.
    pub origin: PluginOrigin,
    /// SHA-256 of the file that is in use.
    pub hash: String,
    /// How the file fares.
    pub state: PluginState,
    /// What is wrong with the file as it is now; an earlier good one may still be in use.
    pub error: Option<String>,
    /// Event kinds it may emit.
    pub events: Vec<String>,
    /// States it may publish.
    pub states: Vec<String>,
    /// Its virtual cameras.
    pub cameras: Vec<String>,
    /// Commands it takes.
    pub commands: Vec<String>,
    /// JSON Schema of its configuration; `true` accepts anything.
    pub config_schema: serde_json::Value,
}

/// Whose folder a plugin's file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginOrigin {
    /// One before the last of `paths.plugins`: it came with a package.
    Shipped,
    /// The last of `paths.plugins`: the user put it there.
    User,
}

/// How a plugin's file fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Loaded, and the one of its name.
    Ready,
    /// Loaded, but another file with the same name wins.
    Shadowed,
    /// The file is not usable; see the error.
    Bad,
}
