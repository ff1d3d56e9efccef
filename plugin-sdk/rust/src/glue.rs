//! Between the generated bindings and [`Plugin`]: columns become objects and back, in buffers that are kept.
//!
//! Owned by the component's one [`Slot`]. A call before `configure` is an error of the host and said so.

use serde_json::Value;

use crate::bindings::exports::watchpost::plugin::{commands, plugin, signals, state};
use crate::bindings::watchpost::plugin::types as wit;
use crate::{
    Change, Context, Frame, Object, Objects, Out, Plugin, Rect, Run, Score, Severity, ShapeKind, Signal,
};

/// The component's plugin, and the buffers of its calls.
pub struct Slot<P> {
    plugin: Option<P>,
    objects: Option<Objects>,
    runs: Vec<Run>,
    scores: Vec<Score>,
}

impl<P> Slot<P> {
    /// Nothing yet.
    pub const EMPTY: Self = Self { plugin: None, objects: None, runs: Vec::new(), scores: Vec::new() };

    fn plugin(&mut self) -> Result<&mut P, String> {
        self.plugin.as_mut().ok_or_else(|| "called before configure".to_owned())
    }
}

/// What [`crate::export!`] makes: access to the slot.
pub trait Component {
    /// The plugin.
    type Plugin: Plugin;
    /// Lends the slot to a call.
    fn with<R>(call: impl FnOnce(&mut Slot<Self::Plugin>) -> R) -> R;
}

impl<C: Component> plugin::Guest for C {
    fn describe() -> wit::Descriptor {
        let descriptor = C::Plugin::describe();
        let schema = schemars::schema_for!(<C::Plugin as Plugin>::Config);
        wit::Descriptor {
            name: descriptor.name,
            version: descriptor.version,
            summary: descriptor.summary,
            config_schema: schema.to_value().to_string(),
            events: descriptor.events,
            states: descriptor.states,
            cameras: descriptor
                .cameras
                .into_iter()
                .map(|camera| wit::Camera { name: camera.name, delay: camera.delay })
                .collect(),
            commands: descriptor.commands,
        }
    }

    fn configure(context: String, config: String) -> Result<(), String> {
        let context: Context =
            serde_json::from_str(&context).map_err(|error| format!("the host's context: {error}"))?;
        let config = if config.is_empty() {
            Default::default()
        } else {
            serde_json::from_str(&config).map_err(|error| error.to_string())?
        };
        let plugin = C::Plugin::new(&context, config)?;
        C::with(|slot| slot.plugin = Some(plugin));
        Ok(())
    }

    fn process(
        frame: wit::Frame,
        runs: Vec<wit::Run>,
        columns: wit::Objects,
        scores: Vec<wit::Score>,
    ) -> Result<wit::Output, String> {
        C::with(|slot| {
            let Slot { plugin, objects, runs: run_buffer, scores: score_buffer } = slot;
            let plugin = plugin.as_mut().ok_or_else(|| "called before configure".to_owned())?;
            let objects = objects.get_or_insert_default();
            fill(objects, &columns);
            run_buffer.clear();
            run_buffer.extend(runs.iter().map(|run| Run {
                model: run.model,
                begin: run.begin,
                end: run.end,
            }));
            score_buffer.clear();
            score_buffer.extend(scores.iter().map(score_in));
            let frame = Frame {
                index: frame.index,
                pts: frame.pts,
                captured: frame.captured,
                width: frame.width,
                height: frame.height,
                cut: frame.cut,
                motion: frame.motion,
            };
            let mut out = Out::default();
            plugin.process(&frame, run_buffer, objects, score_buffer, &mut out)?;
            let objects = objects.changed().then(|| columns_out(objects, columns));
            Ok(output(out, objects))
        })
    }
}

impl<C: Component> signals::Guest for C {
    fn on_signal(signal: wit::Signal) -> Result<wit::Output, String> {
        let signal = match signal {
            wit::Signal::Tick => Signal::Tick,
            wit::Signal::Gap(nanoseconds) => Signal::Gap(nanoseconds),
            wit::Signal::SourceLost => Signal::SourceLost,
            wit::Signal::SourceBack => Signal::SourceBack,
            wit::Signal::Resized(size) => Signal::Resized(size.width, size.height),
            wit::Signal::End => Signal::End,
        };
        C::with(|slot| {
            let mut out = Out::default();
            slot.plugin()?.signal(signal, &mut out)?;
            Ok(output(out, None))
        })
    }
}

