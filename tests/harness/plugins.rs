//! Plugins for tests: components built from the workspace, and a host with folders of its own.
//!
//! In: the name of a component. Out: its file, built by cargo if it is not up to date; a [`Bench`] that runs
//! rows of plugins without video. A bench's folders go when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use watchpost::config::manifest::Task;
use watchpost::config::settings::{Limits, Paths, PluginUse};
use watchpost::flow::{FrameMeta, Objects, Rect, Size};
use watchpost::plugins::{
    Compiler, EntryStatus, Host, HostOptions, InstanceState, Notice, PluginInfo, RowOutput, StreamContext,
    StreamModel, StreamPlugins,
};

use crate::daemon::binary;
use crate::data::root;

/// The file of a component: a plugin's package, or an example of the package `misbehave`.
///
/// # Panics
/// Where it cannot be built.
#[must_use]
pub fn wasm(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let packages = ["misbehave", "loitering", "tracker", "violence-alert", "camera-framing"];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args([
            "build",
            "--release",
            "--target",
            "wasm32-wasip2",
            "--lib",
            "--examples",
        ]);
        for package in packages {
            command.args(["-p", package]);
        }
        let done = command.output().expect("cargo runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    });
    let folder = root().join("target/wasm32-wasip2/release");
    let file = format!("{}.wasm", name.replace('-', "_"));
    [folder.join(&file), folder.join("examples").join(&file)]
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no component {name} below {}", folder.display()))
}

/// A component's bytes with a text in them replaced by another of the same length: another version, or
/// another name, without another build.
///
/// # Panics
/// Where the lengths differ, or the text is not there.
#[must_use]
pub fn patched(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(wasm(name)).unwrap();
    let mut found = 0;
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            found += 1;
            at += from.len();
        } else {
            at += 1;
        }
    }
    assert!(found > 0, "{name} does not hold \"{from}\"");
    bytes
}

/// What the host said, in order, and a bell for whoever waits.
#[derive(Clone, Default)]
pub struct Notices(Arc<(Mutex<Vec<Notice>>, Condvar)>);

impl Notices {
    /// All so far.
    ///
    /// # Panics
    /// Where another thread panicked.
    #[must_use]
    pub fn all(&self) -> Vec<Notice> {
        self.0.0.lock().unwrap().clone()
    }

    fn push(&self, notice: &Notice) {
        self.0.0.lock().unwrap().push(notice.clone());
        self.0.1.notify_all();
    }
}

/// A host with folders of its own.
pub struct Bench {
    /// The host; `None` after `Bench::crash`.
    pub host: Option<Host>,
    /// What it said.
    pub notices: Notices,
    options: HostOptions,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A host with no plugins yet and these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, &[])
    }

    /// A host that finds these components, by name, when it starts.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn with(limits: Limits, components: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["shipped", "user"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in components {
            install(
                &folder.path().join("shipped").join(format!("{name}.wasm")),
                &std::fs::read(wasm(name)).unwrap(),
            );
        }
        let notices = Notices::default();
        let sink = notices.clone();
        let options = HostOptions {
            paths: Paths {
                state: folder.path().join("state"),
                // Compiled code is shared by the tests of one build: the cache is part of what is tested.
                cache: root().join("target/tmp/plugin-cache"),
                run: folder.path().join("run"),
                plugins: vec![folder.path().join("shipped"), folder.path().join("user")],
                models: Vec::new(),
            },
            limits,
            compiler: Compiler::of(binary()),
            metrics: watchpost::telemetry::Registry::new(),
            on_notice: Some(Arc::new(move |notice| sink.push(notice))),
        };
        let host = Host::new(options.clone()).unwrap();
        Self { host: Some(host), notices, options, folder }
    }

    /// The host.
    ///
    /// # Panics
    /// After `Bench::crash`.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    /// What the host is built from.
    #[must_use]
    pub fn options(&self) -> HostOptions {
        self.options.clone()
    }

    /// A file in the first folder of plugins.
    #[must_use]
    pub fn shipped(&self, file: &str) -> PathBuf {
        self.folder.path().join("shipped").join(file)
    }

    /// A file in the second folder of plugins, which wins.
    #[must_use]
    pub fn user(&self, file: &str) -> PathBuf {
        self.folder.path().join("user").join(file)
    }

    /// The folder of the host's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Another host on the same folders, as after a restart. The one before must be gone.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn restart(&mut self) {
        self.host = None;
        self.host = Some(Host::new(self.options.clone()).unwrap());
    }

    /// A row of plugins: entry, plugin, configuration, in this order.
    ///
    /// # Panics
    /// Where the row cannot be built.
    #[must_use]
    pub fn row(&self, stream: &str, entries: &[(&str, &str, serde_json::Value)]) -> StreamPlugins {
        let uses: BTreeMap<_, _> = entries
            .iter()
            .enumerate()
            .map(|(order, (entry, plugin, config))| {
                let used = PluginUse {
                    order: order as i64,
                    use_: Some((*plugin).to_owned()),
                    enabled: true,
                    config: config.as_object().cloned().unwrap_or_default(),
                };
                ((*entry).to_owned(), used)
            })
            .collect();
        StreamPlugins::new(self.host(), &context(stream), &uses).unwrap()
    }

    /// Waits until the host says so of its files.
    ///
    /// # Panics
    /// Where that does not happen in time.
    pub fn wait_files(&self, what: &str, done: impl Fn(&[PluginInfo]) -> bool) {
        wait(what, || done(&self.host().plugins()), || format!("{:#?}", self.host().plugins()));
    }
}

