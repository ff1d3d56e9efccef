//! `.../objects`: the objects of one frame.
//!
//! In: the columns of [`Objects`] and the labels of the models. Out: a list of objects by name. An index that
//! no model or label has is written as `#<index>`, so a wrong manifest shows. Plain data; nothing fails.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::common::{Id, Name, Timestamp, bounds, score, seconds};
use crate::flow::{FrameMeta, Objects};

/// A model of a stream: what its indices mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Name of the model in the configuration.
    pub model: Arc<str>,
    /// Its labels, by class.
    pub labels: Arc<[String]>,
}

/// The objects of one frame, borrowed from the worker.
#[derive(Debug, Clone, Copy)]
pub struct ObjectsRecord<'a> {
    /// The frame.
    pub frame: &'a FrameMeta,
    /// Its objects after the last plugin.
    pub objects: &'a Objects,
    /// The stream's models, in the stream's order.
    pub models: &'a [Labels],
    /// Indices of the models whose results are in this frame.
    pub runs: &'a [u32],
}

/// The objects of one frame.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.objects/1")]
pub struct ObjectsMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.objects/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Name of the stream.
    pub stream: Name,
    /// Index of the frame.
    pub frame: Id,
    /// Stream time of the frame, seconds.
    pub pts: f64,
    /// Wall clock of the frame.
    pub captured: Timestamp,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Models that ran on this frame. No run is not "nothing found".
    pub runs: Vec<Name>,
    /// The objects.
    pub objects: Vec<ObjectMessage>,
}

/// One object.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ObjectMessage {
    /// Model that found it.
    pub model: Name,
    /// What it is.
    pub label: String,
    /// Confidence.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score: f32,
    /// x, y, width, height in pixels of the source.
    pub bounds: [f32; 4],
    /// Its track. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<Id>,
}

impl ObjectsMessage {
    /// The message for a frame.
    #[must_use]
    pub fn new(box_: &Arc<str>, record: ObjectsRecord<'_>) -> Self {
        let ObjectsRecord { frame, objects, models, runs } = record;
        let name = |model: u32| {
            let named = models.get(model as usize).map(|m| Name::from(&m.model));
            named.unwrap_or_else(|| Name(format!("#{model}").into()))
        };
        let label = |model: u32, class: u32| {
            let labels = models.get(model as usize).map(|m| &m.labels);
            labels.and_then(|l| l.get(class as usize)).cloned().unwrap_or_else(|| format!("#{class}"))
        };
        let object = |i: usize| {
            let (model, class) = (objects.models[i], objects.classes[i]);
            ObjectMessage {
                model: name(model),
                label: label(model, class),
                score: score(objects.scores[i]),
                bounds: bounds(objects.bounds[i]),
                track: Some(objects.tracks[i]).filter(|track| *track != 0).map(Id),
            }
        };
        Self {
            schema: "watchpost.objects/1",
            box_: box_.into(),
            stream: (&frame.stream).into(),
            frame: Id(frame.index),
            pts: seconds(frame.pts),
            captured: Timestamp(frame.captured),
            width: frame.width,
            height: frame.height,
            runs: runs.iter().map(|model| name(*model)).collect(),
            objects: (0..objects.len()).map(object).collect(),
        }
    }
}
