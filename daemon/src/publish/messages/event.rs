//! `.../events/<kind>` and `.../states/<name>`: what plugins decided.
//!
//! In: [`EventRecord`], a plugin's [`Event`] and where it came from. Out: [`EventMessage`] with the box, the
//! epoch and the sequence number by which a receiver drops duplicates. Plain data; nothing fails.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::common::{Id, Name, Timestamp, bounds, score, seconds};
use crate::flow::{Change, Event, Severity};

/// An event on its way out, with all that the publisher needs to know of it.
#[derive(Debug, Clone)]
pub struct EventRecord {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Name of the plugin's entry in the stream.
    pub entry: Arc<str>,
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Version of the plugin.
    pub plugin_version: Arc<str>,
    /// Index of the frame at which it was decided.
    pub frame: u64,
    /// Stream time of that frame, nanoseconds.
    pub pts: u64,
    /// Wall clock of that frame, microseconds since 1970.
    pub captured: u64,
    /// What the plugin said.
    pub event: Event,
    /// Why the host ended the incident in the plugin's place, where it did.
    pub reason: Option<String>,
    /// Path of a snapshot, where one was taken.
    pub snapshot: Option<String>,
    /// Path of a recorded clip, where one was made.
    pub clip: Option<String>,
}

/// One step in the life of an incident.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.event/1")]
pub struct EventMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.event/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Which start of the daemon this is; it grows with each start.
    pub epoch: Id,
    /// Number of the event in its epoch; it grows. (box, epoch, seq) names an event once and for all: one
    /// that comes twice is the same event sent again.
    pub seq: Id,
    /// Name of the stream.
    pub stream: Name,
    /// Name of the plugin.
    pub plugin: Name,
    /// Name under which the stream's configuration has the plugin.
    pub entry: Name,
    /// Version of the plugin.
    pub plugin_version: Name,
    /// The incident; the same from begin to end.
    pub incident: Id,
    /// Kind of event, as in the topic.
    pub kind: String,
    /// Begin, update or end.
    #[schemars(with = "ChangeSchema")]
    pub change: Change,
    /// How grave it is.
    #[schemars(with = "SeveritySchema")]
    pub severity: Severity,
    /// Confidence.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score: f32,
    /// Tracks that take part.
    pub tracks: Vec<Id>,
    /// Where in the frame: x, y, width, height in pixels of the source. Absent: no particular place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<[f32; 4]>,
    /// Index of the frame at which it was decided.
    pub frame: Id,
    /// Stream time of that frame, seconds.
    pub pts: f64,
    /// Wall clock of that frame.
    pub captured: Timestamp,
    /// Wall clock when this message was made. It stays when the message is sent again.
    pub published: Timestamp,
    /// Why the daemon ended the incident in the plugin's place: the source was lost, the plugin failed, the
    /// daemon was restarted. Absent where the plugin itself spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Path of a picture of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Path of a recording of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// The plugin's own.
    pub data: serde_json::Map<String, serde_json::Value>,
}

impl EventMessage {
    /// The message for a record.
    #[must_use]
    pub fn new(box_: &Arc<str>, epoch: u64, seq: u64, record: EventRecord) -> Self {
        let EventRecord { event, .. } = record;
        Self {
            schema: "watchpost.event/1",
            box_: box_.into(),
            epoch: Id(epoch),
            seq: Id(seq),
            stream: Name(record.stream),
            plugin: Name(record.plugin),
            entry: Name(record.entry),
            plugin_version: Name(record.plugin_version),
            incident: Id(event.incident),
            kind: event.kind,
            change: event.change,
            severity: event.severity,
            score: score(event.score),
            tracks: event.tracks.into_iter().map(Id).collect(),
            region: event.region.map(bounds),
            frame: Id(record.frame),
            pts: seconds(record.pts),
            captured: Timestamp(record.captured),
            published: Timestamp::now(),
            reason: record.reason,
            snapshot: record.snapshot,
            clip: record.clip,
            data: event.data,
        }
    }
}

/// A retained value that a plugin keeps up to date.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.state/1")]
pub struct StateMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.state/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Name of the stream.
    pub stream: String,
    /// Name under which the stream's configuration has the plugin.
    pub entry: String,
    /// Name of the state, as in the topic.
    pub name: String,
    /// Its value.
    pub value: serde_json::Value,
}

// [`Change`] as its schema, since `flow` knows no schemas. No doc comment: it would end up in the schema.
#[derive(JsonSchema)]
#[schemars(rename = "Change", rename_all = "lowercase")]
#[expect(dead_code, reason = "only its derived schema is used")]
enum ChangeSchema {
    Begin,
    Update,
    End,
}

// [`Severity`] as its schema.
#[derive(JsonSchema)]
#[schemars(rename = "Severity", rename_all = "lowercase")]
#[expect(dead_code, reason = "only its derived schema is used")]
pub(super) enum SeveritySchema {
    Info,
    Low,
    Medium,
    High,
    Critical,
}
