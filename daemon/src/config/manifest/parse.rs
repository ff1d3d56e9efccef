//! The text of a `model.toml` becomes a checked [`Manifest`].
//!
//! In: text and the name to call it by. Out: a manifest whose numbers make sense. Every error names file, line
//! and key, what is there and what was expected. Whether it fits the graph is checked where that is loaded.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Channels, Decoder, Labels, Layout, Manifest, Task};

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("{file}:{line}: {}{problem}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct ManifestError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Key with its table (`input.mean`); empty where the text is no TOML.
    pub key: String,
    /// What is there and what was expected.
    pub problem: String,
}

/// Kind of a value in the decoder's table, for messages.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Integers,
}

/// Keys of each decoder beside `decoder`.
const DECODERS: [(&str, &[(&str, Kind)]); 4] = [
    ("yolox", &[("threshold", Kind::Number), ("nms", Kind::Number), ("strides", Kind::Integers)]),
    ("yolo", &[("threshold", Kind::Number), ("nms", Kind::Number)]),
    ("nanodet", &[("threshold", Kind::Number), ("nms", Kind::Number), ("strides", Kind::Integers)]),
    ("classes", &[("activation", Kind::Text)]),
];

impl Manifest {
    /// Parses and checks the text of a manifest; `file` names it in errors.
    ///
    /// # Errors
    /// Where the text is no TOML, a key is unknown, missing or of the wrong type, or a value makes no sense.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        Source { text, file }.parse()
    }
}

struct Source<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Source<'_> {
    fn parse(&self) -> Result<Manifest, ManifestError> {
        let tree = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        self.check_output(tree.get_ref())?;
        let manifest: Manifest = toml::from_str(self.text).map_err(|error| {
            let key = error.span().map(|span| key_at(tree.get_ref(), &span)).unwrap_or_default();
            self.error(error.span(), &key, &with_line_breaks_joined(error.message()))
        })?;
        let Some((key, problem)) = problem(&manifest) else { return Ok(manifest) };
        Err(self.error(find(tree.get_ref(), key), key, &problem))
    }

    fn error(&self, span: Option<Range<usize>>, key: &str, problem: &str) -> ManifestError {
        let end = span.map_or(0, |span| span.start).min(self.text.len());
        let line = self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
        let file = self.file.display().to_string();
        ManifestError { file, line, key: key.to_owned(), problem: problem.to_owned() }
    }

    fn syntax(&self, error: &toml::de::Error) -> ManifestError {
        self.error(error.span(), "", &with_line_breaks_joined(error.message()))
    }

    /// Checks the decoder's table by hand: serde loses the place of what it finds in a tagged enum.
    fn check_output(&self, tree: &DeTable<'_>) -> Result<(), ManifestError> {
        let Some(output) = tree.get("output") else {
            let problem = "missing; expected a table [output] with a decoder";
            return Err(self.error(None, "output", problem));
        };
        let names = DECODERS.map(|(name, _)| name).join(", ");
        let Some(table) = output.get_ref().as_table() else {
            return Err(self.error(Some(output.span()), "output", "expected a table with a decoder"));
        };
        let Some(decoder) = table.get("decoder") else {
            let problem = format!("missing; expected one of {names}");
            return Err(self.error(Some(output.span()), "output.decoder", &problem));
        };
        let chosen = decoder.get_ref().as_str();
        let Some((name, keys)) = DECODERS.iter().find(|(name, _)| Some(*name) == chosen) else {
            let problem = format!("{} is unknown; expected one of {names}", shown(decoder.get_ref()));
            return Err(self.error(Some(decoder.span()), "output.decoder", &problem));
        };
        for (key, value) in table {
            let path = format!("output.{}", key.get_ref());
            if key.get_ref() == "decoder" {
                continue;
            }
            let Some((_, kind)) = keys.iter().find(|(known, _)| *known == key.get_ref()) else {
                let known: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
                let problem = format!("unknown key; decoder {name} knows {}", known.join(", "));
                return Err(self.error(Some(key.span()), &path, &problem));
            };
            let is_integer = |value: &DeValue<'_>| value.is_integer();
            let (right, expected) = match kind {
                Kind::Number => (value.get_ref().is_integer() || value.get_ref().is_float(), "a number"),
                Kind::Text => (value.get_ref().is_str(), "text"),
                Kind::Integers => (
                    value
                        .get_ref()
                        .as_array()
                        .is_some_and(|list| list.iter().all(|item| is_integer(item.get_ref()))),
                    "a list of whole numbers",
                ),
            };
            if !right {
                let problem = format!("{} given; expected {expected}", value.get_ref().type_str());
                return Err(self.error(Some(value.span()), &path, &problem));
            }
        }
        Ok(())
    }
}

fn shown(value: &DeValue<'_>) -> String {
    value.as_str().map_or_else(|| value.type_str().to_owned(), |text| format!("\"{text}\""))
}

fn with_line_breaks_joined(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// The dotted key whose value encloses a place in the text.
fn key_at(table: &DeTable<'_>, place: &Range<usize>) -> String {
    for (key, value) in table {
        let inside =
            |span: Range<usize>| span.start <= place.start && place.end <= span.end.max(span.start + 1);
        if inside(key.span()) || inside(value.span()) {
            let inner = value.get_ref().as_table().map(|table| key_at(table, place)).unwrap_or_default();
            let dot = if inner.is_empty() { "" } else { "." };
            return format!("{}{dot}{inner}", key.get_ref());
        }
        // A table's span is its header alone, so look into every table.
        if let Some(inner) = value.get_ref().as_table().map(|table| key_at(table, place))
            && !inner.is_empty()
        {
            return format!("{}.{inner}", key.get_ref());
        }
    }
    String::new()
}

/// Where a dotted key's value, or else its table, is.
fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = table.get(first)?;
    match (rest, value.get_ref().as_table()) {
        (Some(rest), Some(inner)) => find(inner, rest).or_else(|| Some(value.span())),
        _ => Some(value.span()),
    }
}

