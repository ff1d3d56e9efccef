//! What the doctor found, a line at a time.
//!
//! In: what was tried, and how it went. Out: a [`Finding`], which also travels as JSON from a process that tried
//! something to the one that prints. Nothing fails.

use serde::{Deserialize, Serialize};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Good,
    /// It is missing or limited, and the configured streams run without it.
    Limited,
    /// Configured streams cannot run, or nothing can.
    Wrong,
    /// It could not be tried here.
    Untried,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What: `GPU driver`, `NVDEC`, `broker` and so on.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Streams that cannot run because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<String>,
    /// The same for programs, where there is more to it than a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl Finding {
    fn new(what: &str, verdict: Verdict, found: String) -> Self {
        // One line each, whoever wrote the text.
        let found = found.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Self { what: what.to_owned(), verdict, found, fix: None, stops: Vec::new(), details: None }
    }

    /// It works.
    pub(super) fn good(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, Verdict::Good, found.into())
    }

    /// It is missing or limited.
    pub(super) fn limited(what: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(what, Verdict::Limited, found.into()).fix(fix)
    }

    /// It keeps these streams from running.
    pub(super) fn wrong(
        what: &str,
        found: impl Into<String>,
        fix: impl Into<String>,
        stops: &[String],
    ) -> Self {
        Self { stops: stops.to_vec(), ..Self::new(what, Verdict::Wrong, found.into()).fix(fix) }
    }

    /// It keeps these streams from running; where there are none, it is only missing.
    pub(super) fn needed(
        what: &str,
        found: impl Into<String>,
        fix: impl Into<String>,
        stops: &[String],
    ) -> Self {
        if stops.is_empty() { Self::limited(what, found, fix) } else { Self::wrong(what, found, fix, stops) }
    }

    /// It could not be tried.
    pub(super) fn untried(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, Verdict::Untried, found.into())
    }

    /// What to do about it.
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The same for programs.
    pub(super) fn details(self, details: impl Serialize) -> Self {
        Self { details: serde_json::to_value(details).ok(), ..self }
    }
}
