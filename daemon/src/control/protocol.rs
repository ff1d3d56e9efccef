//! The lines on the control socket.
//!
//! In and out: one JSON object a line, at most [`LONGEST`] bytes. Plain data; nothing fails here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of a line at most.
pub(super) const LONGEST: u64 = 16 << 20;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRequest {
    /// `status`, `reload`, `plugins`, `command`, ...
    pub command: String,
    /// Its arguments; null where there are none.
    #[serde(default)]
    pub arguments: Value,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Response {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<Result<Value, String>> for Response {
    fn from(answer: Result<Value, String>) -> Self {
        match answer {
            Ok(result) => Self { ok: true, result, error: None },
            Err(error) => Self { ok: false, result: Value::Null, error: Some(error) },
        }
    }
}