/// The first value that makes no sense: its key and what was expected.
fn problem(manifest: &Manifest) -> Option<(&'static str, String)> {
    let input = &manifest.input;
    let channels = if input.channels == Channels::Gray { 1 } else { 3 };
    let is_clip = manifest.task == Task::Clip;
    let is_clip_layout = matches!(input.layout, Layout::Ntchw | Layout::Ncthw);
    let say = |key, problem: String| Some((key, problem));
    for (key, values) in [("input.mean", &input.mean), ("input.std", &input.std)] {
        if !(values.len() <= 1 || values.len() == channels) {
            let expected = if channels == 1 { "1".to_owned() } else { format!("1 or {channels}") };
            return say(key, format!("{} numbers given; expected {expected}, one a channel", values.len()));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return say(key, "expected finite numbers".into());
        }
    }
    if input.std.iter().any(|value| *value <= 0.0) {
        return say("input.std", "expected numbers above 0".into());
    }
    if !(input.scale.is_finite() && input.scale > 0.0) {
        return say("input.scale", format!("{} given; expected a number above 0", input.scale));
    }
    if !(0.0..=255.0).contains(&input.pad) {
        return say("input.pad", format!("{} given; expected 0 to 255", input.pad));
    }
    if manifest.file.is_empty() || Path::new(&manifest.file).is_absolute() {
        return say("file", "expected the name of a file in the model's folder".into());
    }
    match (&manifest.output, manifest.task) {
        (Decoder::Classes { .. }, Task::Detect) => {
            return say("task", "detect needs a decoder of objects; classes gives scores".into());
        }
        (Decoder::Classes { .. }, _) => {}
        (_, Task::Classify | Task::Clip) => {
            return say("output.decoder", "classify and clip need the decoder classes".into());
        }
        (Decoder::Yolox { threshold, nms, strides }, _)
        | (Decoder::Nanodet { threshold, nms, strides }, _) => {
            if let Some(problem) = thresholds(*threshold, *nms) {
                return Some(problem);
            }
            if strides.is_empty() || strides.iter().any(|stride| !(1..=1024).contains(stride)) {
                return say("output.strides", "expected at least one, each from 1 to 1024".into());
            }
        }
        (Decoder::Yolo { threshold, nms }, _) => {
            if let Some(problem) = thresholds(*threshold, *nms) {
                return Some(problem);
            }
        }
    }
    match &manifest.labels {
        Some(Labels::List(list)) if list.is_empty() || list.iter().any(|label| label.trim().is_empty()) => {
            return say("labels", "expected at least one name, none of them empty".into());
        }
        Some(Labels::File(file)) if file.is_empty() => {
            return say("labels", "expected names, or the name of a text file with one a line".into());
        }
        _ => {}
    }
    if let (Some(Labels::List(list)), Some(unknown)) = (
        &manifest.labels,
        manifest
            .keep
            .iter()
            .find(|keep| matches!(&manifest.labels, Some(Labels::List(list)) if !list.contains(keep))),
    ) {
        return say("keep", format!("\"{unknown}\" is none of the {} labels", list.len()));
    }
    let problem = match (is_clip, manifest.head.is_some(), is_clip_layout) {
        (false, true, _) => return say("head", "only clip models have a head".into()),
        (true, true, true) => "the backbone of a two-stage clip model sees one frame; expected nchw or nhwc",
        (true, false, false) => "a clip model's input has a time axis; expected ntchw or ncthw",
        (false, false, true) => "only clip models have a time axis; expected nchw or nhwc",
        _ => "",
    };
    if !problem.is_empty() {
        return say("input.layout", problem.into());
    }
    if let Some(head) = &manifest.head {
        if head.file.is_empty() || Path::new(&head.file).is_absolute() || head.file == manifest.file {
            return say("head.file", "expected the name of another file in the model's folder".into());
        }
        if manifest.labels.is_none() {
            return say("labels", "missing; a two-stage clip model has its class names here".into());
        }
    }
    match (&manifest.window, is_clip) {
        (Some(_), false) => return say("window", "only clip models have a window".into()),
        (None, true) => return say("window", "missing; expected frames, fps and hop of a clip model".into()),
        (Some(window), true) => {
            if !(1..=1024).contains(&window.frames) {
                return say("window.frames", format!("{} given; expected 1 to 1024", window.frames));
            }
            if !(window.fps > 0.0 && window.fps <= 1000.0) {
                return say(
                    "window.fps",
                    format!("{} given; expected more than 0, at most 1000", window.fps),
                );
            }
            if !(1..=window.frames).contains(&window.hop) {
                return say("window.hop", format!("{} given; expected 1 to {}", window.hop, window.frames));
            }
        }
        (None, false) => {}
    }
    None
}

fn thresholds(threshold: f32, nms: f32) -> Option<(&'static str, String)> {
    [("output.threshold", threshold), ("output.nms", nms)]
        .into_iter()
        .find(|(_, value)| !(0.0..=1.0).contains(value))
        .map(|(key, value)| (key, format!("{value} given; expected 0 to 1")))
}
