//! The trace of a stream: what went into its plugins and what came out, frame by frame, as JSON lines.
//!
//! In: frames on their way through delivery. Out: a file. Its first line is a header (`watchpost.trace/1`: stream,
//! models with labels), each further one a frame: `found` is what models found, `objects` what the last plugin left,
//! with events, views and states. Numbers are exact, so a trace can be replayed. Owned by the stream's delivery. A
//! disk that refuses ends the trace, said once; the stream goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::flow::{FrameMeta, Objects, Run, Score};
use crate::plugins::RowOutput;
use crate::publish::messages::Labels;

/// A trace that is being written.
pub(super) struct Trace {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Trace {
    /// Starts a trace; an existing file is replaced.
    pub(super) fn start(path: &Path, stream: &str, models: &[Labels]) -> Self {
        let models: Vec<Value> =
            models.iter().map(|model| json!({ "name": &*model.model, "labels": &*model.labels })).collect();
        let mut trace = Self { path: path.to_owned(), file: None };
        match File::create(path) {
            Ok(file) => trace.file = Some(BufWriter::new(file)),
            Err(error) => {
                tracing::error!(stream, path = %path.display(), %error, "the trace cannot be written; the stream runs without it");
            }
        }
        trace.write(&json!({ "schema": "watchpost.trace/1", "stream": stream, "models": models }));
        trace
    }

    /// One frame.
    pub(super) fn frame(
        &mut self,
        meta: &FrameMeta,
        runs: &[Run],
        found: &Objects,
        scores: &[Score],
        row: &RowOutput,
    ) {
        if self.file.is_none() {
            return;
        }
        let line = json!({
            "frame": meta.index,
            "pts": meta.pts,
            "captured": meta.captured,
            "size": [meta.width, meta.height],
            "cut": meta.cut,
            "gap": meta.gap,
            "motion": meta.motion,
            "runs": runs.iter().map(|run| json!([run.model, run.begin, run.end])).collect::<Vec<_>>(),
            "found": objects(found),
            "scores": scores.iter().map(|score| json!({
                "model": score.model, "class": score.class, "value": score.value, "begin": score.begin,
                "end": score.end, "object": score.object, "region": score.region.map(<[f32; 4]>::from),
            })).collect::<Vec<_>>(),
            "objects": objects(&row.objects),
            "events": row.events.iter().map(|event| json!({
                "entry": event.entry, "incident": event.event.incident, "kind": event.event.kind,
                "change": event.event.change, "severity": event.event.severity, "tracks": event.event.tracks,
                "region": event.event.region.map(<[f32; 4]>::from), "score": event.event.score, "data": event.event.data,
            })).collect::<Vec<_>>(),
            "views": row.views.iter().map(|(entry, view)| json!({
                "camera": format!("{entry}/{}", view.camera), "frame": view.frame, "bounds": <[f32; 4]>::from(view.bounds),
            })).collect::<Vec<_>>(),
            "states": row.states.iter().map(|(entry, state)| json!({
                "entry": &**entry, "name": state.name, "value": state.value,
            })).collect::<Vec<_>>(),
        });
        self.write(&line);
    }

    fn write(&mut self, line: &Value) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = writeln!(file, "{line}") {
            tracing::error!(path = %self.path.display(), %error, "the trace ends here");
            self.file = None;
        }
    }
}

fn objects(objects: &Objects) -> Value {
    (0..objects.len())
        .map(|index| {
            json!({
                "model": objects.models[index], "class": objects.classes[index], "score": objects.scores[index],
                "bounds": <[f32; 4]>::from(objects.bounds[index]), "track": objects.tracks[index],
            })
        })
        .collect()
}
