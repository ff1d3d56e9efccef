//! Lines of a trace from what walks the corridor, and back.
//!
//! In: frames, objects, steps of a row. Out: the lines of [`super`], and what a plugin is to be given again. Pure functions;
//! only a state's bytes can be none.

use std::sync::Arc;

use super::{
    BlobLine, Columns, CommandLine, EntryLine, EventLine, FrameLine, GaveLine, Header, Line, ModelLine,
    ObjectLine, SCHEMA, ScoreLine, ShapeLine, StartedLine, StateLine, ViewLine,
};
use crate::config::settings::Polygon;
use crate::flow::{Event, FrameMeta, Objects, Output, Rect, Run, Score, Shape, ShapeKind, Size, State, View};
use crate::plugins::{Answered, Gave, RowOutput, Started, StreamContext, StreamModel};

impl Header {
    /// The first line of a stream's trace.
    #[must_use]
    pub fn new(context: &StreamContext, entries: Vec<EntryLine>) -> Self {
        let model = |model: &StreamModel| ModelLine {
            name: model.name.clone(),
            task: model.task,
            labels: model.labels.clone(),
            rate: model.rate,
        };
        Self {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            stream: context.stream.clone(),
            models: context.models.iter().map(model).collect(),
            zones: context.zones.iter().map(|(name, zone)| (name.clone(), zone.polygon.clone())).collect(),
            size: [context.size.width, context.size.height],
            rate: context.rate,
            entries,
        }
    }

    /// What plugins learn of the stream.
    #[must_use]
    pub fn context(&self) -> StreamContext {
        let model = |model: &ModelLine| StreamModel {
            name: model.name.clone(),
            task: model.task,
            labels: model.labels.clone(),
            rate: model.rate,
        };
        let zone =
            |(name, polygon): (&String, &Vec<[f32; 2]>)| (name.clone(), Polygon { polygon: polygon.clone() });
        StreamContext {
            stream: self.stream.clone(),
            models: self.models.iter().map(model).collect(),
            size: Size::new(self.size[0], self.size[1]),
            rate: self.rate,
            zones: self.zones.iter().map(zone).collect(),
        }
    }
}

impl Line {
    /// Reads a line that is not the first.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = text.trim();
        if ["{\"started\"", "{\"gone\"", "{\"signal\"", "{\"command\""]
            .iter()
            .any(|key| text.starts_with(key))
        {
            return serde_json::from_str(text).map(Self::Step);
        }
        serde_json::from_str(text).map(|frame| Self::Frame(Box::new(frame)))
    }
}

impl FrameLine {
    /// A frame, what came in, and what the row made of it.
    #[must_use]
    pub fn new(
        meta: &FrameMeta,
        runs: &[Run],
        found: &Objects,
        scores: &[Score],
        row: &RowOutput,
        entries: Vec<GaveLine>,
    ) -> Self {
        let named = |(entry, view): &(Arc<str>, View)| ViewLine {
            camera: format!("{entry}/{}", view.camera),
            ..ViewLine::from(view)
        };
        Self {
            frame: meta.index,
            pts: meta.pts,
            captured: meta.captured,
            size: [meta.width, meta.height],
            cut: meta.cut,
            gap: meta.gap,
            motion: meta.motion,
            runs: runs.iter().map(|run| (run.model, run.begin, run.end)).collect(),
            found: objects(found),
            scores: scores.iter().map(ScoreLine::from).collect(),
            objects: objects(&row.objects),
            events: row
                .events
                .iter()
                .map(|event| EventLine { entry: Some(event.entry.clone()), ..EventLine::from(&event.event) })
                .collect(),
            views: row.views.iter().map(named).collect(),
            states: row
                .states
                .iter()
                .map(|(entry, state)| StateLine { entry: Some(entry.to_string()), ..StateLine::from(state) })
                .collect(),
            entries,
        }
    }

    /// The frame of a stream.
    #[must_use]
    pub fn meta(&self, stream: &Arc<str>) -> FrameMeta {
        FrameMeta {
            stream: Arc::clone(stream),
            index: self.frame,
            pts: self.pts,
            captured: self.captured,
            width: self.size[0],
            height: self.size[1],
            cut: self.cut,
            motion: self.motion,
            gap: self.gap,
        }
    }

    /// The runs of its models.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        self.runs.iter().map(|(model, begin, end)| Run { model: *model, begin: *begin, end: *end }).collect()
    }

    /// What the models found.
    #[must_use]
    pub fn found(&self) -> Objects {
        let mut all = Objects::default();
        for object in &self.found {
            all.push(object.model, object.class, object.score, Rect::from(object.bounds));
            if let Some(track) = all.tracks.last_mut() {
                *track = object.track;
            }
        }
        all
    }

    /// Its scores.
    #[must_use]
    pub fn scores(&self) -> Vec<Score> {
        let score = |score: &ScoreLine| Score {
            model: score.model,
            class: score.class,
            value: score.value,
            begin: score.begin,
            end: score.end,
            object: score.object,
            region: score.region.map(Rect::from),
        };
        self.scores.iter().map(score).collect()
    }
}

