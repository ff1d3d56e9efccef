//! What models found: objects as columns, the fact that a model ran, and scores.

use super::Rect;

/// Objects as columns: entry i of each column is object i; all columns have one length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Index of the model, in the stream's order of models.
    pub models: Vec<u32>,
    /// Index into that model's labels.
    pub classes: Vec<u32>,
    /// Confidence, 0 to 1.
    pub scores: Vec<f32>,
    /// Bounds in source pixels.
    pub bounds: Vec<Rect>,
    /// Track id, 0 = none.
    pub tracks: Vec<u64>,
}

impl Objects {
    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Adds an object without a track.
    pub fn push(&mut self, model: u32, class: u32, score: f32, bounds: Rect) {
        self.models.push(model);
        self.classes.push(class);
        self.scores.push(score);
        self.bounds.push(bounds);
        self.tracks.push(0);
    }

    /// Appends all objects of another set.
    pub fn extend(&mut self, other: &Self) {
        self.models.extend_from_slice(&other.models);
        self.classes.extend_from_slice(&other.classes);
        self.scores.extend_from_slice(&other.scores);
        self.bounds.extend_from_slice(&other.bounds);
        self.tracks.extend_from_slice(&other.tracks);
    }
}

/// A model ran over this span of stream time (nanoseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index of the model.
    pub model: u32,
    /// First frame's pts.
    pub begin: u64,
    /// Last frame's pts.
    pub end: u64,
}

/// One score of a classifier or clip model.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Index of the model.
    pub model: u32,
    /// Index into that model's labels.
    pub class: u32,
    /// Probability, 0 to 1.
    pub value: f32,
    /// First frame's pts, nanoseconds.
    pub begin: u64,
    /// Last frame's pts, nanoseconds.
    pub end: u64,
    /// Index of the object it is about, where it is about one.
    pub object: Option<u32>,
    /// The part of the frame that the model saw, where it did not see all of it.
    pub region: Option<Rect>,
}
