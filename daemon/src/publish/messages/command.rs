//! `.../set`, `.../command` and `.../result`: what comes in, and what is answered.
//!
//! In: JSON from anybody who may publish to the broker. Out: typed requests, or an error that says what was
//! expected; and [`ResultMessage`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Name, Timestamp};

/// Payload of `.../set`: turns a stream or a plugin on or off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "watchpost.set/1")]
pub struct SetPayload {
    /// Name and version of this payload; may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["watchpost.set/1", null]))]
    pub schema: Option<String>,
    /// Comes back in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether it shall run.
    pub enabled: bool,
}

/// Payload of `.../command`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "watchpost.command/1")]
pub struct CommandPayload {
    /// Name and version of this payload; may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["watchpost.command/1", null]))]
    pub schema: Option<String>,
    /// Comes back in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The command, as a plugin's descriptor names it.
    pub command: String,
    /// On a stream's topic: the plugin's entry that shall have it. May be left out where only one of the
    /// stream's plugins knows the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The command's arguments.
    #[serde(default)]
    pub arguments: serde_json::Value,
}

/// Payload of `.../result`: the answer to a `set` or a `command`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.result/1")]
pub struct ResultMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.result/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// The request's id, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `set`, or the command's name.
    pub command: String,
    /// Whether it was done.
    pub ok: bool,
    /// What it gave back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Wall clock of the answer.
    pub time: Timestamp,
}
