//! What `model check` says: for people, and as JSON.
//!
//! In: what is known of a model, and what it found. Out: text or a serialisable report. Nothing fails.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Found;
use crate::config::Manifest;
use crate::config::manifest::Window;
use crate::infer::InputSpec;

/// Everything that was learnt about a model.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) summary: String,
    pub(super) hash: String,
    pub(super) task: String,
    pub(super) domain: String,
    pub(super) decoder: String,
    pub(super) labels: Vec<String>,
    pub(super) input: String,
    /// Of a two-stage clip model: what its second graph takes, and of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) head: Option<String>,
    pub(super) outputs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<Window>,
    pub(super) runtime: String,
    pub(super) threads: usize,
    /// Of one run with one entry.
    pub(super) milliseconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) frames: Vec<FrameReport>,
}

/// What was found in one frame or window.
#[derive(Debug, Serialize)]
pub(super) struct FrameReport {
    frame: u64,
    /// Seconds.
    pts: f64,
    /// Of preprocess, run and postprocess.
    milliseconds: f64,
    objects: Vec<ObjectReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scores: Vec<ScoreReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) picture: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ObjectReport {
    label: String,
    score: f32,
    /// x, y, width, height in pixels.
    bounds: [f32; 4],
}

#[derive(Debug, Serialize)]
struct ScoreReport {
    label: String,
    score: f32,
    /// Seconds of the first and the last frame.
    span: [f64; 2],
}

impl FrameReport {
    pub(super) fn new(frame: u64, pts: u64, found: &Found, labels: &[String]) -> Self {
        let name = |class: u32| labels.get(class as usize).cloned().unwrap_or_default();
        let objects = &found.objects;
        let object = |i: usize| {
            let bounds = objects.bounds[i];
            ObjectReport {
                label: name(objects.classes[i]),
                score: objects.scores[i],
                bounds: [bounds.x, bounds.y, bounds.width, bounds.height],
            }
        };
        let seconds = |pts: u64| pts as f64 / 1e9;
        Self {
            frame,
            pts: seconds(pts),
            milliseconds: found.took.as_secs_f64() * 1e3,
            objects: (0..objects.len()).map(object).collect(),
            scores: found
                .strongest()
                .into_iter()
                .map(|score| ScoreReport {
                    label: name(score.class),
                    score: score.value,
                    span: [seconds(score.begin), seconds(score.end)],
                })
                .collect(),
            picture: None,
        }
    }
}

/// A tensor's name, element type and axes.
fn tensor(input: &InputSpec) -> String {
    let axes = input.declared.iter().map(|axis| if *axis < 0 { "?".into() } else { axis.to_string() });
    let axes: Vec<String> = axes.collect();
    format!("`{}` {} [{}]", input.name, format!("{:?}", input.element).to_lowercase(), axes.join(", "))
}

/// The head's input in one line.
pub(super) fn describe_head(input: &InputSpec, features: &str) -> String {
    format!("{} of windows of `{features}`", tensor(input))
}

/// The input in one line.
pub(super) fn describe_input(input: &InputSpec, manifest: &Manifest) -> String {
    let of = &manifest.input;
    format!(
        "{}: {} of {}, {}, {}, {}",
        tensor(input),
        word(&of.layout),
        input.size,
        word(&of.channels),
        word(&of.fit),
        word(&of.filter)
    )
}

/// A choice as the manifest writes it.
pub(super) fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_value(value).unwrap_or_default();
    text.as_str().unwrap_or_default().to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.model, self.summary)?;
        let many = self.labels.len();
        let shown: Vec<&str> = self.labels.iter().take(5).map(String::as_str).collect();
        let more = if many > shown.len() { ", …" } else { "" };
        writeln!(
            f,
            "  task     {}, decoder {}, trained on {} pictures",
            self.task, self.decoder, self.domain
        )?;
        writeln!(f, "  labels   {many}: {}{more}", shown.join(", "))?;
        writeln!(f, "  input    {}", self.input)?;
        if let Some(head) = &self.head {
            writeln!(f, "  head     {head}")?;
        }
        for output in &self.outputs {
            writeln!(f, "  output   {output}")?;
        }
        if let Some(window) = self.window {
            let Window { frames, fps, hop } = window;
            writeln!(f, "  window   {frames} frames at {fps} a second, every {hop} frames")?;
        }
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        writeln!(f, "  run      {:.1} ms with {threads}, {}", self.milliseconds, self.runtime)?;
        writeln!(f, "  sha256   {}", self.hash)?;
        for warning in &self.warnings {
            writeln!(f, "  warning  {warning}")?;
        }
        for frame in &self.frames {
            let picture =
                frame.picture.as_ref().map_or_else(String::new, |file| format!(" → {}", file.display()));
            let FrameReport { frame: index, pts, milliseconds, .. } = frame;
            writeln!(f, "frame {index} at {pts:.3} s, {milliseconds:.1} ms{picture}")?;
            if frame.objects.is_empty() && frame.scores.is_empty() {
                writeln!(f, "  nothing")?;
            }
            for ObjectReport { label, score, bounds: [x, y, width, height] } in &frame.objects {
                writeln!(f, "  {label} {score:.2}  at {x:.0},{y:.0}  {width:.0}x{height:.0}")?;
            }
            for ScoreReport { label, score, .. } in &frame.scores {
                writeln!(f, "  {label} {score:.2}")?;
            }
        }
        Ok(())
    }
}
