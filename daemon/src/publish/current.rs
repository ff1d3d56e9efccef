//! Which broker, box and topics are in force, and what is retained there.
//!
//! In: what the publisher's handles say; another [`Shared`], where the publisher goes over to other settings. Out: the
//! one in force. Owned by the publisher and all of its handles. Retained messages are kept here as what they say, not
//! as bytes, so that they can be said again under another name or to another broker; nothing blocks or fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::messages::{PluginStatus, StreamStatus};
use super::shared::Shared;
use crate::flow::State;

/// See the module.
#[derive(Debug)]
pub(super) struct Current {
    now: RwLock<Arc<Shared>>,
    said: Mutex<Said>,
}

/// What was retained last.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub streams: BTreeMap<String, StreamStatus>,
    /// By stream and name of the state: the entry that gave it, and the state.
    pub states: BTreeMap<(String, String), (String, State)>,
    pub plugins: BTreeMap<String, PluginStatus>,
    /// The newest picture of each stream, a JPEG.
    pub snapshots: BTreeMap<String, Vec<u8>>,
}

impl Current {
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(shared), said: Mutex::default() })
    }

    /// The one in force. It may be left behind at any moment: what must not be lost there is said by [`Self::say`].
    pub fn now(&self) -> Arc<Shared> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what is retained, and says it where publishing goes now.
    pub fn say(&self, note: impl FnOnce(&mut Said), say: impl FnOnce(&Shared)) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut said);
        // Under the lock, so that it is said in one place and not half in each.
        say(&self.now());
    }

    /// Puts another one in force, where everything that is retained is said again; gives the one before.
    pub fn turn_to(&self, next: Arc<Shared>) -> Arc<Shared> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(
            &mut *self.now.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&next),
        );
        for (stream, status) in &said.streams {
            next.stream_status(stream, status.clone());
        }
        for ((stream, _), (entry, state)) in &said.states {
            next.state(stream, entry, state.clone());
        }
        for (plugin, status) in &said.plugins {
            next.plugin_status(plugin, status.clone());
        }
        for (stream, jpeg) in &said.snapshots {
            next.snapshot(stream, jpeg.clone());
        }
        if let Some(status) = before.box_status() {
            next.set_box_status(status);
        }
        before
    }
}

impl Said {
    /// A stream is gone.
    pub fn forget_stream(&mut self, stream: &str) {
        self.streams.remove(stream);
        self.snapshots.remove(stream);
        self.states.retain(|(of, _), _| of != stream);
    }
}
