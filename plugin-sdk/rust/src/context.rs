//! What a plugin learns of its stream before the first frame. Parsed from the host's JSON; unknown keys are
//! ignored, so that a later host may say more.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

/// The stream that a plugin works on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Name of the stream.
    pub stream: String,
    /// Name of the plugin's entry in the stream.
    pub entry: String,
    /// The stream's models; objects, runs and scores name them by index.
    pub models: Vec<Model>,
    /// Width of the frames in pixels; 0 where no frame has come yet.
    pub width: u32,
    /// Height of the frames in pixels; 0 where no frame has come yet.
    pub height: u32,
    /// Nominal frames a second; 0 where unknown or variable.
    pub rate: f64,
    /// The stream's named zones.
    pub zones: BTreeMap<String, Zone>,
}

impl Context {
    /// Index and labels of the stream's model of that name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<(u32, &Model)> {
        self.models.iter().zip(0..).find(|(model, _)| model.name == name).map(|(model, index)| (index, model))
    }

    /// Whether class `class` of model `model` has this label.
    #[must_use]
    pub fn is(&self, model: u32, class: u32, label: &str) -> bool {
        self.label(model, class) == Some(label)
    }

    /// Label of class `class` of model `model`.
    #[must_use]
    pub fn label(&self, model: u32, class: u32) -> Option<&str> {
        self.models.get(model as usize)?.labels.get(class as usize).map(String::as_str)
    }

    /// Every (model, class) with this label: "person" may come from more than one model.
    #[must_use]
    pub fn classes(&self, label: &str) -> Vec<(u32, u32)> {
        self.every_class().filter(|(_, name)| *name == label).map(|(class, _)| class).collect()
    }

    /// Every (model, class) with one of these labels, without regard to the case of ASCII letters: for the
    /// lists of labels in a configuration, where models spell the same thing in more than one way. Empty
    /// where no model has any of them.
    #[must_use]
    pub fn classes_of(&self, labels: &[impl AsRef<str>]) -> HashSet<(u32, u32)> {
        let wanted = |name: &str| labels.iter().any(|label| label.as_ref().eq_ignore_ascii_case(name));
        self.every_class().filter(|(_, name)| wanted(name)).map(|(class, _)| class).collect()
    }

    /// The (model, class) pairs of all models, each with its label.
    fn every_class(&self) -> impl Iterator<Item = ((u32, u32), &str)> {
        self.models.iter().zip(0..).flat_map(|(model, index)| {
            model.labels.iter().zip(0..).map(move |(label, class)| ((index, class), label.as_str()))
        })
    }
}

/// A model of the stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Name in the configuration.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// Its labels; classes name them by index.
    pub labels: Vec<String>,
    /// How often a second it runs, as configured; 0: on every frame. A clip model: windows a second.
    pub rate: f64,
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Finds objects in a frame.
    #[default]
    Detect,
    /// Scores a frame or an object.
    Classify,
    /// Scores a window of frames.
    Clip,
    /// Something that this version of the SDK does not know.
    #[serde(other)]
    Other,
}

/// A polygon in source pixels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone {
    /// Its corners in order, x and y.
    pub polygon: Vec<[f32; 2]>,
}

impl Zone {
    /// Whether the point lies inside (even-odd rule, so holes of self-crossing outlines are outside).
    #[must_use]
    pub fn contains(&self, (x, y): (f32, f32)) -> bool {
        let mut inside = false;
        let corners = &self.polygon;
        let mut before = match corners.last() {
            Some(corner) => *corner,
            None => return false,
        };
        for &corner in corners {
            let ([x1, y1], [x2, y2]) = (before, corner);
            if (y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 {
                inside = !inside;
            }
            before = corner;
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_classes_of_every_model() {
        let model = |labels: &[&str]| Model {
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            ..Model::default()
        };
        let models = vec![model(&["person", "ball"]), model(&[]), model(&["car", "Person", "person"])];
        let context = Context { models, ..Context::default() };
        assert_eq!(context.classes("person"), [(0, 0), (2, 2)]);
        let people = HashSet::from([(0, 0), (2, 1), (2, 2)]);
        assert_eq!(context.classes_of(&["PERSON".to_owned(), "nobody".to_owned()]), people);
        assert_eq!(context.classes_of(&["Car", "ball"]), HashSet::from([(0, 1), (2, 0)]));
        assert!(context.classes_of(&["dog"]).is_empty() && context.classes_of(&[""; 0]).is_empty());
    }
}
