//! What a plugin gives: its descriptor, and what a call puts into [`Out`]. The host checks all of it; what it
//! refuses is dropped, counted and logged under the plugin's name.

use serde::{Deserialize, Serialize};

use crate::Rect;

/// Who a plugin is and what it may give. Its configuration's schema is added by the glue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Lower-case words joined by hyphens; the name by which configuration refers to it.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// Event kinds it may emit.
    pub events: Vec<String>,
    /// States it may publish.
    pub states: Vec<String>,
    /// Its virtual cameras.
    pub cameras: Vec<Camera>,
    /// Commands it understands.
    pub commands: Vec<String>,
}

impl Descriptor {
    /// A descriptor without events, states, cameras and commands. `env!("CARGO_PKG_VERSION")` is a good version.
    #[must_use]
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self { name: name.into(), version: version.into(), summary: summary.into(), ..Self::default() }
    }

    /// Adds an event kind.
    #[must_use]
    pub fn event(mut self, kind: &str) -> Self {
        self.events.push(kind.into());
        self
    }

    /// Adds a state.
    #[must_use]
    pub fn state(mut self, name: &str) -> Self {
        self.states.push(name.into());
        self
    }

    /// Adds a virtual camera whose views come at most `delay` frames late.
    #[must_use]
    pub fn camera(mut self, name: &str, delay: u32) -> Self {
        self.cameras.push(Camera { name: name.into(), delay });
        self
    }

    /// Adds a command.
    #[must_use]
    pub fn command(mut self, name: &str) -> Self {
        self.commands.push(name.into());
        self
    }
}

/// A virtual camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Name, unique in the plugin.
    pub name: String,
    /// How many frames late its views may come.
    pub delay: u32,
}

/// A step in the life of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
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

/// One step in the life of an incident: a begin, any updates, one end. The host drops what is out of order.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// From [`crate::host::new_id`]; the same from begin to end.
    pub incident: u64,
    /// One of the kinds that the descriptor names.
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
    /// A JSON object of the plugin's own; `Null` is `{}`.
    pub data: serde_json::Value,
}

impl Event {
    /// A step with no tracks, no region, score 1 and no data.
    #[must_use]
    pub fn new(incident: u64, kind: &str, change: Change, severity: Severity) -> Self {
        Self {
            incident,
            kind: kind.into(),
            change,
            severity,
            tracks: Vec::new(),
            region: None,
            score: 1.0,
            data: serde_json::Value::Null,
        }
    }

    /// With the tracks that take part.
    #[must_use]
    pub fn tracks(mut self, tracks: impl IntoIterator<Item = u64>) -> Self {
        self.tracks = tracks.into_iter().collect();
        self
    }

    /// With the place in the frame.
    #[must_use]
    pub fn region(mut self, region: Rect) -> Self {
        self.region = Some(region);
        self
    }

    /// With a confidence.
    #[must_use]
    pub fn score(mut self, score: f32) -> Self {
        self.score = score;
        self
    }

    /// With data of the plugin's own: a JSON object.
    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }
}

/// Where a virtual camera looks in one frame: this one, or an earlier one within the declared delay.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Name of the camera.
    pub camera: String,
    /// Index of the frame.
    pub frame: u64,
    /// What it shows, in source pixels.
    pub bounds: Rect,
}

/// A retained value, published when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// One of the states that the descriptor names.
    pub name: String,
    /// JSON.
    pub value: String,
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

/// Something to draw over this frame in outputs that show overlays.
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

/// What a call gives beside objects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// Steps of incidents.
    pub events: Vec<Event>,
    /// Views of virtual cameras.
    pub views: Vec<View>,
    /// Retained values.
    pub states: Vec<State>,
    /// Shapes to draw.
    pub shapes: Vec<Shape>,
}

impl Out {
    /// Adds a step of an incident.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Adds a camera's view of a frame.
    pub fn view(&mut self, camera: &str, frame: u64, bounds: Rect) {
        self.views.push(View { camera: camera.into(), frame, bounds });
    }

    /// Sets a retained value. The host publishes it only when it changes, but a plugin that sets it only then
    /// is cheaper. A value that JSON cannot hold (a map with keys that are no strings) becomes `null`.
    pub fn state(&mut self, name: &str, value: &impl Serialize) {
        let value = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
        self.states.push(State { name: name.into(), value });
    }

    /// Draws an open line.
    pub fn polyline(&mut self, points: impl IntoIterator<Item = (f32, f32)>, color: u32) {
        self.shape(ShapeKind::Polyline, points, "", color);
    }

    /// Draws a closed line.
    pub fn polygon(&mut self, points: impl IntoIterator<Item = (f32, f32)>, color: u32) {
        self.shape(ShapeKind::Polygon, points, "", color);
    }

    /// Draws a rectangle.
    pub fn rectangle(&mut self, rect: Rect, color: u32) {
        self.shape(ShapeKind::Rectangle, [(rect.x, rect.y), (rect.right(), rect.bottom())], "", color);
    }

    /// Writes text with its top left corner at `x`, `y`.
    pub fn text(&mut self, x: f32, y: f32, text: &str, color: u32) {
        self.shape(ShapeKind::Text, [(x, y)], text, color);
    }

    fn shape(
        &mut self,
        kind: ShapeKind,
        points: impl IntoIterator<Item = (f32, f32)>,
        text: &str,
        color: u32,
    ) {
        self.shapes.push(Shape { kind, points: points.into_iter().collect(), text: text.into(), color });
    }
}