fn objects(objects: &Objects) -> Vec<ObjectLine> {
    (0..objects.len())
        .map(|index| ObjectLine {
            model: objects.models[index],
            class: objects.classes[index],
            score: objects.scores[index],
            bounds: objects.bounds[index].into(),
            track: objects.tracks[index],
        })
        .collect()
}

impl From<&Objects> for Columns {
    fn from(objects: &Objects) -> Self {
        Self {
            models: objects.models.clone(),
            classes: objects.classes.clone(),
            scores: objects.scores.clone(),
            bounds: objects.bounds.iter().map(|bounds| (*bounds).into()).collect(),
            tracks: objects.tracks.clone(),
        }
    }
}

impl From<&Columns> for Objects {
    fn from(columns: &Columns) -> Self {
        Self {
            models: columns.models.clone(),
            classes: columns.classes.clone(),
            scores: columns.scores.clone(),
            bounds: columns.bounds.iter().map(|bounds| Rect::from(*bounds)).collect(),
            tracks: columns.tracks.clone(),
        }
    }
}

impl From<&Score> for ScoreLine {
    fn from(score: &Score) -> Self {
        Self {
            model: score.model,
            class: score.class,
            value: score.value,
            begin: score.begin,
            end: score.end,
            object: score.object,
            region: score.region.map(Into::into),
        }
    }
}

impl From<&Event> for EventLine {
    fn from(event: &Event) -> Self {
        Self {
            entry: None,
            incident: event.incident,
            kind: event.kind.clone(),
            change: event.change,
            severity: event.severity,
            tracks: event.tracks.clone(),
            region: event.region.map(Into::into),
            score: event.score,
            data: event.data.clone(),
        }
    }
}

impl From<&View> for ViewLine {
    fn from(view: &View) -> Self {
        Self { camera: view.camera.clone(), frame: view.frame, bounds: view.bounds.into() }
    }
}

impl From<&State> for StateLine {
    fn from(state: &State) -> Self {
        Self { entry: None, name: state.name.clone(), value: state.value.clone() }
    }
}

impl From<&Shape> for ShapeLine {
    fn from(shape: &Shape) -> Self {
        let kind = match shape.kind {
            ShapeKind::Polyline => "polyline",
            ShapeKind::Polygon => "polygon",
            ShapeKind::Rectangle => "rectangle",
            ShapeKind::Text => "text",
        };
        Self { kind: kind.into(), points: shape.points.clone(), text: shape.text.clone(), color: shape.color }
    }
}

impl From<&Gave> for GaveLine {
    fn from(gave: &Gave) -> Self {
        let Output { objects, events, views, states, shapes } = &gave.output;
        Self {
            entry: gave.entry.to_string(),
            ids: gave.ids.clone(),
            objects: objects.as_ref().map(Columns::from),
            events: events.iter().map(EventLine::from).collect(),
            views: views.iter().map(ViewLine::from).collect(),
            states: states.iter().map(StateLine::from).collect(),
            shapes: shapes.iter().map(ShapeLine::from).collect(),
            dropped: gave.dropped.clone(),
            error: gave.error.clone(),
            failure: gave.failure.clone(),
        }
    }
}

impl From<&Started> for StartedLine {
    fn from(started: &Started) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            entry: started.entry.to_string(),
            plugin: started.plugin.clone(),
            version: started.version.clone(),
            hash: started.hash.clone(),
            now: started.now,
            context: started.context.clone(),
            config: started.config.clone(),
            state: started
                .state
                .as_ref()
                .map(|(version, bytes)| BlobLine { version: *version, hex: hex(bytes) }),
            said: started.said.clone(),
        }
    }
}

impl BlobLine {
    /// The bytes; `None` where they are none.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let (pairs, rest) = self.hex.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
    }
}

impl From<&Answered> for CommandLine {
    fn from(answered: &Answered) -> Self {
        Self {
            entry: answered.entry.to_string(),
            now: answered.now,
            name: answered.name.clone(),
            arguments: answered.arguments.clone(),
            ids: answered.ids.clone(),
            answer: answered.answer.clone(),
        }
    }
}

impl From<&CommandLine> for Answered {
    fn from(line: &CommandLine) -> Self {
        Self {
            entry: line.entry.as_str().into(),
            now: line.now,
            name: line.name.clone(),
            arguments: line.arguments.clone(),
            ids: line.ids.clone(),
            answer: line.answer.clone(),
        }
    }
}
