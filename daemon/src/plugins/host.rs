//! The plugin host: the one engine, the folders, and the threads that make instances aside.
//!
//! In: folders, limits, and where state is kept. Out: rows of plugins for streams ([`super::StreamPlugins`]),
//! what is known of plugins and entries, incidents that a crash left open. Owned by `app`; dropping it stops
//! and joins its threads. Rows that are still there then go on with the instances they have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};

use super::artifact;
use super::compile::Compiler;
use super::engine::Engine;
use super::error::Error;
use super::folder::{self, FolderInfo};
use super::ids::Ids;
use super::incidents::{self, Orphan};
use super::library::Library;
use super::loaded;
use super::shared::{Bell, Catalogue, Limiting, OnNotice, Shared};
use super::status::{EntryStatus, PluginInfo};
use crate::config::settings::{Limits, Paths, PluginUse};
use crate::telemetry::{Distribution, Histogram, Registry};

/// How often the folders are looked at where nothing tells of a change.
const RESCAN: Duration = Duration::from_secs(2);
/// How long a file must be still before it is read.
const SETTLE: Duration = Duration::from_millis(200);

/// How long whoever changes the folders waits for what lies in them.
const LOOKING: Duration = Duration::from_secs(60);

/// The one kind of access that may have changed a file.
const WRITTEN: AccessKind = AccessKind::Close(AccessMode::Write);

/// What a host is built from.
#[derive(Clone)]
pub struct HostOptions {
    /// Folders: plugins, state and cache.
    pub paths: Paths,
    /// Limits of each instance, and of files.
    pub limits: Limits,
    /// The program that compiles plugins.
    pub compiler: Compiler,
    /// Where figures go.
    pub metrics: Registry,
    /// Told of each change of an entry's state.
    pub on_notice: Option<OnNotice>,
}

/// The plugin host.
pub struct Host {
    shared: Arc<Shared>,
    orphans: Vec<Orphan>,
    watch: Sender<Message>,
    watcher: Option<JoinHandle<()>>,
    builder: Option<JoinHandle<()>>,
}

enum Message {
    Changed,
    /// Look in these folders; where `again`, also at bad files once more. The sender goes when all is judged.
    Look {
        folders: Vec<PathBuf>,
        again: bool,
        done: Sender<()>,
    },
    Stop,
}

impl Host {
    /// Starts the host. The plugins that are in the folders are loaded before this returns; ones that are bad
    /// do not stop it, see [`Host::plugins`].
    ///
    /// # Errors
    /// Where the engine does not start, or the folders for state and cache cannot be used.
    pub fn new(options: HostOptions) -> Result<Self, Error> {
        let state = options.paths.state.clone();
        std::fs::create_dir_all(&state).map_err(|error| Error::io("making", &state, &error))?;
        let ids = state.join("ids");
        let ids = Ids::open(&ids).map_err(|error| Error::io("reserving ids in", &ids, &error))?;
        let folder = state.join("incidents");
        let orphans = incidents::orphans(&folder).map_err(|error| Error::io("reading", &folder, &error))?;
        let folders = options.paths.plugins.clone();
        let shared = shared(options, ids)?;

        let mut library = Library::new(Arc::clone(&shared), folders.clone());
        // What was there before the daemon is not being written now; if it is, it will change again.
        library.scan(Duration::ZERO);

        let (watch, messages) = mpsc::channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let no_thread = |error: std::io::Error| Error::Engine { reason: format!("no thread: {error}") };
        let (told, common) = (watch.clone(), Arc::clone(&shared));
        let watcher = thread("plugin-folders")
            .spawn(move || watch_folders(library, folders, &common, told, &messages))
            .map_err(no_thread)?;
        let mut host = Self { shared, orphans, watch, watcher: Some(watcher), builder: None };
        let common = Arc::clone(&host.shared);
        host.builder = Some(thread("plugin-builder").spawn(move || build(&common)).map_err(no_thread)?);
        Ok(host)
    }

    /// Goes over to other folders and limits, and waits until what lies in the folders is loaded. Instances go on: the
    /// limits hold from their next call, and one that has more already than they allow is made anew with its state.
    pub fn configure(&self, folders: &[PathBuf], limits: &Limits) {
        let again = self.shared.limits.set(limits);
        let (done, judged) = mpsc::channel();
        let look = Message::Look { folders: folders.to_vec(), again, done };
        if self.watch.send(look).is_ok() {
            // Ends when the sender goes.
            let _ = judged.recv_timeout(LOOKING);
        }
        if again {
            self.shared.slots().iter().for_each(|slot| slot.again());
            self.shared.bell.ring();
        }
    }

