//! The settings of what speaks to others over the same broker: Home Assistant, ONVIF Profile M.
//!
//! In: configuration. Out: plain data with defaults, as everything in [`super`]. What types cannot say is checked in
//! `validate`.

use serde::{Deserialize, Serialize};

/// Home Assistant finds the box by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistant {
    /// Whether the box announces itself.
    pub enabled: bool,
    /// Home Assistant's discovery prefix.
    pub prefix: String,
    /// The topic on which Home Assistant says `online` when it has started.
    pub birth: String,
}

impl Default for HomeAssistant {
    fn default() -> Self {
        Self { enabled: false, prefix: "homeassistant".into(), birth: "homeassistant/status".into() }
    }
}

/// Events and objects as ONVIF Profile M has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Onvif {
    /// Whether they are published.
    pub enabled: bool,
    /// Metadata frames a second and stream at most; 0 turns them off.
    pub metadata_rate: f64,
}

impl Default for Onvif {
    fn default() -> Self {
        Self { enabled: false, metadata_rate: 5.0 }
    }
}
