//! What a plugin's call gave, checked before anybody uses it.
//!
//! In: a lifted output. Out: the flow's types. Objects that lie (columns of different lengths, numbers that
//! are not finite, models that do not exist) and results beyond the limits end the instance: such a plugin is
//! broken. A single event, view, state or shape that does not fit its descriptor is dropped, and said.

use super::bindings::contract::watchpost::plugin::types as wit;
use super::descriptor::Descriptor;
use super::failure::Failure;
use super::instance::Given;
use crate::config::settings::Limits;
use crate::flow::{Change, Event, Objects, Output, Rect, Score, Severity, Shape, ShapeKind, State, View};

/// Points of one shape.
const POINTS: usize = 10_000;
/// Tracks of one event.
const TRACKS: usize = 1000;
/// Bytes of one text: an event's data, a state's value, a shape's text.
const TEXT: usize = 64 << 10;

/// What an output is held to.
pub(super) struct Rules<'a> {
    pub call: &'static str,
    pub limits: &'a Limits,
    pub descriptor: &'a Descriptor,
    /// Number of labels of each of the stream's models.
    pub models: &'a [usize],
    /// Index of the frame.
    pub frame: u64,
    /// The objects that went in.
    pub given: &'a Objects,
}

impl Rules<'_> {
    pub(super) fn output(&self, found: wit::Output) -> Result<Given, Failure> {
        let wit::Output { objects, events, views, states, shapes } = found;
        self.count("events", events.len(), self.limits.results, "results")?;
        self.count("views", views.len(), self.limits.results, "results")?;
        self.count("states", states.len(), self.limits.results, "results")?;
        self.count("shapes", shapes.len(), self.limits.results, "results")?;
        let objects = objects.map(|columns| self.objects(columns)).transpose()?;
        let mut dropped = Vec::new();
        let output = Output {
            objects,
            events: keep(events, &mut dropped, |event| self.event(event)),
            views: keep(views, &mut dropped, |view| self.view(view)),
            states: keep(states, &mut dropped, |state| self.state(state)),
            shapes: keep(shapes, &mut dropped, shape),
        };
        Ok(Given { output, dropped })
    }

    fn count(
        &self,
        what: &'static str,
        found: usize,
        limit: usize,
        setting: &'static str,
    ) -> Result<(), Failure> {
        if found > limit {
            return Err(Failure::ResultCount { call: self.call, what, found, limit, setting });
        }
        Ok(())
    }

    fn objects(&self, columns: wit::ObjectsResult) -> Result<Objects, Failure> {
        let wit::ObjectsResult { models, classes, scores, bounds, tracks } = columns;
        let lying = |reason: String| Failure::Objects { call: self.call, reason };
        let lie = |reason: String| Err(lying(reason));
        let count = scores.len();
        // The frame's own objects always fit: a detector may find more than a plugin may invent.
        self.count("objects", count, self.limits.objects.max(self.given.len()), "objects")?;
        let lengths = [models.len(), classes.len(), count, bounds.len(), tracks.len()];
        if lengths != [count, count, count, count * 4, count] {
            return lie(format!(
                "columns models, classes, scores, bounds, tracks have {lengths:?} entries; bounds has four an object"
            ));
        }
        // Passes without branches; the culprit is looked for only if there is one.
        if !all_finite(&scores) || !all_finite(&bounds) {
            let score = scores.iter().position(|score| !score.is_finite());
            let index = score.or_else(|| bounds.iter().position(|value| !value.is_finite()).map(|at| at / 4));
            return lie(format!("object {} has a number that is not finite", index.unwrap_or(0)));
        }
        let (rects, _) = bounds.as_chunks::<4>();
        let negative = |[_, _, width, height]: &[f32; 4]| (*width < 0.0) | (*height < 0.0);
        if rects.iter().fold(false, |found, rect| found | negative(rect)) {
            let index = rects.iter().position(negative).unwrap_or(0);
            return lie(format!("object {index} has a negative size"));
        }
        self.classes(&models, &classes).map_err(lying)?;
        let bounds = rects.iter().map(|[x, y, width, height]| Rect::new(*x, *y, *width, *height)).collect();
        Ok(Objects { models, classes, scores, bounds, tracks })
    }

    /// Each object's model is one of the stream's, and its class one of the model's.
    fn classes(&self, models: &[u32], classes: &[u32]) -> Result<(), String> {
        // Nothing to compare, as on most frames: comparing nothing costs a tenth of the call.
        if models.is_empty() {
            return Ok(());
        }
        // What went in is right, and most plugins leave it alone.
        let known = self.given.len().min(models.len());
        let same =
            models[..known] == self.given.models[..known] && classes[..known] == self.given.classes[..known];
        let unknown = models.iter().zip(classes).enumerate().skip(if same { known } else { 0 });
        for (index, (model, class)) in unknown {
            match self.models.get(*model as usize) {
                Some(labels) if (*class as usize) < *labels || *labels == 0 => {}
                Some(labels) => {
                    return Err(format!(
                        "object {index} has class {class}, model {model} has {labels} labels"
                    ));
                }
                None => {
                    let count = self.models.len();
                    return Err(format!("object {index} is of model {model}, the stream has {count}"));
                }
            }
        }
        Ok(())
    }

    fn event(&self, event: wit::Event) -> Result<Event, String> {
        let wit::Event { incident, kind, change, severity, tracks, region, score, data } = event;
        if !self.descriptor.events.contains(&kind) {
            return Err(format!(
                "an event of kind \"{}\", which its descriptor does not name",
                sentence(&kind)
            ));
        }
        let region = region.map(rect);
        if !score.is_finite() || region.is_some_and(|region| !region.is_valid()) {
            return Err(format!("an event \"{kind}\" with a number that is not finite or a negative size"));
        }
        if tracks.len() > TRACKS || data.len() > TEXT {
            return Err(format!(
                "an event \"{kind}\" with more than {TRACKS} tracks or {TEXT} bytes of data"
            ));
        }
        let data = if data.is_empty() { Ok(serde_json::Map::new()) } else { serde_json::from_str(&data) };
        let data =
            data.map_err(|error| format!("an event \"{kind}\" whose data is no JSON object: {error}"))?;
        Ok(Event {
            incident,
            kind,
            change: match change {
                wit::Change::Begin => Change::Begin,
                wit::Change::Update => Change::Update,
                wit::Change::End => Change::End,
            },
            severity: match severity {
                wit::Severity::Info => Severity::Info,
                wit::Severity::Low => Severity::Low,
                wit::Severity::Medium => Severity::Medium,
                wit::Severity::High => Severity::High,
                wit::Severity::Critical => Severity::Critical,
            },
            tracks,
            region,
            score: score.clamp(0.0, 1.0),
            data,
        })
    }

    fn view(&self, view: wit::View) -> Result<View, String> {
        let Some((camera, delay)) = self.descriptor.cameras.iter().find(|(name, _)| *name == view.camera)
        else {
            return Err(format!(
                "a view of camera \"{}\", which its descriptor does not name",
                sentence(&view.camera)
            ));
        };
        if view.frame > self.frame || self.frame - view.frame > u64::from(*delay) {
            return Err(format!(
                "a view of camera \"{camera}\" for frame {} at frame {}; it declared a delay of {delay}",
                view.frame, self.frame
            ));
        }
        let bounds = rect(view.bounds);
        if !bounds.is_valid() || bounds.area() <= 0.0 {
            return Err(format!("a view of camera \"{camera}\" that is empty or not finite"));
        }
        Ok(View { camera: view.camera, frame: view.frame, bounds })
    }

    fn state(&self, state: wit::State) -> Result<State, String> {
        if !self.descriptor.states.contains(&state.name) {
            return Err(format!("a state \"{}\", which its descriptor does not name", sentence(&state.name)));
        }
        if state.value.len() > TEXT {
            return Err(format!("a state \"{}\" of more than {TEXT} bytes", state.name));
        }
        let value = serde_json::from_str(&state.value)
            .map_err(|error| format!("a state \"{}\" that is no JSON: {error}", state.name))?;
        Ok(State { name: state.name, value })
    }
}

