//! What of this box is retained at the broker beyond its life, kept on disk: so that a later life removes what it does
//! not publish any more, also after `kill -9`.
//!
//! In: topics, and the entities announced to Home Assistant. Out: one small JSON file, replaced as a whole, on disk
//! before what it names is published. Owned by the announcer. A file that cannot be read counts as empty, and one that
//! cannot be written is logged: then something stale may stay at the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;

/// What is, or may be, at the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Retained {
    /// Topics that hold a retained message.
    pub topics: BTreeSet<String>,
    /// The discovery message's topic, and its entities by id, with their platform.
    pub device: Option<Device>,
}

/// A device as Home Assistant knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    /// Topic of its discovery message.
    pub topic: String,
    /// Platform of each entity, by id.
    pub components: BTreeMap<String, String>,
}

/// The file and what it holds.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    retained: Retained,
}

impl Memory {
    /// Reads the file in the state folder.
    pub fn load(state: &Path) -> Self {
        let path = state.join("mqtt-retained.json");
        let retained = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "what is retained at the broker is not known any more");
                Retained::default()
            }),
            Err(_) => Retained::default(),
        };
        Self { path, retained }
    }

    /// What it holds.
    pub fn get(&self) -> &Retained {
        &self.retained
    }

    /// Replaces what it holds; on disk when this returns.
    pub fn set(&mut self, retained: Retained) {
        if self.retained == retained {
            return;
        }
        self.retained = retained;
        if let Err(error) = self.write() {
            tracing::warn!(path = %self.path.display(), %error,
                "what is retained at the broker cannot be remembered; after a restart something stale may stay there");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        durable::replace(&self.path, &serde_json::to_vec(&self.retained)?, durable::Readers::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_outlives_the_process_and_damage_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::load(folder.path());
        assert_eq!(memory.get(), &Retained::default());
        let device = Device { topic: "h/device/b/config".into(), components: BTreeMap::new() };
        let retained = Retained { topics: BTreeSet::from(["a".to_owned()]), device: Some(device) };
        memory.set(retained.clone());
        assert_eq!(Memory::load(folder.path()).get(), &retained);
        std::fs::write(folder.path().join("mqtt-retained.json"), "{\"topics\":[\"a").unwrap();
        assert_eq!(Memory::load(folder.path()).get(), &Retained::default());
    }
}
