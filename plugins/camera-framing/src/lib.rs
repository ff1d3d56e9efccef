//! Plugin `camera-framing`: a smooth virtual camera that follows a group, a track or a ball.
//!
//! In: tracked objects of each frame. Out: the view of the camera `main` in it, and the state `subject`.
//! The core is [`Camera`], plain Rust that also runs natively. Owned by the host, one instance a stream.

mod camera;
mod config;
mod follower;
mod plugin;
mod range;
mod subject;
#[cfg(test)]
mod tests;

pub use camera::{Camera, Shot};
pub use config::{Config, Mode};
pub use follower::{Follower, Limits};
pub use plugin::CameraFraming;
pub use subject::{Aim, Subject, Thing};
