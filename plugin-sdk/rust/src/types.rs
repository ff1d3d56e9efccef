//! What a plugin is given: frames, objects, runs, scores, signals. Plain data; nothing here fails.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::Rect;

/// What is known of a frame. No pixels cross the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Frame {
    /// Counts the stream's frames from 0, without holes.
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
    /// Mean absolute luma change to the frame before, 0 (still) to 1.
    pub motion: f32,
}

impl Frame {
    /// Stream time in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.pts as f64 * 1e-9
    }

    /// The rectangle that covers the frame.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        Rect::new(0.0, 0.0, self.width as f32, self.height as f32)
    }
}

/// An object that a model found, or that a plugin made of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Object {
    /// Index of the model that found it, in [`crate::Context::models`].
    pub model: u32,
    /// Index into that model's labels.
    pub class: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Where it is, in source pixels.
    pub bounds: Rect,
    /// Track id; 0 = none.
    pub track: u64,
}

/// The objects of a frame: a vector that knows whether it may have been changed. Only then it goes back to
/// the host, so a plugin that reads objects pays for one crossing and not for two.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objects {
    items: Vec<Object>,
    changed: bool,
}

impl Objects {
    /// Whether somebody had mutable access to them.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Empties them for the next frame, keeping the memory.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn refill(&mut self) -> &mut Vec<Object> {
        self.changed = false;
        self.items.clear();
        &mut self.items
    }
}

impl From<Vec<Object>> for Objects {
    fn from(items: Vec<Object>) -> Self {
        Self { items, changed: false }
    }
}

impl Deref for Objects {
    type Target = Vec<Object>;

    fn deref(&self) -> &Vec<Object> {
        &self.items
    }
}

impl DerefMut for Objects {
    fn deref_mut(&mut self) -> &mut Vec<Object> {
        self.changed = true;
        &mut self.items
    }
}

impl<'a> IntoIterator for &'a Objects {
    type Item = &'a Object;
    type IntoIter = std::slice::Iter<'a, Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'a> IntoIterator for &'a mut Objects {
    type Item = &'a mut Object;
    type IntoIter = std::slice::IterMut<'a, Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.changed = true;
        self.items.iter_mut()
    }
}

/// A model ran over this span of stream time, and its results are in this call. No run is not "nothing found".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Index of the model, in [`crate::Context::models`].
    pub model: u32,
    /// First frame's pts, nanoseconds.
    pub begin: u64,
    /// Last frame's pts, nanoseconds.
    pub end: u64,
}

/// One score of a classifier or clip model. A clip model's window covers `begin` to `end` and may come late.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Index of the model, in [`crate::Context::models`].
    pub model: u32,
    /// Index into that model's labels.
    pub class: u32,
    /// Probability, 0 to 1.
    pub value: f32,
    /// First frame's pts, nanoseconds.
    pub begin: u64,
    /// Last frame's pts, nanoseconds.
    pub end: u64,
    /// Index into the objects of this call, where the model ran on an object.
    pub object: Option<u32>,
    /// The part of the frame that the model saw, where it did not see all of it.
    pub region: Option<Rect>,
}

/// What happens beside frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// At least once a second, frames or not.
    Tick,
    /// So many nanoseconds of stream time are missing before the next frame.
    Gap(u64),
    /// The source is down.
    SourceLost,
    /// The source is back.
    SourceBack,
    /// Frames have this size from here on: width, height.
    Resized(u32, u32),
    /// The stream ends here; the last call.
    End,
}
