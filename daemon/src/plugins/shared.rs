//! What the host, its threads and the rows of all streams share. Owned by whoever holds the `Arc`; the last
//! one to go stops the engine's clock and gives back the ids that were not used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use wasmtime::component::Linker;

use super::compile::Compiler;
use super::engine::Engine;
use super::folder::FolderInfo;
use super::guest::Guest;
use super::ids::Ids;
use super::loaded::Loaded;
use super::slot::Slot;
use super::status::{Notice, PluginInfo};
use crate::config::settings::Limits;
use crate::telemetry::Registry;

/// Called when an entry's state changes. Must return at once.
pub type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What is shared.
pub(super) struct Shared {
    pub linker: Linker<Guest>,
    pub ids: Arc<Ids>,
    pub limits: Limiting,
    pub compiler: Compiler,
    /// Compiled code.
    pub cache: PathBuf,
    /// `paths.state`.
    pub state: PathBuf,
    pub metrics: Registry,
    pub on_notice: Option<OnNotice>,
    pub catalogue: RwLock<Catalogue>,
    /// Plugins that are turned off in all streams.
    pub disabled: RwLock<BTreeSet<String>>,
    pub slots: Mutex<Vec<Weak<Slot>>>,
    pub bell: Bell,
    pub engine: Engine,
}

/// The limits in force, which a reload may change.
pub(super) struct Limiting {
    now: RwLock<Arc<Limits>>,
    changes: AtomicU64,
}

impl Limiting {
    pub(super) fn new(limits: Limits) -> Self {
        Self { now: RwLock::new(Arc::new(limits)), changes: AtomicU64::new(0) }
    }

    /// Those in force, and how often they have changed.
    pub(super) fn get(&self) -> (Arc<Limits>, u64) {
        // In this order: older limits may go with a newer number never.
        let changes = self.changes();
        (Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)), changes)
    }

    /// How often they have changed; for who looks often.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Puts others in force; `false` where they are the same.
    pub(super) fn set(&self, limits: &Limits) -> bool {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if **now == *limits {
            return false;
        }
        *now = Arc::new(limits.clone());
        drop(now);
        self.changes.fetch_add(1, Ordering::Release);
        true
    }
}

/// The plugins that there are.
#[derive(Default)]
pub(super) struct Catalogue {
    pub plugins: BTreeMap<String, Arc<Loaded>>,
    pub infos: Vec<PluginInfo>,
    pub folders: Vec<FolderInfo>,
}

impl Shared {
    /// The plugin of a name.
    pub(super) fn plugin(&self, name: &str) -> Option<Arc<Loaded>> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).plugins.get(name).cloned()
    }

    /// Whether a plugin is turned off.
    pub(super) fn is_disabled(&self, name: &str) -> bool {
        self.disabled.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// The entries of all streams that run.
    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        let mut slots = lock(&self.slots);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Wakes the thread that builds instances.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    wake: Condvar,
}

#[derive(Default)]
struct Rung {
    work: bool,
    stop: bool,
}

impl Bell {
    /// There is work.
    pub(super) fn ring(&self) {
        lock(&self.rung).work = true;
        self.wake.notify_all();
    }

    /// It is over.
    pub(super) fn stop(&self) {
        lock(&self.rung).stop = true;
        self.wake.notify_all();
    }

    /// Waits for work, at most so long; `false` when it is over.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let rung = lock(&self.rung);
        let idle = |rung: &mut Rung| !rung.work && !rung.stop;
        let (mut rung, _) =
            self.wake.wait_timeout_while(rung, most, idle).unwrap_or_else(PoisonError::into_inner);
        rung.work = false;
        !rung.stop
    }
}

/// Locks, also after a panic elsewhere: what is behind these locks is whole at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
