//! Plugin `tracker`: who is who from frame to frame.
//!
//! In: the objects of each frame and which models ran. Out: the same objects with track ids, the predicted
//! boxes of people out of sight for a moment, and the state `count`. The core is [`Tracker`], plain
//! Rust that also runs natively; the plugin around it is thin. Owned by the host, one instance a stream.

pub mod assign;
mod associate;
pub mod baseline;
mod bounds;
mod config;
mod kalman;
mod nearby;
mod plugin;
mod rivals;
mod sightings;
mod track;
mod tracker;

pub use bounds::Bounds;
pub use config::{Config, Tuning};
pub use kalman::{Axis, Lapse, Motion, Noise};
pub use plugin::TrackerPlugin;
pub use rivals::Rivals;
pub use sightings::{Sighting, Sightings};
pub use track::{Phase, Track};
pub use tracker::{Coasting, Detection, Saved, Tracker};
