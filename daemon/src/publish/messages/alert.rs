//! `.../alerts/<kind>`: whether any incident of a kind is open in a stream.
//!
//! In: the open incidents. Out: [`AlertMessage`], retained. Plain data; nothing fails.

use schemars::JsonSchema;
use serde::Serialize;

use super::common::{Id, Name, Timestamp};
use super::event::SeveritySchema;
use crate::flow::Severity;

/// Whether any incident of a kind is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AlertState {
    /// At least one is open.
    On,
    /// None is open.
    Off,
}

/// Whether any incident of a kind is open in a stream.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.alert/1")]
pub struct AlertMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.alert/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Name of the stream.
    pub stream: String,
    /// Kind of event, as in the topic.
    pub kind: String,
    /// Whether any is open.
    pub state: AlertState,
    /// Since when: the wall clock of the frame; at first, of the daemon's start.
    pub since: Timestamp,
    /// The open incidents.
    pub incidents: Vec<Id>,
    /// The gravest of them when it began. Absent: none is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SeveritySchema>")]
    pub severity: Option<Severity>,
}
