//! One plugin alone in a row, as in a stream, for whoever measures it: `watchpost bench plugin`, and the budget of
//! the tracker (tests/bench/budgets/tracker.rs).
//!
//! In: a component, its configuration, the program that compiles it. Out: a row that takes frames of [`SIZE`] with
//! objects of one model, `people`, with one label, `person`. A [`Bench`] owns row, host and the temporary folder
//! that they work in; all go when it is dropped. A component that the host refuses is an error when it is built, a
//! plugin that failed on the way when it ends: figures of a plugin that didn't run mean nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::config::manifest::Task;
use crate::config::settings::{Limits, Paths, PluginUse};
use crate::flow::Size;
use crate::plugins::{Compiler, Host, HostOptions, InstanceState, StreamContext, StreamModel, StreamPlugins};
use crate::telemetry::Registry;

/// Size of the stream's frames.
pub const SIZE: Size = Size::new(1280, 720);

/// A row with one plugin.
pub struct Bench {
    /// The row.
    pub row: StreamPlugins,
    // Fields go in this order: the row before its host, the folder last.
    _host: Host,
    _folder: TempDir,
}

impl Bench {
    /// Builds the row; the plugin has its compiled code and its configuration when this returns.
    ///
    /// # Errors
    /// Where the file cannot be read or the host refuses it as a plugin.
    pub fn new(file: &Path, config: Map<String, Value>, compiler: Compiler) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        // A folder of its own: the host would load, and compile, whatever else lies beside the file.
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins)?;
        std::fs::copy(file, plugins.join("bench.wasm"))
            .with_context(|| format!("reading {}", file.display()))?;
        let host = Host::new(HostOptions {
            paths: Paths {
                state: folder.path().join("state"),
                cache: folder.path().join("cache"),
                plugins: vec![plugins],
                ..Paths::default()
            },
            limits: Limits::default(),
            compiler,
            metrics: Registry::new(),
            on_notice: None,
        })?;
        let Some(plugin) = host.plugins().into_iter().next() else {
            bail!("{} is no plugin", file.display())
        };
        if let Some(error) = plugin.error {
            bail!("{error}");
        }
        let used = PluginUse { order: 0, use_: Some(plugin.name), enabled: true, config };
        let row = StreamPlugins::new(&host, &context(), &[("bench".to_owned(), used)].into())?;
        Ok(Self { row, _host: host, _folder: folder })
    }

    /// Stops the row.
    ///
    /// # Errors
    /// Where the plugin did not run, or one of its calls failed.
    pub fn end(mut self) -> anyhow::Result<()> {
        let status = self.row.status();
        self.row.stop();
        for entry in status {
            if entry.state != InstanceState::Running || entry.failures + entry.errors > 0 {
                bail!("the plugin failed: {}", entry.message);
            }
        }
        Ok(())
    }
}

fn context() -> StreamContext {
    let labels = vec!["person".into()];
    let people = StreamModel { name: "people".into(), task: Task::Detect, labels, rate: 0.0 };
    StreamContext {
        stream: "bench".into(),
        models: vec![people],
        size: SIZE,
        rate: 25.0,
        zones: BTreeMap::new(),
    }
}
