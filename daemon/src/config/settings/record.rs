//! The settings of what is recorded of incidents: pictures and clips, and how much of the disk they may have.
//!
//! In: configuration. Out: plain data with defaults, as everything in [`super`]. What types cannot say is checked by
//! [`Record::problems`].

use serde::{Deserialize, Serialize};

use crate::flow::Severity;

/// What is recorded of incidents, below `clips/` of the state folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// A picture of the frame with which an incident begins.
    pub snapshots: bool,
    /// The source's own video around an incident, not encoded again.
    pub clips: bool,
    /// Incidents from this severity on.
    pub severity: Severity,
    /// Only incidents of these kinds; empty: of all.
    pub kinds: Vec<String>,
    /// Seconds of a clip before the incident.
    pub before_seconds: f64,
    /// Seconds of a clip after the incident's end.
    pub after_seconds: f64,
    /// Seconds of a clip from the incident's begin on at most.
    pub longest_seconds: f64,
    /// Bytes of all recordings; the oldest go first.
    pub max_bytes: u64,
    /// Days after which a recording goes; 0: never.
    pub keep_days: u32,
    /// Bytes that stay free on the disk: below that nothing is recorded.
    pub min_free_bytes: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            snapshots: true,
            clips: true,
            severity: Severity::Medium,
            kinds: Vec::new(),
            before_seconds: 5.0,
            after_seconds: 5.0,
            longest_seconds: 120.0,
            max_bytes: 2 << 30,
            keep_days: 14,
            min_free_bytes: 256 << 20,
        }
    }
}

impl Record {
    /// (key, message) of what is wrong.
    pub(in crate::config) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if !(0.0..=600.0).contains(&self.before_seconds) {
            problems.push(("record.before_seconds", "expected 0 to 600"));
        }
        if !(0.0..=600.0).contains(&self.after_seconds) {
            problems.push(("record.after_seconds", "expected 0 to 600"));
        }
        if !(1.0..=3600.0).contains(&self.longest_seconds) {
            problems.push(("record.longest_seconds", "expected 1 to 3600"));
        }
        if self.max_bytes < 1 << 20 {
            problems.push(("record.max_bytes", "expected at least 1048576"));
        }
        problems
    }
}