fn keep<A, B>(found: Vec<A>, dropped: &mut Vec<String>, check: impl Fn(A) -> Result<B, String>) -> Vec<B> {
    let mut kept = Vec::with_capacity(found.len());
    for item in found {
        match check(item) {
            Ok(item) => kept.push(item),
            Err(reason) => dropped.push(reason),
        }
    }
    kept
}

fn shape(shape: wit::Shape) -> Result<Shape, String> {
    let (pairs, rest) = shape.points.as_chunks::<2>();
    let (kind, least) = match shape.kind {
        wit::ShapeKind::Polyline => (ShapeKind::Polyline, 2..=POINTS),
        wit::ShapeKind::Polygon => (ShapeKind::Polygon, 3..=POINTS),
        wit::ShapeKind::Rectangle => (ShapeKind::Rectangle, 2..=2),
        wit::ShapeKind::Text => (ShapeKind::Text, 1..=1),
    };
    if !rest.is_empty() || !least.contains(&pairs.len()) {
        return Err(format!("a shape {kind:?} with {} coordinates", shape.points.len()));
    }
    if shape.points.iter().any(|value| !value.is_finite()) {
        return Err(format!("a shape {kind:?} with a number that is not finite"));
    }
    if shape.text.len() > TEXT {
        return Err(format!("a shape with a text of more than {TEXT} bytes"));
    }
    let points = pairs.iter().map(|[x, y]| (*x, *y)).collect();
    Ok(Shape { kind, points, text: shape.text, color: shape.color & 0xff_ff_ff })
}

fn rect(rect: wit::Rect) -> Rect {
    Rect::new(rect.x, rect.y, rect.width, rect.height)
}

pub(super) fn score_in(score: &Score) -> wit::Score {
    wit::Score {
        model: score.model,
        class: score.class,
        value: score.value,
        begin: score.begin,
        end: score.end,
        object: score.object,
        region: score.region.map(|r| wit::Rect { x: r.x, y: r.y, width: r.width, height: r.height }),
    }
}

/// A plugin's text as one line of bounded length, for logs and messages.
pub(super) fn sentence(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// By their bits, so that the compiler can look at many at a time; a sum would wait for each addition.
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    !values.iter().fold(false, |found, value| found | (value.to_bits() & EXPONENT == EXPONENT))
}