impl<C: Component> state::Guest for C {
    fn snapshot() -> state::Blob {
        let saved = C::with(|slot| slot.plugin.as_ref().and_then(Plugin::snapshot));
        let (version, bytes) = saved.unwrap_or_default();
        state::Blob { version, bytes }
    }

    fn restore(saved: state::Blob) -> Result<(), String> {
        C::with(|slot| slot.plugin()?.restore(saved.version, &saved.bytes))
    }
}

impl<C: Component> commands::Guest for C {
    fn command(name: String, arguments: String) -> Result<String, String> {
        let arguments = if arguments.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&arguments).map_err(|error| format!("arguments: {error}"))?
        };
        C::with(|slot| slot.plugin()?.command(&name, &arguments).map(|answer| answer.to_string()))
    }
}

fn rect_in(rect: wit::Rect) -> Rect {
    Rect::new(rect.x, rect.y, rect.width, rect.height)
}

fn rect_out(rect: Rect) -> wit::Rect {
    wit::Rect { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
}

fn score_in(score: &wit::Score) -> Score {
    Score {
        model: score.model,
        class: score.class,
        value: score.value,
        begin: score.begin,
        end: score.end,
        object: score.object,
        region: score.region.map(rect_in),
    }
}

/// Columns into objects, in the memory of the frame before. The host vouches for equal lengths; zips keep the
/// loop free of bounds checks.
fn fill(objects: &mut Objects, columns: &wit::Objects) {
    let (bounds, _) = columns.bounds.as_chunks::<4>();
    let rows =
        columns.models.iter().zip(&columns.classes).zip(&columns.scores).zip(bounds).zip(&columns.tracks);
    objects.refill().extend(rows.map(|((((model, class), score), bounds), track)| Object {
        model: *model,
        class: *class,
        score: *score,
        bounds: Rect::new(bounds[0], bounds[1], bounds[2], bounds[3]),
        track: *track,
    }));
}

/// Objects into columns, in the memory that the host's columns came in.
fn columns_out(objects: &Objects, mut columns: wit::Objects) -> wit::Objects {
    columns.models.clear();
    columns.models.extend(objects.iter().map(|object| object.model));
    columns.classes.clear();
    columns.classes.extend(objects.iter().map(|object| object.class));
    columns.scores.clear();
    columns.scores.extend(objects.iter().map(|object| object.score));
    columns.bounds.clear();
    columns.bounds.reserve(objects.len() * 4);
    for object in objects {
        let Rect { x, y, width, height } = object.bounds;
        columns.bounds.extend_from_slice(&[x, y, width, height]);
    }
    columns.tracks.clear();
    columns.tracks.extend(objects.iter().map(|object| object.track));
    columns
}

fn output(out: Out, objects: Option<wit::Objects>) -> wit::Output {
    wit::Output {
        objects,
        events: out.events.into_iter().map(event_out).collect(),
        views: out
            .views
            .into_iter()
            .map(|view| wit::View { camera: view.camera, frame: view.frame, bounds: rect_out(view.bounds) })
            .collect(),
        states: out
            .states
            .into_iter()
            .map(|state| wit::State { name: state.name, value: state.value })
            .collect(),
        shapes: out
            .shapes
            .into_iter()
            .map(|shape| wit::Shape {
                kind: match shape.kind {
                    ShapeKind::Polyline => wit::ShapeKind::Polyline,
                    ShapeKind::Polygon => wit::ShapeKind::Polygon,
                    ShapeKind::Rectangle => wit::ShapeKind::Rectangle,
                    ShapeKind::Text => wit::ShapeKind::Text,
                },
                points: shape.points.iter().flat_map(|(x, y)| [*x, *y]).collect(),
                text: shape.text,
                color: shape.color,
            })
            .collect(),
    }
}

fn event_out(event: crate::Event) -> wit::Event {
    wit::Event {
        incident: event.incident,
        kind: event.kind,
        change: match event.change {
            Change::Begin => wit::Change::Begin,
            Change::Update => wit::Change::Update,
            Change::End => wit::Change::End,
        },
        severity: match event.severity {
            Severity::Info => wit::Severity::Info,
            Severity::Low => wit::Severity::Low,
            Severity::Medium => wit::Severity::Medium,
            Severity::High => wit::Severity::High,
            Severity::Critical => wit::Severity::Critical,
        },
        tracks: event.tracks,
        region: event.region.map(rect_out),
        score: event.score,
        data: if event.data.is_null() { String::new() } else { event.data.to_string() },
    }
}
