//! What a stream tells its plugins before the first frame, as the JSON that `docs/plugins.md` documents.

use std::collections::BTreeMap;

use serde_json::json;

use crate::config::manifest::Task;
use crate::config::settings::Polygon;
use crate::flow::Size;

/// A model of a stream, in the order by which objects, runs and scores name it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamModel {
    /// Name in the configuration.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// Its labels.
    pub labels: Vec<String>,
    /// How often a second it runs; 0: on every frame. A clip model: windows a second.
    pub rate: f64,
}

/// What plugins learn of their stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamContext {
    /// Name of the stream: a name that may stand in a path and a topic.
    pub stream: String,
    /// Its models.
    pub models: Vec<StreamModel>,
    /// Size of its frames; zero where no frame has come yet.
    pub size: Size,
    /// Nominal frames a second; 0 where unknown or variable.
    pub rate: f64,
    /// Its zones.
    pub zones: BTreeMap<String, Polygon>,
}

impl StreamContext {
    /// The JSON for one entry.
    pub(super) fn json(&self, entry: &str, size: Size) -> String {
        let models: Vec<_> = self
            .models
            .iter()
            .map(|m| json!({ "name": m.name, "task": m.task, "labels": m.labels, "rate": m.rate }))
            .collect();
        let zones: BTreeMap<_, _> = self.zones.iter().map(|(name, zone)| (name, &zone.polygon)).collect();
        json!({
            "stream": self.stream,
            "entry": entry,
            "models": models,
            "width": size.width,
            "height": size.height,
            "rate": self.rate,
            "zones": zones,
        })
        .to_string()
    }
}
