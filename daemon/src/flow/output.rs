//! What plugins decide: events, views, states, shapes.

use serde::{Deserialize, Serialize};

use super::{Objects, Rect};

/// A step in the life of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It has begun.
    Begin,
    /// It goes on, and something about it changed.
    Update,
    /// It is over.
    End,
}

/// How grave an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Worth a look.
    Low,
    /// Somebody should look soon.
    Medium,
    /// Somebody should look now.
    High,
    /// Somebody must act now.
    Critical,
}

/// One step in the life of an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Id of the incident, unique on this box over restarts.
    pub incident: u64,
    /// Kind, as the plugin's descriptor names it.
    pub kind: String,
    /// Begin, update or end.
    pub change: Change,
    /// How grave.
    pub severity: Severity,
    /// Tracks that take part.
    pub tracks: Vec<u64>,
    /// Where in the frame, in source pixels.
    pub region: Option<Rect>,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// A JSON object of the plugin's own.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// Where a virtual camera looks in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Name of the camera, unique within its plugin entry.
    pub camera: String,
    /// Index of the frame.
    pub frame: u64,
    /// What it shows, in source pixels.
    pub bounds: Rect,
}

/// A retained value.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Name, as the plugin's descriptor names it.
    pub name: String,
    /// Value.
    pub value: serde_json::Value,
}

/// What kind of shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeKind {
    /// Open line through the points.
    Polyline,
    /// Closed line through the points.
    Polygon,
    /// Two points: opposite corners.
    Rectangle,
    /// One point: the text's top left corner.
    Text,
}

/// Something to draw over a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Kind.
    pub kind: ShapeKind,
    /// Points in source pixels.
    pub points: Vec<(f32, f32)>,
    /// Text, for [`ShapeKind::Text`].
    pub text: String,
    /// 0xRRGGBB.
    pub color: u32,
}

/// What one plugin call gave back, checked by the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The objects as the next plugin shall see them; `None`: unchanged.
    pub objects: Option<Objects>,
    /// Steps of incidents.
    pub events: Vec<Event>,
    /// Views of virtual cameras.
    pub views: Vec<View>,
    /// Retained values.
    pub states: Vec<State>,
    /// Shapes to draw.
    pub shapes: Vec<Shape>,
}