/// Waits for a condition; `describe` is shown where it does not come.
///
/// # Panics
/// Where it does not come within a minute.
pub fn wait(what: &str, mut done: impl FnMut() -> bool, describe: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    let (never, bell) = (Mutex::new(()), Condvar::new());
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen:\n{}", describe());
        drop(bell.wait_timeout(never.lock().unwrap(), Duration::from_millis(10)).unwrap());
    }
}

/// Puts a plugin's file in place as a package does: written under another name, then renamed.
///
/// # Panics
/// Where it cannot be written.
pub fn install(file: &Path, bytes: &[u8]) {
    let hidden = file.with_file_name(format!(".{}.new", file.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&hidden, bytes).unwrap();
    std::fs::rename(&hidden, file).unwrap();
}

/// The context of a stream with one detector of two labels.
#[must_use]
pub fn context(stream: &str) -> StreamContext {
    StreamContext {
        stream: stream.into(),
        models: vec![StreamModel {
            name: "people".into(),
            task: Task::Detect,
            labels: vec!["person".into(), "ball".into()],
            rate: 0.0,
        }],
        size: Size::new(640, 360),
        rate: 25.0,
        zones: BTreeMap::new(),
    }
}

/// Frame number `index` at 25 frames a second, with three objects that walk.
#[must_use]
pub fn frame(stream: &str, index: u64) -> (FrameMeta, Objects) {
    let meta = FrameMeta {
        stream: stream.into(),
        index,
        pts: index * 40_000_000,
        captured: 1_700_000_000_000_000 + index * 40_000,
        width: 640,
        height: 360,
        cut: false,
        motion: 0.1,
        gap: 0,
    };
    let mut objects = Objects::default();
    for person in 0..3u8 {
        let x = (index as f32 * 2.0 + f32::from(person) * 150.0) % 600.0;
        objects.push(0, u32::from(person == 2), 0.9, Rect::new(x, 100.0, 40.0, 120.0));
    }
    (meta, objects)
}

/// Runs frames `from..to` through a row.
pub fn frames(row: &mut StreamPlugins, stream: &str, range: std::ops::Range<u64>) -> Vec<RowOutput> {
    range
        .map(|index| {
            let (meta, objects) = frame(stream, index);
            row.process(&meta, &[], objects, &[])
        })
        .collect()
}

/// Runs further frames until an entry is in a state; gives the index of the next frame and what came out.
///
/// # Panics
/// Where that does not happen in time.
pub fn frames_until(
    row: &mut StreamPlugins,
    stream: &str,
    from: u64,
    what: &str,
    done: impl Fn(&[EntryStatus]) -> bool,
) -> (u64, Vec<RowOutput>) {
    let mut next = from;
    let mut given = Vec::new();
    let mut last = Vec::new();
    wait(
        what,
        || {
            let (meta, objects) = frame(stream, next);
            given.push(row.process(&meta, &[], objects, &[]));
            next += 1;
            last = row.status();
            done(&last)
        },
        || "the entries are as follows".into(),
    );
    (next, given)
}

/// Whether an entry is in this state.
#[must_use]
pub fn is(status: &[EntryStatus], entry: &str, state: InstanceState) -> bool {
    status.iter().any(|found| found.entry == entry && found.state == state)
}
