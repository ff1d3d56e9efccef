//! A small picture of what a stream shows now, for people to look at.

use std::sync::Arc;

/// The newest frame of a stream as a JPEG, with what is drawn over it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Index of the frame.
    pub frame: u64,
    /// Wall clock of the frame, microseconds since 1970.
    pub captured: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The file.
    pub jpeg: Arc<[u8]>,
}
