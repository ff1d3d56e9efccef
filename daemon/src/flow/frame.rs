//! A frame: what is known of it, and its pixels in the memory of its lane.

use std::sync::Arc;

/// What is known of a frame beside its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameMeta {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Counts the stream's frames from 0, without holes, over reconnects.
    pub index: u64,
    /// Stream time in nanoseconds: starts near 0, never goes back, goes on over reconnects.
    pub pts: u64,
    /// Wall clock when the frame was taken, microseconds since 1970.
    pub captured: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// A scene cut lies between the frame before and this one.
    pub cut: bool,
    /// Mean absolute luma change to the frame before, 0 to 1.
    pub motion: f32,
    /// Nanoseconds of stream time missing before this frame; 0 where none are.
    pub gap: u64,
}

/// A frame whose pixels live in `P`: [`crate::flow::Picture`] on the CPU lane.
#[derive(Debug, Clone)]
pub struct Frame<P> {
    /// What is known of it.
    pub meta: FrameMeta,
    /// Its pixels; cheap to clone.
    pub pixels: P,
}
