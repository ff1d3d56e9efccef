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

/// Why the daemon says no, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub text: String,
    /// The configuration is what is wrong.
    pub configuration: bool,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text, configuration: false }
    }
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Response {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where it failed: the configuration is what is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configuration: bool,
}

impl From<Result<Value, Refusal>> for Response {
    fn from(answer: Result<Value, Refusal>) -> Self {
        match answer {
            Ok(result) => Self { ok: true, result, error: None, configuration: false },
            Err(Refusal { text, configuration }) => {
                Self { ok: false, result: Value::Null, error: Some(text), configuration }
            }
        }
    }
}
