//! Reads a stream's trace (`streams.NAME.trace`): what went into its plugins and what came out, frame by frame.
//!
//! In: the file. Out: its frames, each object and score with its model's index. Owned by the scenarios; a file that
//! is not a trace is a panic that names it and the line.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use watchpost::flow::Rect;

use crate::score::Seen;

/// A model of the stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Model {
    /// Its name in the configuration.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
}

/// Something that a model found, or what the plugins made of it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Object {
    /// Index of the model.
    pub model: u32,
    /// Index of the label.
    pub class: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// x, y, width, height in source pixels.
    pub bounds: [f32; 4],
    /// Track id, 0 for none.
    pub track: u64,
}

/// A clip model's or classifier's score.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Score {
    /// Index of the model.
    pub model: u32,
    /// Index of the label.
    pub class: u32,
    /// 0 to 1.
    pub value: f32,
}

/// Where a virtual camera looks.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    /// `ENTRY/CAMERA`.
    pub camera: String,
    /// x, y, width, height in source pixels.
    pub bounds: [f32; 4],
}

/// One frame.
#[derive(Debug, Clone, Deserialize)]
pub struct Line {
    /// Stream time, nanoseconds.
    pub pts: u64,
    /// What the models found.
    pub found: Vec<Object>,
    /// Scores that ended on this frame.
    pub scores: Vec<Score>,
    /// What the last plugin left.
    pub objects: Vec<Object>,
    /// Views.
    pub views: Vec<View>,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
    models: Vec<Model>,
}

/// A whole trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The stream's models.
    pub models: Vec<Model>,
    /// Every frame, in order.
    pub frames: Vec<Line>,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Panics
    /// Where the file is not a whole trace.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut lines = BufReader::new(file).lines().map(|line| line.unwrap());
        let header: Header = serde_json::from_str(&lines.next().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{}: line 1: {error}", path.display()));
        assert_eq!(header.schema, "watchpost.trace/2", "{}", path.display());
        // Signals, commands, starts and ends of plugins are between the frames.
        let frames = lines
            .enumerate()
            .filter(|(_, line)| line.starts_with("{\"frame\""))
            .map(|(index, line)| {
                serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("{}: line {}: {error}", path.display(), index + 2))
            })
            .collect();
        Self { models: header.models, frames }
    }

    /// Index of a model and of one of its labels.
    ///
    /// # Panics
    /// Where the stream has no such model or label.
    #[must_use]
    pub fn class(&self, model: &str, label: &str) -> (u32, u32) {
        let at = self.models.iter().position(|known| known.name == model).expect("a model of this name");
        let class =
            self.models[at].labels.iter().position(|known| known == label).expect("a label of this name");
        (at as u32, class as u32)
    }

    /// The tracks of one class in every frame.
    #[must_use]
    pub fn tracks(&self, (model, class): (u32, u32)) -> Vec<Seen> {
        let of = |object: &&Object| object.model == model && object.class == class && object.track != 0;
        let seen = |line: &Line| Seen {
            pts: line.pts,
            tracks: line.objects.iter().filter(of).map(|o| (o.track, Rect::from(o.bounds))).collect(),
        };
        self.frames.iter().map(seen).collect()
    }

    /// The views of one camera, with their stream times.
    #[must_use]
    pub fn views(&self, camera: &str) -> Vec<(u64, Rect)> {
        let of = |line: &Line| {
            let view = line.views.iter().find(|view| view.camera == camera)?;
            Some((line.pts, Rect::from(view.bounds)))
        };
        self.frames.iter().filter_map(of).collect()
    }
}