    /// Every plugin file, and how it fares.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginInfo> {
        self.shared.catalogue.read().unwrap_or_else(PoisonError::into_inner).infos.clone()
    }

    /// Every folder that plugins are looked for in, and how it fares.
    #[must_use]
    pub fn folders(&self) -> Vec<FolderInfo> {
        self.shared.catalogue.read().unwrap_or_else(PoisonError::into_inner).folders.clone()
    }

    /// How long the calls of each plugin take, over its entries in all streams, by the plugin's name.
    #[must_use]
    pub fn call_times(&self) -> BTreeMap<String, Distribution> {
        let mut times: BTreeMap<String, Vec<Histogram>> = BTreeMap::new();
        for slot in self.shared.slots() {
            times.entry(slot.names.plugin.to_string()).or_default().push(slot.figures.seconds.clone());
        }
        times.into_iter().map(|(plugin, all)| (plugin, Histogram::together(&all))).collect()
    }

    /// How the entries of all streams fare.
    #[must_use]
    pub fn status(&self) -> Vec<EntryStatus> {
        let mut all: Vec<_> = self.shared.slots().iter().map(|slot| slot.status()).collect();
        all.sort_by(|a, b| (&a.stream, &a.entry).cmp(&(&b.stream, &b.entry)));
        all
    }

    /// Turns a plugin on or off in all streams, those that come later too, for the life of this host. Its open incidents
    /// end with `plugin-disabled`; its state is kept for when it is turned on again. Takes effect at each stream's next
    /// frame or tick.
    ///
    /// # Errors
    /// Where no file holds such a plugin, and no stream names it.
    pub fn set_enabled(&self, plugin: &str, enabled: bool) -> Result<(), String> {
        let slots = self.shared.slots();
        let infos = self.plugins();
        if !infos.iter().any(|info| info.name == plugin)
            && !slots.iter().any(|slot| *slot.names.plugin == *plugin)
        {
            let known: Vec<_> = infos.iter().map(|info| info.name.as_str()).collect();
            return Err(format!("no plugin \"{plugin}\"; there are: {}", known.join(", ")));
        }
        let mut disabled = self.shared.disabled.write().unwrap_or_else(PoisonError::into_inner);
        let changed = if enabled { disabled.remove(plugin) } else { disabled.insert(plugin.to_owned()) };
        drop(disabled);
        if changed {
            tracing::info!(
                plugin,
                enabled,
                "a plugin is turned {} in all streams",
                if enabled { "on" } else { "off" }
            );
            for slot in slots.iter().filter(|slot| *slot.names.plugin == *plugin) {
                slot.retarget();
            }
            self.shared.bell.ring();
        }
        Ok(())
    }

    /// Whether a plugin is not turned off.
    #[must_use]
    pub fn is_enabled(&self, plugin: &str) -> bool {
        !self.shared.is_disabled(plugin)
    }

    /// What was open when the daemon or the box went away: publish each end, then call
    /// [`Host::settle_orphans`]. Until then a further crash finds them again.
    #[must_use]
    pub fn orphans(&self) -> &[Orphan] {
        &self.orphans
    }

    /// The ends of all orphans are where nothing loses them.
    ///
    /// # Errors
    /// Where the file that remembers them cannot be removed.
    pub fn settle_orphans(&mut self) -> Result<(), Error> {
        let folder = self.shared.state.join("incidents");
        incidents::settle(&folder).map_err(|error| Error::io("clearing", &folder, &error))?;
        self.orphans.clear();
        Ok(())
    }

    /// Checks an entry's configuration against its plugin's schema, where the plugin is there.
    ///
    /// # Errors
    /// Names the stream, the entry and the key.
    pub fn check_config(&self, stream: &str, entry: &str, used: &PluginUse) -> Result<(), Error> {
        let name = used.use_.as_deref().unwrap_or(entry);
        let Some(plugin) = self.shared.plugin(name) else { return Ok(()) };
        let config = serde_json::Value::Object(used.config.clone());
        plugin.descriptor.accepts(&config).map_err(|(key, reason)| Error::Config {
            stream: stream.into(),
            entry: entry.into(),
            plugin: format!("{name} {}", plugin.descriptor.version),
            key,
            reason,
        })
    }

    /// An id never given before on this box, over restarts.
    ///
    /// # Errors
    /// Where the disk does not hold the reservation.
    pub fn new_id(&self) -> Result<u64, Error> {
        self.shared
            .ids
            .take()
            .map_err(|error| Error::io("reserving ids in", &self.shared.state.join("ids"), &error))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.watch.send(Message::Stop);
        self.shared.bell.stop();
        for thread in [self.watcher.take(), self.builder.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

/// What rows and threads share, without threads yet but the engine's clock.
pub(super) fn shared(options: HostOptions, ids: Ids) -> Result<Arc<Shared>, Error> {
    let engine = Engine::new()?;
    let cache = options.paths.cache.join("plugins");
    artifact::prepare(&cache).map_err(|error| Error::io("keeping compiled plugins in", &cache, &error))?;
    Ok(Arc::new(Shared {
        linker: loaded::linker(&engine.wasm)?,
        ids: Arc::new(ids),
        limits: Limiting::new(options.limits),
        compiler: options.compiler,
        cache,
        state: options.paths.state,
        metrics: options.metrics,
        on_notice: options.on_notice,
        catalogue: RwLock::new(Catalogue::default()),
        disabled: RwLock::default(),
        slots: Mutex::new(Vec::new()),
        bell: Bell::default(),
        engine,
    }))
}

/// What is in the folders, found and checked outside a daemon: nothing runs but `describe`.
///
/// # Errors
/// Where the engine does not start, or the cache folder cannot be used.
pub fn plugins_offline(options: HostOptions) -> Result<Vec<PluginInfo>, Error> {
    look_offline(options).map(|(plugins, _)| plugins)
}

/// As [`plugins_offline`], with how the folders fare.
///
/// # Errors
/// As [`plugins_offline`].
pub fn look_offline(options: HostOptions) -> Result<(Vec<PluginInfo>, Vec<FolderInfo>), Error> {
    let folders = options.paths.plugins.clone();
    let shared = shared(options, Ids::passing())?;
    Library::new(Arc::clone(&shared), folders).scan(Duration::ZERO);
    let catalogue = shared.catalogue.read().unwrap_or_else(PoisonError::into_inner);
    Ok((catalogue.infos.clone(), catalogue.folders.clone()))
}

/// The thread that watches the folders.
fn watch_folders(
    mut library: Library,
    mut folders: Vec<PathBuf>,
    shared: &Shared,
    tell: Sender<Message>,
    messages: &mpsc::Receiver<Message>,
) {
    let told = move |event: notify::Result<notify::Event>| {
        // Reading the folders is announced, too: answering that with a scan would never end.
        let read = |event: &notify::Event| matches!(event.kind, EventKind::Access(kind) if kind != WRITTEN);
        if !event.as_ref().is_ok_and(read) {
            let _ = tell.send(Message::Changed);
        }
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "changes of plugin folders are not announced; they are looked at every two seconds");
            None
        }
    };
    let mut watched: Vec<folder::Identity> = vec![None; folders.len()];
    let mut wait = Duration::ZERO;
    // Who waits until all is judged.
    let mut waiting = Vec::new();
    loop {
        let mut settle = SETTLE;
        let mut message = match messages.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => None,
        };
        while let Some(one) = message {
            match one {
                Message::Stop => return,
                Message::Changed => {}
                Message::Look { folders: wanted, again, done } => {
                    if again {
                        library.again();
                    }
                    if wanted != folders {
                        for folder in &folders {
                            let _ = watcher.as_mut().map(|watcher| watcher.unwatch(folder));
                        }
                        library.look_in(wanted.clone());
                        (watched, folders) = (vec![None; wanted.len()], wanted);
                        settle = Duration::ZERO;
                    }
                    waiting.push(done);
                }
            }
            message = messages.try_recv().ok();
        }
        if let Some(watcher) = &mut watcher {
            for (folder, watched) in folders.iter().zip(&mut watched) {
                // A folder may appear later, or be replaced by another of the same name.
                let now = folder::identity(folder);
                if now != *watched {
                    let _ = watcher.unwatch(folder);
                    let seen = now.is_some() && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
                    *watched = if seen { now } else { None };
                }
            }
        }
        let scan = library.scan(settle);
        if scan.changed {
            for slot in shared.slots() {
                slot.retarget();
            }
            shared.bell.ring();
        }
        if !scan.pending {
            waiting.clear();
        }
        wait = if scan.pending { SETTLE / 4 } else { RESCAN };
    }
}

/// The thread that makes instances aside and writes states to disk.
fn build(shared: &Shared) {
    let mut wait = Duration::ZERO;
    while shared.bell.wait(wait) {
        let slots = shared.slots();
        wait = Duration::from_secs(1);
        for slot in &slots {
            if slot.due().is_some_and(|due| due <= Instant::now()) {
                slot.build();
            }
            slot.persist();
        }
        for due in slots.iter().filter_map(|slot| slot.due()) {
            wait = wait.min(due.saturating_duration_since(Instant::now()));
        }
    }
    for slot in shared.slots() {
        slot.persist();
    }
}
